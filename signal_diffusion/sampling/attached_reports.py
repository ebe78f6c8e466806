"""Reports of `evaluate` in an exported model: their JSON files, and a summary with their hashes in the model card."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from signal_diffusion.errors import UserError, one_line
from signal_diffusion.escaping import for_markdown
from signal_diffusion.paths import without_paths
from signal_diffusion.untrusted import read_json

__all__ = ["FILES", "PRIVACY", "read_reports", "with_reports"]

PRIVACY = "privacy.json"
FILES = ("report.json", PRIVACY)
_HEADING = "## Evaluation"
_SECTION = re.compile(rf"\n*^{_HEADING}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_NOT_EVALUATED = re.compile(r" ?No evaluation report is attached: [^\n]*? has not been measured\.")
_EXPLANATION = (
    "The floor is the same metric between real people, or of real people who were not trained on; with a ratio of 1, "
    "samples are as good as real people."
)


def read_reports(folder: Path, weights: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """The JSON files of a report, by name; paths of this machine, if any, are reduced to their last part.

    Parameters
    ----------
    weights
        SHA-256 of the weights that the report must be about, by file; None = any. Only privacy.json states them.

    Raises
    ------
    UserError
        If there is none, one is not as `evaluate` writes it, or it is about other weights.
    """
    names = [name for name in FILES if (folder / name).is_file()]
    if not names:
        raise UserError(f"--report {folder}: contains no {' or '.join(FILES)}; give a folder that `evaluate` wrote")
    found = {}
    for name in names:
        try:
            values = without_paths(read_json(folder / name, dict[str, Any], "evaluate again"))
            "".join(_lines(name, values))
            about = values.get("about", {})
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(
                f"--report {folder / name}: not as `evaluate` writes it ({one_line(error)}); evaluate again"
            ) from None
        if weights is not None and about.get("weights_sha256", weights) != weights:
            raise UserError(
                f"--report {folder / name}: is about other weights ({about.get('checkpoint')}); evaluate the "
                "checkpoint that is exported, or export that one with --set generation.checkpoint=NAME"
            )
        found[name] = (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()  # as `evaluate` writes it
    return found


def with_reports(card: str, reports: Mapping[str, bytes]) -> str:
    """A model card with the section "Evaluation", which replaces an earlier one."""
    body = "\n\n".join(
        "\n".join([f"`{name}`, SHA-256 `{hashlib.sha256(content).hexdigest()}`:", *_lines(name, json.loads(content))])
        for name, content in reports.items()
    )
    card = _SECTION.sub("\n\n", _NOT_EVALUATED.sub("", card)).rstrip("\n")
    return f"{card}\n\n{_HEADING}\n\n{_EXPLANATION}\n\n{body}\n".lstrip("\n")


def _lines(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    """The tables of verdicts and of metrics."""
    from signal_diffusion.evaluation.measurement import QUESTIONS  # slow: imports scikit-learn
    from signal_diffusion.evaluation.text import number
    from signal_diffusion.sampling import privacy_report

    questions = privacy_report.QUESTIONS if name == PRIVACY else QUESTIONS
    yield from ("", "| question | verdict | |", "|---|---|---|")
    for key, each in values["verdicts"].items():
        yield _row(questions.get(key, key), each["verdict"], each["why"])
    yield from ("", "| metric | value | floor | ratio |", "|---|---|---|---|")
    for metric in values.get("metrics", {}).values():
        if "value" in metric:
            title = f"{metric['title']}, {metric['unit']}" if metric["unit"] else metric["title"]
            yield _row(title, *(number(metric[key]) for key in ("value", "floor", "ratio")))
    if "membership" in values:
        yield _row("Membership, AUC", number(values["membership"]["total"]["auc"]), "0.5", "–")


def _row(*cells: str) -> str:
    return f"| {' | '.join(for_markdown(cell) for cell in cells)} |"
