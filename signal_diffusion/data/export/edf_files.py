"""EDF files: what they can store, and how exactly. One range of 16-bit values holds all channels of a file."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.format_limits import EDF_LARGEST_MICROVOLTS, check_limits
from signal_diffusion.data.export.signals import Signals, as_numpy, check_invertible
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    import mne

__all__ = ["check_edf", "check_edf_values", "edf_step", "save_edf"]

_EDF_LARGEST = 32767  # the smallest value is its negative, so that 0 µV is stored as 0


def check_edf(card: DatasetCard, *, where: str, advice: str) -> None:
    """Raise a `UserError` if signals with this card and its labels do not fit EDF.

    The message begins with `where` and ends with `advice`.
    """
    check_invertible(card, where, advice)
    labels = card.columns.get("label", {}).get("names", ())
    check_limits("edf", card.channels, card.sampling_rate or 0, labels, where=where, advice=advice)


def check_edf_values(samples: Signals, where: str, *, advice: str = "use npz or parquet") -> None:
    """Raise a `UserError` if EDF cannot store the values of the signals; it begins with `where`, ends with `advice`."""
    if not np.isfinite(as_numpy(samples)).all():
        raise UserError(f"{where}: the samples have values that are not finite, which EDF cannot store; {advice}")
    if (limit := _edf_range(as_numpy(samples))) > EDF_LARGEST_MICROVOLTS:
        raise UserError(f"{where}: the samples reach {limit:,} µV, more than EDF can store; {advice}")


def save_edf(path: Path, raw: mne.io.BaseRaw, samples: Signals) -> None:
    """Write the recording that `to_raw` made from samples as EDF; see `file_formats.write_file`."""
    from mne.export import export_raw

    limit = _edf_range(as_numpy(samples))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*requires equal-length data blocks.*")  # documented in `write_file`
        export_raw(path, raw, fmt="edf", physical_range=(-limit, limit), overwrite=True, verbose="error")


def edf_step(samples: Signals) -> float:
    """Resolution of an EDF file of these signals: µV between neighbouring values.

    The range is ± the largest magnitude, rounded up to whole µV (1 µV for silence), the same for all channels.
    """
    return _edf_range(as_numpy(samples)) / _EDF_LARGEST


def _edf_range(signals: np.ndarray) -> int:
    return max(1, math.ceil(np.abs(signals).max(initial=0)))
