"""Windows of signals from a trained model, given a part of their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError
from signal_diffusion.known import Known
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.sampling.filling import FillWindow
from signal_diffusion.sampling.trained import Trained

__all__ = ["MAX_DRAWS", "check_fills_windows", "check_has_windows", "window_filler"]

MAX_DRAWS = 2**16


def check_fills_windows(trained: Trained) -> None:
    """Raise a `UserError` unless the model's examples are windows of signals, of which values can be given."""
    check_has_windows(trained.checkpoint, trained.card, has_autoencoder=trained.autoencoder is not None)


def check_has_windows(checkpoint: Path, card: DatasetCard, *, has_autoencoder: bool) -> None:
    """The same for a checkpoint that is not loaded."""
    if card.representation["layout"] != "window" or has_autoencoder:
        what = "latents" if has_autoencoder else card.representation["name"]
        raise UserError(
            f"{checkpoint}: a model of {what}, of which no values can be given; use one that was trained on "
            "signals (data.representation = 'timeseries', without an autoencoder)"
        )


def window_filler(
    trained: Trained,
    conditions: Callable[[int], Conditioning],
    draws: Sequence[int],
    *,
    batch_size: int | None = None,
    on_evaluation: Callable[[], None] = lambda: None,
) -> FillWindow:
    """A `FillWindow` that samples the model.

    Parameters
    ----------
    conditions
        From the first sample of a window to the conditions of all draws.
    draws
        Numbers of the draws, below `MAX_DRAWS`: a draw depends only on the seed, its number, its conditions and what is
        given.
    batch_size
        Draws per batch; None = all.
    on_evaluation
        As in `SampleGenerator.generate`.
    """
    check_fills_windows(trained)
    generator, signals = trained.generator, trained.representation
    model = trained.model.to(generator.device)
    guide = trained.guide.to(generator.device) if trained.guide else None

    def fill_window(values: np.ndarray, known: np.ndarray, *, number: int, start: int) -> np.ndarray:
        given = signals.to_tensor(torch.from_numpy(values).float())  # (draws, 1, electrodes, window)
        cond = conditions(start)
        if known.any():
            cond = cond.with_known(Known(given, torch.from_numpy(known).expand_as(given)))
        samples = generator.generate(
            model,
            cond,
            [number * MAX_DRAWS + draw for draw in draws],
            guide=guide,
            batch_size=batch_size or len(draws),
            on_evaluation=on_evaluation,
        )
        return signals.to_signal(samples).numpy()

    return fill_window
