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
from signal_diffusion.config.legacy.engine import (
    Convert,
    Default,
    Expected,
    File,
    Left,
    Refused,
    Several,
    defaults,
    rows,
)

__all__ = ["IMPLIED", "V1_TO_V2", "V2_TO_TODAY", "implied", "is_number", "lower", "sampling_command"]

WEIGHTS = (".pt", ".pth", ".ckpt")
EPOCHS = 200
"""Default of `training.epochs` in both layouts."""


def is_number(value: Any) -> bool:
    """Whether a value is a number and not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def lower(value: Any, file: File) -> Any:
    """A name, ignoring case."""
    return value.lower() if isinstance(value, str) else value


# From V1 to V2 --------------------------------------------------------------------------------------------------------


def _classes(value: Any, file: File) -> Any:
    kind = "none" if value is None else "class"
    return Several({"model.conditioning.type": kind, "model.conditioning.num_classes": value})


def _folder(name: str) -> Convert:
    """One of V1's folders, as the common parent of all of them and the path below it."""

    def convert(value: Any, file: File) -> Any:
        keys = ("output.log_dir", "training.checkpoint_dir", "generation.output_dir")
        folders = [each for each in map(file.get, keys) if isinstance(each, str) and each]
        if value is None:
            return None
        try:
            base = PurePosixPath(os.path.commonpath(folders))
        except ValueError:  # no folder, or relative and absolute ones
            base = PurePosixPath()
        base = base.parent if len(set(folders)) == 1 else base
        if str(base) in (".", "/") or value not in folders:
            last = PurePosixPath(str(value)).name or name
            return Several({f"output.subdirs.{name}": last})
        within = PurePosixPath(value).relative_to(base)
        return Several({"output.base_dir": str(base), f"output.subdirs.{name}": str(within)})

    return convert


def _per_class(value: Any, file: File) -> Any:
    classes = file.get("model.num_classes", "model.conditioning.num_classes", default=1)
    return value * classes if type(value) is int and type(classes) is int else value


def _guidance(value: Any, file: File) -> Any:
    new = {"generation.sampling.guidance_scale": value}
    if file.get("training.visualization.guidance_scale") is None:
        new["training.visualization.guidance_scale"] = value
    return Several(new)


V1_TO_V2 = rows(
    """
    device | compute.device
    seed | compute.seed
    model.{image_size, in_channels, model_channels, channel_multipliers, use_attention} | model.architecture.{}
    model.{num_timesteps, beta_schedule, beta_start, beta_end} | model.diffusion.{}
    model.num_classes | model.conditioning.type model.conditioning.num_classes | null → type none, else class | classes
    model.class_dropout_prob | model.conditioning.class_dropout_prob
    data.{train, val}_path | data.paths.{}
    data.{batch_size, num_workers, pin_memory, shuffle_train, drop_last} | data.loading.{}
    data.{horizontal_flip, rotation_degrees} | data.augmentation.{}
    data.color_jitter | data.augmentation.color_jitter.enabled
    data.color_jitter_strength | data.augmentation.color_jitter.strength
    output.log_dir | output.base_dir output.subdirs.logs | the common parent and the rest of the path | logs
    training.checkpoint_dir | output.base_dir output.subdirs.checkpoints | split in the same way | checkpoints
    generation.output_dir | output.base_dir output.subdirs.generated | split in the same way | generated
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
    {generation, training.visualization}.samples_per_class | training.visualization.num_samples | × num_classes | each
    generation.{num_samples, use_ema} | generation.sampling.{}
    generation.guidance_scale | generation.sampling.guidance_scale training.visualization.guidance_scale | both | both
    generation.{save_grid, grid_nrow} | generation.output.{}
    """,
    {"classes": _classes, "each": _per_class, "both": _guidance}
    | {name: _folder(name) for name in ("logs", "checkpoints", "generated")},
)

# From V2 to today's ---------------------------------------------------------------------------------------------------


