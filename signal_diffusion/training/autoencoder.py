"""Train an autoencoder from an experiment file, for diffusion models that work in its latent space.

python -m signal_diffusion.training.autoencoder EXPERIMENT.toml [--output-dir DIR] [--resume-from-checkpoint latest]
accelerate launch --multi_gpu -m signal_diffusion.training.autoencoder EXPERIMENT.toml …

Each checkpoint is an AutoencoderKL in diffusers' format too, of the averaged weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from signal_diffusion.checkpoints import Writer
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.loading import to_toml
from signal_diffusion.config.rules import without_effect
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.loaders import Examples, spread
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.compatibility import check_same_dataset, compare
from signal_diffusion.experiment.dataset import (
    dataset_root,
    examples_of,
    num_train_examples,
    order_of,
    read_card,
    steps_of,
)
from signal_diffusion.experiment.loading import CONFIG_NAME, RunPaths, file_in_errors, load_autoencoder_experiment
from signal_diffusion.models.autoencoders.trainable import KlAutoencoder
from signal_diffusion.randomness import Purpose, derived_seed
from signal_diffusion.training.locking import alone_in
from signal_diffusion.training.reconstruction import (
    FRAMES,
    Reconstruction,
    ReconstructionPreviews,
    ReconstructionValidation,
)
from signal_diffusion.training.resuming import checkpoint_to_resume, resume_from, without_resume
from signal_diffusion.training.running import (
    accelerator_of,
    run,
    run_command_line,
    sent_to,
    warn,
    with_run_directory,
)
from signal_diffusion.training.trainer import Parts, Trainer

__all__ = ["load", "main", "network_of", "outline", "train"]

MODULE = "signal_diffusion.training.autoencoder"
MEASURED_VALUES = 2**22
"""Of the training examples that the latents' factors are measured on: 341 pictures of 3 × 64 × 64 …"""
FEWEST_MEASURED = 64
"""… but of large ones not fewer than these."""


def load(path: Path, overrides: Sequence[str] = ()) -> AutoencoderExperiment:
    """Read an experiment file of an autoencoder, with `table.key=value` overrides.

    Raises
    ------
    UserError
        With one line per mistake; one line, with the command to use, where it is of a diffusion model.
    """
    with sent_to("signal_diffusion.training.diffusion", path):
        return load_autoencoder_experiment(path, overrides)


def train(
    config: Path,
    *,
    output_dir: Path | None = None,
    resume: str | None = None,
    overrides: tuple[str, ...] = (),
) -> bool:
    """Train as `config` says; whether the end was reached.

    Raises
    ------
    UserError
        For what the user can put right, before anything is written where that is possible.
    """
    experiment = load(config, overrides)
    with file_in_errors(config):
        experiment = with_run_directory(experiment, config, output_dir, resume)
        accelerator = accelerator_of(experiment)
        with alone_in(Path(experiment.output.base_dir), accelerator):
            return _train(experiment, accelerator, config, overrides)


def network_of(experiment: AutoencoderExperiment, card: DatasetCard) -> KlAutoencoder:
    """The network with fresh weights, which depend on the seed alone."""
    channels, height, width = card.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(Purpose.WEIGHTS, experiment.compute.seed))
        return KlAutoencoder(experiment.model.architecture, (channels, height, width))


def outline(experiment: AutoencoderExperiment) -> str:
    """What training would take, in lines, found out without training and without reading an example.

    Raises
    ------
    UserError
        For what training would refuse.
    """
    root = dataset_root(experiment.data)
    card = read_card(experiment.data, root)
    _check_loss(experiment, card)
    network = network_of(experiment, card)
    examples = num_train_examples(experiment, root, card)
    order = order_of(experiment, examples)
    num_steps = steps_of(experiment.training, order.steps_per_epoch)
    return (
        f"  parameters       {_num_parameters(network):,}\n"
        f"  latents          {_compression(network)}\n"
        f"  steps            {order.steps_per_epoch:,} per epoch of {examples:,} examples, {num_steps:,} in all"
    )


def _train(experiment: AutoencoderExperiment, accelerator: Accelerator, config: Path, overrides: Sequence[str]) -> bool:
    paths = RunPaths.of(Path(experiment.output.base_dir), experiment.output.subdirs)
    checkpoint = checkpoint_to_resume(experiment, paths, accelerator)
    resumption, experiment = experiment.training.resume, without_resume(experiment)
    with accelerator.main_process_first():  # what has to be made or brought here is so by one
        root = dataset_root(experiment.data)
        card = read_card(experiment.data, root)
        _check_loss(experiment, card)
        warn(experiment, config, overrides, root, card, accelerator)
        if checkpoint:
            _check_same_run(checkpoint, experiment, card)
    trainer = _trainer(experiment, accelerator, paths, root, card)
    otherwise = resume_from(trainer, checkpoint, resumption, experiment)

    def use() -> list[str]:
        progress = trainer.progress
        best = paths.checkpoints / f"checkpoint-{progress.best_step or progress.step}"
        return [f"use         --set model.autoencoder.enabled=true --set model.autoencoder.path={best}"]

    return run(
        trainer,
        experiment,
        paths,
        checkpoint,
        announcement=[*_announcement(experiment, trainer), *otherwise],
        module=MODULE,
        after=use,
    )


def _check_same_run(checkpoint: Path, experiment: AutoencoderExperiment, card: DatasetCard) -> None:
    """Hold the experiment and its dataset against those of the checkpoint that it goes on from."""
    advice = "expected the same, or a new run"
    check_same_dataset(checkpoint, card, ("representation", "shape", "files"), advice)
    then = load_autoencoder_experiment(checkpoint / CONFIG_NAME)
    compare(checkpoint, _kept(then), _kept(experiment), advice)


