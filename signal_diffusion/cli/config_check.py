"""What `config check` prints: the size of the model, the steps and the memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.cli.experiment_files import file_of, loaded
from signal_diffusion.errors import print_warning

if TYPE_CHECKING:
    from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
    from signal_diffusion.config.schema import Experiment
    from signal_diffusion.config.warnings import Finding
    from signal_diffusion.experiment.checkpoint import Checkpoint

__all__ = ["report"]


def report(path: Path, overrides: Sequence[str]) -> str:
    """What is known about an experiment of either kind, one line each; warnings go to standard error.

    Raises
    ------
    UserError
        If the experiment is wrong, or something that it names is missing.
    """
    experiment = loaded(path, overrides)
    from signal_diffusion.experiment.loading import file_in_errors

    with file_in_errors(path):
        return _figures(file_of(path), experiment, overrides)


def _figures(file: Path, experiment: Experiment | AutoencoderExperiment, overrides: Sequence[str]) -> str:
    from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
    from signal_diffusion.config.sources import expectations, written_keys
    from signal_diffusion.experiment.compatibility import check_same_run
    from signal_diffusion.experiment.inspection import findings_on, inspect

    if isinstance(experiment, AutoencoderExperiment):
        from signal_diffusion.experiment.dataset import dataset_of
        from signal_diffusion.training.autoencoder import outline  # imports diffusers, which takes seconds

        dataset = dataset_of(experiment.data)
        lines = outline(experiment, dataset)
        _warn(file, overrides, findings_on(experiment, dataset))
        return lines
    from signal_diffusion.experiment.resolving import resolve

    checkpoint = _checkpoint_of(experiment)
    resolved = resolve(experiment, written_keys(file, overrides), expectations(file), checkpoint=checkpoint)
    if checkpoint:
        check_same_run(checkpoint, resolved.experiment, resolved.dataset.card)
    found = inspect(resolved)
    pretrained = None if experiment.training.resume.enabled else resolved.pretrained
    _warn(file, overrides, findings_on(resolved.experiment, resolved.dataset, pretrained))
    return (
        f"  parameters       {found.parameters:,}\n"
        f"  tokens           {found.tokens:,} per example\n"
        f"  compute          {found.flops / 1e9:,.2f} GFLOP per example and forward pass, about "
        f"{3 * found.flops / 1e9:,.2f} to train on it\n"
        f"  steps            {found.steps_per_epoch:,} per epoch of {found.train_examples:,} examples, "
        f"{found.num_steps:,} in all\n"
        f"  memory           {found.memory}\n"
        f"  kernels          {', '.join(f'{name}: {kernel}' for name, kernel in found.kernels.items()) or 'PyTorch'}"
    )


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
