"""Open recordings with MNE-Python, and report what is wrong with a file in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.errors import UserError
from signal_diffusion.paths import is_broken_link

if TYPE_CHECKING:
    import mne

    from signal_diffusion.data.recordings.recording import Recording

__all__ = ["channel_rates", "errors_naming", "one_line", "open_recording", "with_one_rate"]


def open_recording(recording: Recording) -> mne.io.BaseRaw:
    """Open a file without reading its signals; raises `UserError` if missing, empty, discontinuous or truncated."""
    import mne
    import mne_bids

    if is_broken_link(recording.path):
        raise UserError("the file is a broken link; fetch it (datalad get, git annex get) or remove the link")
    if recording.path.stat().st_size == 0:
        raise UserError("the file is empty; fetch it again")
    if _discontinuous(recording.path):
        raise UserError("discontinuous recording (EDF+D or BDF+D), its gaps would be lost; convert it to EDF+C or FIF")
    with _mne_silenced() as caught:
        if recording.bids is not None:
            raw = mne_bids.read_raw_bids(recording.bids, verbose="WARNING")
        else:
            raw = mne.io.read_raw(recording.path, preload=False, verbose="WARNING")
    # MNE reads a truncated EDF as far as possible, and only warns.
    short = any("does not match the file size" in str(warning.message) for warning in caught)
    if short and not _length_unknown(recording.path):
        raise UserError("the file is shorter or longer than its header says; fetch it again")
    return raw


def with_one_rate(recording: Recording, raw: mne.io.BaseRaw, picks: Sequence[int]) -> tuple[mne.io.BaseRaw, list[int]]:
    """Reopen an EDF or BDF with several rates with only the picked channels, which must have the same rate.

    MNE would resample all channels to the highest rate, by an FFT of each block that is read.
    """
    import mne

    rates = channel_rates(recording.path, raw)
    if rates is None:
        return raw, list(picks)
    own = sorted({rates[index] for index in picks})
    if len(own) > 1:
        raise UserError(
            f"the channels have different rates, {', '.join(f'{rate:g}' for rate in own)} Hz; "
            "choose channels of one rate with --channels"
        )
    names = [raw.ch_names[index] for index in picks]
    with _mne_silenced():
        narrow = mne.io.read_raw(recording.path, include=sorted(set(names)), preload=False, verbose="WARNING")
    return narrow, [narrow.ch_names.index(name) for name in names]


def channel_rates(path: Path, raw: mne.io.BaseRaw) -> list[float] | None:
    """Rate of each channel, Hz, of an EDF or BDF with several rates; None otherwise."""
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
def errors_naming(path: Path) -> Iterator[None]:
    """Convert every error, including MNE's, to a one-line `UserError` that starts with the file's name."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # MNE's readers raise many different types
        reason = one_line(error)
        raise UserError(f"{path}: cannot be read as {path.suffix} ({reason}); fetch it again or convert it") from error


def one_line(error: Exception) -> str:
    """Message of an error in one line of at most 200 characters; its type if the message is empty."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def _mne_silenced() -> Iterator[list[warnings.WarningMessage]]:
    """Collect MNE's warnings and keep them from the log: they are long and do not name the file."""
    mne_logger = logging.getLogger("mne")
    mne_logger.addFilter(_reject_all)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield caught
    finally:
        mne_logger.removeFilter(_reject_all)


def _reject_all(record: logging.LogRecord) -> bool:
    return False


def _discontinuous(path: Path) -> bool:
    """Whether the header of an EDF or BDF marks it as discontinuous, which MNE ignores."""
    if path.suffix.lower() not in (".edf", ".bdf"):
        return False
    with path.open("rb") as file:
        file.seek(192)
        return file.read(5) in (b"EDF+D", b"BDF+D")


def _length_unknown(path: Path) -> bool:
    """Whether an EDF or BDF header has −1 as its number of records: the file was not closed, but is complete."""
    with path.open("rb") as file:
        file.seek(236)
        return file.read(8).strip() == b"-1"
