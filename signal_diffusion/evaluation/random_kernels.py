"""Random convolutions of signals, whose features a linear classifier can tell sets of windows apart with.

A small ROCKET (Dempster et al., Data Mining and Knowledge Discovery 34, 2020): weights, biases and the two features of
a kernel are theirs. What differs, to judge thousands of windows on a CPU in seconds:

- 250 kernels instead of 10 000, all of length 9 (theirs: 7, 9 or 11) and padded with zeros (theirs: half of them).
- Dilations are powers of two, so that kernels of the same dilation are one convolution (theirs: any whole number).
- Outputs are computed at every fourth sample.
- A kernel is applied to each electrode, and its features are averaged over electrodes: they see the shape of signals
  and nothing of their place (multivariate ROCKET sums over random electrodes).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["random_kernel_features"]

KERNELS = 250
LENGTH = 9
STRIDE = 4
"""A convolution is evaluated at every fourth sample."""
BATCH = 16


def random_kernel_features(signals: np.ndarray, seed: int = 0) -> np.ndarray:
    """Share of positive values and maximum of each of 250 random convolutions, mean over electrodes, (N, 500).

    Each electrode of each window, (N, C, L), is z-scored first. A flat electrode becomes 0.
    """
    groups = _kernels(signals.shape[2], np.random.default_rng(seed))
    parts = []
    for start in range(0, len(signals), BATCH):
        x = torch.from_numpy(signals[start : start + BATCH]).float()
        x = (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True, correction=0).clamp_min(1e-6)
        found = []
        for dilation, (weights, biases) in groups.items():
            half = dilation * (LENGTH // 2)
            padded = pad(x, (half, half + STRIDE))
            ends = [tap * dilation + x.shape[-1] for tap in range(LENGTH)]
            taps = torch.stack([padded[..., end - x.shape[-1] : end : STRIDE] for end in ends], -1)  # (n, C, L / 4, 9)
            y = taps @ weights + biases  # (n, C, L / 4, K)
            found += [(y > 0).float().mean((1, 2)), y.amax(2).mean(1)]
        parts.append(torch.cat(found, 1))
    return torch.cat(parts).numpy()


def _kernels(length: int, random: np.random.Generator) -> dict[int, tuple[Tensor, Tensor]]:
    """Dilation → weights (9, K) and biases (K,)."""
    largest = max(0, int(np.log2(max(1, (length - 1) / (LENGTH - 1)))))
    dilations = 2 ** random.integers(0, largest + 1, KERNELS)
    weights = random.standard_normal((LENGTH, KERNELS))
    weights -= weights.mean(0)
    biases = random.uniform(-1, 1, KERNELS)
    return {
        int(dilation): (
            torch.from_numpy(weights[:, dilations == dilation]).float(),
            torch.from_numpy(biases[dilations == dilation]).float(),
        )
        for dilation in np.unique(dilations)
    }
