"""The flat YAML (V1) and the grouped YAML (V2): a folder of pictures, a U-Net and DDPM."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from signal_diffusion.config import schema
from signal_diffusion.config.generation_tables import CHECKPOINT
from signal_diffusion.config.legacy import engine
from signal_diffusion.config.legacy.engine import (
    Convert,
    Default,
    Expected,
    File,
    Left,
    Refused,
    Several,
    cases,
    keep,
    lower,
)
from signal_diffusion.untrusted import weights_file_problem

__all__ = ["IMPLIED", "V1_TO_V2", "V2_TO_TODAY", "implied", "is_number"]

EPOCHS = 200
"""Default of `training.epochs` in both layouts."""


def is_number(value: Any) -> bool:
    """Whether a value is a number and not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _classes(value: Any, file: File) -> Any:
    kind = "none" if value is None else "class"
    return Several({"model.conditioning.type": kind, "model.conditioning.num_classes": value})


def _folder(name: str) -> Convert:
    """One of V1's folders, as the common parent of all of them and the path below it."""

    def convert(value: Any, file: File) -> Any:
        keys = ("output.log_dir", "training.checkpoint_dir", "generation.output_dir")
        folders = [each for each in map(file.get, keys) if isinstance(each, str) and each]
        try:
            base = PurePosixPath(os.path.commonpath(folders))
        except ValueError:  # no folder, or relative and absolute ones
            base = PurePosixPath()
        base = base.parent if len(set(folders)) == 1 else base
        if value is None:
            return None
        if str(base) in (".", "/") or value not in folders:
            return Several({f"output.subdirs.{name}": PurePosixPath(str(value)).name or name})
        within = PurePosixPath(value).relative_to(base)
        return Several({"output.base_dir": str(base), f"output.subdirs.{name}": str(within)})

    return convert


def _per_class(value: Any, file: File) -> Any:
    classes = file.get("model.num_classes", "model.conditioning.num_classes", default=1)
    return value * classes if type(value) is int and type(classes) is int else value


def _guidance(value: Any, file: File) -> Any:
    tables = ["generation.sampling"]
    if file.get("training.visualization.guidance_scale") is None:
        tables.append("training.visualization")
    return Several({f"{table}.guidance_scale": value for table in tables})


def _mode(value: Any, file: File) -> Any:
    """Sampling is another command, which the training command names."""
    if value != "generate":
        return cases({"train": Left("determined by the command")})(value, file)
    source = str(file.get("generation.checkpoint", default="CHECKPOINT"))
    is_ours = source not in ("latest", "best") and not weights_file_problem(source)
    command = ["signal-diffusion", "sample", source if is_ours else "RUN"]
    for option, key in {"num": "num_samples", "guidance-scale": "guidance_scale"}.items():
        number = file.get(f"generation.sampling.{key}")
        command += [f"--{option}", str(number)] if number is not None else []
    return Left(f"sampling is a command of its own: run `{shlex.join(command)}`", is_lost=True)


def _return_labels(value: Any, file: File) -> Any:
    conditional = file.get("model.conditioning.type") == "class"
    if value is not conditional:
        raise Refused(f"{value!r}, but the model is {'' if conditional else 'not '}conditioned on labels")
    return Left("determined by model.conditioning.type")


def _checkpoint(value: Any, file: File) -> Any:
    name = PurePosixPath(value).stem if isinstance(value, str) and value else value
    if not isinstance(name, str) or re.fullmatch(CHECKPOINT, name):
        return name
    if problem := weights_file_problem(value):
        return Left(problem, is_lost=True)
    return Left("pass it to `signal-diffusion sample`", is_lost=True)


def _t_max(value: Any, file: File) -> Any:
    whole = value is None or value in ("auto", file.get("training.epochs", default=EPOCHS))
    return Left("the whole run, the default") if whole else value


def _lowest_rate(value: Any, file: File) -> Any:
    peak = file.get("training.optimizer.learning_rate", default=schema.Optimizer().learning_rate)
    if value is None:
        return None
    if not (is_number(value) and is_number(peak)) or peak == 0:
        raise Refused(f"expected a learning rate, found {value!r}")
    if not 0 <= value <= peak:
        raise Refused(f"expected a learning rate from 0 to the peak, {peak!r}, found {value!r}")
    return value / peak


