"""Make sets of windows comparable: what differs is harmonised and said, or refused by name."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
from scipy import signal

from signal_diffusion.data.recordings.channels import electrode_of
from signal_diffusion.errors import UserError, listed
from signal_diffusion.evaluation.comparable_spectrograms import comparable_spectrograms
from signal_diffusion.evaluation.windows import Windows

__all__ = ["MOST_SINGLE", "harmonised"]

FACTOR = 100.0
"""Amplitudes that differ by more than this factor are in another unit."""
SMALLEST = 1e-3
"""µV, median standard deviation of real windows, below which they are in volts."""
CONSTANT = 1e-7
"""µV, range up to which a signal is constant to rounding; that of EEG in volts is larger."""
MOST_SINGLE = 8000
"""Largest number of single electrodes that are judged, at random."""
SINGLE = "EEG"
"""Name of the only electrode of windows whose electrode is not known."""


def harmonised(real: Windows, synthetic: Windows) -> tuple[Windows, Windows, list[str]]:
    """Both sets with the same electrodes, rate and length, and a sentence on each change.

    Electrodes are brought into the order of the real ones, and those that one set lacks are left out. The higher rate
    is resampled to the lower one, and longer windows are cut to the length of the shorter ones.

    Raises
    ------
    UserError
        If no electrode is common, the reference, the filter, the time of events or the unit differ, or all windows of
        a set are constant.
    """
    for key, option in (("reference", "--reference"), ("band", "--band")):
        first, second = (each.made.get(key) for each in (real, synthetic))
        if first is not None and second is not None and first != second:
            raise UserError(
                f"{synthetic.name}: {key} {second}, but {first} in {real.name}; prepare both with the same {option}"
            )
    if real.tmin is not None and synthetic.tmin is not None and abs(real.tmin - synthetic.tmin) > 0.5 / real.sfreq:
        raise UserError(
            f"{synthetic.name}: windows begin at {synthetic.tmin:g} s of their event, but at {real.tmin:g} s in "
            f"{real.name}; prepare both with the same --tmin"
        )
    notes = [
        f"{synthetic.name}: its {key} is not known; expected that of {real.name}, {real.made[key]}"
        for key in ("reference", "band")
        if key in real.made and key not in synthetic.made
    ]
    notes += [
        f"{each.name}: the phases of its signals are estimated, as its representation has none"
        for each in (real, synthetic)
        if each.made.get("inverse") == "approximate"
    ]
    real, synthetic = (_usual_names(each) for each in (real, synthetic))
    real, synthetic = comparable_spectrograms(real, synthetic, notes)
    real, synthetic = _electrodes(real, synthetic, notes)
    real, synthetic = _rate(real, synthetic, notes)
    real, synthetic = _length(real, synthetic, notes)
    _check_unit(real, synthetic)
    return real, synthetic, notes


def _usual_names(windows: Windows) -> Windows:
    """The same windows with the usual spelling of electrodes: FP1 is Fp1, and T3 is T7."""
    names = tuple(electrode_of(name) or name for name in windows.ch_names)
    if names == windows.ch_names or len({*names}) < len(names):
        return windows
    usual = dict(zip(windows.ch_names, names, strict=True))
    positions = {usual[name]: position for name, position in windows.positions.items()}
    return dataclasses.replace(windows, ch_names=names, positions=positions)


def _electrodes(real: Windows, synthetic: Windows, notes: list[str]) -> tuple[Windows, Windows]:
    if synthetic.ch_names == (SINGLE,) and real.ch_names != (SINGLE,):
        known = synthetic.column("electrode")
        chosen = set() if known is None else {*known.tolist()} - {""}
        notes.append(
            f"{synthetic.name}: samples are single electrodes; each electrode of a real window is a window of its own"
        )
        return _single(real, [name for name in real.ch_names if not chosen or name in chosen]), synthetic
    if real.ch_names == (SINGLE,) and synthetic.ch_names != (SINGLE,):
        known = real.column("electrode")
        return real, _single(synthetic, [name for name in synthetic.ch_names if known is None or name in known])
    common = [name for name in real.ch_names if name in synthetic.ch_names]
    if not common:
        raise UserError(
            f"{synthetic.name}: electrodes {listed(synthetic.ch_names)}, of which {real.name} has none "
            f"({listed(real.ch_names)}); rename them, or give the real recordings of the same montage"
        )
    for windows, other in ((real, synthetic), (synthetic, real)):
        if left := [name for name in windows.ch_names if name not in common]:
            notes.append(f"{windows.name}: left out {listed(left)}, which {other.name} lacks")
    if [name for name in synthetic.ch_names if name in common] != common:
        notes.append(f"{synthetic.name}: electrodes were brought into the order of {real.name}")
    return _picked(real, common), _picked(synthetic, common)


def _rate(real: Windows, synthetic: Windows, notes: list[str]) -> tuple[Windows, Windows]:
    if abs(real.sfreq - synthetic.sfreq) < 1e-6 * real.sfreq:
        return real, synthetic
    target = min(real.sfreq, synthetic.sfreq)
    changed = real if real.sfreq > target else synthetic
    notes.append(f"{changed.name}: resampled from {changed.sfreq:g} to {target:g} Hz")
    ratio = Fraction(target / changed.sfreq).limit_denominator(1000)
    resampled = dataclasses.replace(
        changed,
        signals=signal.resample_poly(changed.signals, ratio.numerator, ratio.denominator, axis=-1, padtype="line"),
        sfreq=target,
    )
    return (resampled, synthetic) if changed is real else (real, resampled)


def _length(real: Windows, synthetic: Windows, notes: list[str]) -> tuple[Windows, Windows]:
    length = min(real.signals.shape[-1], synthetic.signals.shape[-1])
    for windows in (real, synthetic):
        if windows.signals.shape[-1] > length:
            notes.append(f"{windows.name}: windows of {windows.seconds:g} s were cut to {length / windows.sfreq:g} s")
    first, second = (dataclasses.replace(each, signals=each.signals[..., :length]) for each in (real, synthetic))
    return first, second


def _check_unit(real: Windows, synthetic: Windows) -> None:
    for windows in (real, synthetic):
        if np.ptp(windows.signals, axis=-1).max() < CONSTANT:
            raise UserError(
                f"{windows.name}: all windows are constant, so no metric can be computed; expected EEG in µV"
            )
    sizes = [float(np.median(each.signals.std(-1))) for each in (real, synthetic)]
    if 0 < sizes[0] < SMALLEST:
        raise UserError(f"{real.name}: the median standard deviation is {sizes[0]:.3g} µV; expected µV, not volts")
    if min(sizes) > 0 and not 1 / FACTOR < sizes[1] / sizes[0] < FACTOR:
        raise UserError(
            f"{synthetic.name}: the median standard deviation is {sizes[1]:.3g} µV, but {sizes[0]:.3g} µV in "
            f"{real.name}; expected µV"
        )


def _picked(windows: Windows, names: list[str]) -> Windows:
    if list(windows.ch_names) == names:
        return windows
    index = [windows.ch_names.index(name) for name in names]
    positions = {name: windows.positions[name] for name in names if name in windows.positions}
    return dataclasses.replace(
        windows,
        signals=windows.signals[:, index],
        ch_names=tuple(names),
        positions=positions,
        spectrograms=None if windows.spectrograms is None else windows.spectrograms.pick(index),
    )


def _single(windows: Windows, names: list[str]) -> Windows:
    """Each of these electrodes as windows of one electrode, with a column `electrode`."""
    picked = _picked(windows, names)
    rows = np.arange(len(windows) * len(names))
    if len(rows) > MOST_SINGLE:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_SINGLE])
    columns = {key: np.repeat(np.asarray(values), len(names))[rows] for key, values in picked.columns.items()}
    name = windows.name if len(rows) == len(windows) * len(names) else f"{windows.name}, {len(rows)} single electrodes"
    return dataclasses.replace(
        picked,
        signals=picked.signals.reshape(-1, 1, picked.signals.shape[-1])[rows],
        ch_names=(SINGLE,),
        columns=columns | {"electrode": np.tile(names, len(windows))[rows]},
        positions={},
        name=name,
        spectrograms=None if picked.spectrograms is None else picked.spectrograms.single().take(rows),
    )
