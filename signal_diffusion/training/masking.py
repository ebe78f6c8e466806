"""Random masks: which values of an example the network is given, and which it is trained to restore."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.reference import Reference, reference_of
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.known import Known

__all__ = ["Masking", "masking_of"]

GAP = (1 / 64, 1 / 2)
"""Shortest and longest gap, as shares of the window; lengths are log-uniform."""
CONTINUED = (1 / 16, 15 / 16)
"""Smallest and largest share of the window that is given of a continuation; uniform."""
KINDS = ("electrodes", "gaps", "continuations")


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Draws masks according to [training.masking] for examples whose rows are electrodes, (B, C, H, W)."""

    table: schema.Masking
    average: Reference | None = None
    """The average reference of the signals; None for other references."""

    def __call__(self, x0: Tensor, generator: torch.Generator, present: Tensor | None = None) -> tuple[Tensor, Known]:
        """x0 and what is given of it, of the electrodes that are `present`, (B, H) bool; None = all.

        An average reference contains the missing electrodes. So where electrodes are missing, x0 is referenced to the
        average of those that are given: all that is known of a recording without the others.
        """
        count, (_, electrodes, samples) = len(x0), x0.shape[1:]

        def uniform(*shape: int) -> Tensor:
            return torch.rand(count, *shape, generator=generator, device=x0.device)

        number, order = uniform(), uniform(electrodes)
        present = torch.ones_like(order, dtype=torch.bool) if present is None else present
        rows = _some_electrodes(number, order, present)  # (B, H)
        spans = ~_gap(uniform(), uniform(), samples), _end(uniform(), uniform(), samples)  # (B, W) each
        masks = [
            rows[:, :, None].expand(-1, -1, samples),
            *(each[:, None].expand(-1, electrodes, -1) for each in spans),
        ]
        kinds = torch.multinomial(
            torch.tensor([getattr(self.table, kind) for kind in KINDS], device=x0.device, dtype=torch.float32),
            2 * count,
            replacement=True,
            generator=generator,
        ).view(2, count)
        first, second = torch.stack(masks)[kinds, torch.arange(count, device=x0.device)]  # (B, H, W) each
        combine, masked = uniform()[:, None, None], uniform() < self.table.probability
        both = torch.where(combine < 3 / 4, first | second, first & second)
        everything = (both | ~present[:, :, None]).flatten(1).all(1)
        given = torch.where((combine < 1 / 2) | everything[:, None, None], first, both)
        given &= masked[:, None, None] & present[:, :, None]
        chosen = (kinds[0] == 0) | ((kinds[1] == 0) & (combine.flatten() >= 1 / 2))
        if self.average is not None:
            x0 = self.average.taken_off(x0, (rows | ~(chosen & masked)[:, None]) & present)
        return x0, Known(x0, given[:, None].expand_as(x0))

    def of_each(
        self, x0: Tensor, generators: Sequence[torch.Generator], present: Tensor | None = None
    ) -> tuple[Tensor, Known]:
        """The same with one CPU generator per example, so that an example does not depend on the rest of the batch."""
        here = [None] * len(x0) if present is None else present[:, None].cpu()
        each_example = zip(x0[:, None].cpu(), generators, here, strict=True)
        parts = [self(each, generator, own) for each, generator, own in each_example]
        known = Known(*(torch.cat([getattr(each, name) for _, each in parts]) for name in ("values", "mask")))
        return torch.cat([each for each, _ in parts]).to(x0.device), known.to(x0.device)


def masking_of(table: schema.Masking, card: DatasetCard) -> Masking | None:
    """The masks of [training.masking] for a dataset of time series; None without masks."""
    is_average = card.preprocessing.get("reference") == "average"
    if not table.probability:
        return None
    return Masking(table=table, average=reference_of(card, representation_of(card)) if is_average else None)


def _some_electrodes(number: Tensor, order: Tensor, present: Tensor) -> Tensor:
    """1 to n − 1 of the n present ones, each number equally likely; none of a single one.

    (B, H) bool, from uniform random numbers (B,) and (B, H), and which electrodes are present, (B, H) bool.
    """
    count = present.sum(1)
    given = 1 + (number * (count - 1)).floor().clamp(max=count - 2)
    return order.masked_fill(~present, 2.0).argsort(1).argsort(1) < given[:, None]


def _gap(length: Tensor, start: Tensor, samples: int) -> Tensor:
    """A stretch (B, W) bool, from uniform random numbers (B,) each."""
    shortest, longest = map(math.log, GAP)
    size = (samples * torch.exp(shortest + length * (longest - shortest))).round().clamp(1, samples)
    return _stretch((start * (samples - size + 1)).floor(), size, samples)


def _end(share: Tensor, side: Tensor, samples: int) -> Tensor:
    """The beginning or the end (B, W) bool, from uniform random numbers (B,) each."""
    least, most = CONTINUED
    size = (samples * (least + share * (most - least))).round().clamp(1, samples)
    return _stretch(torch.where(side < 1 / 2, torch.zeros_like(size), samples - size), size, samples)


def _stretch(start: Tensor, size: Tensor, samples: int) -> Tensor:
    time = torch.arange(samples, device=start.device)
    return (time >= start[:, None]) & (time < (start + size)[:, None])
