"""Signals and their metadata, checked against a card before an export.

Signals are float32 µV, (N, electrodes, samples) for whole windows or (N, samples) for single electrodes, with one row
of `metadata` each (a data frame, or name → N values).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError

__all__ = [
    "Metadata",
    "Signals",
    "as_numpy",
    "channel_names",
    "check_invertible",
    "checked_signals",
    "electrode_names",
    "metadata_frame",
    "with_names",
]

Signals = np.ndarray | Tensor
Metadata = pd.DataFrame | Mapping[str, Any] | None


def checked_signals(samples: Signals, card: DatasetCard, metadata: Metadata) -> tuple[np.ndarray, pd.DataFrame]:
    """Validate signals and metadata against the card; returns the signals as (N, electrodes, samples)."""
    check_invertible(card, "export", "only tensors can be exported")
    signals = as_numpy(samples)
    if signals.ndim not in (2, 3):
        raise UserError(f"signals have shape {signals.shape}; expected (N, electrodes, samples) or (N, samples)")
    if signals.ndim == 3 and signals.shape[1] not in (1, len(card.channels)):
        raise UserError(f"signals have {signals.shape[1]} electrodes; the card has {len(card.channels)}")
    return signals if signals.ndim == 3 else signals[:, None], metadata_frame(metadata, card, len(signals))


def check_invertible(card: DatasetCard, where: str, advice: str) -> None:
    """Raise a `UserError` from `where` to `advice` if examples with this card cannot be turned into signals."""
    if card.representation["inverse"] == "none" or card.sampling_rate is None:
        raise UserError(
            f"{where}: {card.representation['name']} examples of this dataset cannot be turned into signals; {advice}"
        )


def metadata_frame(metadata: Metadata, card: DatasetCard, count: int) -> pd.DataFrame:
    """Convert metadata to a frame with one row per sample, names instead of codes, and None for unknown."""
    columns = {} if metadata is None else {str(name): values for name, values in metadata.items()}
    for name, values in columns.items():
        if len(values) != count:
            raise UserError(f"metadata: {name} has {len(values)} values for {count} samples")
    named = {
        name: with_names(
            pd.Series(as_numpy(values) if isinstance(values, Tensor) else list(values)),
            card.columns.get(name, {}).get("names"),
        )
        for name, values in columns.items()
    }
    return pd.DataFrame(named, index=range(count))


def with_names(values: pd.Series, names: Sequence[str] | None) -> pd.Series:
    """Convert a column to names or numbers: codes become their `names`, unknown values ("", NaN, -1) None."""
    if names is not None and pd.api.types.is_numeric_dtype(
        values
    ):  # pandas turns integers with missing values into floats
        if (values >= len(names)).any():
            raise UserError(f"{values.name}: found code {values.max():g}, but the card has only {len(names)} names")
        return pd.Series([names[int(code)] if code >= 0 else None for code in values], dtype=object)
    if pd.api.types.is_numeric_dtype(values):
        return values
    return pd.Series([None if pd.isna(value) or value == "" else value for value in values], dtype=object)


def channel_names(samples: Signals, card: DatasetCard, metadata: Metadata = None) -> list[str]:
    """Names of the electrodes of signals, in order, as in `to_mne`."""
    signals, frame = checked_signals(samples, card, metadata)
    return electrode_names(signals, card, frame)


def electrode_names(signals: np.ndarray, card: DatasetCard, frame: pd.DataFrame) -> list[str]:
    """Names of the electrodes of checked signals (N, electrodes, samples), in order."""
    if signals.shape[1] == len(card.channels):
        return list(card.channels)
    names = set(frame["electrode"]) if "electrode" in frame else set()
    return [names.pop() or "EEG"] if len(names) == 1 else ["EEG"]


def as_numpy(values: Signals) -> np.ndarray:
    """Convert to an array in CPU memory, without copying one that is there."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
