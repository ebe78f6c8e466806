"""Files of recordings opened by MNE-Python, and what can be wrong with them, each in one line that names the file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.errors import UserError
from signal_diffusion.paths import leads_nowhere

if TYPE_CHECKING:
    import mne

    from signal_diffusion.data.recordings.recording import Recording

__all__ = ["errors_named", "one_line", "open_recording", "rates_of", "with_one_rate"]


def open_recording(recording: Recording) -> mne.io.BaseRaw:
    """Open a file without reading its signals; refuse one that is not there, empty, discontinuous or truncated."""
    import mne
    import mne_bids

    if leads_nowhere(recording.path):
        raise UserError("is a link to what is not there; fetch it (datalad get, git annex get) or remove the link")
    if recording.path.stat().st_size == 0:
        raise UserError("the file is empty; fetch it again")
    if _discontinuous(recording.path):
        raise UserError(
            "a discontinuous recording (EDF+D or BDF+D), whose gaps would be lost; convert it to EDF+C or FIF"
        )
    with _mne_silenced() as caught:
        if recording.bids is not None:
            raw = mne_bids.read_raw_bids(recording.bids, verbose="WARNING")
        else:
            raw = mne.io.read_raw(recording.path, preload=False, verbose="WARNING")
    # MNE reads what there is of a truncated EDF and only warns.
    short = any("does not match the file size" in str(warning.message) for warning in caught)
    if short and not _length_left_open(recording.path):
        raise UserError("the file is shorter or longer than its header says; fetch it again")
    return raw


def with_one_rate(recording: Recording, raw: mne.io.BaseRaw, picks: Sequence[int]) -> tuple[mne.io.BaseRaw, list[int]]:
    """Open an EDF or BDF of several rates with the picked channels alone, which have to share one.

    MNE would bring all channels to the highest rate, by an FFT of whatever stretch is read.
    """
    import mne

    rates = rates_of(recording.path, raw)
    if rates is None:
        return raw, list(picks)
    own = sorted({rates[index] for index in picks})
    if len(own) > 1:
        raise UserError(
            f"the channels have different rates, {', '.join(f'{rate:g}' for rate in own)} Hz; "
            "name some of one rate with --channels"
        )
    names = [raw.ch_names[index] for index in picks]
    with _mne_silenced():
        narrow = mne.io.read_raw(recording.path, include=sorted(set(names)), preload=False, verbose="WARNING")
    return narrow, [narrow.ch_names.index(name) for name in names]


def rates_of(path: Path, raw: mne.io.BaseRaw) -> list[float] | None:
    """Give the rate of each channel, Hz, of an EDF or BDF that has several; None otherwise."""
    if path.suffix.lower() not in (".edf", ".bdf"):
        return None
    with path.open("rb") as file:
        header = file.read(256)
        duration, count = float(header[244:252]), int(header[252:256])
        signals = file.read(256 * count)
    labels = [signals[16 * index : 16 * (index + 1)] for index in range(count)]
    samples = [int(signals[216 * count + 8 * index :][:8]) for index in range(count)]
    own = [each for label, each in zip(labels, samples, strict=True) if b"Annotations" not in label]
    if len(own) != len(raw.ch_names) or len(set(own)) == 1 or not duration:
        return None
    return [each / duration for each in own]


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Put the file's name before every error, MNE's own included, and make it one line."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # MNE's readers raise whatever they trip over
        reason = one_line(error)
        raise UserError(f"{path}: cannot be read as {path.suffix} ({reason}); fetch it again or convert it") from error


def one_line(error: Exception) -> str:
    """Give what an error says in one line of at most 200 characters, or its type where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def _mne_silenced() -> Iterator[list[warnings.WarningMessage]]:
    """Catch MNE's warnings, which it also logs: several lines about a file, without its name."""
    mne_logger = logging.getLogger("mne")
    mne_logger.addFilter(_nothing)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield caught
    finally:
        mne_logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _discontinuous(path: Path) -> bool:
    """Tell whether an EDF or BDF says that its records do not follow each other, which MNE does not heed."""
    if path.suffix.lower() not in (".edf", ".bdf"):
        return False
    with path.open("rb") as file:
        file.seek(192)
        return file.read(5) in (b"EDF+D", b"BDF+D")


def _length_left_open(path: Path) -> bool:
    """Tell whether an EDF or BDF header has −1 for its number of records: never closed, but whole."""
    with path.open("rb") as file:
        file.seek(236)
        return file.read(8).strip() == b"-1"
