"""An exported model has the reports of `evaluate` with a summary and their hashes in its card; others are refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.errors import UserError
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.sampling.choosing import checkpoint_at
from signal_diffusion.sampling.provenance import weight_hashes

METRIC = {"title": "LSD", "unit": "dB", "value": 1.234, "floor": 1.1, "ratio": 1.122}
REPORT: dict[str, Any] = {
    "verdicts": {"spectrum": {"verdict": "as real", "why": "LSD is 1.12 times that between <people>"}},
    "metrics": {"lsd": METRIC, "acf": {"title": "ACF", "unit": "", "missing": "windows of 1 s"}},
}
PRIVACY: dict[str, Any] = {
    "about": {"checkpoint": "checkpoint-4"},
    "verdicts": {"membership": {"verdict": "no sign", "why": "no sign of membership"}},
    "membership": {"total": {"auc": 0.52, "interval": None}},
}
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write reports by name into a folder."""

    def write(folder: str = "report", **reports: Any) -> Path:
        (tmp_path / folder).mkdir()
        for name, content in reports.items():
            text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (tmp_path / folder / f"{name}.json").write_text(text)
        return tmp_path / folder

    return write


def exported(source: Path, output: Path, report: Path | None = None) -> Path:
    return SignalDiffusionPipeline.from_pretrained(source).save_pretrained(output, report=report)


def test_the_card_has_verdicts_values_and_hashes(run: Path, save: Save, tmp_path: Path) -> None:
    report = save(report=REPORT, privacy=PRIVACY)

    folder = exported(run, tmp_path / "model", report)

    card = (folder / "README.md").read_text()
    assert "| Does it have the spectrum of EEG? | as real | LSD is 1.12 times that between &lt;people&gt; |" in card
    assert "| LSD, dB | 1.23 | 1.1 | 1.12 |" in card
    assert "| Membership, AUC | 0.52 | 0.5 | – |" in card
    assert "No evaluation report is attached" not in card
    for name in ("report.json", "privacy.json"):
        assert (folder / name).read_bytes() == (report / name).read_bytes()
        assert f"`{name}`, SHA-256 `{hashlib.sha256((folder / name).read_bytes()).hexdigest()}`" in card


def test_without_a_report_the_card_says_so(run: Path, tmp_path: Path) -> None:
    card = (exported(run, tmp_path / "model") / "README.md").read_text()

    assert "No evaluation report is attached" in card and "## Evaluation" not in card


def test_an_exported_model_keeps_its_reports(run: Path, save: Save, tmp_path: Path) -> None:
    first = exported(run, tmp_path / "first", save(report=REPORT))

    second = exported(first, tmp_path / "second")

    assert (second / "README.md").read_text() == (first / "README.md").read_text()
    assert (second / "report.json").read_bytes() == (first / "report.json").read_bytes()


def test_another_report_replaces_the_section(run: Path, save: Save, tmp_path: Path) -> None:
    first = exported(run, tmp_path / "first", save(report=REPORT))

    second = exported(first, tmp_path / "second", save("other", privacy=PRIVACY))

    card = (second / "README.md").read_text()
    assert card.count("## Evaluation") == 1
    assert "LSD" not in card and "no sign of membership" in card
    assert not (second / "report.json").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"verdicts": {"a": 1}}'])
def test_a_file_that_is_no_report_is_refused(run: Path, save: Save, tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match=r"report\.json: (not as `evaluate` writes it|cannot be read)"):
        exported(run, tmp_path / "model", save(report=content))


def test_a_folder_without_a_report_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    options = ["--output", str(tmp_path / "model"), "--report", str(tmp_path)]

    result = CliRunner().invoke(app, ["export", "no-such-run", *options])

    assert str(result.exception) == (
        f"--report {tmp_path}: contains no report.json or privacy.json; give a folder that `evaluate` wrote"
    )


def test_a_report_on_other_weights_is_refused(run: Path, save: Save, tmp_path: Path) -> None:
    own = weight_hashes(checkpoint_at(run))
    about = {"checkpoint": "checkpoint-1", "weights_sha256": dict.fromkeys(own, "0" * 64)}
    other, same = (
        save(privacy=PRIVACY | {"about": about}),
        save("same", privacy=PRIVACY | {"about": {"weights_sha256": own}}),
    )

    with pytest.raises(UserError, match="is about other weights"):
        exported(run, tmp_path / "model", other)
    exported(run, tmp_path / "model", same)


def test_paths_of_this_machine_are_not_exported(run: Path, save: Save, tmp_path: Path) -> None:
    report = save(report=REPORT | {"notes": [f"{tmp_path}/data/eegmat:train: resampled to 100 Hz"]})

    folder = exported(run, tmp_path / "model", report)

    assert json.loads((folder / "report.json").read_text())["notes"] == ["eegmat:train: resampled to 100 Hz"]
