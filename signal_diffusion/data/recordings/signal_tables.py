"""Tables of signals (.csv, .tsv): a column per electrode, a row per sample, perhaps a column of time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.recordings.subjects import ID_COLUMNS
from signal_diffusion.errors import UserError, listed, one_line

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLES", "SignalTable", "holds_signals", "read_table"]

TABLES = (".csv", ".tsv")

_MIN_ROWS = 100  # of a table that is taken for a recording without being given by name
_TIME = re.compile(
    r"(?:time ?stamps?|time|t|seconds?|sec|ms|milliseconds?)(?:[ _]*[\[(]?(s|sec|ms|us)[\])]?)?", re.IGNORECASE
)
_TOLERANCE = 0.05  # s; more than this off the grid of the rate means missing samples
_LOWEST_RATE = 20.0  # Hz; a lower one means that the time is not in seconds


def holds_signals(path: Path) -> bool:
    """Whether a table seems to be a recording: at least 100 rows, mostly numbers, and no column of subjects' ids."""
    try:
        table = _read(path, _MIN_ROWS)
    except (UserError, OSError):
        return False
    names = {str(name).strip().lower() for name in table.columns}
    return len(table) == _MIN_ROWS and names.isdisjoint(ID_COLUMNS) and 2 * len(_numeric(table)) >= len(table.columns)


@dataclass(frozen=True, kw_only=True)
class SignalTable:
    """What a table holds."""

    ch_names: tuple[str, ...]
    data: np.ndarray
    """(channels, samples), in the unit of the table."""
    sfreq: float | None
    """Rate, Hz; None if it was neither given nor follows from a column of time."""
    marks: list[tuple[int, int, str]]
    """First row, number of rows and text of each run of equal cells in the columns of text."""
    unused: tuple[str, ...] = ()
    """Columns that count samples, columns of time after the first, and columns of text that differ in most rows."""


