"""The result of a comparison: estimates, verdicts in words, and files that other programs read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.groups import Groups
from signal_diffusion.evaluation.measurement import QUESTIONS, Metric
from signal_diffusion.evaluation.text import text_of
from signal_diffusion.evaluation.utility.result import Utility

__all__ = ["AS_GOOD", "Estimate", "Report", "Result", "Verdict"]

AS_GOOD = 1.2
"""A ratio up to this is as good as real people."""
Verdict = Literal["as real", "unclear", "differs", "missing"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value, its floor and their ratio; 1 is as good as real, and larger is worse whatever the metric."""

    value: float
    floor: float | None
    ratio: float | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """All that is known of one metric."""

    metric: Metric
    total: Estimate | None = None
    """None if the windows do not have it."""
    interval: tuple[float, float] | None = None
    """Interval of the ratio, 95 %, by bootstrap over people."""
    value_sd: float | None = None
    floor_sd: float | None = None
    """Standard deviations over the draws."""
    bands: Mapping[str, Estimate] = field(default_factory=dict)
    electrodes: Mapping[str, Estimate] = field(default_factory=dict)
    classes: Mapping[str, Estimate] = field(default_factory=dict)
    missing: str = ""
    """Why there is no value, or no floor; or the verdict's reason."""
    decided: Verdict | None = None
    """The verdict, if the ratio does not decide; it then counts instead of those of the question's other metrics."""

    @property
    def verdict(self) -> Verdict:
        """`decided`; else "as real" if the ratio is at most 1.2, "differs" if its interval is above, else "unclear"."""
        if self.decided is not None:
            return self.decided
        if self.total is None or self.total.ratio is None:
            return "missing"
        if self.total.ratio <= AS_GOOD:
            return "as real"
        return "differs" if self.interval is not None and self.interval[0] > AS_GOOD else "unclear"


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of a comparison, with the windows that were compared."""

    results: tuple[Result, ...]
    controls: Mapping[str, Mapping[str, Estimate | None]] = field(default_factory=dict)
    """Of sets with known faults: name → metric → estimate; None if the metric does not have it."""
    guidance: Mapping[float, tuple[Result, ...]] = field(default_factory=dict)
    """Guidance scale → results of the same samples generated with it."""
    notes: tuple[str, ...] = ()
    utility: Utility | None = None
    """What adding the synthetic windows to the training of classifiers does; its files are its own."""
    groups: Groups
    """The windows that were compared; not part of the files."""
    features: Mapping[str, Features]
    """All windows: "real", "synthetic" and, if given, "train"; not part of the files."""

    def __getitem__(self, name: str) -> Result:
        """The result of a metric, by its name."""
        return next(result for result in self.results if result.metric.name == name)

    def of_controls(self) -> list[Result]:
        """The results that the controls have too: not the gains, for which classifiers would be trained again."""
        known = set().union(*self.controls.values())
        return [result for result in self.results if result.metric.name in known]

    def deciding(self) -> dict[str, tuple[Verdict, list[Result]]]:
        """Of each question: the worst verdict of its metrics, and the metrics that have it."""
        order: tuple[Verdict, ...] = ("differs", "unclear", "as real", "missing")
        found: dict[str, tuple[Verdict, list[Result]]] = {}
        for question in QUESTIONS:
            results = [result for result in self.results if result.metric.question == question]
            if not results:
                continue
            results = [result for result in results if result.decided] or results
            verdict = min((result.verdict for result in results), key=order.index)
            found[question] = verdict, [result for result in results if result.verdict == verdict]
        return found

    def verdicts(self) -> dict[str, tuple[Verdict, str]]:
        """Of each question: the worst verdict of its metrics, and a sentence with the ratio that decides."""
        return {
            question: (verdict, "; ".join(_sentence(result) for result in results))
            for question, (verdict, results) in self.deciding().items()
        }

    def to_dict(self) -> dict[str, Any]:
        """All estimates as plain values, without the windows."""
        return {
            "notes": list(self.notes),
            "windows": {
                name: {"windows": len(each), "people": len(each.windows.people) or None}
                for name, each in (
                    ("real", self.groups.real),
                    ("synthetic", self.groups.synthetic),
                    ("floor", self.groups.other),
                )
                if each is not None
            },
            "verdicts": {name: {"verdict": verdict, "why": why} for name, (verdict, why) in self.verdicts().items()},
            "controls": {
                name: {metric: _numbers(each) for metric, each in row.items() if each is not None}
                for name, row in self.controls.items()
            },
            "guidance": {
                f"{scale:g}": {result.metric.name: _measured(result) for result in results}
                for scale, results in self.guidance.items()
            },
            "metrics": {result.metric.name: _plain(result) for result in self.results},
        }

    def save(self, folder: Path) -> list[Path]:
        """Write `report.json`, `report.csv` and the page `report.html`."""
        from signal_diffusion.evaluation.page.rendering import render  # draws figures, which not everyone needs

        folder.mkdir(parents=True, exist_ok=True)
        files = {
            "report.json": lambda: json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            "report.csv": self.to_csv,
            "report.html": lambda: render(self),
        }
        for name, text in files.items():  # the page last, which takes seconds
            (folder / name).write_text(text(), encoding="utf-8")
        return [folder / name for name in files]

    def to_text(self) -> str:
        """Verdicts and metrics for a terminal."""
        return text_of(self)

    def to_csv(self) -> str:
        """One row per metric and part of it: metric, part, name, value, floor, ratio, low, high."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["metric", "part", "name", "value", "floor", "ratio", "low", "high"])
        for result in self.results:
            if result.total is None:
                continue
            low, high = result.interval or ("", "")
            writer.writerow([result.metric.name, "total", "", *_cells(result.total), low, high])
            parts = {"band": result.bands, "electrode": result.electrodes, "label": result.classes}
            for part, estimates in parts.items():
                for name, estimate in estimates.items():
                    writer.writerow([result.metric.name, part, name, *_cells(estimate), "", ""])
        for scale, results in self.guidance.items():
            for result in results:
                if result.total is not None:
                    low, high = result.interval or ("", "")
                    name = result.metric.name
                    writer.writerow([name, "guidance scale", f"{scale:g}", *_cells(result.total), low, high])
        return text.getvalue()


def _sentence(result: Result) -> str:
    if result.total is None or result.total.ratio is None:
        return f"{result.metric.title}: {result.missing}"
    between = f" ({result.interval[0]:.2f} to {result.interval[1]:.2f})" if result.interval else ""
    return f"{result.metric.title}, ratio {result.total.ratio:.2f}{between}"


def _cells(estimate: Estimate) -> list[float | str]:
    return ["" if each is None else each for each in (estimate.value, estimate.floor, estimate.ratio)]


def _numbers(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "floor": estimate.floor, "ratio": estimate.ratio}


def _plain(result: Result) -> dict[str, Any]:
    about = {
        "title": result.metric.title,
        "unit": result.metric.unit,
        "definition": result.metric.definition,
        "better": result.metric.better,
        "offset": result.metric.offset,
        "verdict": result.verdict,
    }
    return about | _measured(result)


def _measured(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if result.total is not None:
        found |= _numbers(result.total)
        found |= {"interval": result.interval, "value_sd": result.value_sd, "floor_sd": result.floor_sd}
    parts = {"bands": result.bands, "electrodes": result.electrodes, "labels": result.classes}
    found |= {name: {key: _numbers(each) for key, each in part.items()} for name, part in parts.items() if part}
    return found | ({"missing": result.missing} if result.missing else {})
