"""Excerpts of a restored recording for its picture, with spherical splines to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from signal_diffusion.evaluation.restoration.electrodes import splines
from signal_diffusion.figures.restoration import Excerpt
from signal_diffusion.sampling.restoring.result import Restoration

__all__ = ["excerpts_of"]

SECONDS = 10.0
ELECTRODES = 6
LEAST_GIVEN = 4
"""Electrodes to interpolate from."""


def excerpts_of(restoration: Restoration, statistics: Mapping[str, np.ndarray]) -> list[Excerpt]:
    """Ten seconds around the first gap and around the end if it was extended; otherwise from the middle."""
    plan, total = restoration.plan, restoration.known.shape[1]
    seconds = total / plan.sfreq
    centres = [(start + stop) / 2 for start, stop in plan.gaps[:1]]
    centres += [seconds - plan.extend] if plan.extension else []
    rows = _rows(restoration)
    excerpts = []
    for centre in centres or [seconds / 2]:
        first = round(min(max(0.0, centre - SECONDS / 2), max(0.0, seconds - SECONDS)) * plan.sfreq)
        span = slice(first, min(total, first + round(SECONDS * plan.sfreq)))
        missing = restoration.missing[rows, span]
        mean, low, high = (statistics[name][rows, span] for name in ("mean", "q10", "q90"))
        spline = np.full_like(mean, np.nan)
        for name, values in _splines(restoration, statistics["mean"][:, span]).items():
            if (row := restoration.ch_names.index(name)) in rows:
                spline[rows.index(row)] = values
        spline[:, restoration.missing[:, span].all(axis=0)] = np.nan  # nothing to interpolate from
        excerpts.append(
            Excerpt(
                times=np.arange(span.start, span.stop) / plan.sfreq,
                ch_names=[restoration.ch_names[row] for row in rows],
                given=np.where(missing, np.nan, mean),
                mean=np.where(missing, mean, np.nan),
                low=np.where(missing, low, np.nan),
                high=np.where(missing, high, np.nan),
                spline=spline,
            )
        )
    return excerpts


def _splines(restoration: Restoration, mean: np.ndarray) -> dict[str, np.ndarray]:
    """The restored electrodes of an excerpt by spherical splines, µV; {} if there are too few positions."""
    positions, restored = restoration.card.positions, restoration.plan.restored
    rows = [row for row, name in enumerate(restoration.ch_names) if name in positions]
    names = [restoration.ch_names[row] for row in rows]
    is_missing = np.array([name in restored for name in names])
    if not is_missing.any() or (~is_missing).sum() < LEAST_GIVEN:
        return {}
    signals = mean[None, rows]
    missing = np.broadcast_to(is_missing[:, None], signals.shape)
    [found] = splines(signals, missing, names, {name: positions[name] for name in names})
    return {name: values for name, values in zip(names, found, strict=True) if name in restored}


def _rows(restoration: Restoration) -> list[int]:
    """Electrodes to show: those that are restored from beginning to end, and if there are gaps, others too."""
    names, restored = restoration.ch_names, restoration.plan.restored
    in_time = bool(restoration.plan.gaps or restoration.plan.extension)
    chosen = _evenly(restored, ELECTRODES // 2 if in_time else ELECTRODES)
    if in_time:
        chosen += _evenly([name for name in names if name not in restored], ELECTRODES - len(chosen))
    return sorted(names.index(name) for name in chosen)


def _evenly(names: Sequence[str], most: int) -> list[str]:
    indices = np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)
    return [names[index] for index in indices]
