"""Inject all faults and write what became of them into the table of docs/reliability.md.

uv run python scripts/reliability_table.py           # the long version, for hours
uv run python scripts/reliability_table.py --quick   # what the default tests inject, for minutes
uv run python scripts/reliability_table.py --record faults.jsonl   # from a record that a run of the tests has made

Tests append to the file that SIGNAL_DIFFUSION_CHAOS_RECORD names.
"""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from signal_diffusion.escaping import markdown_code

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "reliability.md"
START, END = "<!-- The table is made by scripts/reliability_table.py. -->\n\n", "\n<!-- End of the table. -->"
VARIABLE = "SIGNAL_DIFFUSION_CHAOS_RECORD"


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Inject only the faults of the default tests.")] = False,
    record: Annotated[Path | None, typer.Option(help="A record of faults; without it, the tests make one.")] = None,
) -> None:
    """Write the table of docs/reliability.md; the exit code is 1 if a fault was not survived."""
    with tempfile.TemporaryDirectory() as folder:
        record = record or _recorded(Path(folder) / "faults.jsonl", quick=quick)
        rows = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    text = DOCUMENT.read_text(encoding="utf-8")
    head, tail = text[: text.index(START) + len(START)], text[text.index(END) :]
    DOCUMENT.write_text(head + table(rows) + tail, encoding="utf-8")
    raise SystemExit(not all(row["survived"] for row in rows))


def table(rows: Iterable[dict[str, Any]]) -> str:
    """A Markdown table with a line per fault."""
    by_fault: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for row in rows:
        by_fault[row["fault"]].append(row)
    head = (
        "| fault | injected | survived | steps lost at most | what the user sees, most often |\n|---|---|---|---|---|\n"
    )
    return head + "".join(_lines(by_fault))


def _lines(by_fault: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    for fault, rows in sorted(by_fault.items(), key=lambda item: item[0].lower()):
        survived, lost = sum(row["survived"] for row in rows), max(row["steps_lost"] for row in rows)
        [(shown, _)] = collections.Counter(row["shown"] for row in rows).most_common(1)
        shown = markdown_code(shown.replace("|", "/")) if shown else "nothing"
        yield f"| {fault} | {len(rows)} | {survived} | {lost if 'train' in fault else '–'} | {shown} |\n"


def _recorded(path: Path, *, quick: bool) -> Path:
    """Run the tests, and return the record that they have made."""
    marks = "chaos and not slow" if quick else "chaos"
    command = [sys.executable, "-m", "pytest", "-n", "2", "-m", marks, "tests/chaos"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {VARIABLE: str(path)}, check=False)
    return path


if __name__ == "__main__":
    typer.run(main)
