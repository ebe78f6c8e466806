"""Read recordings into files of microvolts at one rate and with one set of electrodes, in bounded memory.

MNE-Python does the decoding. A recording is filtered in blocks, each with margins as wide as the filters' support, and
extended beyond its ends by odd reflection. So the blocks are identical to filtering the whole at once, and a day takes
no more memory than ten minutes. If a recording was interrupted, the parts before and after are filtered separately.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.signal

from signal_diffusion.data.recordings.arrays import array_electrodes, has_array_suffix, plausible_units
from signal_diffusion.data.recordings.channels import channel_names, eeg_names, find_channels, missing_channels
from signal_diffusion.data.recordings.edf import channel_rates
from signal_diffusion.data.recordings.epochs import epoch_borders, epochs_among
from signal_diffusion.data.recordings.events import Event, events_of
from signal_diffusion.data.recordings.formats import format_of
from signal_diffusion.data.recordings.opening import errors_naming, open_recording, with_one_rate
from signal_diffusion.data.recordings.positions import interpolating
from signal_diffusion.data.recordings.spans import Span, spans_of
from signal_diffusion.data.recordings.windows import flat_stretches
from signal_diffusion.errors import UserError, listed, one_line

if TYPE_CHECKING:
    import mne

    from signal_diffusion.data.recordings.recording import Recording

__all__ = ["ReadOptions", "Reading", "eeg_and_other_columns", "eeg_channels", "read_recording"]

logger = logging.getLogger(__name__)

_PLAUSIBLE = (0.1, 500.0)  # median of the absolute value, µV
_BLOCK_VALUES = 2_000_000  # 16 MB of float64; several copies exist at once
_LOBES = 20  # zero crossings per side of the anti-aliasing filter: for 125 Hz, −1 dB at 60 Hz, −40 dB at 67 Hz


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read and filter every recording of a dataset."""

    channels: tuple[str, ...]
    """Electrodes, or names of channels as in the files."""
    reference: str
    """`average` of `channels`, `none`, or the channels whose mean is subtracted: `A1,A2`."""
    band: tuple[float, float]
    """Edges of the band-pass, Hz."""
    notch: tuple[float, ...]
    """Frequencies to remove, Hz."""
    sampling_rate: float
    """Sampling rate of the dataset, Hz."""
    min_samples: int
    """Fewer samples, at `sampling_rate`, are an error."""
    flat_below: float
    """A channel with a smaller peak-to-peak amplitude within a second is flat, µV."""
    events: frozenset[str] = frozenset()
    """Codes of the events to find; empty = windows are not cut around events."""
    event_duration: float | None = None
    """Longest duration of events that have none, s; None = see `spans_of`."""
    interpolate: bool = False
    """Interpolate channels that a recording lacks from its other electrodes, instead of raising an error."""
    volts_per_unit: float | None = None
    """Factor to V of the numbers in arrays, and of those that MNE reads from other files as V; None = the format's."""

    def check(self) -> None:
        """Raise a `UserError` for an invalid reference or impossible filters, before any recording is read."""
        if self.reference not in ("average", "none") and not self.reference.strip(" ,"):
            raise UserError("reference: no channel named; use average, none, or channels such as A1,A2")
        _design(self)


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
    digest: str = ""
    """Hash of the samples; equal for files with the same content."""


def read_recording(recording: Recording, options: ReadOptions, output: Path) -> Reading:
    """Write a recording to `output`, an .npy file of µV (channels, samples) float32.

    In this order: pick channels, find flat seconds, resample with an anti-aliasing filter, band-pass and notch
    (zero-phase, MNE's FIR design; not for epochs), reference. Raises `UserError`, and leaves no file, if the recording
    cannot be used; warns about implausible amplitudes.
    """
    with errors_naming(recording.path):
        source = _open_picked(recording, options)
        at_once = _samples_at_once(source)
        spans = spans_of(source.annotated, at_once, options.event_duration)
        wanted = options.events
        events = events_of(recording, source.annotated, spans, wanted, at_once) if wanted else ()
        epochs = epochs_among(spans)
        _check_length(source, epochs, options)
    kernel = np.ones(1) if epochs else _design(options)
    flat, medians, digest = [], [], hashlib.blake2b(digest_size=16)
    try:
        with output.open("wb") as file:
            shape = (len(options.channels), source.num_resampled)
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            data_start = file.tell()
            stretches = _stretches(source, spans)
            for start, signal, flat_seconds in _blocks(recording, source, stretches, kernel, options):
                flat.append(flat_seconds)
                if signal.any():  # not a gap, which is filled with zeros
                    medians.append(float(np.median(np.abs(signal))))
                # Plain writes: on a full disk they raise an error, while a memory map would crash the process.
                for row, values in enumerate(signal.astype("<f4")):
                    file.seek(data_start + 4 * (row * source.num_resampled + start))
                    content = values.tobytes()
                    file.write(content)
                    digest.update(content)
    except BaseException:
        output.unlink(missing_ok=True)
        raise
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


