"""The whole training command against `accelerate launch` of diffusers' train_unconditional.py, on the same pictures.

Both start from the same files, train the same U-Net on batches of the same size in the same precision, with averages,
log each step to TensorBoard, and generate the same number of samples in as many steps after the last one. When things
happened is read from their TensorBoard files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from signal_diffusion.benchmarks.counterparts import counterpart_of
from signal_diffusion.benchmarks.experiments import Case, case_of
from signal_diffusion.benchmarks.measuring import Row, row_of
from signal_diffusion.benchmarks.report import Report
from signal_diffusion.benchmarks.timelines import Timeline, timed
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment

__all__ = ["whole_runs_report"]

EXPERIMENT = """
[data]
representation = "image"
image_size = 32
[data.paths]
root = "pictures"
[data.loading]
batch_size = 16
[model]
name = "unet"
[model.architecture]
model_channels = 16
[training]
max_steps = 200
[training.visualization]
num_samples = 16
[generation.sampling]
steps = 25
"""
"""What is trained if the user names no experiment: small, so that both commands end within minutes on two cores."""
NUM_STEPS = 200


def whole_runs_report(config: Path | None, overrides: Sequence[str], script: Path, *, rounds: int) -> Report:
    """Run both commands in turn, `rounds` times.

    Parameters
    ----------
    config
        An experiment of a `unet` on images, trained for `training.max_steps` (200 if 0); its dataset is replaced by
        generated pictures. None = `EXPERIMENT`.
    script
        train_unconditional.py of diffusers.

    Raises
    ------
    UserError
        If the experiment is another one, or a command fails.
    """
    if not script.is_file():
        raise UserError(f"--script {script}: no such file; expected train_unconditional.py of diffusers' examples")
    with TemporaryDirectory() as name:
        folder = Path(name)
        if config is None:
            config = folder / "unet.toml"
            config.write_text(EXPERIMENT, encoding="utf-8")
        case, settings = _prepared(config, overrides, folder)
        lines = {"ours": _our_command(config, settings), "diffusers": _their_command(case, script, folder)}
        timelines: dict[str, list[Timeline]] = {variant: [] for variant in lines}
        for number in range(rounds):
            for variant, line in lines.items():
                output = folder / f"{variant}-{number}"
                timelines[variant].append(timed([*line, str(output)], output))
    rows = [_row(case, variant, found) for variant, found in timelines.items()]
    return Report.of("train", rows)


def _prepared(config: Path, overrides: Sequence[str], folder: Path) -> tuple[Case, list[str]]:
    """The case on generated pictures, which are written to `folder`, and all overrides of the experiment."""
    experiment = load_experiment(config, overrides)
    if experiment.model.name != "unet" or experiment.data.representation != "image":
        raise UserError(f'{config}: --script compares [model] name = "unet" on [data] representation = "image"')
    steps = experiment.training.max_steps or NUM_STEPS
    size, batch = experiment.data.image_size or 64, experiment.data.loading.batch_size
    _write_pictures(folder / "pictures" / "train", steps * batch, size)
    settings = [
        *overrides,
        'data.source="dataset"',
        f'data.paths.root="{folder / "pictures"}"',
        f"data.image_size={size}",
        f"training.max_steps={steps}",
        "training.gradient_accumulation_steps=1",
        "training.log_interval=1",
        "training.ema.enabled=true",
        "training.validation.enabled=false",
        f"training.visualization.interval={steps}",
        "training.visualization.guidance_scale=1",
    ]
    return case_of(config, settings, batch), settings


def _our_command(config: Path, settings: Iterable[str]) -> list[str]:
    sets = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "signal_diffusion.training.diffusion", str(config), *sets, "--output-dir"]


def _their_command(case: Case, script: Path, folder: Path) -> list[str]:
    experiment, accelerator = case.experiment, case.accelerator
    network = folder / "unet"
    counterpart_of(case).network.save_config(network)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes=1", "--num_machines=1"]
    launch += ["--dynamo_backend=no", f"--mixed_precision={accelerator.mixed_precision}"]
    launch += ["--cpu"] if accelerator.device.type == "cpu" else []
    options = {
        "train_data_dir": folder / "pictures" / "train",
        "cache_dir": folder / "their-cache",
        "model_config_name_or_path": network,
        "resolution": case.shape[1],
        "train_batch_size": experiment.data.loading.batch_size,
        "num_epochs": 1,
        "mixed_precision": accelerator.mixed_precision,
        "eval_batch_size": experiment.training.visualization.num_samples,
        "ddpm_num_inference_steps": experiment.generation.sampling.steps,
        "learning_rate": experiment.training.optimizer.learning_rate,
        "lr_warmup_steps": 0,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    return [*launch, str(script), *words, "--center_crop", "--use_ema", "--output_dir"]


def _write_pictures(folder: Path, count: int, size: int) -> None:
    """Write smooth random colour pictures as PNG files."""
    from PIL import Image

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{number:06d}.png")


def _row(case: Case, variant: str, found: Sequence[Timeline]) -> Row:
    experiment = case.experiment
    steps, batch = experiment.training.max_steps or NUM_STEPS, experiment.data.loading.batch_size

    def median(values: Iterable[float]) -> float:
        return float(np.median(list(values)))

    figures = {
        "examples_per_second": median((steps - 1) * batch / (each.last_step - each.first_step) for each in found),
        "first_step_seconds": median(each.first_step for each in found),
        "preview_seconds": median(each.preview - each.last_step for each in found),
        "cpu_seconds": median(each.cpu for each in found),
    }
    return row_of(
        f"whole command, {case.name}, {steps} steps of {batch}, on {case.accelerator.device.type}",
        variant,
        [each.end for each in found],
        figures,
    )
