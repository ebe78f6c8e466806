"""Classical augmentations by braindecode, to compare synthetic windows with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.utility.examples import Examples

__all__ = ["AUGMENTATIONS", "Augmented"]

DROPPED = 0.2
"""Probability that an electrode is dropped."""
MIXUP_ALPHA = 0.2
"""Both parameters of the beta distribution of the share of the first window."""
BATCH = 128
"""Windows that are transformed at a time; windows are mixed within a batch."""


def _ft_surrogate(seed: int) -> Any:
    from braindecode.augmentation import FTSurrogate

    return FTSurrogate(probability=1.0, random_state=seed)


def _channels_dropout(seed: int) -> Any:
    from braindecode.augmentation import ChannelsDropout

    return ChannelsDropout(probability=1.0, p_drop=DROPPED, random_state=seed)


def _sign_flip(seed: int) -> Any:
    from braindecode.augmentation import SignFlip

    return SignFlip(probability=1.0, random_state=seed)


def _mixup(seed: int) -> Any:
    from braindecode.augmentation import Mixup

    return Mixup(alpha=MIXUP_ALPHA, beta_per_sample=True, random_state=seed)


AUGMENTATIONS: dict[str, Callable[[int], Any]] = {
    "FTSurrogate": _ft_surrogate,
    "ChannelsDropout": _channels_dropout,
    "SignFlip": _sign_flip,
    "Mixup": _mixup,
}
"""Name → seed → transform of braindecode that is always applied."""


class Augmented:
    """Windows that an augmentation makes of randomly ordered training windows, each used equally often.

    A mixed window is there twice, with both targets, weighted by their shares: for a weighted loss, that is mixup
    (Zhang et al., ICLR 2018) with any classifier.
    """

    def __init__(self, train: Examples, name: str, count: int, seed: int) -> None:
        import torch

        random, transform = np.random.default_rng(seed), AUGMENTATIONS[name](seed)
        rounds = [random.permutation(len(train)) for _ in range(-(-count // len(train)))]
        rows = np.concatenate(rounds)[:count]
        [features] = train.parts
        signals, sources, shares = [], [], []
        for start in range(0, count, BATCH):
            batch = rows[start : start + BATCH]
            # The transform is given places in the batch as targets, and gives them back, or those of both windows.
            made, places = transform(torch.from_numpy(features.windows.signals[batch]), torch.arange(len(batch)))
            places = places if isinstance(places, tuple) else (places, places, torch.ones(len(batch)))
            signals.append(made.numpy().astype(np.float32))
            sources.append(np.stack([batch[each.numpy()] for each in places[:2]]))
            shares.append(places[2].numpy())
        self._train, self._share, self._sources = train, np.concatenate(shares), np.concatenate(sources, 1)
        self._made = Features(
            dataclasses.replace(features.windows, signals=np.concatenate(signals), columns={}, spectrograms=None)
        )

    def first(self, count: int) -> Examples:
        """The first windows."""
        made, share = self._made.take(np.arange(count)), self._share[:count]
        first, second = (self._examples(made, side[:count]) for side in self._sources)
        if (self._share == 1).all():
            return first
        return dataclasses.replace(first, weights=share) + dataclasses.replace(second, weights=1 - share)

    def _examples(self, made: Features, rows: np.ndarray) -> Examples:
        return dataclasses.replace(self._train.take(rows), parts=(made,))