def _check_length(source: _Source, epochs: Sequence[Span], options: ReadOptions) -> None:
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


@dataclass(frozen=True, kw_only=True)
class _Source:
    """An opened recording, and how its samples map to the dataset's."""

    raw: mne.io.BaseRaw
    annotated: mne.io.BaseRaw
    """The same recording with all channels; `raw` may have fewer."""
    names: tuple[str, ...]
    """The dataset's channels, then references: the rows of `microvolts`."""
    picks: list[int]
    """Indices into the channels of `raw`: the dataset's channels and references, or what `mixing` makes them of."""
    mixing: np.ndarray | None
    """Weights (dataset's channels and references, picks) if some are interpolated; otherwise None."""
    good: np.ndarray
    """Channels of the dataset not marked as bad, (channels,) bool; the average reference uses these, as in MNE."""
    ratio: Fraction
    """Sampling rate of the dataset ÷ sampling rate of the file."""
    volts_per_unit: float

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
        """Read µV (names, samples) float64 from `start` to `stop`."""
        ordered = sorted(set(self.picks))
        data = self.raw.get_data(picks=ordered, start=start, stop=stop, verbose="ERROR")
        # Not in place: MNE may return a view, and blocks overlap.
        data = data * (1e6 * self.volts_per_unit)
        data = data if ordered == self.picks else data[np.searchsorted(ordered, self.picks)]
        return data if self.mixing is None else self.mixing @ data


