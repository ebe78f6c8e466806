"""What is around a training loop, whatever is trained: the run's folder, its device, where it starts, how it ends."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import typer
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from signal_diffusion import checkpoints
from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.loading import WrongKindError, lines_of, to_toml
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError, listed, raised_by_all, reported_to_user
from signal_diffusion.experiment.inspection import doubts_of
from signal_diffusion.experiment.loading import CONFIG_NAME, RunPaths
from signal_diffusion.paths import expanded
from signal_diffusion.training.launching import start_missing_processes
from signal_diffusion.training.tracking import METRICS_NAME, Tracker, wandb_module
from signal_diffusion.training.trainer import Trainer

__all__ = [
    "accelerator_of",
    "cpu_has_bf16",
    "run",
    "run_command_line",
    "sent_to",
    "warn",
    "with_run_directory",
]


AnyExperiment = TypeVar("AnyExperiment", schema.Experiment, AutoencoderExperiment)


@contextmanager
def sent_to(module: str, config: Path) -> Iterator[None]:
    """Tell who gives this command the other one's experiment which that is."""
    try:
        yield
    except WrongKindError as error:
        raise UserError(f"{error}; run this one with `{shlex.join(['python', '-m', module, str(config)])}`") from None


def with_run_directory(
    experiment: AnyExperiment, config: Path, output_dir: Path | None, resume: str | None
) -> AnyExperiment:
    """The command line's words, which win over the file's, written into the experiment."""
    configured = experiment.output.base_dir or f"runs/{config.stem}"
    if resume == "":
        raise UserError("--resume-from-checkpoint: expected a checkpoint's folder, or latest")
    base = str(output_dir or expanded(configured, "[output] base_dir"))
    experiment = dataclasses.replace(experiment, output=dataclasses.replace(experiment.output, base_dir=base))
    if resume is None:
        return experiment
    table = dataclasses.replace(experiment.training.resume, enabled=True, checkpoint=resume)
    return dataclasses.replace(experiment, training=dataclasses.replace(experiment.training, resume=table))


def warn(
    experiment: AnyExperiment,
    config: Path,
    overrides: Sequence[str],
    root: Path,
    card: DatasetCard,
    accelerator: Accelerator,
) -> None:
    """Say on standard error, once, what is doubtful about the experiment on this dataset.

    Raises
    ------
    UserError
        On every process, where the dataset is too small for one step.
    """
    found = doubts_of(experiment, root, card, num_processes=accelerator.num_processes)
    if accelerator.is_main_process:
        for line in lines_of(config, overrides, found):
            print(f"warning: {line}", file=sys.stderr)


