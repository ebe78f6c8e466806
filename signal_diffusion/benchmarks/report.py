"""Figures as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from rich.table import Column, Table

from signal_diffusion.benchmarks.machine import description
from signal_diffusion.benchmarks.measuring import Row

__all__ = ["COLUMNS", "Report"]

COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "times_first": ("× first", "{:.2f}".format),
    "examples_per_second": ("examples/s", "{:,.3g}".format),
    "times_real_time": ("× real time", "{:,.0f}".format),
    "flops_per_second": ("GFLOP/s", lambda value: f"{value / 1e9:,.3g}"),
    "bytes_per_second": ("GB/s", lambda value: f"{value / 1e9:,.1f}"),
    "share_of_products": ("of products", "{:.0%}".format),
    "share": ("share", "{:.0%}".format),
    "peak_bytes": ("peak MB", lambda value: f"{value / 1e6:,.0f}"),
    "first_step_seconds": ("s to first step", "{:.1f}".format),
    "preview_seconds": ("s for preview", "{:.1f}".format),
    "cpu_seconds": ("s of CPU", "{:.1f}".format),
}
"""Name of a figure → the head of its column, and how it is written."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a subcommand has measured."""

    command: str
    """The subcommand."""
    machine: dict[str, str | int]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    """What could not be measured, and why."""

    @classmethod
    def of(cls, command: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> Report:
        """A report of rows that were measured on this machine."""
        return cls(command=command, machine=description(), rows=rows, notes=notes)

    def to_json(self) -> str:
        """The report as JSON: seconds, bytes and operations, without rounding."""
        return json.dumps(asdict(self), indent=2)

    def heading(self) -> str:
        """The machine in one line."""
        return ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in self.machine.items())

    def tables(self) -> list[Table]:
        """A table per case, with the columns that it has figures for."""
        return [_table(case, list(rows)) for case, rows in groupby(self.rows, lambda row: row.case)]


def _table(case: str, rows: list[Row]) -> Table:
    used = [name for name in COLUMNS if any(name in row.figures for row in rows)]
    table = Table(
        Column(no_wrap=True), "median", "fastest to slowest", *(COLUMNS[name][0] for name in used), title=case
    )
    for row in rows:
        figures = [COLUMNS[name][1](row.figures[name]) if name in row.figures else "" for name in used]
        spread = f"{_duration(row.fastest)} to {_duration(row.slowest)}"
        table.add_row(row.variant, _duration(row.seconds), spread, *figures)
    return table


def _duration(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 10 else f"{seconds * 1e3:,.1f} ms"