def _in_epochs(table: str) -> Convert:
    def convert(value: Any, file: File) -> Any:
        steps = file.get(f"{table}.interval") if table != "training.visualization" else None
        if None not in (value, steps) and file.get(f"{table}.unit") is None:
            raise Refused(f"{value!r} (epochs) and {table}.interval = {steps!r} (steps) conflict; remove one")
        return None if value is None else Several({f"{table}.interval": value, f"{table}.unit": "epochs"})

    return convert


def _validation(value: Any, file: File) -> Any:
    is_split = file.get("data.paths.val", "data.paths.root") is not None
    return Left("there is no validation split") if value is True and not is_split else value


def _channels(value: Any, file: File) -> Any:
    return None if value is None else Expected("channels")


_logs, _checkpoints, _generated = map(_folder, ("logs", "checkpoints", "generated"))
_saving, _validating = _in_epochs("training.checkpointing"), _in_epochs("training.validation")
_previewing = _in_epochs("training.visualization")
_experiment = cases({"diffusion": Left("determined by the command")})
_zero, _no_clipping = cases({None: 0}, other=keep), cases({None: 0.0}, other=keep)
_none = cases({None: "none"}, other=keep)
_constant = cases({None: "constant", "none": "constant"}, other=lower)
_use_amp = cases({True: "fp16", False: "no", None: "no"}, other=keep)

V1_TO_V2 = engine.rows(
    """
    device | compute.device
    seed | compute.seed
    model.{image_size, in_channels, model_channels, channel_multipliers, use_attention} | model.architecture.{}
    model.{num_timesteps, beta_schedule, beta_start, beta_end} | model.diffusion.{}
    model.num_classes | model.conditioning.type model.conditioning.num_classes | null → none | _classes
    model.class_dropout_prob | model.conditioning.class_dropout_prob
    data.{train, val}_path | data.paths.{}
    data.{batch_size, num_workers, pin_memory, shuffle_train, drop_last} | data.loading.{}
    data.{horizontal_flip, rotation_degrees} | data.augmentation.{}
    data.color_jitter | data.augmentation.color_jitter.enabled
    data.color_jitter_strength | data.augmentation.color_jitter.strength
    output.log_dir | output.base_dir output.subdirs.logs | parent, and rest of the path | _logs
    training.checkpoint_dir | output.base_dir output.subdirs.checkpoints | split in the same way | _checkpoints
    generation.output_dir | output.base_dir output.subdirs.generated | split in the same way | _generated
    training.optimizer | training.optimizer.type
    training.{learning_rate, gradient_clip_norm} | training.optimizer.{}
    training.optimizer_kwargs.* | training.optimizer.*
    training.scheduler | training.scheduler.type
    training.scheduler_kwargs.* | training.scheduler.*
    training.use_ema | training.ema.enabled
    training.ema_decay | training.ema.decay
    training.{save_frequency, save_best_only} | training.checkpointing.{}
    training.use_amp | training.performance.use_amp
    validation.{frequency, metric, enabled} | training.validation.{}
    {generation, training.visualization}.sample_images | training.visualization.enabled
    {generation, training.visualization}.sample_interval | training.visualization.interval
    {generation, training.visualization}.samples_per_class | training.visualization.num_samples | × classes | _per_class
    generation.{num_samples, use_ema} | generation.sampling.{}
    generation.guidance_scale | generation.sampling.guidance_scale training.visualization.guidance_scale | both | \
_guidance
    generation.{save_grid, grid_nrow} | generation.output.{}
    """,
    globals(),
)

