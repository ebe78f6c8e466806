"""An autoencoder's loss, validation and previews: reconstructions of examples, compared as tensors and in microvolts.

Comparing tensors is not enough: db-iq and db-polar compress amplitudes by a power law, so an error of the tensor says
little about the signal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from signal_diffusion.config.autoencoder_tables import Loss
from signal_diffusion.data.augmentation import Augmenting
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import Batch, Examples, evenly_spaced
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.evaluation.reconstruction import mean_over_electrodes, round_trip_metrics
from signal_diffusion.figures.groups import ExampleSet
from signal_diffusion.figures.images import COLUMNS
from signal_diffusion.figures.reconstructions import draw_reconstructions
from signal_diffusion.training.images import draw_or_warn
from signal_diffusion.training.stft_loss import QUIET, stft_loss
from signal_diffusion.training.validation import for_each_example, in_eval_mode

__all__ = ["Reconstruction", "ReconstructionPreviews", "ReconstructionValidation"]


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """The `Objective` of an autoencoder."""

    representation: Representation
    loss: Loss
    augmentation: Augmenting
    latent_shape: tuple[int, int, int]

    def __call__(
        self, network: nn.Module, batch: Batch, generator: torch.Generator, part: tuple[int, int] = (0, 1)
    ) -> Tensor:
        """The mean loss of a batch; latents are sampled with `generator`."""
        x = self.augmentation(batch[0], generator)
        noise = torch.randn(len(x), *self.latent_shape, generator=generator, device=x.device)
        return self.losses(x, *network(x, noise)).mean()

    def losses(self, x: Tensor, reconstruction: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        """The loss of each example (B,) in fp32: the weighted sum of the terms of [model.loss]."""
        error = reconstruction.float() - x
        error = error.abs() if self.loss.reconstruction == "l1" else error.square()
        total = error.flatten(1).mean(1) + self.loss.kl_weight * divergence(mean, log_variance)
        if self.representation.inverse != "exact" or not (self.loss.stft_weight or self.loss.signal_weight):
            return total
        before, after = (self.representation.to_signal(each) for each in (x, reconstruction.float()))
        values = self.loss.signal_weight * _distance(before, after)
        if self.loss.stft_weight:
            values = values + self.loss.stft_weight * stft_loss(before, after)
        return total + mean_over_electrodes(values, before)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)) of each example (B,), in nats per latent value."""
    mean, log_variance = mean.float(), log_variance.float()
    return (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).mean(1) / 2


def _distance(x: Tensor, y: Tensor) -> Tensor:  # (*, window) -> (*)
    """‖x - y‖ / ‖x‖; value and gradient are finite for flat signals and for equal ones."""
    length = x.shape[-1]
    error, size = ((each.square().sum(-1) + length * QUIET**2).sqrt() for each in (x - y, x))
    return error / size


class ReconstructionValidation:
    """The loss and `round_trip_metrics` of a fixed set of validation examples, decoded from their posterior means."""

    def __init__(
        self,
        examples: Examples,
        objective: Reconstruction,
        *,
        num_examples: int,
        batch_size: int,
        sampling_rate: float | None,
    ) -> None:
        self._examples, self._objective, self._batch_size = examples, objective, batch_size
        self._sampling_rate = sampling_rate
        self._indices = evenly_spaced(len(examples), num_examples)

    @torch.no_grad()
    def __call__(self, model: nn.Module, accelerator: Accelerator, poll: Callable[[], None]) -> dict[str, float]:
        """Means over the examples, on every process; `poll` is called before each batch and may raise."""
        names: list[str] = []

        def figures(positions: np.ndarray) -> Tensor:
            values = self._batch(model, accelerator.device, [self._indices[position] for position in positions])
            names[:] = values
            return torch.stack(list(values.values()), dim=1)

        with in_eval_mode(model):
            means = for_each_example(len(self._indices), self._batch_size, accelerator, poll, figures).mean(0)
        return dict(zip(names, means.tolist(), strict=True))

    def _batch(self, model: nn.Module, device: torch.device, indices: list[int]) -> dict[str, Tensor]:
        x = self._examples[indices][0].to(device)
        reconstruction, mean, log_variance = model(x)
        losses = self._objective.losses(x, reconstruction, mean, log_variance)
        representation = self._objective.representation
        figures = round_trip_metrics(x, reconstruction, representation, sampling_rate=self._sampling_rate)
        return {"loss": losses, "kl": divergence(mean, log_variance), **figures}


class ReconstructionPreviews:
    """Draws `step-XXXXXXXX.png` into a folder: always the same validation examples, with their reconstructions.

    There are `num_samples`, or as many as fit into the image, spread over the split because it is sorted by subject.
    """

    def __init__(self, folder: Path, examples: Examples, card: DatasetCard, num_samples: int) -> None:
        self._folder = folder
        rows = evenly_spaced(len(examples), min(num_samples, COLUMNS))
        self._originals = ExampleSet(tensors=examples[rows][0], card=card)

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, accelerator: Accelerator, step: int, poll: Callable[[], None]
    ) -> dict[str, Path]:
        """Draw on the first process; return the image by name."""
        poll()
        images = {"reconstructions": self._folder / f"step-{step:08d}.png"}
        if not accelerator.is_main_process:
            return images
        with in_eval_mode(model):
            after = model(self._originals.tensors.to(accelerator.device))[0].float().cpu()
        reconstructions, title = ExampleSet(tensors=after, card=self._originals.card), f"step {step}"
        draws = {
            path: lambda path: draw_reconstructions(path, self._originals, reconstructions, title=title)
            for path in images.values()
        }
        return images if draw_or_warn(draws, step, accelerator.print) else {}