def sampling_command(value: Any, file: File) -> str:
    """The command that does what `mode: generate` did."""
    source = str(file.get("generation.checkpoint", default="CHECKPOINT"))
    is_ours = source not in ("latest", "best") and not source.endswith(WEIGHTS)
    command = ["signal-diffusion", "sample", source if is_ours else "RUN"]
    for option, key in {"num": "num_samples", "guidance-scale": "guidance_scale"}.items():
        number = file.get(f"generation.sampling.{key}")
        command += [f"--{option}", str(number)] if number is not None else []
    return shlex.join(command)


def _experiment(value: Any, file: File) -> Any:
    if value != "diffusion":
        raise Refused(f"expected 'diffusion', found {value!r}")
    return Left("determined by the command")


def _mode(value: Any, file: File) -> Any:
    if value == "generate":
        return Left(f"sampling is a command of its own: run `{sampling_command(value, file)}`", is_lost=True)
    if value != "train":
        raise Refused(f"expected 'train', found {value!r}")
    return Left("determined by the command")


def _return_labels(value: Any, file: File) -> Any:
    conditional = file.get("model.conditioning.type") == "class"
    if value is not conditional:
        raise Refused(f"{value!r}, but the model is {'' if conditional else 'not '}conditioned on labels")
    return Left("determined by model.conditioning.type")


def _checkpoint(value: Any, file: File) -> Any:
    name = PurePosixPath(value).stem if isinstance(value, str) and value else value
    if not isinstance(name, str) or re.fullmatch(CHECKPOINT, name):
        return name
    if value.endswith(WEIGHTS):
        return Left("weights of an older project cannot be read; train again", is_lost=True)
    return Left("pass it to `signal-diffusion sample`", is_lost=True)


def _t_max(value: Any, file: File) -> Any:
    whole = value is None or value in ("auto", file.get("training.epochs", default=EPOCHS))
    return Left("the whole run, the default") if whole else value


def _lowest_rate(value: Any, file: File) -> Any:
    if value is None:
        return None
    peak = file.get("training.optimizer.learning_rate", default=schema.Optimizer().learning_rate)
    if not (is_number(value) and is_number(peak)) or peak == 0:
        raise Refused(f"expected a learning rate, found {value!r}")
    if not 0 <= value <= peak:
        raise Refused(f"expected a learning rate from 0 to the peak, {peak!r}, found {value!r}")
    return value / peak


def _in_epochs(table: str) -> Convert:
    def convert(value: Any, file: File) -> Any:
        if value is None:
            return None
        steps = file.get(f"{table}.interval") if table != "training.visualization" else None
        if steps is not None and file.get(f"{table}.unit") is None:
            raise Refused(
                f"{value!r} (epochs) and {table}.interval = {steps!r} (steps) conflict; remove one of the two"
            )
        return Several({f"{table}.interval": value, f"{table}.unit": "epochs"})

    return convert


def _validation(value: Any, file: File) -> Any:
    if value is True and file.get("data.paths.val", "data.paths.root") is None:
        return Left("there is no validation split")
    return value


def _use_amp(value: Any, file: File) -> Any:
    return "fp16" if value is True else value or "no"


def _threshold(value: Any, file: File) -> Any:
    return value > 0 if is_number(value) else value


def _null_is(default: Any) -> Convert:
    return lambda value, file: default if value is None else value


