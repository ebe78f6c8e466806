"""What utility was found: scores and gains with intervals, as files that other programs read and in words."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from signal_diffusion.evaluation.bootstrap import Interval
from signal_diffusion.evaluation.utility.scores import SCORES

__all__ = ["Curve", "Effect", "Row", "Utility", "effect_of", "sentence_of"]

Curve = list[tuple[float, float | None, Interval | None]]
"""(share of the people, value, its interval), one for each share; None where there is none."""
Effect = Literal["synthetic data help", "synthetic data harm", "no effect shown", "no interval"]
UNCHANGED = 0.0005
"""Gains below this are 0 in print."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A score of one classifier trained in one way."""

    classifier: str
    arm: str
    """ "TRTR", "TSTR", "TRTS", or "T + " and what was added."""
    added: str = ""
    """What was added: "S", the name of an augmentation, or "" for nothing."""
    ratio: float = 0.0
    """Windows added ÷ training windows."""
    share: float = 1.0
    """Share of the training people."""
    people: int = 0
    """Training people, mean over folds."""
    score: str
    """Name in `scores.SCORES`."""
    value: float | None = None
    """Mean over seeds; None if it could not be measured."""
    interval: Interval | None = None
    """95 %, by bootstrap over test people and seeds."""
    gain: float | None = None
    """How much better than without what was added, or than TRTR; negative = worse, whatever the score."""
    gain_interval: Interval | None = None
    missing: str = ""
    """Why there is no value."""


@dataclass(frozen=True, kw_only=True)
class Utility:
    """All scores of a measurement of utility."""

    task: str
    classes: Sequence[str]
    """Names of the classes; () for a number."""
    about: Mapping[str, Any]
    """Names and numbers of windows and people, seeds and folds."""
    rows: Sequence[Row]
    notes: Sequence[str] = ()

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores; the first is the one that figures show."""
        return tuple(dict.fromkeys(row.score for row in self.rows))

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Names of the classifiers."""
        return tuple(dict.fromkeys(row.classifier for row in self.rows))

    def row(self, classifier: str, arm: str, *, share: float = 1.0, score: str | None = None) -> Row:
        """One row; without `score`, of the first score."""
        wanted = (classifier, arm, share, score or self.scores[0])
        return next(row for row in self.rows if (row.classifier, row.arm, row.share, row.score) == wanted)

    def curves(self, classifier: str) -> dict[str, list[Row]]:
        """Rows of the first score by arm, one per share: T, T with synthetic windows, T with as many others."""
        chosen = [row for row in self.rows if (row.classifier, row.score) == (classifier, self.scores[0])]
        wanted = [row for row in chosen if row.arm == "T" or row.added == "S" or (row.added and row.ratio == 1)]
        arms = sorted({row.arm: row for row in wanted}.values(), key=lambda row: row.added not in ("", "S"))
        return {arm.arm: [row for row in wanted if row.arm == arm.arm] for arm in arms}

    def panels(self) -> dict[str, tuple[dict[str, Curve], dict[str, Curve]]]:
        """Of each classifier, its scores and its gains by arm, as figures draw them."""
        found = {}
        for name in self.classifiers:
            curves = self.curves(name)
            scores = {arm: [(row.share, row.value, row.interval) for row in rows] for arm, rows in curves.items()}
            gains = {arm: [(row.share, row.gain, row.gain_interval) for row in rows] for arm, rows in curves.items()}
            found[name] = scores, gains
        return found

    @property
    def score_title(self) -> str:
        """Name of the first score in print."""
        return SCORES[self.scores[0]].title

    def sentences(self) -> list[str]:
        """What adding synthetic windows does, of each classifier with all training people."""
        return [sentence_of(self.gain(name)) for name in self.classifiers]

    def gain(self, classifier: str) -> Row:
        """With all training people, and as many synthetic windows as real ones."""
        return self.row(classifier, "T + 1 S")

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "task": self.task,
            "classes": list(self.classes),
            **self.about,
            "notes": list(self.notes),
            "in words": self.sentences(),
            "rows": [asdict(row) for row in self.rows],
        }

    def to_text(self) -> str:
        """Tables for a terminal."""
        from signal_diffusion.evaluation.utility.text import text_of

        return text_of(self)

    def to_csv(self) -> str:
        """One row per classifier, arm, share and score."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        intervals = ("interval", "gain_interval")
        plain = [field.name for field in fields(Row) if field.name not in intervals]
        writer.writerow([*plain, "low", "high", "gain_low", "gain_high"])
        for row in self.rows:
            values = ["" if (value := getattr(row, name)) is None else value for name in plain]
            writer.writerow([*values, *(row.interval or ("", "")), *(row.gain_interval or ("", ""))])
        return text.getvalue()

    def save(self, folder: Path) -> list[Path]:
        """Write `utility.json` and `utility.csv`."""
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            "utility.json": json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            "utility.csv": self.to_csv(),
        }
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        return [folder / name for name in files]


def effect_of(row: Row) -> Effect:
    """What the interval of a gain shows."""
    if row.gain_interval is None:
        return "no interval"
    low, high = row.gain_interval
    return "synthetic data help" if low > 0 else "synthetic data harm" if high < 0 else "no effect shown"


def sentence_of(row: Row) -> str:
    """The gain of a row in words."""
    title = SCORES[row.score].title
    if row.gain is None:
        return f"{row.classifier}: the gain in {title} could not be measured: {row.missing}"
    size = f"{abs(row.gain):.3f} {'better' if row.gain > 0 else 'worse'}" if abs(row.gain) >= UNCHANGED else "unchanged"
    between = ""
    if row.gain_interval is not None:
        between = f", 95 % interval {row.gain_interval[0]:+.3f} to {row.gain_interval[1]:+.3f}"
    return (
        f"{row.classifier}: with as many synthetic windows as real ones, {title} is {size} "
        f"({row.gain:+.3f}{between}): {effect_of(row)}"
    )
