"""Open recordings with MNE-Python, and report what is wrong with a file in one line."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.recordings.arrays import has_array_suffix, open_array
from signal_diffusion.data.recordings.companions import attach_companions
from signal_diffusion.data.recordings.edf import Stretches, channel_rates, length_unknown, mark_gaps, stretches_of
from signal_diffusion.data.recordings.epochs import join_epochs, open_epochs
from signal_diffusion.data.recordings.events import events_table
from signal_diffusion.data.recordings.formats import SUFFIXES, format_of
from signal_diffusion.errors import UserError, one_line
from signal_diffusion.paths import is_broken_link

if TYPE_CHECKING:
    import mne
    import mne_bids

    from signal_diffusion.data.recordings.recording import Recording

__all__ = ["errors_naming", "open_recording", "with_one_rate"]


def open_recording(recording: Recording, table_rows: int | None = None) -> mne.io.BaseRaw:
    """Open a file without reading its signals (arrays are read whole), with the annotations of its companions.

    Of a table of signals, only the first `table_rows` are read, if given: its channels need no more.

    Epochs are joined (`epochs.join_epochs`). Gaps between the records of an EDF+D or BDF+D become annotations. Raises
    `UserError` if the file is missing, empty, truncated, or neither a continuous recording nor epochs.
    """
    if is_broken_link(recording.path):
        raise UserError("the file is a broken link; fetch it (datalad get, git annex get) or remove the link")
    if recording.path.stat().st_size == 0:
        raise UserError("the file is empty; fetch it again")
    with _mne_silenced() as caught:
        if recording.bids is not None:
            raw = _read_bids(recording.bids)
        elif has_array_suffix(recording.path):
            return open_array(recording.path, recording.sfreq, recording.ch_names, table_rows)
        else:
            raw = _read(recording.path)
        if not raw.ch_names:
            raise UserError("holds annotations but no signals; remove it, or name it …-Hypnogram.edf next to …-PSG.edf")
        if stretches := stretches_of(recording.path):
            mark_gaps(raw, stretches, _by_clock(recording, stretches))
        attach_companions(raw, recording.path)
    # MNE reads a truncated EDF as far as possible, and only warns.
    short = any("does not match the file size" in str(warning.message) for warning in caught)
    if short and not length_unknown(recording.path):
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


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Convert every error, including MNE's, to a one-line `UserError` that starts with the file's name.

    What readers print (that of EGI MFF does, at every block) is not seen.
    """
    try:
        with redirect_stdout(io.StringIO()):
            yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # MNE's readers raise many different types
        reason = one_line(error)
        raise UserError(f"{path}: cannot be read as {path.suffix} ({reason}); fetch it again or convert it") from error


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


def _read(path: Path) -> mne.io.BaseRaw:
    import mne

    known = format_of(path)
    if known is None:
        raise UserError(f"not a recording in a format that is read; expected {', '.join(SUFFIXES)}")
    if known.reader == "read_raw_cnt":
        return _read_cnt(path)
    try:
        found = getattr(mne.io, known.reader)(path, preload=False, verbose="WARNING")
        return join_epochs(found) if isinstance(found, mne.BaseEpochs) else found  # Curry files may hold either
    except Exception as error:
        if needed := re.search(r"module (\w+)\S* is needed", str(error)):
            raise UserError(
                f"{known.name} files need the Python package {needed[1]}; install it: uv sync --extra formats"
            ) from error
        if "read_epochs_eeglab" in str(error) or (known.name == "FIF" and mne.what(path) == "epochs"):
            return join_epochs(open_epochs(path))
        if known.name == "FIF" and (kind := mne.what(path)) != "unknown":
            raise UserError(
                f"holds {kind}, not a continuous recording; give the recording it was made from, or remove the file"
            ) from error
        raise


def _read_bids(path: mne_bids.BIDSPath) -> mne.io.BaseRaw:
    import mne_bids

    try:
        return mne_bids.read_raw_bids(path, verbose="WARNING")
    except (RuntimeError, TypeError) as error:
        if path.extension != ".set" or "read_epochs" not in str(error):
            raise
        return join_epochs(mne_bids.read_epochs_bids(path, verbose="WARNING"))


def _by_clock(recording: Recording, stretches: Stretches) -> mne.Annotations:
    """Annotations by the file's clock: in BIDS those of events.tsv, whose times count from the first sample."""
    import mne
    import mne_bids

    table = events_table(recording) if recording.bids is not None else None
    if table is None:
        return mne.read_annotations(recording.path)
    found = mne_bids.events_file_to_annotation_kwargs(table, verbose="ERROR")
    return mne.Annotations(found["onset"] + stretches.onsets[0], found["duration"], found["description"])


def _read_cnt(path: Path) -> mne.io.BaseRaw:
    """Open a Neuroscan file; in some, the header does not say whether samples have 16 or 32 bits."""
    import mne

    try:
        return mne.io.read_raw_cnt(path, verbose="WARNING")
    except RuntimeError as error:
        if "data_format" not in str(error):
            raise
    raw = mne.io.read_raw_cnt(path, data_format="int32", verbose="WARNING")
    # Two 16-bit samples read as one of 32 bits are around a volt, far above any EEG.
    if np.median(raw.get_data(picks="eeg", stop=1000, verbose="ERROR").std(axis=1)) > 0.01:
        raw = mne.io.read_raw_cnt(path, data_format="int16", verbose="WARNING")
    return raw
