"""Everything around the training loop: the command line, the run directory, resuming, and the closing lines."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from signal_diffusion import checkpoints
from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.loading import WrongKindError
from signal_diffusion.config.writing import to_toml
from signal_diffusion.errors import UserError, listed, raise_on_all_processes, report_user_errors
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.loading import CONFIG_NAME, RunPaths, file_in_errors
from signal_diffusion.paths import expand_path, keep_fonts_in_cache
from signal_diffusion.training.compiling import with_compilation_chosen
from signal_diffusion.training.device import Sharding, accelerator_of
from signal_diffusion.training.jobs import AnyExperiment, Job, Kind, Start
from signal_diffusion.training.largest_batch import with_largest_batch
from signal_diffusion.training.launching import start_missing_processes
from signal_diffusion.training.locking import lock_run
from signal_diffusion.training.metrics_file import METRICS_NAME
from signal_diffusion.training.neighbours import Neighbours
from signal_diffusion.training.nonfinite import DivergedError
from signal_diffusion.training.outputs import wandb_module
from signal_diffusion.training.restoring import roll_back
from signal_diffusion.training.resuming import (
    checkpoint_to_resume,
    resume_from,
    set_aside_others,
    without_resume,
)
from signal_diffusion.training.tracking import Tracker
from signal_diffusion.training.trainer import Trainer

__all__ = ["command", "suggest_command", "train"]


def train(
    kind: Kind[AnyExperiment],
    config: Path,
    *,
    output_dir: Path | None = None,
    resume: str | None = None,
    overrides: tuple[str, ...] = (),
    accept_changed_data: bool = False,
    force: bool = False,
    fit_batch_size: bool = False,
) -> bool:
    """Train as `config` says; return whether the run reached its last step.

    `fit_batch_size` replaces the batch size by the largest that fits into memory.

    Files of the dataset that have changed since it was made, or since the checkpoint, are an error unless
    `accept_changed_data`; an estimate of more memory than the machine has, unless `force`.

    Raises
    ------
    UserError
        For mistakes that the user can fix, before anything is written if possible.
    """
    experiment = kind.load(config, overrides)
    keep_fonts_in_cache(experiment.data.loading.cache_dir)
    with file_in_errors(config):
        experiment = _with_options(experiment, config, output_dir, resume)
        sharding = Sharding.wanted(experiment)
        accelerator = accelerator_of(experiment, sharding)
        paths = RunPaths.of(Path(experiment.output.base_dir), experiment.output.subdirs)
        with Neighbours(accelerator, partial(_how_to_go_on, paths.checkpoints)), lock_run(paths.base, accelerator):
            start = Start(
                experiment=without_resume(experiment),
                config=config,
                overrides=overrides,
                paths=paths,
                accelerator=accelerator,
                checkpoint=checkpoint_to_resume(experiment, paths, accelerator),
                accept_changed_data=accept_changed_data,
                force=force,
                sharding=sharding if accelerator.num_processes > 1 else None,
            )
            chosen: list[str] = []
            if fit_batch_size:
                start, line = with_largest_batch(kind, start)
                chosen.append(line)
            job: Job = kind.build(start)
            if job.experiment.training.performance.compile_model == "auto":
                job, line = with_compilation_chosen(start, job)
                chosen.append(line)
            trainer = start.trainer(job)
            changes: list[str] = resume_from(trainer, start.checkpoint, experiment.training.resume, job.experiment)
            messages = [_summary(job, trainer), *chosen, *job.messages, *changes]
            return _run(trainer, job, start.checkpoint, messages, kind.module)


def command(description: str, kind: Kind[Any]) -> None:
    """Run a training command: parse the command line, start missing processes, train."""

    def run(
        config: Annotated[Path, typer.Argument(help="Experiment file (TOML).")],
        output_dir: Annotated[Path | None, typer.Option(help="Run directory; overrides output.base_dir.")] = None,
        resume_from_checkpoint: Annotated[
            str | None, typer.Option(help='A checkpoint-N folder, or "latest" for the latest in the run directory.')
        ] = None,
        overrides: Annotated[
            list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a key; repeatable.")
        ] = None,
        accept_changed_data: Annotated[
            bool,
            typer.Option(
                "--accept-changed-data",
                help="Train on files that have changed since the dataset was made, or since the checkpoint.",
            ),
        ] = False,
        force: Annotated[
            bool, typer.Option("--force", help="Train even if the estimated memory exceeds that of the machine.")
        ] = False,
        batch_size: Annotated[
            str | None,
            typer.Option(
                metavar="auto", help="Train with the largest batch that fits into memory, found by measuring."
            ),
        ] = None,
    ) -> None:
        if batch_size not in (None, "auto"):
            number = f"--set data.loading.batch_size={batch_size}"
            raise UserError(f"--batch-size {batch_size}: expected auto; a number is set by {number}")
        kind.load(config, overrides or ())  # before other processes start, so that mistakes are reported once
        start_missing_processes(kind.module)
        train(
            kind,
            config,
            output_dir=output_dir,
            resume=resume_from_checkpoint,
            overrides=tuple(overrides or ()),
            accept_changed_data=accept_changed_data,
            force=force,
            fit_batch_size=batch_size is not None,
        )

    with report_user_errors():
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(help=description)(run)
        app()


@contextmanager
def suggest_command(module: str, config: Path) -> Iterator[None]:
    """If an experiment is of the other kind, name the command that trains it."""
    try:
        yield
    except WrongKindError as error:
        raise UserError(
            f"{error}; run this one with `{shlex.join(['uv', 'run', 'python', '-m', module, str(config)])}`"
        ) from None


def _with_options(
    experiment: AnyExperiment, config: Path, output_dir: Path | None, resume: str | None
) -> AnyExperiment:
    """The experiment with --output-dir and --resume-from-checkpoint, which override the file's keys."""
    configured = experiment.output.base_dir or f"runs/{config.stem}"
    if resume == "":
        raise UserError("--resume-from-checkpoint: expected a checkpoint's folder, or latest")
    base = str(output_dir or expand_path(configured, "[output] base_dir"))
    experiment = dataclasses.replace(experiment, output=dataclasses.replace(experiment.output, base_dir=base))
    if resume is None:
        return experiment
    table = dataclasses.replace(experiment.training.resume, enabled=True, checkpoint=resume)
    return dataclasses.replace(experiment, training=dataclasses.replace(experiment.training, resume=table))