V2_TO_TODAY = rows(
    """
    experiment | | other than "diffusion": an error | experiment
    mode | | determined by the command; generate is now `signal-diffusion sample` | mode
    data.return_labels | | derived from model.conditioning.type; another value is an error | return_labels
    compute.seed | compute.seed | null → 0 | zero
    model.architecture.image_size | data.image_size
    model.architecture.in_channels | | derived from the dataset, and checked against it | channels
    model.conditioning.type | model.conditioning.type | null → none | none
    model.conditioning.class_dropout_prob | model.conditioning.cfg_dropout
    training.optimizer.type | training.optimizer.type | adam, adamw | lower
    training.optimizer.gradient_clip_norm | training.optimizer.gradient_clip_norm | null → 0, no clipping | no_clipping
    training.scheduler.type | training.scheduler.type | null → constant | constant
    training.scheduler.T_max | training.scheduler.T_max | auto and epochs: the whole run | t_max
    training.scheduler.{eta_min, min_lr} | training.scheduler.min_lr_ratio | divided by learning_rate | lowest_rate
    training.scheduler.factor | training.scheduler.gamma
    training.checkpointing.save_frequency | training.checkpointing.interval training.checkpointing.unit | in epochs | s
    training.validation.enabled | training.validation.enabled | false without a validation split | validation
    training.validation.frequency | training.validation.interval training.validation.unit | in epochs | v
    training.visualization.interval | training.visualization.interval training.visualization.unit | in epochs | p
    training.performance.use_amp | training.mixed_precision | true → fp16, false → no | use_amp
    generation.checkpoint | generation.checkpoint | a path → latest, best or checkpoint-<step> | checkpoint
    validation_rules.warn_if_batch_size_small | validation_rules.warn_if_batch_size_small | n > 0 → true | threshold
    """,
    {
        "experiment": _experiment,
        "mode": _mode,
        "return_labels": _return_labels,
        "zero": _null_is(0),
        "channels": lambda value, file: None if value is None else Expected("channels"),
        "none": _null_is("none"),
        "lower": lower,
        "no_clipping": _null_is(0.0),
        "constant": lambda value, file: lower(value, file) if value not in (None, "none") else "constant",
        "t_max": _t_max,
        "lowest_rate": _lowest_rate,
        "s": _in_epochs("training.checkpointing"),
        "v": _in_epochs("training.validation"),
        "p": _in_epochs("training.visualization"),
        "validation": _validation,
        "use_amp": _use_amp,
        "checkpoint": _checkpoint,
        "threshold": _threshold,
    },
)

# What both layouts leave unsaid ---------------------------------------------------------------------------------------

IMPLIED = defaults(
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
    has no warm-up | training.scheduler.warmup_steps = 0
    lowers the learning rate to 0 | training.scheduler.min_lr_ratio = 0.0
    saves every 10 epochs | training.checkpointing.interval = 10; training.checkpointing.unit = "epochs"
    validates every epoch | training.validation.interval = 1; training.validation.unit = "epochs"
    chooses the best by the loss | training.validation.metric = "loss"
    draws previews every 10 epochs | training.visualization.interval = 10; training.visualization.unit = "epochs"
    generates 100 samples | generation.sampling.num_samples = 100
    writes each sample | generation.output.save_individual = true
    writes a grid of the samples | generation.output.save_grid = true
    """
)


def implied(values: Mapping[str, Any], *, is_flat: bool) -> list[Default]:
    """Defaults of both layouts, some of which depend on other `values`, including those of `--set`."""
    found = File(dict(values)).get
    conditional, classes = found("model.conditioning.type") == "class", found("model.conditioning.num_classes")
    levels, steps = found("model.diffusion.num_timesteps"), schema.Sampling().steps
    made: list[tuple[str, str, Any]] = []
    if not is_flat:
        made.append(("previews 16 samples", "training.visualization.num_samples", 16))
    elif conditional and type(classes) is int:
        made.append(("previews 2 samples per class", "training.visualization.num_samples", 2 * classes))
    else:
        made.append(("previews 8 samples", "training.visualization.num_samples", 8))
    if found("data.paths.val", "data.paths.root") is None:
        made.append(("validates only on a split that is named", "training.validation.enabled", False))
    if found("training.optimizer.type", default="adam") == "adam":
        made.append(("has no weight decay with Adam", "training.optimizer.weight_decay", 0.0))
    if type(levels) is int and levels < steps:
        made.append(("samples in at most as many steps as there are levels", "generation.sampling.steps", levels))
    if found("training.ema.enabled", default=True) is True:
        made.append(("has no warm-up of the EMA", "training.ema.warmup", False))
    if any(key.startswith("training.ema.") for key in values) and found("training.ema.enabled", default=True) is True:
        made.append(("updates the EMA every 10 steps", "training.ema.update_every", 10))
    if conditional and found("model.conditioning.cfg_dropout") != 0:
        made.append(("guides previews by 3", "training.visualization.guidance_scale", 3.0))
        made.append(("guides samples by 3", "generation.sampling.guidance_scale", 3.0))
    return [*IMPLIED, *(Default(phrase, {key: value}) for phrase, key, value in made)]