V2_TO_TODAY = engine.rows(
    """
    experiment | | other than "diffusion": an error | _experiment
    mode | | determined by the command; generate is now `signal-diffusion sample` | _mode
    data.loading.pin_memory | | always on for CUDA
    training.performance.cudnn_benchmark | | always on for CUDA
    data.return_labels | | derived from model.conditioning.type; another value is an error | _return_labels
    compute.seed | compute.seed | null → 0 | _zero
    model.architecture.image_size | data.image_size
    model.architecture.in_channels | | derived from the dataset, and checked against it | _channels
    model.conditioning.type | model.conditioning.type | null → none | _none
    model.conditioning.class_dropout_prob | model.conditioning.cfg_dropout
    training.optimizer.type | training.optimizer.type | adam, adamw | lower
    training.optimizer.gradient_clip_norm | training.optimizer.gradient_clip_norm | null → 0: off | _no_clipping
    training.scheduler.type | training.scheduler.type | null → constant | _constant
    training.scheduler.T_max | training.scheduler.T_max | auto and epochs: the whole run | _t_max
    training.scheduler.{eta_min, min_lr} | training.scheduler.min_lr_ratio | divided by learning_rate | _lowest_rate
    training.scheduler.factor | training.scheduler.gamma
    training.checkpointing.save_frequency | training.checkpointing.interval training.checkpointing.unit | in epochs | \
_saving
    training.validation.enabled | training.validation.enabled | false without a validation split | _validation
    training.validation.frequency | training.validation.interval training.validation.unit | in epochs | _validating
    training.visualization.interval | training.visualization.interval training.visualization.unit | in epochs | \
_previewing
    training.performance.use_amp | training.mixed_precision | true → fp16, false → no | _use_amp
    generation.checkpoint | generation.checkpoint | a path → latest, best or checkpoint-<step> | _checkpoint
    """,
    globals(),
)

IMPLIED = engine.defaults(
    """
    trains a U-Net | model.name = "unet"
    is of pictures | data.representation = "image"
    trains with DDPM | model.diffusion.method = "ddpm"
    keeps the last batch of an epoch | data.loading.drop_last = false
    mirrors half of the pictures | data.augmentation.horizontal_flip = true
    changes colours by up to a tenth | data.augmentation.color_jitter.strength = 0.1
    trains for 200 epochs | training.epochs = 200
    trains in float32 | training.mixed_precision = "no"
    trains with Adam | training.optimizer.type = "adam"
    clips no gradients | training.optimizer.gradient_clip_norm = 0.0
    keeps the learning rate constant | training.scheduler.type = "constant"
    has no warm-up of the learning rate | training.scheduler.warmup_steps = 0
    lowers the learning rate to 0 | training.scheduler.min_lr_ratio = 0.0
    saves every 10 epochs | training.checkpointing.interval = 10; training.checkpointing.unit = "epochs"
    keeps all checkpoints | training.checkpointing.total_limit = 0
    validates every epoch | training.validation.interval = 1; training.validation.unit = "epochs"
    chooses the best by the loss | training.validation.metric = "loss"
    draws previews every 10 epochs | training.visualization.interval = 10; training.visualization.unit = "epochs"
    generates 100 samples | generation.sampling.num_samples = 100
    writes each sample | generation.output.save_individual = true
    writes a grid of the samples | generation.output.save_grid = true
    """.splitlines()
)


def implied(values: Mapping[str, Any], *, is_flat: bool) -> tuple[Default, ...]:
    """Defaults of both layouts, some of which depend on other `values`, including those of `--set`."""
    found = File(dict(values)).get
    conditional, classes = found("model.conditioning.type") == "class", found("model.conditioning.num_classes")
    levels, steps = found("model.diffusion.num_timesteps"), schema.Sampling().steps
    ema, adam = found("training.ema.enabled", default=True) is True, found("training.optimizer.type") in (None, "adam")
    is_set = any(key.startswith("training.ema.") for key in values)
    guided = conditional and found("model.conditioning.cfg_dropout") != 0
    unsplit, few = found("data.paths.val", "data.paths.root") is None, type(levels) is int and levels < steps
    previews = (2 * classes if conditional and type(classes) is int else 8) if is_flat else 16
    lines = [
        (True, f"previews {previews} samples | training.visualization.num_samples = {previews}"),
        (unsplit, "validates only on a split that is named | training.validation.enabled = false"),
        (adam, "has no weight decay with Adam | training.optimizer.weight_decay = 0.0"),
        (few, f"samples in no more steps than there are levels | generation.sampling.steps = {levels}"),
        (ema, "has no warm-up of the EMA | training.ema.warmup = false"),
        (ema and is_set, "updates the EMA every 10 steps | training.ema.update_every = 10"),
        (guided, "guides previews by 3 | training.visualization.guidance_scale = 3.0"),
        (guided, "guides samples by 3 | generation.sampling.guidance_scale = 3.0"),
    ]
    return (*IMPLIED, *engine.defaults(line for is_so, line in lines if is_so))
