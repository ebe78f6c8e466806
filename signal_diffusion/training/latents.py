"""Latents to train on, with mean 0 and standard deviation 1: encoded on the fly or read from the cache.

The statistics for the normalisation are measured once, when a run starts. From then on they belong to the trained
model: every checkpoint contains them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from signal_diffusion.data.loaders import Examples, evenly_spaced
from signal_diffusion.errors import UserError
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.autoencoders.latent_statistics import LatentStatistics

__all__ = ["Encoding", "check_statistics", "fit_statistics"]

MEASURED_EXAMPLES = 2048
"""Maximum number of training examples that the statistics are computed from."""
CHECKED_EXAMPLES = 1024
"""Maximum number of other training examples that the statistics are checked on."""
TOLERANCE = 0.05
"""Deviation from mean 0 and standard deviation 1 that is accepted without a warning."""
OWN_SCALING = (0.5, 2.0)
"""Range of standard deviations in which the VAE's own scaling is accepted without a warning."""
NO_SPREAD = 1e-12
"""Share of a channel's power below which its variance is only rounding."""

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """From a batch to x0: encodes data with the VAE; moments from the cache are encoded already."""

    autoencoder: Autoencoder
    cached: bool
    """Whether examples are `Autoencoder.moments` from the cache instead of data."""
    sample_posterior: bool
    """Whether training samples the posterior instead of taking its mean."""

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The latents (B, c, h, w) of a batch: for training with a generator; without one, the posterior's mean."""
        return self.autoencoder.latents(self.moments(x), generator if self.sample_posterior else None)

    def moments(self, x: Tensor) -> Tensor:
        """The moments of a batch, on its device."""
        return x if self.cached else self.autoencoder.moments(x)


def fit_statistics(encoding: Encoding, examples: Examples, accelerator: Accelerator) -> list[str]:
    """Set the autoencoder's normalisation from training examples spread over the split; return warnings.

    All processes share the work and end with identical statistics. Examples are not augmented.

    Raises
    ------
    UserError
        If latents are not finite.
    """
    rows = np.array(evenly_spaced(len(examples), MEASURED_EXAMPLES))
    mean, std, flat = _measure(encoding, examples, rows, accelerator)
    if not np.isfinite([mean, std]).all():
        raise UserError(
            "[model.autoencoder] path: the latents of the training examples are not finite; use another VAE"
        )
    encoding.autoencoder.normalise(LatentStatistics(tuple(mean.tolist()), tuple(np.where(flat, 1.0, std).tolist())))
    lines = []
    low, high = OWN_SCALING
    if odd := int(((std < low) | (std > high)).sum()):
        lines.append(
            f"warning: with the autoencoder's own scaling, {odd} of {len(std)} latent channels have a standard "
            f"deviation below {low:g} or above {high:g} ({std.min():.2f} to {std.max():.2f}); latents are normalised "
            "by the statistics of the training split as well"
        )
    others = np.setdiff1d(np.arange(len(examples)), rows)
    if len(others):
        rows = others[evenly_spaced(len(others), CHECKED_EXAMPLES)]
        deviations = _deviations(*_measure(encoding, examples, rows, accelerator)[:2], flat)
        lines += [
            f"warning: the latents of {len(rows):,} other training examples {each}; {MEASURED_EXAMPLES:,} examples may "
            "be too few to represent the training split"
            for each in deviations
        ]
    return lines


def check_statistics(encoding: Encoding, examples: Examples, accelerator: Accelerator) -> list[str]:
    """Check the statistics of an earlier run on the training examples; return a warning if they do not fit.

    All processes share the work. The statistics stay in any case: the pretrained network expects them.
    """
    rows = np.array(evenly_spaced(len(examples), CHECKED_EXAMPLES))
    return [
        f"warning: the latents of {len(rows):,} training examples {each} with the statistics of model.pretrained, "
        "which are kept; its network was trained on different examples"
        for each in _deviations(*_measure(encoding, examples, rows, accelerator))
    ]


def _deviations(mean: np.ndarray, std: np.ndarray, flat: np.ndarray) -> list[str]:
    """How channels deviate from mean 0 and standard deviation 1; [] if none does. Ignores the latter of `flat` ones."""
    off = np.maximum(abs(mean), np.where(flat, 0.0, abs(std - 1)))
    if (off <= TOLERANCE).all():
        return []
    worst = int(off.argmax())
    return [
        f"deviate from mean 0 and std 1 by more than {TOLERANCE} in {int((off > TOLERANCE).sum())} of {len(off)} "
        f"channels (channel {worst}: mean {mean[worst]:.3f}, std {std[worst]:.3f})"
    ]


def _measure(
    encoding: Encoding, examples: Examples, rows: np.ndarray, accelerator: Accelerator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation by channel of the latents of some examples, and whether the channel is constant.

    If training samples the posterior, its variance is computed, not sampled: that of the means plus the mean variance.
    """
    own = rows[accelerator.process_index :: accelerator.num_processes]
    sums = np.zeros((3, encoding.autoencoder.latent_shape[0]))
    for start in range(0, len(own), _BATCH):
        sums += _sums(encoding, examples, own[start : start + _BATCH].tolist())
    # Summed in the same order everywhere, so that all processes get identical bits.
    total = np.sum(gather_object([sums]), axis=0) / (len(rows) * np.prod(encoding.autoencoder.latent_shape[1:]))
    mean, power, within = total
    variance = power - mean**2
    flat = variance + within <= NO_SPREAD * power
    return mean, np.sqrt(np.maximum(variance + within, 0)), flat


def _sums(encoding: Encoding, examples: Examples, rows: Sequence[int]) -> np.ndarray:
    """Sums by channel over examples and positions (3, c): of the latents' means, their squares, posterior variances."""
    autoencoder = encoding.autoencoder
    moments = encoding.moments(examples[rows][0])
    z = autoencoder.latents(moments).double()
    within = autoencoder.variances(moments) if encoding.sample_posterior else torch.zeros_like(z)
    return torch.stack([value.double().sum((0, 2, 3)) for value in (z, z.square(), within)]).cpu().numpy()