def _stretches(source: _Source, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Uninterrupted stretches (first sample, end), each at least one resampled sample long.

    MNE fills a gap in the acquisition with zeros, which become a separate stretch.
    """
    times = [time for span in spans if span.interruption for time in (span.onset, span.end)]
    # Half a sample rounds up: EEGLAB puts boundaries between samples, such as 99.5 between 99 and 100.
    cuts = [math.floor(time * source.sfreq + 0.501) for time in times]
    inside = [cut for cut in cuts if 0 < cut < source.num_samples]
    borders = sorted({math.ceil(cut * source.ratio): cut for cut in (*inside, 0, source.num_samples)}.values())
    return list(itertools.pairwise(borders))


def _blocks(
    recording: Recording,
    source: _Source,
    stretches: Sequence[tuple[int, int]],
    kernel: np.ndarray,
    options: ReadOptions,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the first sample, processed µV (channels, samples) and flat seconds (names, seconds) of each block."""
    up, down = source.ratio.numerator, source.ratio.denominator
    lowpass = _anti_aliasing(source.ratio)
    reach = (len(kernel) // 2 + 1) / source.ratio + len(lowpass) // 2 / up
    margin = down * math.ceil(max(reach, source.sfreq + 1) / down)
    # Blocks are longer than their margins, so that reflection is needed only at the ends of a stretch.
    step = down * math.ceil(max(_samples_at_once(source), 4 * margin) / down)
    half = len(kernel) // 2
    for within in stretches:
        # Start at a sample that both rates share; it may be just before the stretch.
        for origin in range(within[0] - within[0] % down, within[1], step):
            start, stop = max(origin, within[0]), min(origin + step, within[1])
            with errors_naming(recording.path):
                data = _with_margins(source, within, origin - margin, stop + margin)
            flat = _flat(data, origin - margin, (start, stop), within[1], source, options.flat_below)
            if source.ratio != 1:
                data = scipy.signal.upfirdn(lowpass, data, up, down, axis=-1)
            first, last = math.ceil(start * source.ratio), math.ceil(stop * source.ratio)
            # Index of `first` in `data`: after the margin and the delay of the anti-aliasing filter.
            offset = first - (origin - margin) * up // down + len(lowpass) // 2 // down
            data = data[:, offset - half : offset + last - first + half]
            data = scipy.signal.fftconvolve(data, kernel[None], mode="valid", axes=-1)
            yield first, _referenced(data, source.good, options), flat


def _with_margins(source: _Source, within: tuple[int, int], start: int, stop: int) -> np.ndarray:
    """Read µV from `start` to `stop`, extended beyond the ends of the stretch `within`."""
    first, last = max(within[0], start), min(within[1], stop)
    data = source.microvolts(first, last)
    finite = np.isfinite(data)
    if not finite.all():
        second = (first + int(finite.all(axis=0).argmin())) / source.sfreq
        bad = [source.names[index] for index in np.flatnonzero(~finite.all(axis=1))]
        raise UserError(
            f"has samples that are not finite, the first at {second:.6g} s, on {listed(bad)}; repair or remove the file"
        )
    if first == start and last == stop:
        return data
    # Odd reflection continues offset and slope, which the filters then remove without edge artefacts.
    return np.pad(data, ((0, 0), (first - start, stop - last)), mode="reflect", reflect_type="odd")


def _flat(
    data: np.ndarray, origin: int, block: tuple[int, int], end: int, source: _Source, threshold: float
) -> np.ndarray:
    """Whether a channel is flat in a second that starts in a block, (channels, seconds) bool.

    `data` starts at `origin`, the stretch ends at `end`. A second that contains an interruption is not flat: the data
    after it are not available here.
    """
    sfreq, (start, stop) = source.sfreq, block
    seconds = np.arange(math.floor(start / sfreq), math.ceil(stop / sfreq) + 2)
    borders = np.round(seconds * sfreq).astype(int)  # a second need not be a whole number of samples
    begins = (borders[:-1] >= start) & (borders[:-1] < stop) & (borders[1:] <= source.num_samples)
    if not begins.any():
        return np.zeros((len(data), 0), dtype=bool)
    chosen = np.flatnonzero(begins)
    borders = borders[chosen[0] : chosen[-1] + 2]
    return flat_stretches(data, borders - origin, threshold) & (borders[1:] <= end)


def _referenced(data: np.ndarray, good: np.ndarray, options: ReadOptions) -> np.ndarray:
    count = len(good)
    signal, others = data[:count], data[count:]
    if len(others):
        return signal - others.mean(axis=0)
    return signal - signal[good].mean(axis=0) if options.reference == "average" else signal


def _design(options: ReadOptions) -> np.ndarray:
    """One zero-phase kernel (taps,), of odd length, for band-pass and notches at the dataset's rate."""
    import mne

    rate, design = options.sampling_rate, mne.filter.create_filter
    try:
        kernel = design(None, rate, *options.band, verbose="ERROR")
        if options.notch:  # same design as `mne.filter.notch_filter`
            lines = np.asarray(options.notch)
            half = lines / 400 + 0.5
            notch = design(
                None, rate, lines + half, lines - half,
                l_trans_bandwidth=0.5, h_trans_bandwidth=0.5, verbose="ERROR",
            )  # fmt: skip
            kernel = np.convolve(kernel, notch)
    except ValueError as error:
        raise UserError(
            f"band, notch: no filter for {options.band} and {options.notch} Hz at a rate of {rate:g} Hz "
            f"({one_line(error)}); choose other frequencies"
        ) from error
    assert len(kernel) % 2 == 1
    return kernel


def _anti_aliasing(ratio: Fraction) -> np.ndarray:
    """Low-pass kernel (taps,) at the common multiple of both rates; its delay is a whole number of output samples."""
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
    missing = missing_channels(options.channels, raw) if options.interpolate else []
    present = [name for name in options.channels if name not in missing]
    picks = [*find_channels(present, raw), *find_channels(references, raw, "--reference")]
    names = [raw.ch_names[index] for index in picks]
    bads = [name for name in names if name in raw.info["bads"]]
    good = np.array([name not in bads for name in names[: len(present)]])
    mixing = None
    if missing:
        picks, mixing = interpolating(options.channels, missing, picks, raw)
        good = np.insert(good, [at - number for number, at in enumerate(map(options.channels.index, missing))], True)
    if options.reference == "average" and not good.any():
        raise UserError("all channels are marked as bad, so there is no average reference; use --reference none")
    if bads:
        used = "used, except for the average" if options.reference == "average" else "used"
        logger.warning(
            "%s: channels marked as bad, but %s: %s; exclude them with --channels",
            recording.path,
            used,
            ", ".join(bads),
        )
    narrow, picks = with_one_rate(recording, raw, picks)
    sfreq, rate = float(narrow.info["sfreq"]), options.sampling_rate
    if sfreq < rate * (1 - 1e-4):
        raise UserError(f"sampling rate {sfreq:g} Hz is below the dataset's {rate:g} Hz; use --rate {sfreq:g}")
    known = format_of(recording.path)
    ratio = Fraction(rate / sfreq).limit_denominator(10_000)
    return _Source(
        raw=narrow,
        annotated=raw,
        names=(*options.channels, *references),
        picks=picks,
        mixing=mixing,
        good=good,
        ratio=ratio,
        volts_per_unit=options.volts_per_unit or (1.0 if known is None else known.volts_per_unit),
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
