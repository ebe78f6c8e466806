"""What `sample` finds out before it loads the model: which checkpoint, and where the files go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from signal_diffusion.config import schema
    from signal_diffusion.data.card import DatasetCard

__all__ = ["CheckedSampling", "check_config_keys", "checked_sampling"]


@dataclass(frozen=True, kw_only=True)
class CheckedSampling:
    """The checkpoint to sample from, and its output."""

    checkpoint: Path
    experiment: schema.Experiment
    card: DatasetCard
    formats: tuple[str, ...]
    folder: Path
    """The output, which does not exist yet."""


def check_config_keys(run: Path, overrides: Sequence[str]) -> None:
    """Raise a `UserError` for unknown keys; imports little, for errors that appear at once."""
    from signal_diffusion.config.loading import check_keys
    from signal_diffusion.config.sources import CONFIG_NAME

    if (run / CONFIG_NAME).is_file():
        check_keys(run / CONFIG_NAME, overrides)


def checked_sampling(
    run: Path, overrides: Sequence[str], output: Path | None, requested: Mapping[str, str]
) -> CheckedSampling:
    """Find the checkpoint and check its experiment and the output; prints warnings about the experiment.

    Raises
    ------
    UserError
        If there is no checkpoint, its experiment is invalid, or the output exists.
    """
    from signal_diffusion.config.sources import CONFIG_NAME, located_lines
    from signal_diffusion.config.warnings import sampling_findings
    from signal_diffusion.data.card import DatasetCard
    from signal_diffusion.errors import print_warning
    from signal_diffusion.paths import relative_to_cwd
    from signal_diffusion.sampling.choosing import checkpoint_at, experiment_at
    from signal_diffusion.sampling.output_folder import check_output, default_output
    from signal_diffusion.sampling.processes import agreed_checkpoint

    found = checkpoint_at(run, overrides)
    checkpoint = agreed_checkpoint(found, experiment_at(found, overrides).compute)
    experiment = experiment_at(checkpoint, overrides)
    for line in located_lines(checkpoint / CONFIG_NAME, overrides, sampling_findings(experiment)):
        print_warning(line)
    table = experiment.generation.output
    folder = output or relative_to_cwd(default_output(checkpoint, experiment, requested))
    check_output(folder)
    return CheckedSampling(
        checkpoint=checkpoint,
        experiment=experiment,
        card=DatasetCard.load(checkpoint),
        formats=(*table.formats, *(("png",) if table.save_individual else ())),
        folder=folder,
    )
