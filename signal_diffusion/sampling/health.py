"""A short check of samples for the terminal: are they finite, as strong as the training data, and nowhere flat?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.data.amplitudes import LEVELS, Amplitudes
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.escaping import for_terminal
from signal_diffusion.evaluation.reconstruction import FLAT
from signal_diffusion.figures.recordings import windows_within
from signal_diffusion.sampling.samples import Samples

__all__ = ["health_check", "recordings_check"]

CHUNK = 256
"""Samples whose amplitudes are counted at a time, which bounds memory."""
MOST = 1024
"""Windows of recordings that are checked, evenly spaced."""


def health_check(samples: Samples, requested: int) -> list[str]:
    """Lines about the finite ones of `requested` samples or windows: three, or one if they have no signals."""
    finite = f"finite      {len(samples)} of {requested}"
    if samples.signals is None:
        name = samples.card.representation["name"]
        return [f"{finite}; amplitudes unknown: {name} examples of this dataset cannot be turned into microvolts"]
    return [finite, *_signals_check(samples.signals, samples.card, samples.ch_names)]


def recordings_check(signals: np.ndarray, card: DatasetCard, requested: int) -> list[str]:
    """The same for the finite ones of `requested` recordings (N, electrodes, samples), µV: of windows of them."""
    assert card.window is not None
    windows = torch.from_numpy(windows_within(signals, card.window, MOST))
    return [f"finite      {len(signals)} of {requested}", *_signals_check(windows, card, card.channels)]


def _signals_check(signals: Tensor, card: DatasetCard, ch_names: Sequence[str]) -> list[str]:
    return [f"amplitude   {_amplitudes(signals, card)}", f"flat        {_flat(signals, ch_names)}"]


def _amplitudes(signals: Tensor, card: DatasetCard) -> str:
    counted, before = Amplitudes(), card.amplitudes
    for part in signals.split(CHUNK):
        counted.add(part)
    shares = _listed([f"{level:.4g} %" for level in (100 * level for level in LEVELS)])
    training = f"{_listed(list(before.values()))} µV" if before else "unknown, the dataset's card does not have them"
    return f"{shares} of |x| are below {_listed(list(counted.quantiles().values()))} µV (training data: {training})"


def _flat(signals: Tensor, ch_names: Sequence[str]) -> str:
    flat = signals.std(-1, correction=0) < FLAT  # (N,) or (N, electrodes)
    what = "samples" if flat.ndim == 1 else "electrodes"
    line = f"{int(flat.sum())} of {flat.numel()} {what} (standard deviation below {FLAT:g} µV)"
    if flat.ndim == 1 or not flat.any():
        return line
    counts = Counter({name: int(count) for name, count in zip(ch_names, flat.sum(0), strict=True) if count})
    return f"{line}: {for_terminal(', '.join(f'{name} {count}' for name, count in counts.most_common(5)))}"


def _listed(values: list[object]) -> str:
    *first, last = (f"{value:.3g}" if isinstance(value, float) else f"{value}" for value in values)
    return f"{', '.join(first)} and {last}"
