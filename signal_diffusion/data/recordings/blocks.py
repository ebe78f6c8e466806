"""Resample, filter and reference an opened recording in blocks, with the same result as the whole at once.

Blocks have margins as wide as the filters' support, and are extended beyond the ends of the recording by odd
reflection. If a recording was interrupted, the parts before and after are filtered separately.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.signal

from signal_diffusion.data.recordings.filters import anti_aliasing
from signal_diffusion.data.recordings.opening import errors_naming
from signal_diffusion.data.recordings.read_options import ReadOptions
from signal_diffusion.data.recordings.source import Source
from signal_diffusion.data.recordings.spans import Span
from signal_diffusion.data.recordings.windows import flat_stretches
from signal_diffusion.errors import UserError, listed

if TYPE_CHECKING:
    from signal_diffusion.data.recordings.recording import Recording

__all__ = ["blocks", "stretches_of"]


def stretches_of(source: Source, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Uninterrupted stretches (first sample, end), each at least one resampled sample long.

    MNE fills a gap in the acquisition with zeros, which become a separate stretch.
    """
    times = [time for span in spans if span.interruption for time in (span.onset, span.end)]
    # Half a sample rounds up: EEGLAB puts boundaries between samples, such as 99.5 between 99 and 100.
    cuts = [math.floor(time * source.sfreq + 0.501) for time in times]
    inside = [cut for cut in cuts if 0 < cut < source.num_samples]
    borders = sorted({math.ceil(cut * source.ratio): cut for cut in (*inside, 0, source.num_samples)}.values())
    return list(itertools.pairwise(borders))


def blocks(
    recording: Recording,
    source: Source,
    stretches: Sequence[tuple[int, int]],
    kernel: np.ndarray,
    options: ReadOptions,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the first sample, processed µV (channels, samples) and flat seconds (names, seconds) of each block."""
    up, down = source.ratio.numerator, source.ratio.denominator
    lowpass = anti_aliasing(source.ratio)
    reach = (len(kernel) // 2 + 1) / source.ratio + len(lowpass) // 2 / up
    margin = down * math.ceil(max(reach, source.sfreq + 1) / down)
    # Blocks are longer than their margins, so that reflection is needed only at the ends of a stretch.
    step = down * math.ceil(max(source.samples_at_once, 4 * margin) / down)
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


def _with_margins(source: Source, within: tuple[int, int], start: int, stop: int) -> np.ndarray:
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
    data: np.ndarray, origin: int, block: tuple[int, int], end: int, source: Source, threshold: float
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
