"""What `config check` prints: the size of the model, the steps and the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.cli.experiment_files import file_of, loaded
from signal_diffusion.errors import print_warning

if TYPE_CHECKING:
    from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
    from signal_diffusion.config.schema import Experiment, Training
    from signal_diffusion.config.warnings import Extent, Finding
    from signal_diffusion.experiment.assumed import Assumptions
    from signal_diffusion.experiment.checkpoint import Checkpoint
    from signal_diffusion.experiment.memory import Memory

__all__ = ["report"]

LARGE = 8 * 2**30
"""Bytes of weights, gradients, optimizer and EMA from which a line says what FSDP2 would need."""


def report(path: Path, overrides: Sequence[str]) -> str:
    """What is known about an experiment of either kind, one line each; warnings go to standard error.

    What is not on this machine, such as the dataset, is assumed; the last lines say so, and what a run still needs.

    Raises
    ------
    UserError
        If the experiment is wrong.
    """
    experiment = loaded(path, overrides)
    from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
    from signal_diffusion.experiment.assumed import Assumptions
    from signal_diffusion.experiment.loading import file_in_errors

    file, assumptions = file_of(path), Assumptions()
    with file_in_errors(path):
        if isinstance(experiment, AutoencoderExperiment):
            lines = _autoencoder(file, experiment, overrides, assumptions)
        else:
            lines = _diffusion(file, experiment, overrides, assumptions)
    lines += [f"  assumed          {line}" for line in assumptions.assumed]
    return "\n".join([*lines, *(f"  a run needs      {line}" for line in assumptions.missing)])


def _autoencoder(
    file: Path, experiment: AutoencoderExperiment, overrides: Sequence[str], assumptions: Assumptions
) -> list[str]:
    from signal_diffusion.config.schema import Conditioning
    from signal_diffusion.experiment.assumed import assumed_dataset
    from signal_diffusion.experiment.dataset import dataset_of
    from signal_diffusion.experiment.inspection import extent_of, findings_on
    from signal_diffusion.training.autoencoder import outline  # imports diffusers, which takes seconds

    data = experiment.data
    dataset = assumptions.look_up(partial(dataset_of, data), partial(assumed_dataset, data, Conditioning()))
    parameters, latents, flops, memory = outline(experiment, dataset.card)
    extent = None if dataset.is_assumed else extent_of(experiment, dataset)
    if extent:
        _warn(file, overrides, findings_on(experiment, dataset))
    return [
        f"  parameters       {parameters:,}",
        f"  latents          {latents}",
        _compute(flops),
        _steps(experiment.training, extent),
        f"  memory           {memory}",
    ]


def _diffusion(file: Path, experiment: Experiment, overrides: Sequence[str], assumptions: Assumptions) -> list[str]:
    from signal_diffusion.config.sources import expectations, written_keys
    from signal_diffusion.config.warnings import sampling_findings
    from signal_diffusion.experiment.compatibility import check_same_run
    from signal_diffusion.experiment.inspection import findings_on, inspect
    from signal_diffusion.experiment.resolving import resolve

    checkpoint = assumptions.look_up(partial(_checkpoint_of, experiment), lambda: (None, "a run from the start"))
    written, expected = written_keys(file, overrides), expectations(file)
    resolved = resolve(experiment, written, expected, checkpoint=checkpoint, assumptions=assumptions)
    if checkpoint and not resolved.dataset.is_assumed:
        check_same_run(checkpoint, resolved.experiment, resolved.dataset.card)
    resumes = experiment.training.resume.enabled
    if resumes and not experiment.model.lora.enabled:
        resolved = replace(resolved, pretrained=None)  # its weights are in the checkpoint
    found = inspect(resolved)
    pretrained = None if resumes else resolved.pretrained
    experiment, dataset = resolved.experiment, resolved.dataset
    _warn(
        file,
        overrides,
        findings_on(experiment, dataset, pretrained) if found.extent else sampling_findings(experiment),
    )
    return [
        f"  parameters       {found.parameters:,}",
        f"  tokens           {found.tokens:,} per example",
        _compute(found.flops),
        _steps(experiment.training, found.extent),
        f"  memory           {found.memory}",
        *_sharded(found.memory),
        *_snapshots(experiment.training, found.trained, found.extent),
        f"  kernels          {', '.join(f'{name}: {kernel}' for name, kernel in found.kernels.items()) or 'PyTorch'}",
    ]


def _compute(flops: int) -> str:
    forward, training = (f"{factor * flops / 1e9:,.2f}" for factor in (1, 3))
    return f"  compute          {forward} GFLOP per example and forward pass, about {training} to train on it"


def _steps(training: Training, extent: Extent | None) -> str:
    if extent:
        length = (
            f"{extent.steps_per_epoch:,} per epoch of {extent.num_examples:,} examples, {extent.num_steps:,} in all"
        )
    elif training.max_steps:
        length = f"{training.max_steps:,} in all"
    else:
        length = f"{training.epochs:,} epochs, whose length depends on the dataset"
    return f"  steps            {length}"


def _sharded(memory: Memory) -> list[str]:
    """A line with the memory per device under FSDP2, for models that one device may not hold."""
    from signal_diffusion.experiment.memory import GIB

    if memory.state < LARGE:
        return []
    sizes = ((count, memory.sharded(count)) for count in (2, 4, 8))
    parts = [f"{(each.state + each.activations) / GIB:.2f} GiB on each of {count}" for count, each in sizes]
    return [f"  under FSDP2      about {', '.join(parts)} devices"]


def _snapshots(training: Training, trained: int, extent: Extent | None) -> list[str]:
    """A line with the size on disk of the EMA snapshots, if a run writes any."""
    from signal_diffusion.disks import amount
    from signal_diffusion.training.intervals import in_steps

    if not (training.ema.enabled and training.ema.post_hoc):
        return []
    size, table = 4 * trained, training.checkpointing  # two averages in fp16
    if not extent or not table.interval or table.save_best_only:
        return [f"  EMA snapshots    {amount(size)} with each checkpoint"]
    count = -(-extent.num_steps // in_steps(training, extent.steps_per_epoch).checkpointing.interval)
    return [
        f"  EMA snapshots    {amount(size)} with each checkpoint, {amount(count * size)} with {count:,} checkpoints"
    ]


def _checkpoint_of(experiment: Experiment) -> Checkpoint | None:
    """The checkpoint that an experiment names to resume from; None for a run's latest, which is not known here."""
    from signal_diffusion.checkpoints import verify
    from signal_diffusion.experiment.checkpoint import Checkpoint

    table = experiment.training.resume
    if not table.enabled or table.checkpoint == "latest":
        return None
    verify(Path(table.checkpoint))
    return Checkpoint(Path(table.checkpoint))


def _warn(file: Path, overrides: Sequence[str], findings: Sequence[Finding]) -> None:
    """Print warnings about an experiment to standard error, as a run of it would."""
    from signal_diffusion.config.sources import located_lines

    for line in located_lines(file, overrides, findings):
        print_warning(line)
