"""Timelines: which conditions a recording has when, from a table like the events.tsv of BIDS."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.errors import UserError, listed, one_line, print_warning

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Row", "Timeline", "read_timeline"]

LABEL = "label"
TRIAL_TYPE = "trial_type"
TIMES = ("onset", "duration")
MAX_ROWS = 10**5
"""Each row costs at least one window: a day of events of a second each has fewer rows."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A stretch of time with its conditions."""

    onset: float
    """s from the first sample."""
    duration: float
    """s."""
    values: Mapping[str, str]
    """Value of each attribute of the timeline; "" = left open."""
    where: str
    """The row in messages: `stages.tsv line 3`."""

    @property
    def end(self) -> float:
        """End, s from the first sample."""
        return self.onset + self.duration


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Stretches of time in order, which do not overlap; between them, the attributes are left open."""

    source: str
    attributes: tuple[str, ...]
    rows: tuple[Row, ...]


def read_timeline(source: Path | pd.DataFrame, attributes: Sequence[str]) -> Timeline:
    """Read a timeline for a model of these attributes: a file of tab-separated values, or a data frame.

    Columns are `onset` and `duration` in seconds, and at least one attribute of the model by its name. `trial_type` is
    the attribute `label`, or the only attribute of the model. Empty values and n/a are left open. Other columns are
    named in a warning.

    Raises
    ------
    UserError
        If it cannot be read, has none of the columns, or rows that overlap, are not in order or have no length.
    """
    name = source.name if isinstance(source, Path) else "timeline"
    table = _read(source, name)
    columns = _columns(table.columns.tolist(), attributes, name)
    rows = []
    for number, record in enumerate(table.to_dict("records")):
        where = f"{name} line {number + 2}" if isinstance(source, Path) else f"{name} row {number}"
        onset, duration = (_seconds(record[column], f"{where}: {column}") for column in TIMES)
        values = {attribute: _open_if_unknown(record[column]) for column, attribute in columns.items()}
        rows.append(Row(onset=onset, duration=duration, values=values, where=where))
        _check_order(rows)
    return Timeline(source=name, attributes=tuple(columns.values()), rows=tuple(rows))


def _read(source: Path | pd.DataFrame, name: str) -> pd.DataFrame:
    import pandas as pd

    if isinstance(source, Path):
        if not source.is_file():
            raise UserError(f"--timeline {source}: no such file")
        try:
            table = pd.read_csv(source, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
        except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
            raise UserError(f"--timeline {source}: {one_line(error)}; expected tab-separated values") from None
    elif isinstance(source, pd.DataFrame):
        table = source
    else:
        raise UserError(f"--timeline: {source!r}; expected a path or a pandas data frame")
    table = table.astype(object).where(table.notna(), "").astype(str)
    table.columns = [str(column).strip() for column in table.columns]
    if missing := [column for column in TIMES if column not in table]:
        raise UserError(
            f"{name}: no column {' and '.join(missing)}, only {listed(table.columns.tolist()) or 'none'}; expected "
            "onset, duration (in seconds) and trial_type, separated by tabs"
        )
    if not 0 < len(table) <= MAX_ROWS:
        raise UserError(f"{name}: {len(table)} rows; expected 1 to {MAX_ROWS}")
    return table


def _columns(columns: list[str], attributes: Sequence[str], name: str) -> dict[str, str]:
    """Columns with conditions, and the attribute that each of them sets."""
    if not attributes:
        raise UserError(f"{name}: the model is unconditional; leave --timeline out")
    named = LABEL if LABEL in attributes else attributes[0] if len(attributes) == 1 else ""
    found = {column: column for column in columns if column in attributes}
    if TRIAL_TYPE in columns and named:
        if named in found:
            raise UserError(f"{name}: columns {TRIAL_TYPE} and {named} mean the same; leave one out")
        found[TRIAL_TYPE] = named
    other = [column for column in columns if column not in (*TIMES, *found)]
    if not found:
        has = f", only {listed(other)}" if other else ""
        expected = ", ".join(attributes)
        raise UserError(f"{name}: no column names an attribute of the model ({expected}){has}; rename one")
    if other:
        print_warning(f"{name}: not used: {listed(other)}; the model's attributes are {', '.join(attributes)}")
    return found


def _seconds(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UserError(f"{where} = {text.strip() or 'blank'}: expected seconds, 0 or more")
    return number


def _check_order(rows: Sequence[Row]) -> None:
    """Raise a `UserError` if the last row has no length, or begins before the end of the one before."""
    *_, row = rows
    if row.duration == 0:
        raise UserError(f"{row.where}: duration = 0: expected a stretch of time, more than 0 s")
    before = rows[-2] if len(rows) > 1 else None
    if before and row.onset < before.onset:
        raise UserError(f"{row.where}: onset {row.onset:g} s is before that of the row above; sort the rows by onset")
    if before and row.onset < before.end - 1e-6:  # ends are sums of rounded numbers
        raise UserError(
            f"{row.where}: begins at {row.onset:g} s, but the row above ends at {before.end:g} s; rows may not overlap"
        )


def _open_if_unknown(text: str) -> str:
    text = text.strip()
    return "" if text.lower() in ("n/a", "nan", "none") else text