def _summary(job: Job, trainer: Trainer) -> str:
    """Model, examples, steps and device in one line."""
    parameters = list(trainer.model.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    share = f" ({trained:,} of them trained)" if trained < total else ""
    order, examples, accelerator = trainer.components.order, trainer.components.examples, trainer.accelerator
    where = "in memory" if examples.in_memory else "streamed" if examples.is_streamed else "memory-mapped"
    return (
        f"{job.experiment.model.name}, {total:,} parameters{share}, {job.model}; "
        f"{len(examples):,} examples, {where}; "
        f"{order.steps_per_epoch} steps per epoch, {trainer.num_steps} steps; "
        f"{accelerator.num_processes} × {accelerator.device.type}{', FSDP2' if trainer.is_sharded else ''}, "
        f"{accelerator.mixed_precision}"
    )


def _run(trainer: Trainer, job: Job, checkpoint: Checkpoint | None, messages: Sequence[str], module: str) -> bool:
    """Write the run directory's files and train; return whether the run reached its last step."""
    accelerator, experiment, paths = trainer.accelerator, job.experiment, trainer.paths
    if experiment.logging.wandb_project:
        wandb_module()  # on every process, before anything is written
    lines = [*messages]
    with raise_on_all_processes():
        if accelerator.is_main_process:
            _start_run_directory(paths, experiment)
            lines += set_aside_others(checkpoint, paths, experiment, job.card) if checkpoint else []
    try:
        while True:
            try:
                return _train_from(trainer, job, checkpoint, lines, module)
            except DivergedError as error:
                checkpoint, line = roll_back(trainer, error)
                lines = [line]
    finally:
        accelerator.end_training()


def _train_from(trainer: Trainer, job: Job, checkpoint: Checkpoint | None, lines: Sequence[str], module: str) -> bool:
    """Train a trainer that has resumed from `checkpoint`, if any; return whether the run reached its last step."""
    accelerator, experiment, paths = trainer.accelerator, job.experiment, trainer.paths
    later = list[str]()
    with raise_on_all_processes():
        if accelerator.is_main_process:  # before the tracker drops the metrics of later ones
            later = trainer.remove_checkpoints()
    tracker = Tracker(
        paths.base,
        paths.logs if experiment.logging.tensorboard else None,
        active=accelerator.is_main_process,
        first_step=trainer.progress.step,
        last_step=trainer.num_steps,
        resumed=checkpoint is not None,
        wandb=experiment.logging if experiment.logging.wandb_project else None,
    )
    try:
        for line in lines:
            tracker.message(line)
        if checkpoint:
            removed = f"; removed the later {listed(later)}" if later else ""
            tracker.message(f"resumed from {checkpoint} at step {trainer.progress.step}{removed}")
        else:
            tracker.hyperparameters(_flattened(dataclasses.asdict(experiment)), to_toml(experiment))
        finished = trainer.run(tracker)
        command = ["uv", "run", "python", "-m", module, str(paths.base / CONFIG_NAME), "--output-dir", str(paths.base)]
        resume = shlex.join([*command, "--resume-from-checkpoint", "latest"])
        closing = job.closing(trainer) if finished else f"resume      {resume}"
        tracker.conclude([*_conclusion(trainer, finished=finished), closing])
    finally:
        tracker.close()
    return finished


def _how_to_go_on(folder: Path) -> str:
    """What to do after a process of the run was lost."""
    saved = checkpoints.list_checkpoints(folder)
    if not saved:
        return "there is no checkpoint yet; repeat the command"
    return f"the last checkpoint is {saved[-1]}; repeat the command with --resume-from-checkpoint latest"


def _start_run_directory(paths: RunPaths, experiment: schema.Experiment | AutoencoderExperiment) -> None:
    try:
        paths.base.mkdir(parents=True, exist_ok=True)
        partial = paths.base / f"{CONFIG_NAME}.partial"
        partial.write_text(to_toml(experiment), encoding="utf-8")
        partial.replace(paths.base / CONFIG_NAME)
    except OSError as error:
        raise UserError(f"{paths.base}: cannot write the run directory: {error.strerror}") from None


def _conclusion(trainer: Trainer, *, finished: bool) -> list[str]:
    """Lines that say where the run stopped and where its files are."""
    progress, paths = trainer.progress, trainer.paths
    lines = [f"{'finished' if finished else 'paused'} at step {progress.step} of {trainer.num_steps}"]
    if progress.best_step is not None:
        best = paths.checkpoints / f"checkpoint-{progress.best_step}"
        lines.append(f"best        {best} ({trainer.training.validation.metric} {progress.best_value:.4f})")
    lines.append(f"checkpoint  {paths.checkpoints / f'checkpoint-{progress.step}'}")
    if trainer.components.previews:
        lines.append(f"images      {paths.samples}")
    tensorboard = shlex.join(["uv", "run", "tensorboard", "--logdir", str(paths.base.parent)])
    lines.append(f"metrics     {paths.base / METRICS_NAME}  ({tensorboard})")
    return lines


def _flattened(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted keys; keys without a value are left out."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, dict):
            flat |= _flattened(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat
