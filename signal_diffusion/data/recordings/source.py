"""An opened recording, with the channels of a dataset and in microvolts, but at its own rate."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.recordings.channels import channel_names, find_channels, missing_channels
from signal_diffusion.data.recordings.formats import format_of
from signal_diffusion.data.recordings.opening import open_recording, with_one_rate
from signal_diffusion.data.recordings.positions import interpolating
from signal_diffusion.data.recordings.read_options import ReadOptions
from signal_diffusion.errors import UserError, listed

if TYPE_CHECKING:
    import mne

    from signal_diffusion.data.recordings.recording import Recording

__all__ = ["Source", "open_source", "rate_ratio", "samples_of_gap"]

logger = logging.getLogger(__name__)

_BLOCK_VALUES = 2_000_000  # 16 MB of float64; several copies exist at once


@dataclass(frozen=True, kw_only=True)
class Source:
    """An opened recording, and how its samples map to the dataset's."""

    raw: mne.io.BaseRaw
    annotated: mne.io.BaseRaw
    """The same recording with all channels; `raw` may have fewer."""
    names: tuple[str, ...]
    """The dataset's channels, of which some may be absent, then references: the rows of `microvolts`."""
    picks: list[int]
    """Indices into the channels of `raw`: the dataset's channels and references, or what `mixing` makes them of."""
    mixing: np.ndarray | None
    """Weights (dataset's channels and references, picks) if some are interpolated; otherwise None."""
    good: np.ndarray
    """Which of the dataset's channels are not marked as bad, (channels,) bool, without absent ones; the average
    reference uses these, as in MNE."""
    ratio: Fraction
    """Sampling rate of the dataset ÷ sampling rate of the file."""
    volts_per_unit: float
    gaps: tuple[tuple[int, int], ...] = ()
    """Stretches that are not used, first sample and end: `microvolts` has straight lines there."""

    @property
    def sfreq(self) -> float:
        """Sampling rate of the file, Hz."""
        return float(self.raw.info["sfreq"])

    @property
    def num_samples(self) -> int:
        """Number of samples, at the rate of the file."""
        return self.raw.n_times

    @property
    def num_resampled(self) -> int:
        """Number of samples, at the dataset's rate."""
        return math.ceil(self.num_samples * self.ratio)

    @property
    def samples_at_once(self) -> int:
        """Samples to read at a time, which bounds memory."""
        return max(1, _BLOCK_VALUES // len(self.picks))

    def microvolts(self, start: int, stop: int) -> np.ndarray:
        """Read µV (names, samples) float64 from `start` to `stop`, with a straight line across each gap."""
        data = self._read(start, stop)
        for first, end in self.gaps:
            inside = np.arange(max(first, start), min(end, stop))
            if inside.size:
                data[:, inside - start] = self._line(first, end, inside)
        return data

    def _line(self, first: int, end: int, at: np.ndarray) -> np.ndarray:
        """µV (names, len(at)) on the line from the sample before a gap to the one after: filters see no step."""
        edges = [self._read(each, each + 1) for each in (first - 1, end) if 0 <= each < self.num_samples]
        share = (at - (first - 1)) / (end - (first - 1))
        return edges[0] + (edges[-1] - edges[0]) * share

    def _read(self, start: int, stop: int) -> np.ndarray:
        ordered = sorted(set(self.picks))
        data = self.raw.get_data(picks=ordered, start=start, stop=stop, verbose="ERROR")
        # Not in place: MNE may return a view, and blocks overlap.
        data = data * (1e6 * self.volts_per_unit)
        data = data if ordered == self.picks else data[np.searchsorted(ordered, self.picks)]
        return data if self.mixing is None else self.mixing @ data


def open_source(recording: Recording, options: ReadOptions) -> Source:
    """Open a recording and find its channels; raises a `UserError` if one is missing or the rate is too low."""
    raw = open_recording(recording)
    references = () if options.reference in ("average", "none") else channel_names(options.reference)
    missing = missing_channels(options.channels, raw) if options.interpolate or options.absent else []
    present = [name for name in options.channels if name not in missing]
    if options.absent:
        _check_enough(present, options)
    picks = [*find_channels(present, raw), *find_channels(references, raw, "--reference")]
    names = [raw.ch_names[index] for index in picks]
    bads = [name for name in names if name in raw.info["bads"]]
    good = np.array([name not in bads for name in names[: len(present)]])
    mixing = None
    if missing and options.interpolate:
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
    return Source(
        raw=narrow,
        annotated=raw,
        names=(*(options.channels if options.interpolate else present), *references),
        picks=picks,
        mixing=mixing,
        good=good,
        ratio=rate_ratio(rate, sfreq),
        volts_per_unit=options.volts_per_unit or (1.0 if known is None else known.volts_per_unit),
        gaps=tuple(samples_of_gap(gap, sfreq) for gap in options.gaps),
    )


def rate_ratio(rate: float, sfreq: float) -> Fraction:
    """The rate of a dataset ÷ that of a recording; 1 if they are nearly the same."""
    return Fraction(rate / sfreq).limit_denominator(10_000)


def samples_of_gap(gap: tuple[float, float], sfreq: float) -> tuple[int, int]:
    """First sample and end of a gap, with samples that are only partly within."""
    start, stop = (round(time * sfreq, 6) for time in gap)
    return math.floor(start), math.ceil(stop)


def _check_enough(present: Sequence[str], options: ReadOptions) -> None:
    """Raise a `UserError` if too few of the dataset's channels are there; the average of one leaves nothing of it."""
    if len(present) < (least := 2 if options.reference == "average" else 1):
        found = f"only {present[0]}" if present else "none"
        raise UserError(
            f"has {found} of {listed(options.channels)}, expected at least {least} with --reference "
            f"{options.reference}; choose others with --channels"
        )
