"""Continuous recordings with annotations as files: fif, edf."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.edf_files import check_edf_values, save_edf
from signal_diffusion.data.export.file_formats import check_formats
from signal_diffusion.data.export.signals import Signals
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    import mne

__all__ = ["RAW_ENDINGS", "check_raw_formats", "write_raw"]

RAW_ENDINGS = {"fif": "_raw.fif", "edf": ".edf"}
"""Ending of a recording's file, by format."""


def check_raw_formats(formats: Iterable[str], card: DatasetCard, annotations: Iterable[str]) -> None:
    """Raise a `UserError` if a format cannot store recordings with this card and these annotations."""
    texts, possible = sorted(set(annotations)), ("npz", *RAW_ENDINGS)
    for name in formats:
        if name not in possible:
            raise UserError(f"--format {name}: stores windows; for recordings, use {', '.join(possible)}")
        check_formats([name], card, labels=texts)


def write_raw(stem: Path, raw: mne.io.BaseRaw, signals: Signals, format: str) -> Path:
    """Write the recording of `signals` (electrodes, samples), µV, to `stem` with the format's ending; returns its path.

    fif
        float32, with annotations. Files of more than 2 GB are split by MNE.
    edf
        16 bits over the range of the signals, with EDF+ annotations; see `file_formats.write_file`. Raises a
        `UserError` for values that EDF cannot store.
    """
    path = stem.with_name(stem.name + RAW_ENDINGS[format])
    if format == "edf":
        check_edf_values(signals, str(path))
        save_edf(path, raw, signals)
    else:
        raw.save(path, fmt="single", overwrite=True, verbose="error")
    return path
