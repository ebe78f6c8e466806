"""Find the checkpoint that a folder or a model on the Hub stands for, and its experiment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from signal_diffusion.checkpoints import MANIFEST, WEIGHTS, find_checkpoint, verify
from signal_diffusion.config import schema
from signal_diffusion.errors import UserError, listed
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.loading import CONFIG_NAME, RunPaths, load_experiment
from signal_diffusion.experiment.network import with_exported_paths
from signal_diffusion.hub import download, is_hub_id
from signal_diffusion.models.pretrained import PIPELINE
from signal_diffusion.paths import expand_path
from signal_diffusion.training.state import Progress
from signal_diffusion.untrusted import weights_file_problem

__all__ = ["checkpoint_at", "experiment_at", "is_exported"]


def checkpoint_at(path: Path, overrides: Sequence[str] = ()) -> Path:
    """The absolute path of a checkpoint: `path` itself, or the checkpoint that a run's folder stands for.

    For a run, `generation.checkpoint` (of the `overrides`, or of the run's experiment) selects it: the newest complete
    one, the best, or one by name.

    Paths are resolved, since a checkpoint's run and guide are found relative to it; so "." and links work too.

    Raises
    ------
    UserError
        If there is no checkpoint.
    """
    if not path.is_dir():
        if problem := weights_file_problem(path.as_posix()):
            raise UserError(f"{path}: {problem}")
        # "runs/nam" is probably misspelt, and not on the Hub, if there is a folder "runs"
        if not is_hub_id(path.as_posix()) or path.parent.is_dir():
            raise UserError(f"{path}: no such folder; expected that of a run, a checkpoint or an exported model")
        path = download(path.as_posix())
    path, given = path.resolve(), path
    config, manifest = path / CONFIG_NAME, path / MANIFEST
    if not config.is_file() and not manifest.is_file():
        names = sorted(each.parent.name for each in path.glob(f"*/{config.name}"))
        inside = f", such as {listed(names)} in it" if names else ""
        raise UserError(
            f"{given}: contains no model; expected the folder of a run, a checkpoint or an exported model{inside}"
        )
    if manifest.is_file() or (path / WEIGHTS).is_file():  # not by name: a run may be called "checkpoint-7"
        return path
    chosen = [each for each in overrides if each.partition("=")[0].strip() == "generation.checkpoint"]
    experiment = load_experiment(config, chosen)
    parent = RunPaths.of(path, experiment.output.subdirs).checkpoints
    return _checkpoint_of_run(parent, experiment.generation.checkpoint)


def experiment_at(checkpoint: Path, overrides: Sequence[str]) -> schema.Experiment:
    """A checkpoint's experiment with overrides; for an exported model, with the paths of its parts.

    Raises
    ------
    UserError
        If the file or an override is invalid, or `use_ema` selects weights that an exported model does not contain.
    """
    path, own = checkpoint / CONFIG_NAME, Checkpoint(checkpoint)
    experiment = _with_usable_cache(load_experiment(path, overrides), own)
    if not is_exported(checkpoint):
        return experiment
    averaged = own.experiment.generation.sampling.use_ema
    if experiment.generation.sampling.use_ema != averaged:
        raise UserError(
            f"{path}: [generation.sampling] use_ema: this exported model has only the "
            f"{'averaged' if averaged else 'last'} weights; leave the key out, or sample from the run"
        )
    return with_exported_paths(experiment, checkpoint)


def is_exported(folder: Path) -> bool:
    """Whether a folder contains an exported model."""
    return (folder / PIPELINE).is_file() and (folder / CONFIG_NAME).is_file()


def _checkpoint_of_run(parent: Path, name: str) -> Path:
    """The checkpoint in `parent` that `generation.checkpoint` = `name` selects."""
    if name not in ("latest", "best"):
        verify(parent / name)
        return parent / name
    try:
        newest = find_checkpoint(parent, "latest", warn=print)
    except UserError:
        raise UserError(f"{parent}: no complete checkpoint; training has to write one first") from None
    if name == "latest":
        return newest
    step = Progress.of(newest).best_step
    if step is None:
        raise UserError(
            f"[generation] checkpoint: 'best', but {newest} records no best one, because no validation has run; use "
            "'latest' or 'checkpoint-<step>'"
        )
    verify(parent / f"checkpoint-{step}")
    return parent / f"checkpoint-{step}"


def _with_usable_cache(experiment: schema.Experiment, checkpoint: Checkpoint) -> schema.Experiment:
    """The experiment with the default cache if its file, not an override, names a cache that is not writable here."""
    loading = experiment.data.loading
    if not loading.cache_dir or loading.cache_dir != checkpoint.experiment.data.loading.cache_dir:
        return experiment
    try:
        folder = expand_path(loading.cache_dir, "[data.loading] cache_dir")
    except UserError:  # a variable that is not set on this machine
        folder = None
    if folder and os.access(folder, os.W_OK | os.X_OK):
        return experiment
    data = replace(experiment.data, loading=replace(loading, cache_dir=""))
    return replace(experiment, data=data)
