"""Flat examples, which hold no signal, and names of examples for messages.

The tensors are looked at as they are stored: an example is flat if all its values are equal, and a spectrogram if all
levels are. In a time series, each electrode counts by itself. In a mosaic, with all electrodes in one image, a flat
electrode is not found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import listed
from signal_diffusion.escaping import for_terminal

__all__ = ["NAMING", "Named", "find_flat", "name_of"]

NAMING = ("recording", "window", "electrode")
"""The columns that name an example."""
_MOST = 6  # one more than `listed` shows
_PROBED = 16  # values per example that are compared first


@dataclass
class Named:
    """A count of examples with the names of the first ones."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.names) < _MOST:
            self.names.append(name)

    def __str__(self) -> str:
        """The first names."""
        return listed(self.names)


def find_flat(tensors: np.ndarray, card: DatasetCard) -> list[tuple[int, str]]:
    """The flat ones among tensors (n, C, H, W), as (row, electrode); the electrode is "" if the whole example is flat.

    An image of three constant colours is flat.
    """
    name = card.representation["name"]
    if name.startswith("db-"):
        tensors = tensors[:, :1]  # the level; the others have the phase of rounding errors
    count, *shape = tensors.shape
    series = name == "timeseries" and shape[1] == len(card.channels)
    channels = shape[1] if series else shape[0]
    size = math.prod(shape) // channels
    values = tensors.reshape(count, channels, size)
    step = max(1, size // _PROBED)
    found = (values[..., ::step] == values[..., :1]).all(axis=-1)  # (n, channels); few are left
    for row, channel in np.argwhere(found):
        found[row, channel] = (values[row, channel] == values[row, channel, 0]).all()
    whole = found.all(axis=1)
    parts = [(int(row), card.channels[channel]) for row, channel in np.argwhere(found & ~whole[:, None]) if series]
    return sorted([(int(row), "") for row in np.flatnonzero(whole)] + parts)


def name_of(columns: Mapping[str, Sequence[Any]], row: int, electrodes: Sequence[str] = (), electrode: str = "") -> str:
    """Name an example by its recording, window and electrode, as far as the dataset has these columns; "" if none.

    A code in the column of electrodes is one of `electrodes`; `electrode` replaces it.
    """
    values = {name: columns[name][row] for name in NAMING if name in columns}
    if isinstance(values.get("electrode"), int | np.integer) and electrodes:
        values["electrode"] = electrodes[values["electrode"]]
    if electrode:
        values["electrode"] = electrode
    words = [f"{value}" if name == "recording" else f"{name} {value}" for name, value in values.items()]
    return for_terminal(", ".join(words))
