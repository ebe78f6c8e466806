"""Positions of electrodes on the unit sphere: as digitised, or standard; and electrodes interpolated from others.

x points to the right ear, y to the nose, z up. The sphere has the centre of MNE's head models, 4 cm above the origin of
head coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.recordings.channels import eeg_names, electrode_of, find_channels
from signal_diffusion.errors import UserError, listed

if TYPE_CHECKING:
    import mne

__all__ = ["digitised_positions", "head_positions", "interpolating", "mean_positions", "standard_positions"]

_CENTER = np.array([0.0, 0.0, 0.04])  # m
_RADIUS = 0.095  # m, of MNE's head models
_PLAUSIBLE = (0.05, 0.2)  # distance of an electrode from the centre, m
_MIN_SOURCES = 4  # electrodes to interpolate from


def standard_positions(ch_names: Sequence[str]) -> dict[str, list[float]]:
    """Positions of the channels that are electrodes of MNE's standard_1005."""
    known = _standard()
    found = {name: known.get(electrode_of(name) or name) for name in ch_names}
    return {name: _rounded(position) for name, position in found.items() if position is not None}


def digitised_positions(ch_names: Sequence[str], raw: mne.io.BaseRaw) -> dict[str, list[float]] | None:
    """Positions that a recording has for its channels; None if one is missing or is not on a head."""
    positions = np.array([raw.info["chs"][index]["loc"][:3] for index in find_channels(ch_names, raw)]) - _CENTER
    distances = np.linalg.norm(positions, axis=1)
    # Files without positions have zeros or NaN, or the same for all.
    if not np.all((distances > _PLAUSIBLE[0]) & (distances < _PLAUSIBLE[1])) or np.allclose(positions, positions[0]):
        return None
    return {
        name: _rounded(position / distance)
        for name, position, distance in zip(ch_names, positions, distances, strict=True)
    }


def mean_positions(each: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Mean of the positions in several recordings, on the unit sphere."""
    means = {name: np.mean([positions[name] for positions in each], axis=0) for name in each[0]}
    return {name: _rounded(mean / np.linalg.norm(mean)) for name, mean in means.items()}


def head_positions(positions: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    """Positions on the unit sphere as MNE's head coordinates, m."""
    return {name: _CENTER + _RADIUS * np.array(position) for name, position in positions.items()}


def interpolating(
    channels: Sequence[str], missing: Sequence[str], picks: Sequence[int], raw: mne.io.BaseRaw
) -> tuple[list[int], np.ndarray]:
    """Interpolate the channels that a recording lacks: indices of the channels to read, and weights (rows, indices).

    The rows are `channels`, then the other `picks`, such as references; `picks` are the indices of all but the missing
    channels. Raises `UserError` if there are too few electrodes or no position.
    """
    sources, splines = _spline_weights(missing, raw)
    every = [*picks, *[index for index in sources if index not in picks]]
    weights = np.zeros((len(picks) + len(missing), len(every)))
    columns = [every.index(index) for index in sources]
    others = iter(range(len(picks)))
    for row in range(len(weights)):
        if row < len(channels) and channels[row] in missing:
            weights[row, columns] = splines[list(missing).index(channels[row])]
        else:
            weights[row, next(others)] = 1.0
    return every, weights


def _spline_weights(missing: Sequence[str], raw: mne.io.BaseRaw) -> tuple[list[int], np.ndarray]:
    """Channels of a recording to interpolate from, and weights (missing, channels) of MNE's spherical splines.

    The channels are its EEG electrodes that are not marked as bad; positions are those of standard_1005.
    """
    import mne

    known = _standard()
    places = {name: electrode_of(name) or name for name in missing}
    if unknown := [name for name, place in places.items() if place not in known]:
        raise UserError(f"no channel {listed(unknown)}, and no standard position to interpolate it at")
    names = eeg_names(raw)
    sources = {
        place: index
        for name, index in zip(names, find_channels(names, raw), strict=True)
        if (place := electrode_of(name) or name) in known and raw.ch_names[index] not in raw.info["bads"]
    }
    if len(sources) < _MIN_SOURCES:
        raise UserError(
            f"no channel {listed(list(missing))}, and only {len(sources)} electrodes with a standard position to "
            f"interpolate from; at least {_MIN_SOURCES} are needed"
        )
    # Interpolation is linear: applied to the unit vectors of the sources, it gives their weights.
    info = mne.create_info([*sources, *places.values()], 100.0, "eeg")
    units = np.vstack([np.eye(len(sources)), np.zeros((len(places), len(sources)))])
    evoked = mne.EvokedArray(units, info, verbose="ERROR").set_montage(_montage(), verbose="ERROR")
    evoked.info["bads"] = list(places.values())
    # A fixed centre; by default, MNE fits one to the electrodes that a recording happens to have.
    evoked.interpolate_bads(origin=tuple(_CENTER), verbose="ERROR")
    return list(sources.values()), evoked.data[len(sources) :]


@cache
def _standard() -> dict[str, np.ndarray]:
    """Unit vector of each electrode of standard_1005."""
    import mne

    montage = _montage()
    info = mne.create_info(montage.ch_names, 100.0, "eeg").set_montage(montage, verbose="ERROR")
    positions = {channel["ch_name"]: channel["loc"][:3] - _CENTER for channel in info["chs"]}
    return {name: position / np.linalg.norm(position) for name, position in positions.items()}


def _montage() -> mne.channels.DigMontage:
    import mne

    # MNE 1.13 renamed it.
    name = "colin27_1005" if "colin27_1005" in mne.channels.get_builtin_montages() else "standard_1005"
    return mne.channels.make_standard_montage(name)


def _rounded(position: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in position]
