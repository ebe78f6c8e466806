"""The report on a model's privacy: verdicts in words, for a terminal and as `privacy.json`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from signal_diffusion.escaping import for_terminal
from signal_diffusion.evaluation.reidentification import Recognition, recognised
from signal_diffusion.evaluation.report import Report, Result
from signal_diffusion.evaluation.text import number
from signal_diffusion.sampling.attached_reports import PRIVACY
from signal_diffusion.sampling.membership import Membership

__all__ = ["METRICS", "QUESTIONS", "PrivacyReport", "Verdict"]

COPIES, PEOPLE = ("copies", "nn-ratio"), ("reid-entropy", "reid-top1", "reid-confidence")
METRICS = (*COPIES, *PEOPLE)
"""Metrics of samples that the report has."""
QUESTIONS = {
    "copies": "Do samples repeat training windows?",
    "membership": "Does the model's loss tell training windows from others?",
    "re-identification": "Do samples resemble training people?",
}
Verdict = Literal["no sign", "unclear", "found", "missing"]
About = Callable[[Mapping[str, Result]], tuple[Verdict, str]]
NO_SIGN = 0.55
"""An AUC of membership up to this is no sign of it."""
WIDTH = 110  # columns


@dataclass(frozen=True, kw_only=True)
class PrivacyReport:
    """What samples and the loss of a model give away of its training data."""

    about: Mapping[str, Any]
    """The checkpoint, the samples and what they were compared with."""
    membership: Membership
    report: Report | None
    """`METRICS` of the samples."""
    missing: str = ""
    """Why there is no such report."""

    def verdicts(self) -> dict[str, tuple[Verdict, str]]:
        """Of each question: the verdict, and a sentence with what was found and what it means."""
        return {
            "copies": self._of_metrics(COPIES, partial(_about_copies, count=self.about["samples"])),
            "membership": _about_membership(self.membership),
            "re-identification": self._of_metrics(PEOPLE, self._about_people),
        }

    def _of_metrics(self, names: Sequence[str], about: About) -> tuple[Verdict, str]:
        if self.report is None:
            return "missing", self.missing
        results = {name: self.report[name] for name in names}
        if reasons := [result.missing for result in results.values() if result.total is None]:
            return "missing", reasons[0]
        return about(results)

    def _about_people(self, results: Mapping[str, Result]) -> tuple[Verdict, str]:
        """Found if the classifier is nearly as sure as of training people: it is somewhat sure of odd windows, too."""
        _, top, sure = (_pair(results[name]) for name in PEOPLE)
        known = self._recognised()
        assert known is not None
        numbers = (
            f"{top[0]:.0f} % are taken for the same person, against {top[1]:.0f} % of new people's windows; the most "
            f"likely person has a probability of {sure[0]:.0f} %, against {sure[1]:.0f} % for new people and "
            f"{100 * known.confidence:.0f} % for training people at another time"
        )
        if results["reid-confidence"].verdict == "differs" and sure[0] > (sure[1] + 100 * known.confidence) / 2:
            return "found", f"samples look like training people ({numbers}): do not share them as anonymous"
        if results["reid-confidence"].verdict == "as real" and _worst(list(results.values())) != "found":
            return "no sign", f"no sign of training people in {self.about['samples']} samples ({numbers})"
        return "unclear", f"samples look like some training people, but not surely like them ({numbers})"

    def _recognised(self) -> Recognition | None:
        """How well the classifier of re-identification finds the training people at another time."""
        if self.report is None or self.report["reid-top1"].total is None:
            return None
        return recognised(self.report.features["train"])

    def to_dict(self) -> dict[str, Any]:
        """All values, as in privacy.json."""
        compared = {} if self.report is None else self.report.to_dict()
        kept = {key: compared[key] for key in ("notes", "windows", "metrics") if key in compared}
        verdicts = {name: {"verdict": verdict, "why": why} for name, (verdict, why) in self.verdicts().items()}
        return {
            "about": dict(self.about),
            "verdicts": verdicts,
            "membership": self.membership.to_dict(),
            "recognised": known._asdict() if (known := self._recognised()) else None,
        } | kept

    def save(self, folder: Path) -> list[Path]:
        """Write `privacy.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (folder / PRIVACY).write_text(text, encoding="utf-8")
        return [folder / PRIVACY]

    def to_text(self) -> str:
        """Verdicts and values for a terminal."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        console = Console(file=io.StringIO(), width=WIDTH, highlight=False)
        for question, (verdict, why) in self.verdicts().items():
            answer = f"unknown: {why}" if verdict == "missing" else why
            console.print(for_terminal(f"{QUESTIONS[question]} {answer}"), markup=False)
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("measured", "value", "new people", "ratio", "95 %"):
            table.add_column(name, justify="left" if name == "measured" else "right")
        for row in self._rows():
            table.add_row(*row)
        console.print(table)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue().rstrip("\n")

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for result in self.report.results if self.report else ():
            if result.total is not None:
                unit = f", {result.metric.unit}" if result.metric.unit else ""
                numbers = (number(each) for each in (result.total.value, result.total.floor, result.total.ratio))
                yield f"{result.metric.title}{unit}", *numbers, _between(result.interval)
        if known := self._recognised():
            yield "Training people recognised at another time, %", number(100 * known.share), "", "", ""
        named = {"all times": self.membership.total} | {f"t = {t:g}": each for t, each in self.membership.times.items()}
        for name, separation in named.items():
            yield f"Membership, AUC, {name}", number(separation.auc), "0.5", "", _between(separation.interval)


def _worst(results: Sequence[Result]) -> Verdict:
    words: dict[str, Verdict] = {"differs": "found", "unclear": "unclear", "as real": "no sign", "missing": "missing"}
    order = list(words)
    return words[min((result.verdict for result in results), key=order.index)]


def _about_copies(results: Mapping[str, Result], count: int) -> tuple[Verdict, str]:
    verdict = _worst(list(results.values()))
    rate, distance = (_pair(results[name]) for name in COPIES)
    shares = f"{rate[0]:.1f} % against {rate[1]:.1f} % for new people"
    if verdict == "no sign":
        return verdict, f"no sign of copying in {count} samples ({shares})"
    shares += f"; median distance to training {distance[0]:.2f} against {distance[1]:.2f}"
    if verdict == "found":
        return verdict, f"samples repeat training windows, or nearly so ({shares}): do not share them as anonymous"
    return verdict, f"samples may be nearer to training windows than new people are ({shares}); draw more"


def _about_membership(found: Membership) -> tuple[Verdict, str]:
    total = found.total
    between = f", {_between(total.interval)}" if total.interval else ""
    auc = f"AUC {total.auc:.2f}{between}; 0.5 is chance"
    sizes = f"{found.members} training examples and {found.others} of {found.other_people} new people"
    if total.interval is None:
        return "unclear", f"the loss of {sizes} was compared ({auc}); new people, at least two, would tell more"
    if total.auc <= NO_SIGN:
        return "no sign", f"no sign of membership in the loss of {sizes} ({auc})"
    if total.interval[0] > 0.5:
        return "found", (
            f"the loss tells {sizes} apart ({auc}): whoever has the weights and a recording can tell whether the model "
            "was trained on it; do not share the weights as anonymous"
        )
    return "unclear", f"the loss of {sizes} may differ ({auc}); a test split of more people would tell"


def _pair(result: Result) -> tuple[float, float]:
    assert result.total is not None and result.total.floor is not None
    return result.total.value, result.total.floor


def _between(interval: tuple[float, float] | None) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else ""
