"""Train an autoencoder from an experiment file, for diffusion models that work in its latent space.

python -m signal_diffusion.training.autoencoder EXPERIMENT.toml [--output-dir DIR] [--resume-from-checkpoint latest]
accelerate launch --config_file config/accelerate/one-node.yaml -m signal_diffusion.training.autoencoder EXPERIMENT.toml

Each checkpoint also contains the averaged weights as an AutoencoderKL in diffusers' format.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from signal_diffusion.checkpoints import Writer
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.rules.effects import without_effect
from signal_diffusion.config.writing import to_toml
from signal_diffusion.data.augmentation import augmenting_of
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.loaders import Examples, evenly_spaced
from signal_diffusion.data.montages import check_whole
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.compatibility import check_same_dataset, compare
from signal_diffusion.experiment.dataset import Dataset, dataset_of
from signal_diffusion.experiment.loading import CONFIG_NAME, load_autoencoder_experiment
from signal_diffusion.experiment.measuring import kept_bytes, measured
from signal_diffusion.experiment.memory import Memory, state_bytes
from signal_diffusion.models.autoencoders.trainable import KlAutoencoder
from signal_diffusion.models.flops import counted_flops
from signal_diffusion.randomness import Purpose, derived_seed
from signal_diffusion.training import running
from signal_diffusion.training.components import Components
from signal_diffusion.training.jobs import Job, Kind, Start
from signal_diffusion.training.reconstruction import Reconstruction, ReconstructionPreviews, ReconstructionValidation
from signal_diffusion.training.running import command, suggest_command
from signal_diffusion.training.stft_loss import check_window
from signal_diffusion.training.trainer import Trainer

__all__ = ["load", "main", "memory_of", "network_of", "outline", "train"]

MEASURED_VALUES = 2**22
"""Values in the training examples that the scaling and shift of latents are measured on: 341 images of 3 × 64 × 64."""
MIN_MEASURED_EXAMPLES = 64
"""At least this many examples, however large they are."""


def load(path: Path, overrides: Sequence[str] = ()) -> AutoencoderExperiment:
    """Read an autoencoder's experiment file, with `table.key=value` overrides.

    Raises
    ------
    UserError
        With one line per mistake; if the file is for a diffusion model, one line that names its command.
    """
    with suggest_command("signal_diffusion.training.diffusion", path):
        return load_autoencoder_experiment(path, overrides)


def network_of(experiment: AutoencoderExperiment, card: DatasetCard) -> KlAutoencoder:
    """The network with initial weights, which depend only on the seed."""
    channels, height, width = card.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(Purpose.WEIGHTS, experiment.compute.seed))
        return KlAutoencoder(experiment.model.architecture, (channels, height, width))


def outline(experiment: AutoencoderExperiment, card: DatasetCard) -> tuple[int, str, int, Memory]:
    """The network's parameters, its latents in words, the FLOPs of a forward pass of an example, and a run's memory.

    Raises
    ------
    UserError
        If training would refuse the experiment.
    """
    _check_loss(experiment, card)
    network, memory, flops = _measured(experiment, card)
    return _num_parameters(network), _compression(network), flops, memory


def memory_of(experiment: AutoencoderExperiment, card: DatasetCard) -> Memory:
    """The memory that training takes."""
    return _measured(experiment, card)[1]


def _measured(experiment: AutoencoderExperiment, card: DatasetCard) -> tuple[KlAutoencoder, Memory, int]:
    """The network with random weights, the memory of training it, from forward passes of one and two examples, and the
    FLOPs of the former."""
    training, (channels, height, width) = experiment.training, card.shape

    def build() -> KlAutoencoder:
        network = KlAutoencoder(experiment.model.architecture, (channels, height, width))
        if training.gradient_checkpointing:
            network.checkpoint_gradients()
        return network

    def costs(network: KlAutoencoder) -> list[int]:
        bf16, examples = training.mixed_precision != "no", [torch.zeros(n, *network.shape) for n in (1, 2)]
        return [*(kept_bytes(network, each, bf16=bf16) for each in examples), counted_flops(network, examples[0])]

    def positions(network: KlAutoencoder) -> int:
        return 2 * (height + network.padding[0]) * (width + network.padding[1])

    network, (one, two, flops) = measured(build, positions, costs)
    weights = _num_parameters(network)
    activations = one + (experiment.data.loading.batch_size - 1) * (two - one)
    memory = Memory(state=state_bytes(training, weights=weights, trained=weights), activations=activations)
    return network, memory, flops


def _build(start: Start[AutoencoderExperiment]) -> Job:
    experiment, checkpoints = start.experiment, start.paths.checkpoints
    with start.accelerator.main_process_first():  # one process downloads, converts or generates for all
        dataset = start.checked(dataset_of(experiment.data), held_out=_reads_validation(experiment))
        _check_loss(experiment, dataset.card)
        start.warn(experiment, dataset)
        start.check_memory(partial(memory_of, experiment, dataset.card))
        if start.checkpoint:
            _check_same_run(start, start.checkpoint, dataset.card)

    def closing(trainer: Trainer) -> str:
        best = checkpoints / f"checkpoint-{trainer.progress.best_step or trainer.progress.step}"
        overrides = ["--set", "model.autoencoder.enabled=true", "--set", f"model.autoencoder.path={best}"]
        return f"use         {shlex.join(overrides)}"

    model = network_of(experiment, dataset.card)
    return Job(
        experiment=experiment,
        card=dataset.card,
        components=_components(start, dataset, model),
        model=f"examples of {_compression(model)}",
        closing=closing,
    )


def _reads_validation(experiment: AutoencoderExperiment) -> bool:
    return experiment.training.validation.enabled or experiment.training.visualization.enabled


def _check_same_run(start: Start[AutoencoderExperiment], checkpoint: Checkpoint, card: DatasetCard) -> None:
    """Check that the experiment and its dataset match the checkpoint that the run resumes from."""
    advice = "expected the same, or a new run"
    check_same_dataset(checkpoint, card, ("representation", "shape"), advice, start.files_advice)
    compare(checkpoint, _fixed(checkpoint.autoencoder_experiment), _fixed(start.experiment), advice)


def _fixed(experiment: AutoencoderExperiment) -> dict[str, Any]:
    """Settings that cannot change on resuming; the loss is one, because its best value so far is kept."""
    model, unread = dataclasses.asdict(experiment.model), without_effect(experiment)
    return {
        f"[model.{table}] {key}": value
        for table in ("architecture", "loss")
        for key, value in model[table].items()
        if f"model.{table}.{key}" not in unread
    }


def _components(start: Start[AutoencoderExperiment], dataset: Dataset, model: KlAutoencoder) -> Components:
    """Build what the training loop needs."""
    experiment, training, representation = start.experiment, start.experiment.training, dataset.representation
    examples, held_out = start.splits(dataset, held_out=_reads_validation(experiment))
    objective = Reconstruction(
        representation=representation,
        loss=experiment.model.loss,
        augmentation=augmenting_of(experiment.data.augmentation, dataset.card, representation),
        latent_shape=model.latent_shape,
    )
    return Components(
        model=model,
        objective=objective,
        examples=examples,
        order=start.order(examples),
        validation=_validation(experiment, held_out, objective, dataset.card),
        previews=ReconstructionPreviews(start.paths.samples, held_out, dataset.card, training.visualization.num_samples)
        if held_out is not None and training.visualization.enabled
        else None,
        attachments={CONFIG_NAME: to_toml(experiment), CARD_NAME: dataset.card.to_json()},
        exported=_Exporter(examples),
    )


def _check_loss(experiment: AutoencoderExperiment, card: DatasetCard) -> None:
    """Check that no electrodes are absent, and the loss terms that need signals: the representation must be invertible,
    the windows long enough."""
    check_whole(card, "[data.paths] root")
    loss, unread = experiment.model.loss, without_effect(experiment)
    for key in ("stft_weight", "signal_weight"):
        if f"model.loss.{key}" in unread or not getattr(loss, key):
            continue
        if representation_of(card).inverse != "exact":  # e.g. coarse or logarithmic frequency rows
            raise UserError(f"[model.loss] {key}: the signals cannot be computed exactly from these images; expected 0")
        if key == "stft_weight":
            check_window(f"[model.loss] {key}", card.window)


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


class _Exporter:
    """Exports a checkpoint's files for diffusers, with scaling and shift measured on training examples."""

    def __init__(self, examples: Examples) -> None:
        count = max(MIN_MEASURED_EXAMPLES, MEASURED_VALUES // math.prod(examples.shape))
        self._examples, self._rows = examples, evenly_spaced(len(examples), count)

    def __call__(self, model: nn.Module) -> Mapping[str, Writer]:
        assert isinstance(model, KlAutoencoder)
        return model.in_diffusers_format(self._examples[self._rows][0])


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


KIND = Kind(module="signal_diffusion.training.autoencoder", load=load, build=_build)

train = partial(running.train, KIND)
"""`running.train` for this kind of network."""


def main() -> None:
    """Run the command line."""
    command("Train an autoencoder from an experiment file.", KIND)


if __name__ == "__main__":
    main()
