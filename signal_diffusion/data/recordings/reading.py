"""Read recordings into files of microvolts at one rate and with one set of electrodes, in bounded memory.

MNE-Python does the decoding. A recording is processed in blocks (see `blocks`), so that a day takes no more memory than
ten minutes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.recordings.arrays import array_electrodes, has_array_suffix, plausible_units
from signal_diffusion.data.recordings.blocks import blocks, stretches_of
from signal_diffusion.data.recordings.channels import eeg_names, find_channels
from signal_diffusion.data.recordings.edf import channel_rates
from signal_diffusion.data.recordings.epochs import epoch_borders, epochs_among
from signal_diffusion.data.recordings.events import Event, events_of
from signal_diffusion.data.recordings.opening import errors_naming, open_recording
from signal_diffusion.data.recordings.read_options import ReadOptions
from signal_diffusion.data.recordings.source import Source, open_source
from signal_diffusion.data.recordings.spans import Span, spans_of
from signal_diffusion.disks import writing
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    from signal_diffusion.data.recordings.recording import Recording

__all__ = ["Reading", "eeg_and_other_columns", "eeg_channels", "read_recording"]

logger = logging.getLogger(__name__)

_PLAUSIBLE = (0.1, 500.0)  # median of the absolute value, µV


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Result of reading a recording; its signal is on disk."""

    num_samples: int
    """Number of samples, at the dataset's rate."""
    flat: np.ndarray
    """Whether any channel is flat, for each whole second: (seconds,) bool."""
    mostly_flat: tuple[str, ...] = ()
    """Channels that are flat in more than half of the seconds."""
    spans: tuple[Span, ...]
    """Annotations and events, sorted by onset."""
    epochs: tuple[Span, ...] = ()
    """Those of `spans` that are epochs, which were not filtered; () = the recording is continuous."""
    events: tuple[Event, ...] = ()
    """Events that windows can be cut around, sorted by onset; only if `ReadOptions.events` asks for some."""
    absent: tuple[str, ...] = ()
    """Channels of the dataset that the recording lacks; their rows are NaN."""
    digest: str = ""
    """Hash of the samples; equal for files with the same content."""


def read_recording(recording: Recording, options: ReadOptions, output: Path, *, warns: bool = True) -> Reading:
    """Write a recording to `output`, an .npy file of µV (channels, samples) float32; NaN in rows of absent channels.

    In this order: pick channels, find flat seconds, resample with an anti-aliasing filter, band-pass and notch
    (zero-phase, MNE's FIR design; not for epochs), reference. Raises `UserError`, and leaves no file, if the recording
    cannot be used; warns about implausible amplitudes unless `warns` is false.
    """
    with errors_naming(recording.path):
        source = open_source(recording, options)
        at_once = source.samples_at_once
        spans = spans_of(source.annotated, at_once, options.event_duration)
        wanted = options.events
        events = events_of(recording, source.annotated, spans, wanted, at_once) if wanted else ()
        epochs = epochs_among(spans)
        _check_length(source, epochs, options)
    kernel = np.ones(1) if epochs else options.kernel()
    own = source.names[: len(source.good)]
    rows = [options.channels.index(name) for name in own]
    flat, medians, digest = [], [], hashlib.blake2b(digest_size=16)
    try:
        shape = (len(options.channels), source.num_resampled)
        needs = 4 * shape[0] * shape[1]
        with writing(output, f"the signals of {recording.path}", needs=needs), output.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            data_start = file.tell()
            stretches = stretches_of(source, spans)
            for start, signal, flat_seconds in blocks(recording, source, stretches, kernel, options):
                flat.append(flat_seconds)
                if signal.any():  # not a gap, which is filled with zeros
                    medians.append(float(np.median(np.abs(signal))))
                # Plain writes: on a full disk they raise an error, while a memory map would crash the process.
                whole = np.full((len(options.channels), signal.shape[1]), np.nan, "<f4")
                whole[rows] = signal
                for row, values in enumerate(whole):
                    file.seek(data_start + 4 * (row * source.num_resampled + start))
                    content = values.tobytes()
                    file.write(content)
                    digest.update(content)
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    if warns:
        _warn_if_implausible(recording, float(np.median(medians or [0.0])), options)
    seconds = np.concatenate(flat, axis=1)
    return Reading(
        num_samples=source.num_resampled,
        flat=np.any(seconds, axis=0),
        mostly_flat=tuple(
            name for name, each in zip(source.names, seconds, strict=True) if each.size and each.mean() > 0.5
        ),
        spans=spans,
        epochs=epochs,
        events=events,
        absent=tuple(name for name in options.channels if name not in own),
        digest=digest.hexdigest(),
    )


def eeg_channels(recording: Recording) -> tuple[str, ...]:
    """Names of the EEG channels of a file, as electrodes if possible; see `eeg_and_other_columns`."""
    return eeg_and_other_columns(recording)[0]


def eeg_and_other_columns(recording: Recording) -> tuple[tuple[str, ...], list[str]]:
    """Names of the EEG channels of a file, as electrodes if possible, and the columns of an array that are left out.

    See `channels.eeg_names` and `table_columns`. In an EDF or BDF with several rates, only the channels with the most
    common rate.
    """
    with errors_naming(recording.path):
        if has_array_suffix(recording.path):
            return array_electrodes(recording)
        raw = open_recording(recording)
        names = eeg_names(raw)
        rates = channel_rates(recording.path, raw)
        if rates is None:
            return names, []
        own = [rates[index] for index in find_channels(names, raw)]
        usual = max(sorted(set(own), reverse=True), key=own.count)
        return tuple(name for name, rate in zip(names, own, strict=True) if rate == usual), []


def _check_length(source: Source, epochs: Sequence[Span], options: ReadOptions) -> None:
    """Raise a `UserError` if the recording, or each of its epochs, is shorter than a window."""
    samples, what = source.num_resampled, "lasts"
    if epochs:
        samples = min(end - first for first, end in epoch_borders(epochs, options.sampling_rate))
        what = f"its epochs have {samples} samples at {options.sampling_rate:g} Hz and last"
    if samples < options.min_samples:
        raise UserError(
            f"{what} {samples / options.sampling_rate:.3g} s, less than one window of "
            f"{options.min_samples / options.sampling_rate:.3g} s; use a smaller --window or --skip-bad"
        )


def _warn_if_implausible(recording: Recording, median: float, options: ReadOptions) -> None:
    if not _PLAUSIBLE[0] <= median <= _PLAUSIBLE[1]:
        units = plausible_units(median) if options.volts_per_unit is None else None
        logger.warning(
            "%s: the median amplitude is %.3g µV, but EEG has about 1 to 100 µV; check the unit in the file%s",
            recording.path,
            median,
            f", or try --units {units}" if units else " and --units",
        )
