"""What a network in a latent space trains on: latents of mean 0 and standard deviation 1, made anew or from the cache.

The statistics that they are normalised with are measured once, when a run begins, and are a part of what it learns from
then on: every checkpoint holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from signal_diffusion.data.loaders import Examples, spread
from signal_diffusion.errors import UserError
from signal_diffusion.models.autoencoders.frozen import Autoencoder, LatentStatistics

__all__ = ["Encoding", "check_statistics", "fit_statistics"]

EXAMPLES = 2048
"""Most training examples that statistics are of."""
CHECKED = 1024
"""Most examples that they are held against: training examples that they are not of."""
TOLERANCE = 0.05
OWN_FACTORS = (0.5, 2.0)
"""Standard deviations between which the VAE's own factors do what they are for."""
NO_SPREAD = 1e-12
"""Share of a channel's power below which its variance is rounding."""

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The way from a batch of a split to x0: data go through the VAE, moments from the cache have been there."""

    autoencoder: Autoencoder
    cached: bool
    """Whether examples are `Autoencoder.moments`, and not data."""
    sample_posterior: bool
    """Whether training takes draws from the posterior, and not its mean."""

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The latents (B, c, h, w) of a batch: of training with a generator, else the posterior's mean."""
        return self.autoencoder.latents(self.moments(x), generator if self.sample_posterior else None)

    def moments(self, x: Tensor) -> Tensor:
        """The moments of a batch, on its device."""
        return x if self.cached else self.autoencoder.moments(x)


def fit_statistics(encoding: Encoding, examples: Examples, accelerator: Accelerator) -> list[str]:
    """Normalise the autoencoder by an even choice of the training examples; what is odd about them, a line each.

    All processes share the work and end with identical statistics. Augmentation is left out.

    Raises
    ------
    UserError
        Where latents are not finite.
    """
    rows = np.array(spread(len(examples), EXAMPLES))
    mean, std, flat = _measured(encoding, examples, rows, accelerator)
    if not np.isfinite([mean, std]).all():
        raise UserError("[model.autoencoder] path: makes latents that are not finite of these examples; use another")
    encoding.autoencoder.normalise(LatentStatistics(tuple(mean.tolist()), tuple(np.where(flat, 1.0, std).tolist())))
    lines = []
    low, high = OWN_FACTORS
    if odd := int(((std < low) | (std > high)).sum()):
        lines.append(
            f"warning: under the autoencoder's own factors {odd} of {len(std)} channels of latents miss unit variance "
            f"by more than a factor of two (std {std.min():.2f} to {std.max():.2f}); those of the training split are "
            "used beside them"
        )
    others = np.setdiff1d(np.arange(len(examples)), rows)
    if len(others):
        rows = others[spread(len(others), CHECKED)]
        found = _off(*_measured(encoding, examples, rows, accelerator)[:2], flat)
        lines += [
            f"warning: the latents of {len(rows):,} other training examples {each}; examples may differ too much for "
            f"{EXAMPLES:,} to stand for all"
            for each in found
        ]
    return lines


def check_statistics(encoding: Encoding, examples: Examples, accelerator: Accelerator) -> list[str]:
    """Hold statistics that were taken over from an earlier run against the training examples; a line where they miss.

    All processes share the work. Such a network goes on with what it takes for latents, whatever is found.
    """
    rows = np.array(spread(len(examples), CHECKED))
    return [
        f"warning: the latents of {len(rows):,} training examples {each} under the statistics of model.pretrained, "
        "which are kept; examples differ from those that its network was trained on"
        for each in _off(*_measured(encoding, examples, rows, accelerator))
    ]


def _off(mean: np.ndarray, std: np.ndarray, flat: np.ndarray) -> list[str]:
    """How channels miss mean 0 and standard deviation 1, where they do; nothing is expected of a flat one's."""
    off = np.maximum(abs(mean), np.where(flat, 0.0, abs(std - 1)))
    if (off <= TOLERANCE).all():
        return []
    worst = int(off.argmax())
    return [
        f"miss mean 0 and std 1 by more than {TOLERANCE} in {int((off > TOLERANCE).sum())} of {len(off)} channels "
        f"(channel {worst}: mean {mean[worst]:.3f}, std {std[worst]:.3f})"
    ]


def _measured(
    encoding: Encoding, examples: Examples, rows: np.ndarray, accelerator: Accelerator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation by channel of what training sees of some examples, and whether there is no spread.

    Of draws, the variance is that of the means and the mean of the variances: nothing is drawn.
    """
    own = rows[accelerator.process_index :: accelerator.num_processes]
    sums = np.zeros((3, encoding.autoencoder.latent_shape[0]))
    for start in range(0, len(own), _BATCH):
        sums += _sums(encoding, examples, own[start : start + _BATCH].tolist())
    # Added up in the same order everywhere: identical to the last bit on all processes.
    total = np.sum(gather_object([sums]), axis=0) / (len(rows) * np.prod(encoding.autoencoder.latent_shape[1:]))
    mean, power, within = total
    variance = power - mean**2
    flat = variance + within <= NO_SPREAD * power
    return mean, np.sqrt(np.maximum(variance + within, 0)), flat


def _sums(encoding: Encoding, examples: Examples, rows: Sequence[int]) -> np.ndarray:
    """Over examples and positions, by channel: of the latents' means, of their squares, and of the draws' variances."""
    autoencoder = encoding.autoencoder
    moments = encoding.moments(examples[rows][0])
    z = autoencoder.latents(moments).double()
    within = autoencoder.variances(moments) if encoding.sample_posterior else torch.zeros_like(z)
    return torch.stack([value.double().sum((0, 2, 3)) for value in (z, z.square(), within)]).cpu().numpy()
