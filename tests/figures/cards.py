"""Cards for figures."""

from __future__ import annotations

from typing import Any

import torch

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.registry import REPRESENTATIONS
from signal_diffusion.data.representations.representation import DEFAULT_PICTURES, PictureOptions

__all__ = ["card_for"]


def card_for(
    name: str, signals: torch.Tensor, *, rate: float, pictures: PictureOptions = DEFAULT_PICTURES, **entries: Any
) -> DatasetCard:
    """The card of a representation fitted to signals (n, electrodes, window) in µV."""
    window = signals.shape[-1]
    fitted = REPRESENTATIONS[name].fit([signals], sampling_rate=rate, window=window, pictures=pictures)
    return DatasetCard(
        representation={
            "name": name,
            "layout": fitted.layout,
            "inverse": fitted.inverse,
            "column": fitted.column,
            "parameters": fitted.parameters(),
        },
        shape=fitted.shape,
        sampling_rate=rate,
        window=window,
        columns={},
        splits={},
        preprocessing={},
        sources=[],
        command="",
        made_from="",
        **entries,
    )
