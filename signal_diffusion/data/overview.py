"""Summary of a dataset to look at before training: its card in words, and the effect of balancing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from signal_diffusion.data.balancing import balanced_weights, marginals
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.dataset import split_files
from signal_diffusion.data.export.signals import with_names
from signal_diffusion.data.montages import montages_in_words
from signal_diffusion.data.representations.mosaic import Mosaic
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError

__all__ = ["Balanced", "balanced_marginals", "describe", "read_columns"]

_PARAMETER_NAMES = {
    "sampling_rate": "sampling rate, Hz",
    "window": "samples per window",
    "db_min": "level at value -1, dB re 1 µV",
    "db_max": "level at value 1, dB re 1 µV",
    "scale": "magnitude at value 1, µV",
    "exponent": "companding exponent",
    "mean": "mean of each electrode, µV",
    "std": "standard deviation of each electrode, µV",
    "limit": "value 1, standard deviations",
    "n_fft": "samples per frame",
    "hop": "samples between frames",
    "size": "rows and columns",
    "frequency": "spacing of the rows",
}
_SKIPPED_SHOWN = 10
_INVERSE = {
    "exact": "to microvolts exactly",
    "approximate": "to microvolts, with an estimated phase",
    "none": "not to microvolts",
}


def describe(card: DatasetCard) -> list[tuple[str, str]]:
    """Summarise a card as (name, value) rows of text."""
    kind = card.representation
    rows = [
        ("representation", f"{kind['name']}, layout {kind['layout']}, {'×'.join(map(str, card.shape))}"),
        ("turns back", _INVERSE.get(kind["inverse"], kind["inverse"])),
    ]
    if card.window is not None and card.sampling_rate is not None:
        seconds = card.window / card.sampling_rate
        rows.append(("windows", f"{card.window} samples at {card.sampling_rate:g} Hz, {seconds:.4g} s"))
    if card.channels:
        rows.append(("electrodes", f"{len(card.channels)}: {' '.join(card.channels)}"))
    rows += [("montages" if not number else "", line) for number, line in enumerate(montages_in_words(card))]
    shown = {"sampling_rate", "window", "electrodes"} if card.window is not None else set()
    parameters = [(name, value) for name, value in kind["parameters"].items() if name not in shown]
    rows += [(_PARAMETER_NAMES.get(name, name), _format_value(value)) for name, value in parameters]
    if kind["layout"] == Mosaic.layout:
        rows += _describe_mosaic_rows(card)
    if card.captions:
        rows.append(("captions", card.captions))
    rows += [(f"windows rejected, {reason}", str(count)) for reason, count in card.rejected.items() if count]
    if card.skipped:
        rows.append(("recordings without examples", str(len(card.skipped))))
        rows += [("", recording) for recording in card.skipped[:_SKIPPED_SHOWN]]
    if len(card.skipped) > _SKIPPED_SHOWN:
        rows.append(("", f"…; all are listed in {CARD_NAME}"))
    return rows


def _describe_mosaic_rows(card: DatasetCard) -> list[tuple[str, str]]:
    """How many rows of a mosaic slow rhythms take: with logarithmic rows, most of them."""
    mosaic = getattr(representation_of(card), "transform", None)
    assert isinstance(mosaic, Mosaic)
    rows = [("rows below 4 Hz", f"{mosaic.rows_below_4_hz} of {mosaic.size}")]
    if mosaic.rows_per_octave is not None:
        rows.append(("rows per octave", f"{mosaic.rows_per_octave:.1f}"))
    return rows


def _format_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_PARAMETER_NAMES.get(name, name)} {_format_value(each)}" for name, each in value.items())
    if isinstance(value, list | tuple) and value and all(isinstance(each, int | float) for each in value):
        return f"{min(value):.4g} to {max(value):.4g}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class Balanced:
    """The effect of balanced sampling on the training split."""

    groups: int
    """Number of combinations of values that occur."""
    lightest: float
    heaviest: float
    """Smallest and largest weight of an example."""
    marginals: dict[str, dict[Any, dict[str, float]]]
    """Result of `balancing.marginals`: `share` before, `balanced` after."""


def balanced_marginals(root: Path, columns: Sequence[str], max_weight: float) -> Balanced:
    """Balance the training split by combinations of `columns`; returns the shares in all categorical columns.

    Raises `UserError` if a column is not categorical.
    """
    card = DatasetCard.load(root)
    categorical = [name for name, column in card.columns.items() if column["kind"] == "categorical"]
    if unknown := [name for name in columns if name not in categorical]:
        raise UserError(f"--balance {unknown[0]}: not a categorical column of {root}; use {', '.join(categorical)}")
    shown = [name for name in categorical if name in columns or name != "electrode"]
    frame = read_columns(root, "train", shown)
    values = {name: [None if pd.isna(value) else value for value in frame[name]] for name in shown}
    weights = balanced_weights([values[name] for name in columns], max_weight)
    return Balanced(
        groups=len(frame[list(columns)].dropna().drop_duplicates()),
        lightest=float(weights.min(initial=max_weight)),
        heaviest=float(weights.max(initial=0)),
        marginals=marginals(values, dict.fromkeys(shown, weights)),
    )


def read_columns(root: Path, split: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read columns of a split without its tensors; categories as names, None for unknown."""
    card = DatasetCard.load(root)
    files = split_files(root, split, card)  # also counts the rows
    try:
        table = pa.concat_tables([pq.read_table(path, columns=list(columns)) for path in files])
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        command = shlex.join(["signal-diffusion", "data", "check", str(root)])
        raise UserError(f"{root / split}: a file is damaged ({reason}); run `{command}`") from None
    values = {
        name: with_names(table.column(name).to_pandas(), card.columns.get(name, {}).get("names")) for name in columns
    }
    return pd.DataFrame(values, index=range(card.splits[split]["examples"]))
