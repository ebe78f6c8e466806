"""Faults of the samples of a preview that a picture may hide: values that are not finite, and collapse."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fault_of"]

COLLAPSED = 0.01
"""Samples have collapsed if they vary by less than this share of the variation of real examples."""


def fault_of(samples: Tensor, real: Tensor) -> str:
    """A fault of samples (N, C, H, W), in comparison with real examples (M, C, H, W); "" if there is none.

    Samples that vary too little have collapsed: each over its own values, or, at each value, all among each other.
    Real examples may lack electrodes, which are NaN.
    """
    bad = int((~torch.isfinite(samples)).flatten(1).any(1).sum())
    if bad:
        return f"{bad} of {len(samples)} samples have values that are not finite"
    pairs = {"each sample is flat": [_std(each.flatten(1), 1) for each in (samples, real)]}
    if len(samples) > 1 and len(real) > 1:
        pairs["all samples are the same"] = [_std(each, 0) for each in (samples, real)]
    for name, (generated, expected) in pairs.items():
        if generated < COLLAPSED * expected:
            return f"{name} (standard deviation {generated:.1e}, of real examples {expected:.1e}): collapsed"
    return ""


def _std(x: Tensor, dim: int) -> float:
    """The mean standard deviation along a dimension, of the values that are not NaN."""
    if not x.isnan().any():
        return x.std(dim).mean().item()
    return (x - x.nanmean(dim, keepdim=True)).square().nanmean(dim).sqrt().nanmean().item()