def accelerator_of(experiment: schema.Experiment | AutoencoderExperiment) -> Accelerator:
    """The device, or this process's of several, and its precision, as the experiment has them.

    On a CPU without instructions for bf16, which torch emulates at a fraction of the speed of fp32, that is fp32.

    Raises
    ------
    UserError
        Where this machine has none of that kind.
    """
    device, performance = experiment.compute.device, experiment.training.performance
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("[compute] device: 'cuda', but torch finds no CUDA device; use 'auto' or 'cpu'")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("[compute] device: 'mps', but torch finds no MPS device; use 'auto' or 'cpu'")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = performance.use_tf32
    torch.backends.cudnn.benchmark = performance.cudnn_benchmark
    torch.autograd.set_detect_anomaly(experiment.debug.detect_anomaly)
    if experiment.training.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise UserError("[training] mixed_precision: 'fp16' needs a CUDA device; use 'bf16' or 'no'")
    on_cpu = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    emulated = on_cpu and experiment.training.mixed_precision == "bf16" and not cpu_has_bf16()
    accelerator = Accelerator(
        mixed_precision="no" if emulated else experiment.training.mixed_precision,
        cpu=on_cpu,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)],
    )
    in_bf16_on_cuda = accelerator.device.type == "cuda" and accelerator.mixed_precision == "bf16"
    if in_bf16_on_cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        accelerator.print("this GPU has no bf16, which torch emulates slowly: 'fp16' is faster")
    if emulated:
        accelerator.print("this CPU has no bf16, which torch would emulate several times slower: computing in fp32")
    return accelerator


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 matrices itself, as AVX-512 BF16, AMX and ARM do; yes where torch cannot tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    return any(there for name, there in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


def run(
    trainer: Trainer,
    experiment: schema.Experiment | AutoencoderExperiment,
    paths: RunPaths,
    checkpoint: Path | None,
    *,
    announcement: Sequence[str],
    module: str,
    after: Callable[[], Sequence[str]],
) -> bool:
    """Train, in the run's folder; whether the end was reached.

    Parameters
    ----------
    trainer, experiment
        What is trained, and the file that says so.
    paths
        The run's folders, which are made here.
    checkpoint
        What the trainer goes on from.
    announcement
        Lines to begin with.
    module
        The one that a paused run goes on with.
    after
        Gives the lines to end with, where the end is reached.
    """
    accelerator = trainer.accelerator
    if experiment.logging.wandb_project:
        wandb_module()  # on every process, before anything is written
    later: list[str] = []
    with raised_by_all():
        if accelerator.is_main_process:
            _start_run_directory(paths, experiment)
            later = checkpoints.leave_later(paths.checkpoints, trainer.progress.step)  # before their rows go
    tracker = Tracker(
        paths.base,
        paths.logs if experiment.logging.tensorboard else None,
        active=accelerator.is_main_process,
        first_step=trainer.progress.step,
        last_step=trainer.parts.num_steps,
        resumed=checkpoint is not None,
        wandb=experiment.logging if experiment.logging.wandb_project else None,
    )
    try:
        for line in announcement:
            tracker.message(line)
        if checkpoint:
            left = f"; removed what came after it: {listed(later)}" if later else ""
            tracker.message(f"resumed from {checkpoint} at step {trainer.progress.step}{left}")
        else:
            tracker.hyperparameters(_flattened(dataclasses.asdict(experiment)), to_toml(experiment))
        finished = trainer.run(tracker)
        again = ["uv", "run", "python", "-m", module, str(paths.base / CONFIG_NAME), "--output-dir", str(paths.base)]
        resume = shlex.join([*again, "--resume-from-checkpoint", "latest"])
        closing = after() if finished else [f"resume      {resume}"]
        tracker.conclude([*_conclusion(paths, trainer, finished=finished), *closing])
    finally:
        tracker.close()
        accelerator.end_training()
    return finished


def run_command_line(
    description: str, load: Callable[[Path, Sequence[str]], object], train: Callable[..., bool], module: str
) -> None:
    """Train as the command line says: `load` reads an experiment file, `train` is of the module of that name."""

    def command(
        config: Annotated[Path, typer.Argument(help="Experiment file (TOML).")],
        output_dir: Annotated[Path | None, typer.Option(help="Run directory; wins over output.base_dir.")] = None,
        resume_from_checkpoint: Annotated[
            str | None, typer.Option(help='A checkpoint-N folder, or "latest" of the run directory.')
        ] = None,
        overrides: Annotated[
            list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a key; repeatable.")
        ] = None,
    ) -> None:
        load(config, overrides or ())  # one process tells of mistakes, not each
        start_missing_processes(module)
        train(config, output_dir=output_dir, resume=resume_from_checkpoint, overrides=tuple(overrides or ()))

    with reported_to_user():
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(help=description)(command)
        app()


def _start_run_directory(paths: RunPaths, experiment: schema.Experiment | AutoencoderExperiment) -> None:
    try:
        paths.base.mkdir(parents=True, exist_ok=True)
        partial = paths.base / f"{CONFIG_NAME}.partial"
        partial.write_text(to_toml(experiment), encoding="utf-8")
        partial.replace(paths.base / CONFIG_NAME)
    except OSError as error:
        raise UserError(f"{paths.base}: cannot write the run directory: {error.strerror}") from None


def _conclusion(paths: RunPaths, trainer: Trainer, *, finished: bool) -> list[str]:
    """Where everything is."""
    progress = trainer.progress
    lines = [f"{'finished' if finished else 'paused'} at step {progress.step} of {trainer.parts.num_steps}"]
    if progress.best_step is not None:
        best = paths.checkpoints / f"checkpoint-{progress.best_step}"
        lines.append(f"best        {best} ({trainer.training.validation.metric} {progress.best_value:.4f})")
    lines.append(f"checkpoint  {paths.checkpoints / f'checkpoint-{progress.step}'}")
    if trainer.parts.previews:
        lines.append(f"pictures    {paths.samples}")
    lines.append(f"metrics     {paths.base / METRICS_NAME}  (tensorboard --logdir {paths.base.parent})")
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
