"""Recordings read as microvolts at one rate, with one set of electrodes, into a file: in bounded memory.

MNE-Python does the decoding. A recording goes through in blocks, each with margins as wide as all filters reach,
and the recording continued beyond its ends by odd reflection; so the blocks fit together to what the whole at
once would have given, and a day takes no more memory than ten minutes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.signal

from signal_diffusion.data.recordings.channels import channel_names, eeg_names, find_channels
from signal_diffusion.data.recordings.opening import errors_named, one_line, open_recording, rates_of, with_one_rate
from signal_diffusion.data.recordings.spans import Span, spans_of
from signal_diffusion.data.recordings.windows import flat_stretches
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    import mne

    from signal_diffusion.data.recordings.recording import Recording

__all__ = ["ReadOptions", "Reading", "eeg_channels", "read_recording"]

logger = logging.getLogger(__name__)

_PLAUSIBLE = (0.1, 500.0)  # µV, median of the absolute value
_BLOCK_VALUES = 2_000_000  # 16 MB of float64; several copies of it live at once
_LOBES = 20  # zero crossings of the anti-aliasing filter on either side: to 125 Hz, 60 Hz lose 1 dB, 67 Hz 40


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What is done to every recording of a dataset."""

    channels: tuple[str, ...]
    """Electrodes, or names as they stand in the files."""
    reference: str
    """`average` of `channels`, `none`, or the channels whose mean is subtracted: `A1,A2`."""
    band: tuple[float, float]
    """Edges of the band-pass, Hz."""
    notch: tuple[float, ...]
    """Frequencies to remove, Hz."""
    sampling_rate: float
    """Of the dataset, Hz."""
    min_samples: int
    """A recording with fewer, at `sampling_rate`, is refused."""
    flat_below: float
    """µV; a channel that moves less within a second is flat."""

    def check(self) -> None:
        """Raise the `UserError` that every recording would raise, for a reference or filters that cannot be."""
        if self.reference not in ("average", "none") and not self.reference.strip(" ,"):
            raise UserError("reference: names no channel; use average, none, or channels such as A1,A2")
        _design(self)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is known of a recording once its signal is on disk."""

    num_samples: int
    """At the dataset's rate."""
    flat: np.ndarray
    """Whether some channel is flat, for each whole second (seconds,) bool."""
    spans: tuple[Span, ...]
    """Annotations and events, by onset."""


def read_recording(recording: Recording, options: ReadOptions, output: Path) -> Reading:
    """Write a recording to `output`, an .npy of µV (channels, samples) float32; returns what is known of it.

    In this order: pick, find flat seconds, resample with an anti-aliasing filter, band-pass and notch
    (zero-phase, MNE's FIR design), reference. Raises `UserError` for whatever cannot be used, leaving no file,
    and logs implausible amplitudes.
    """
    kernel = _design(options)
    with errors_named(recording.path):
        source = _open_picked(recording, options)
        spans = spans_of(source.annotated, _samples_at_once(source))
    flat, medians = [], []
    try:
        with output.open("wb") as file:
            shape = (len(options.channels), source.num_resampled)
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            data_start = file.tell()
            for start, signal, seconds in _blocks(recording, source, kernel, options):
                flat.append(seconds)
                medians.append(float(np.median(np.abs(signal))))
                # Plain writes: a full disk is then an error, where a memory map would end the process.
                for row, values in enumerate(signal.astype("<f4")):
                    file.seek(data_start + 4 * (row * source.num_resampled + start))
                    file.write(values.tobytes())
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    _warn_if_implausible(recording, float(np.median(medians)))
    return Reading(num_samples=source.num_resampled, flat=np.concatenate(flat), spans=spans)


def eeg_channels(recording: Recording) -> tuple[str, ...]:
    """Name the EEG channels of a file, as electrodes where they are; see `channels.eeg_names`.

    Of an EDF or BDF whose channels have different rates, those with the rate that most of them have.
    """
    with errors_named(recording.path):
        raw = open_recording(recording)
        names = eeg_names(raw)
        rates = rates_of(recording.path, raw)
        if rates is None:
            return names
        own = [rates[index] for index in find_channels(names, raw)]
        usual = max(sorted(set(own), reverse=True), key=own.count)
        return tuple(name for name, rate in zip(names, own, strict=True) if rate == usual)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """An opened recording, and how its samples become the dataset's."""

    raw: mne.io.BaseRaw
    annotated: mne.io.BaseRaw
    """The same with all channels, of which `raw` may have fewer."""
    picks: list[int]
    """Into the channels of `raw`: those of the dataset, then references."""
    ratio: Fraction
    """Sampling rate of the dataset ÷ that of the file."""

    @property
    def sfreq(self) -> float:
        return float(self.raw.info["sfreq"])

    @property
    def num_samples(self) -> int:
        return self.raw.n_times

    @property
    def num_resampled(self) -> int:
        return math.ceil(self.num_samples * self.ratio)

    def microvolts(self, start: int, stop: int) -> np.ndarray:
        """Read a stretch (picks, samples) float64."""
        ordered = sorted(set(self.picks))
        # Not in place: MNE does not promise a copy, and blocks overlap.
        data = self.raw.get_data(picks=ordered, start=start, stop=stop, verbose="ERROR") * 1e6
        return data if ordered == self.picks else data[np.searchsorted(ordered, self.picks)]


def _blocks(
    recording: Recording, source: _Source, kernel: np.ndarray, options: ReadOptions
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Give the first sample, the finished µV (channels, samples) and the flat seconds (seconds,) of each block."""
    up, down = source.ratio.numerator, source.ratio.denominator
    lowpass = _anti_aliasing(source.ratio)
    reach = (len(kernel) // 2 + 1) / source.ratio + len(lowpass) // 2 / up
    margin = down * math.ceil(max(reach, source.sfreq + 1) / down)
    # A block is at least as long as its margins, so that only those at the ends of the recording are reflected.
    step = down * math.ceil(max(_samples_at_once(source), 4 * margin) / down)
    for start in range(0, source.num_samples, step):
        stop = min(start + step, source.num_samples)
        with errors_named(recording.path):
            data = _with_margins(source, start, stop, margin)
        flat = _flat(data[: len(options.channels)], start, stop, margin, source, options.flat_below)
        if source.ratio != 1:
            data = scipy.signal.upfirdn(lowpass, data, up, down, axis=-1)
        first, last = start * up // down, math.ceil(stop * source.ratio)
        # Where `first` lies in `data`: behind the margin, and the delay of the anti-aliasing filter.
        offset = margin * up // down + len(lowpass) // 2 // down
        half = len(kernel) // 2
        data = data[:, offset - half : offset + last - first + half]
        data = scipy.signal.fftconvolve(data, kernel[None], mode="valid", axes=-1)
        yield first, _referenced(data, options), flat


def _with_margins(source: _Source, start: int, stop: int, margin: int) -> np.ndarray:
    """Read µV from `margin` samples before `start` to `margin` after `stop`, continued beyond the recording's ends."""
    first, last = max(0, start - margin), min(source.num_samples, stop + margin)
    data = source.microvolts(first, last)
    finite = np.isfinite(data).all(axis=0)
    if not finite.all():
        second = (first + int(finite.argmin())) / source.sfreq
        raise UserError(f"has samples that are not finite, the first at {second:.6g} s; repair or leave out the file")
    before, after = margin - (start - first), margin - (last - stop)
    if not before and not after:
        return data
    # Odd reflection continues value and slope, of which the filters leave nothing.
    return np.pad(data, ((0, 0), (before, after)), mode="reflect", reflect_type="odd")


def _flat(data: np.ndarray, start: int, stop: int, margin: int, source: _Source, threshold: float) -> np.ndarray:
    """Tell the flat seconds among those that begin in a block; `data` is the block with its margins."""
    sfreq = source.sfreq
    seconds = np.arange(math.floor(start / sfreq), math.ceil(stop / sfreq) + 2)
    borders = np.round(seconds * sfreq).astype(int)  # a second is no whole number of samples everywhere
    begins = (borders[:-1] >= start) & (borders[:-1] < stop) & (borders[1:] <= source.num_samples)
    if not begins.any():
        return np.zeros(0, dtype=bool)
    chosen = np.flatnonzero(begins)
    return flat_stretches(data, borders[chosen[0] : chosen[-1] + 2] - start + margin, threshold)


def _referenced(data: np.ndarray, options: ReadOptions) -> np.ndarray:
    count = len(options.channels)
    signal, others = data[:count], data[count:]
    if len(others):
        return signal - others.mean(axis=0)
    return signal - signal.mean(axis=0) if options.reference == "average" else signal


def _design(options: ReadOptions) -> np.ndarray:
    """Give one zero-phase kernel (taps,), odd in length, for band-pass and notches at the dataset's rate."""
    import mne

    rate, design = options.sampling_rate, mne.filter.create_filter
    try:
        kernel = design(None, rate, *options.band, verbose="ERROR")
        if options.notch:  # as `mne.filter.notch_filter` does
            lines = np.asarray(options.notch)
            half = lines / 400 + 0.5
            notch = design(
                None, rate, lines + half, lines - half,
                l_trans_bandwidth=0.5, h_trans_bandwidth=0.5, verbose="ERROR",
            )  # fmt: skip
            kernel = np.convolve(kernel, notch)
    except ValueError as error:
        raise UserError(
            f"band, notch: {options.band} and {options.notch} Hz make no filter at {rate:g} Hz "
            f"({one_line(error)}); choose others"
        ) from error
    assert len(kernel) % 2 == 1
    return kernel


def _anti_aliasing(ratio: Fraction) -> np.ndarray:
    """Give the low-pass (taps,) at the rate that both rates divide; its delay is whole output samples."""
    if ratio == 1:
        return np.ones(1)
    half = _LOBES * ratio.denominator
    cutoff = 1 / max(ratio.numerator, ratio.denominator)
    return ratio.numerator * scipy.signal.firwin(2 * half + 1, cutoff, window=("kaiser", 5.0))


def _samples_at_once(source: _Source) -> int:
    return max(1, _BLOCK_VALUES // len(source.picks))


def _open_picked(recording: Recording, options: ReadOptions) -> _Source:
    raw = open_recording(recording)
    references = () if options.reference in ("average", "none") else channel_names(options.reference)
    wanted = (*options.channels, *references)
    picks = find_channels(wanted, raw)
    if bads := [name for name in raw.info["bads"] if raw.ch_names.index(name) in picks]:
        logger.warning("%s: marked as bad, and used: %s; leave it out with --channels", recording.path, ", ".join(bads))
    narrow, picks = with_one_rate(recording, raw, picks)
    sfreq, rate = float(narrow.info["sfreq"]), options.sampling_rate
    if sfreq < rate * (1 - 1e-4):
        raise UserError(f"sampled at {sfreq:g} Hz, below the dataset's {rate:g} Hz; use --rate {sfreq:g}")
    source = _Source(raw=narrow, annotated=raw, picks=picks, ratio=Fraction(rate / sfreq).limit_denominator(10_000))
    if source.num_resampled < options.min_samples:
        raise UserError(
            f"lasts {narrow.n_times / sfreq:.3g} s, less than one window of {options.min_samples / rate:.3g} s"
        )
    return source


def _warn_if_implausible(recording: Recording, median: float) -> None:
    if not _PLAUSIBLE[0] <= median <= _PLAUSIBLE[1]:
        logger.warning(
            "%s: the median amplitude is %.3g µV, and EEG has some 1 to 100; check the unit in the file",
            recording.path,
            median,
        )