def _kept(experiment: AutoencoderExperiment) -> dict[str, Any]:
    """What a run keeps from its beginning to its end: another loss cannot be held against the best one so far."""
    model, unread = dataclasses.asdict(experiment.model), without_effect(experiment)
    return {
        f"[model.{table}] {key}": value
        for table in ("architecture", "loss")
        for key, value in model[table].items()
        if f"model.{table}.{key}" not in unread
    }


def _trainer(
    experiment: AutoencoderExperiment, accelerator: Accelerator, paths: RunPaths, root: Path, card: DatasetCard
) -> Trainer:
    """Build all that the loop works with."""
    data, training, representation = experiment.data, experiment.training, representation_of(card)
    wants_held_out = training.validation.enabled or training.visualization.enabled
    with accelerator.main_process_first():  # the first to open a split converts it for all
        examples = examples_of(data, root, card, data.paths.train, (), data.loading.max_train_examples)
        held_out = None
        if wants_held_out:
            held_out = examples_of(data, root, card, data.paths.val, (), data.loading.max_val_examples)
    order = order_of(
        experiment,
        len(examples),
        num_processes=accelerator.num_processes,
        process_index=accelerator.process_index,
    )
    model = network_of(experiment, card)
    objective = Reconstruction(
        representation=representation,
        loss=experiment.model.loss,
        augmentation=data.augmentation,
        latent_shape=model.latent_shape,
    )
    parts = Parts(
        model=model,
        objective=objective,
        examples=examples,
        order=order,
        num_steps=steps_of(training, order.steps_per_epoch),
        validation=_validation(experiment, held_out, objective, card),
        previews=ReconstructionPreviews(paths.samples, held_out, representation, training.visualization.num_samples)
        if held_out is not None and training.visualization.enabled
        else None,
        checkpoint_dir=paths.checkpoints,
        attachments={CONFIG_NAME: to_toml(experiment), CARD_NAME: card.to_json()},
        exported=_Exported(examples),
        trace_dir=paths.logs if experiment.debug.profile else None,
        log_gradients=experiment.debug.log_gradients,
    )
    return Trainer(parts, accelerator, training=training, loading=data.loading, seed=experiment.compute.seed)


def _check_loss(experiment: AutoencoderExperiment, card: DatasetCard) -> None:
    """What only the dataset's card knows: whether pictures hold signals, and how long those are."""
    loss, unread = experiment.model.loss, without_effect(experiment)
    for key in ("stft_weight", "signal_weight"):
        if f"model.loss.{key}" in unread or not getattr(loss, key):
            continue
        if representation_of(card).inverse != "exact":  # of coarse or logarithmic rows
            raise UserError(f"[model.loss] {key}: these pictures do not hold their signals; expected 0")
        if key == "stft_weight" and card.window is not None and card.window < FRAMES[0]:
            raise UserError(
                f"[model.loss] {key}: examples of {card.window} samples are shorter than a frame of {FRAMES[0]}; "
                "expected 0"
            )


def _validation(
    experiment: AutoencoderExperiment, held_out: Examples | None, objective: Reconstruction, card: DatasetCard
) -> ReconstructionValidation | None:
    table = experiment.training.validation
    if held_out is None or not table.enabled:
        return None
    return ReconstructionValidation(
        held_out,
        objective,
        num_examples=table.num_examples,
        batch_size=table.batch_size or experiment.data.loading.batch_size,
        sampling_rate=card.sampling_rate,
    )


class _Exported:
    """The files of a checkpoint that diffusers reads, their factors measured on examples of the training split."""

    def __init__(self, examples: Examples) -> None:
        count = max(FEWEST_MEASURED, MEASURED_VALUES // math.prod(examples.shape))
        self._examples, self._rows = examples, spread(len(examples), count)

    def __call__(self, model: nn.Module) -> Mapping[str, Writer]:
        assert isinstance(model, KlAutoencoder)
        return model.in_diffusers_format(self._examples[self._rows][0])


def _announcement(experiment: AutoencoderExperiment, trainer: Trainer) -> list[str]:
    """What is trained on what, in a line."""
    model, order, examples = trainer.model, trainer.parts.order, trainer.parts.examples
    assert isinstance(model, KlAutoencoder)
    accelerator = trainer.accelerator
    return [
        f"{experiment.model.name}, {_num_parameters(model):,} parameters; examples of {_compression(model)}; "
        f"{len(examples):,} examples, {order.steps_per_epoch} steps per epoch, {trainer.parts.num_steps} steps; "
        f"{accelerator.num_processes} × {accelerator.device.type}, {accelerator.mixed_precision}"
    ]


def _num_parameters(network: KlAutoencoder) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _compression(network: KlAutoencoder) -> str:
    """The sizes of an example and of its latents, in words."""
    padded, ratio = "", math.prod(network.shape) / math.prod(network.latent_shape)
    if any(network.padding):
        rows, columns = (a + b for a, b in zip(network.shape[1:], network.padding, strict=True))
        padded = f", padded to {rows} × {columns},"
    before, after = (" × ".join(map(str, shape)) for shape in (network.shape, network.latent_shape))
    return f"{before}{padded} become {after} latents, {ratio:.1f} : 1"


def main() -> None:
    """Run the command line."""
    run_command_line("Train an autoencoder from an experiment file.", load, train, MODULE)


if __name__ == "__main__":
    main()
