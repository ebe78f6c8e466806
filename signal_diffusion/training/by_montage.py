"""The loss of examples that lack some of the electrodes of their dataset, for networks that know electrodes by place.

A batch is split by montage: the network sees each example's own electrodes only, at their places, and the loss is the
mean over their values. Noise and times are drawn for the whole batch before, so they do not depend on the montages.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from signal_diffusion.diffusion.methods import Method
from signal_diffusion.known import Known
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.training.perceptual import Perceptual

__all__ = ["loss_of_each", "without_absent"]


def without_absent(x: Tensor) -> tuple[Tensor, Tensor]:
    """Examples (B, C, H, W) with 0 in place of absent electrodes, which are all NaN, and which are there, (B, H)."""
    present = ~x.isnan().all(3).all(1)
    return x.masked_fill(~present[:, None, :, None], 0.0), present


def loss_of_each(
    network: nn.Module,
    method: Method,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    cond: Conditioning,
    *,
    places: Tensor | None = None,
    present: Tensor | None = None,
    perceptual: Perceptual | None = None,
) -> Tensor:
    """The loss of each example, (B,).

    `places` (H, 3) are those of the electrodes of x0 (B, C, H, W), of which only those that are `present`, (B, H) bool,
    count; None = all examples have all electrodes, those that the network was trained on.
    """
    if places is None or present is None:
        xt = method.add_noise(x0, noise, t)
        prediction = network(xt, t, cond)
        loss = method.loss(prediction, x0, noise, t, cond.known)
        return loss + perceptual(method, xt, prediction, x0, t, cond.known) if perceptual else loss
    montages, number = present.cpu().unique(dim=0, return_inverse=True)
    examples = [(number == each).nonzero()[:, 0] for each in range(len(montages))]
    losses = [
        loss_of_each(
            network,
            method,
            x0[some][:, :, rows],
            noise[some][:, :, rows],
            t[some],
            _of_montage(cond[some], rows, places),
            perceptual=perceptual.on(rows) if perceptual else None,
        )
        for some, rows in zip(examples, montages, strict=True)
    ]
    return torch.cat(losses)[torch.cat(examples).argsort()]


def _of_montage(cond: Conditioning, rows: Tensor, places: Tensor) -> Conditioning:
    """The same conditions of examples that have only some of the electrodes, (H,) bool."""
    if cond.known is not None:
        cond = cond.with_known(Known(cond.known.values[:, :, rows], cond.known.mask[:, :, rows]))
    return cond.with_places(places[rows].expand(len(cond), -1, -1))
