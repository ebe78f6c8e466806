"""Examples of single electrodes, put together to whole windows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.signals import Metadata, Signals, as_numpy, metadata_frame
from signal_diffusion.errors import UserError

__all__ = ["assemble_windows"]


def assemble_windows(examples: Signals, card: DatasetCard, metadata: Metadata) -> tuple[np.ndarray, pd.DataFrame]:
    """Assemble examples of single electrodes, signals or tensors (N · E, *), into whole windows (N, E, *).

    `metadata` has the columns `recording`, `window` and `electrode` (and `dataset` for merged datasets). Windows are
    in the order of their first examples, electrodes in the card's order; a window takes the other columns from its
    first example. Raises a `UserError` that names the first window with a missing, unknown or repeated electrode.
    """
    values = as_numpy(examples)
    frame = metadata_frame(metadata, card, len(values))
    if missing := [name for name in ("recording", "window", "electrode") if name not in frame]:
        raise UserError(f"metadata: no column {', '.join(missing)}; expected recording, window and electrode")
    position = {name: index for index, name in enumerate(card.channels)}
    if unknown := set(frame["electrode"]) - position.keys():
        raise UserError(f"metadata: electrode {min(map(str, unknown))} is not in the card")
    keys = [name for name in ("dataset", "recording", "window") if name in frame]
    window = frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    electrode = frame["electrode"].map(position).to_numpy()
    found = np.zeros((window.max(initial=-1) + 1, len(position)), dtype=int)
    np.add.at(found, (window, electrode), 1)
    for number in np.flatnonzero((found != 1).any(axis=1))[:1]:
        wrong = int(np.flatnonzero(found[number] != 1)[0])
        where = ", ".join(f"{name} {frame[name][window == number].iloc[0]}" for name in keys)
        raise UserError(f"{where}: electrode {card.channels[wrong]} occurs {found[number][wrong]} times; expected once")
    whole = np.empty((*found.shape, *values.shape[1:]), values.dtype)
    whole[window, electrode] = values
    return whole, frame.drop_duplicates(keys).drop(columns="electrode").reset_index(drop=True)
