"""What utility was found, as text for a terminal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from signal_diffusion.escaping import for_terminal
from signal_diffusion.evaluation.bootstrap import Interval
from signal_diffusion.evaluation.utility.result import Row, Utility
from signal_diffusion.evaluation.utility.scores import SCORES

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["text_of"]

WIDTH = 110  # columns
TRAINED = {
    "TRTR": "real → real (TRTR)",
    "TSTR": "synthetic → real (TSTR)",
    "TRTS": "real → synthetic (TRTS)",
}


def text_of(found: Utility) -> str:
    """Two tables for each classifier, notes, and sentences on what the synthetic windows are worth."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=WIDTH, highlight=False, markup=False, emoji=False)
    what = "a number" if not found.classes else f"one of {', '.join(found.classes)}"
    lines = [f"predicted: {found.task}, {what}"]
    for name, about in found.about["windows"].items():
        people = f" of {about['people']} people" if about["people"] else ""
        lines.append(f"{name}: {about['windows']} windows{people} ({about['name']})")
    folds = found.about["folds"]
    people = "other people" if folds == 1 else f"people of the same set, in {folds} folds by person"
    lines.append(f"tested on {people}; {found.about['seeds']} seeds; intervals of 95 % over people and seeds")
    for line in [*lines, *(f"note: {note}" for note in found.notes)]:
        console.print(for_terminal(line))
    for name in found.classifiers:
        console.print(_totals(found, name))
        console.print(_gains(found, name))
    reasons = {row.missing: row for row in reversed(found.rows) if row.missing}
    for line in [*(f"–: {row.arm}: {reason}" for reason, row in reasons.items()), *found.sentences()]:
        console.print(for_terminal(line))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n")


def _totals(found: Utility, classifier: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        "trained → tested on", box=box.SIMPLE_HEAD, title=f"{classifier}: all training people", title_justify="left"
    )
    for name in found.scores:
        table.add_column(SCORES[name].title, justify="right")
        table.add_column("better than TRTR by", justify="right")
    for arm, trained in TRAINED.items():
        rows = [found.row(classifier, arm, score=name) for name in found.scores]
        table.add_row(trained, *(cell for row in rows for cell in (_value(row), _gain(row))))
    return table


def _gains(found: Utility, classifier: str) -> Table:
    from rich import box
    from rich.table import Table

    score = SCORES[found.scores[0]].title
    table = Table(
        "added to the training windows",
        box=box.SIMPLE_HEAD,
        title=f"{classifier}: {score} with nothing added, and how much better it is with more (negative = worse)",
        title_justify="left",
    )
    lines = found.curves(classifier)
    for row in lines["T"]:
        table.add_column(f"{row.share:.0%} = {row.people} people", justify="right")
    for name, rows in lines.items():
        words = name.removeprefix("T + ").split()
        added = "nothing" if len(words) == 1 else f"{words[0]} × {'synthetic' if words[1] == 'S' else words[1]}"
        table.add_row(added, *(_value(row) if name == "T" else _gain(row) for row in rows))
    return table


def _value(row: Row) -> str:
    return "–" if row.value is None else f"{row.value:.3f}{_between(row.interval, '.3f')}"


def _gain(row: Row) -> str:
    return "–" if row.gain is None else f"{row.gain:+.3f}{_between(row.gain_interval, '+.3f')}"


def _between(interval: Interval | None, form: str) -> str:
    return "" if interval is None else f"\n{interval[0]:{form}} to {interval[1]:{form}}"
