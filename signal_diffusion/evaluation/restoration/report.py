"""The report on restoration: files that other programs read, and tables for a terminal and for Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.escaping import for_markdown, for_terminal
from signal_diffusion.evaluation.restoration.judging import MODEL, Estimate, Row
from signal_diffusion.evaluation.restoration.metrics import METRICS

__all__ = ["Restoration"]

WIDTH = 110  # columns


@dataclass(frozen=True, kw_only=True)
class Restoration:
    """How well a model and the baselines restore windows of people whom the model was not trained on."""

    about: Mapping[str, Any]
    """The model, the windows and how it was sampled."""
    rows: Sequence[Row]
    """Of each scenario the baselines and the model."""
    notes: Sequence[str] = ()

    def lines(self) -> list[str]:
        """What was measured."""
        about = self.about
        people = f"{about['people']} {'person' if about['people'] == 1 else 'people'}"
        return [
            f"model: {about['checkpoint']}, {about['given']}, {about['sampling']['steps']} steps",
            f"windows: {about['windows']} of {people} ({about['real']}), {about['draws']} draws of each",
            "in brackets: 95 % intervals, by drawing people with replacement",
            "CRPS of a baseline, which is one estimate: its mean absolute error",
            *(f"note: {note}" for note in self.notes),
        ]

    def sentences(self) -> list[str]:
        """Of each scenario: what is better than the model, and what is worse."""
        return [_sentence(scenario, rows) for scenario, rows in self._scenarios()]

    def to_text(self) -> str:
        """A table and sentences for a terminal."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        console = Console(file=io.StringIO(), width=WIDTH, highlight=False, markup=False, emoji=False)
        table = Table("restored", box=box.SIMPLE_HEAD, caption="all intervals: report.md", caption_justify="left")
        for title in METRICS.values():
            table.add_column(title, justify="right")
        for scenario, rows in self._scenarios():
            table.add_row(scenario)
            for row in rows:
                nmse, *others = (row.estimates[name] for name in METRICS)
                table.add_row(f"  {row.method}", _cell(nmse), *(_cell((value, None)) for value, _ in others))
        for line in self.lines():
            console.print(for_terminal(line))
        console.print(table)
        for line in self.sentences():
            console.print(line)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue().rstrip("\n")

    def to_markdown(self) -> str:
        """The same for a document."""
        lines = [*(f"- {for_markdown(line)}" for line in self.lines()), ""]
        lines += [f"| restored | by | {' | '.join(METRICS.values())} |", "|---|---|" + "--:|" * len(METRICS)]
        for scenario, rows in self._scenarios():
            for row in rows:
                lines.append(f"| {scenario} | {row.method} | {' | '.join(_cells(row))} |")
        return "\n".join([*lines, "", *(f"- {line}" for line in self.sentences())]) + "\n"

    def to_csv(self) -> str:
        """One row per scenario, method and metric; `gain` is how much larger a baseline's NMSE is than the model's."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["scenario", "method", "metric", "value", "low", "high"])
        for row in self.rows:
            for name, (value, interval) in (*row.estimates.items(), ("gain", row.gain)):
                if value is not None:
                    writer.writerow([row.scenario, row.method, name, value, *(interval or ("", ""))])
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        rows = [
            {"scenario": row.scenario, "method": row.method}
            | {name: _plain(each) for name, each in (*row.estimates.items(), ("gain", row.gain))}
            for row in self.rows
        ]
        return {**self.about, "notes": list(self.notes), "in words": self.sentences(), "rows": rows}

    def save(self, folder: Path) -> list[Path]:
        """Write `report.json`, `report.csv` and `report.md`."""
        files = {
            "report.json": json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            "report.csv": self.to_csv(),
            "report.md": self.to_markdown(),
        }
        with atomic_folder(folder, "the report", replaces=False) as partial:
            for name, text in files.items():
                (partial / name).write_text(text, encoding="utf-8")
        return [folder / name for name in files]

    def _scenarios(self) -> Iterator[tuple[str, list[Row]]]:
        for scenario, rows in groupby(self.rows, key=lambda row: row.scenario):
            yield scenario, list(rows)


def _sentence(scenario: str, rows: Sequence[Row]) -> str:
    value = next(row.estimates["nmse"][0] for row in rows if row.method == MODEL)
    if value is None:
        return f"{scenario}: the model's NMSE could not be measured: its draws are not finite"
    against = [_against(row) for row in rows if row.method != MODEL and row.gain[0] is not None]
    return "; ".join([f"{scenario}: the model's NMSE is {value:.2f}", *against])


def _against(row: Row) -> str:
    gain, interval = row.gain
    assert gain is not None
    if interval is None:
        return f"{abs(gain):.2f} {'better' if gain > 0 else 'worse'} than {row.method}, without an interval"
    low, high = interval
    if low <= 0 <= high:
        return f"no difference from {row.method} shown ({_signed(low)} to {_signed(high)})"
    ends = sorted((abs(low), abs(high)))
    return f"{'better' if low > 0 else 'worse'} than {row.method} by {abs(gain):.2f} ({ends[0]:.2f} to {ends[1]:.2f})"


def _cells(row: Row) -> list[str]:
    return [_cell(row.estimates[name]) for name in METRICS]


def _cell(estimate: Estimate) -> str:
    value, interval = estimate
    if value is None:
        return "–"
    return _signed(value) + (f" ({_signed(interval[0])} to {_signed(interval[1])})" if interval else "")


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _plain(estimate: Estimate) -> dict[str, Any]:
    value, interval = estimate
    return {"value": value, "interval": interval}
