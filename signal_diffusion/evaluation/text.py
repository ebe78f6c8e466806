"""A report as text: what is compared, the verdict on each question, and a table of the metrics."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from signal_diffusion.escaping import for_terminal
from signal_diffusion.evaluation.measurement import QUESTIONS

if TYPE_CHECKING:
    from rich.table import Table

    from signal_diffusion.evaluation.features import Features
    from signal_diffusion.evaluation.report import Estimate, Report, Result

__all__ = ["by_scale", "number", "text_of"]

WIDTH = 110  # columns


def text_of(report: Report) -> str:
    """The report for a terminal."""
    from rich.console import Console

    lines = [*_groups(report), *(f"note: {note}" for note in report.notes), ""]
    for question, (verdict, why) in report.verdicts().items():
        lines.append(f"{QUESTIONS[question]} {verdict}: {why}")
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False, markup=False, emoji=False)
    for line in lines:
        console.print(for_terminal(line))
    console.print(_table(report))
    if report.controls:
        console.print(_controls(report))
    if report.guidance:
        console.print(_guidance(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n")


def number(value: float | None, digits: int = 3) -> str:
    """A value with so many significant digits, without an exponent if it is large; "–" if there is none."""
    if value is None:
        return "–"
    rounded = float(f"{value:.{digits}g}")
    return (f"{value:.0f}" if abs(rounded) >= 10**digits else f"{value:.{digits}g}").replace("-", "−")


def _groups(report: Report) -> list[str]:
    def size(features: Features) -> str:
        people = len(features.windows.people)
        whose = f" of {people} {'person' if people == 1 else 'people'}" if people else ""
        return f"{len(features)} window{'s' * (len(features) != 1)}{whose}"

    groups = report.groups
    lines = [f"real: {size(groups.real)} ({groups.real.windows.name})"]
    lines.append(f"synthetic: {size(groups.synthetic)} ({groups.synthetic.windows.name})")
    if groups.other is not None:
        lines.append(f"floor: {size(groups.other)} ({groups.other.windows.name})")
    else:
        lines.append(f"floor: none, {groups.missing}")
    return lines


def _table(report: Report) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("metric", "value", "floor", "ratio", "95 %", "verdict"):
        table.add_column(name, justify="left" if name in ("metric", "verdict") else "right")
    for result in report.results:
        table.add_row(_title(result), *_cells(result))
    return table


def _cells(result: Result) -> tuple[str, ...]:
    if result.total is None:
        return "–", "–", "–", "", result.missing
    between = f"{result.interval[0]:.2f} to {result.interval[1]:.2f}" if result.interval else ""
    ratio = "–" if result.total.ratio is None else f"{result.total.ratio:.2f}"
    return number(result.total.value), number(result.total.floor), ratio, between, result.missing or result.verdict


def _controls(report: Report) -> Table:
    from rich import box
    from rich.table import Table

    numbered = {str(number): name for number, name in enumerate(report.controls, 1)}
    table = Table(
        box=box.SIMPLE_HEAD,
        title="ratios of sets with known faults, and of the synthetic windows",
        caption=" · ".join(f"{number} {name}" for number, name in numbered.items()),
        caption_justify="left",
    )
    table.add_column("metric")
    for name in (*numbered, "synthetic"):
        table.add_column(name, justify="right")
    for result in report.of_controls():
        row = [controls[result.metric.name] for controls in report.controls.values()]
        table.add_row(result.metric.title, *(_ratio(each) for each in (*row, result.total)))
    return table


def _guidance(report: Report) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="the same samples by guidance scale (1 = no guidance)")
    table.add_column("metric")
    for name in ("floor", *(f"scale {scale:g}" for scale in report.guidance)):
        table.add_column(name, justify="right")
    for title, floor, values in by_scale(report):
        table.add_row(for_terminal(title), number(floor), *map(number, values))
    return table


def by_scale(report: Report) -> Iterator[tuple[str, float | None, list[float | None]]]:
    """Title, floor, and value at each guidance scale, of each metric that was judged by scale, and of its classes."""
    for results in zip(*report.guidance.values(), strict=True):
        totals = [result.total for result in results if result.total is not None]
        if not totals:
            continue
        yield _title(results[0]), totals[0].floor, [each.total.value if each.total else None for each in results]
        for name in dict.fromkeys(name for result in results for name in result.classes):
            parts = [result.classes.get(name) for result in results]
            floor = next(part.floor for part in parts if part)
            yield f"– {name}", floor, [part.value if part else None for part in parts]


def _title(result: Result) -> str:
    return f"{result.metric.title}, {result.metric.unit}" if result.metric.unit else result.metric.title


def _ratio(estimate: Estimate | None) -> str:
    return "–" if estimate is None or estimate.ratio is None else f"{estimate.ratio:.2f}"