def read_table(path: Path, ch_names: Sequence[str], sfreq: float | None, rows: int | None = None) -> SignalTable:
    """Read a table of signals, or only its first `rows`.

    A column of time has the name time, t, timestamp, seconds or ms, or increases evenly (by 1: it counts samples).
    `ch_names` chooses columns by name, or names all columns in order; a table without a line of names needs it.
    Raises `UserError` if the time does not fit `sfreq` or misses samples.
    """
    table = _read(path, rows)
    counting = [name for name in _numeric(table) if _counts(table[name])]
    times = [name for name in _times(table) if name not in counting]
    rate = _rate(str(times[0]), table[times[0]], sfreq) if times else sfreq
    columns = [name for name in _numeric(table) if name not in (*counting, *times)]
    texts = [name for name in table.columns if name not in (*columns, *counting, *times)]
    if not columns:
        raise UserError("has no column of numbers that could be an electrode")
    if ch_names and set(ch_names) <= set(columns):
        columns = list(ch_names)
    elif ch_names and len(ch_names) != len(columns):
        raise UserError(
            f"has {len(columns)} columns of signals ({listed([str(name) for name in columns])}), but --ch-names has "
            f"{len(ch_names)} names; give one name per column, or names of columns"
        )
    elif not ch_names and any(isinstance(name, int) for name in columns):
        raise UserError(f"has no line with names; add --ch-names with {len(columns)} names, such as Fz,Cz,Pz")
    runs = {name: _runs(table[name]) for name in texts}
    various = [name for name, each in runs.items() if len(each) > max(2, len(table) // 2)]  # a clock
    unused = (*counting, *times[1:], *various)
    return SignalTable(
        ch_names=tuple(ch_names) or tuple(str(name).strip() for name in columns),
        data=table[columns].to_numpy(dtype=float).T.copy(),
        sfreq=rate,
        marks=[mark for name, each in runs.items() if name not in various for mark in each],
        unused=tuple(str(name) for name in unused if not str(name).startswith("Unnamed: ")),
    )


def _runs(column: pd.Series) -> list[tuple[int, int, str]]:
    texts = column.astype("string").str.strip().fillna("").to_numpy(dtype=str)
    starts = np.flatnonzero(np.append(True, texts[1:] != texts[:-1]))
    ends = np.append(starts[1:], len(texts))
    return [
        (int(start), int(end - start), str(texts[start]))
        for start, end in zip(starts, ends, strict=True)
        if texts[start]
    ]


def _read(path: Path, rows: int | None = None) -> pd.DataFrame:
    """Read a table; without a line of names, its columns are 0, 1, …."""
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [file.readline() for _ in range(3)]
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=lines[0].count)
        fields = [[field.strip().strip('"') for field in line.split(delimiter)] for line in lines]
        # EmotivPRO writes a line about the recording before that of the names.
        skipped = len(fields[0]) < len(fields[1]) and not any(_is_number(field) for field in fields[1])
        has_names = not all(_is_number(field) for field in fields[0])
        return pd.read_csv(
            path,
            sep=delimiter,
            header=0 if has_names else None,
            skiprows=int(skipped),
            nrows=rows,
            decimal="," if delimiter == ";" and "," in lines[1 + skipped] else ".",
            encoding="utf-8-sig",
            skipinitialspace=True,
        )
    except (UnicodeDecodeError, ValueError) as error:  # pandas' errors are ValueErrors
        raise UserError(f"not a table of numbers ({one_line(error)[:100]}); save it as CSV") from error


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _numeric(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if table[name].dtype.kind in "iuf" and table[name].notna().any()]


def _times(table: pd.DataFrame) -> list[str]:
    """Columns of time, those with such a name first."""
    named = [name for name in table.columns if _TIME.fullmatch(str(name).strip())]
    return [*named, *[name for name in _numeric(table) if name not in named and _increases_evenly(table[name])]]


def _increases_evenly(column: pd.Series) -> bool:
    steps = np.diff(column.to_numpy(dtype=float))
    return len(steps) > 2 and bool(steps.min() > 0 and np.ptp(steps) <= 0.01 * steps.mean())


def _counts(column: pd.Series) -> bool:
    """Whether a column numbers the rows: 0, 1, 2, …."""
    return column.dtype.kind in "iuf" and len(column) > 2 and bool((np.diff(column.to_numpy(dtype=float)) == 1).all())


def _rate(name: str, column: pd.Series, sfreq: float | None) -> float:
    """Sampling rate from a column of time, in seconds unless its name says ms or µs, or `sfreq` fits only those."""
    import pandas as pd

    if column.dtype.kind in "iuf":
        times = column.to_numpy(dtype=float)
    else:
        clock = pd.to_datetime(column, errors="coerce")
        if clock.isna().any():
            raise UserError(f"column {name!r} is neither numbers nor times; remove it, and add --sfreq")
        times = (clock - clock.iloc[0]).dt.total_seconds().to_numpy()
    step = (times[-1] - times[0]) / max(len(times) - 1, 1)
    if not step > 0:
        raise UserError(f"column {name!r} does not increase; remove it, and add --sfreq")
    unit = _TIME.fullmatch(name.strip())
    said = (unit[1] or ("ms" if name.strip().lower().startswith(("ms", "milli")) else "")) if unit else ""
    factors = {"ms": (1e-3,), "us": (1e-6,), "s": (1.0,), "sec": (1.0,)}.get(said.lower(), (1.0, 1e-3, 1e-6))
    rates = [1 / (step * factor) for factor in factors]
    fitting = rates[:1] if sfreq is None else [rate for rate in rates if abs(rate / sfreq - 1) < 0.01]
    if not fitting:
        raise UserError(f"column {name!r} says {rates[0]:g} Hz, but --sfreq {sfreq:g}; correct one of them")
    (rate, *_) = fitting
    if rate < _LOWEST_RATE and sfreq is None:
        raise UserError(
            f"column {name!r} says {rate:g} Hz if it is in seconds, {rate * 1e3:g} Hz if in ms; add --sfreq"
        )
    seconds = (times - times[0]) / step / rate
    off = np.abs(seconds - np.arange(len(times)) / rate)
    if off.max() > max(_TOLERANCE, 2 / rate):
        raise UserError(
            f"column {name!r} is {off.max():.3g} s off an even rate of {rate:g} Hz at row {int(off.argmax()) + 1}; "
            "samples are missing there: split the file, or resample it"
        )
    if sfreq is not None:
        return sfreq
    return float(round(rate)) if abs(rate / round(rate) - 1) < 1e-3 else rate
