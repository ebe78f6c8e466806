"""Conversions of values of the YAML layouts, where more than the name changed."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import PurePosixPath
from typing import Any

from signal_diffusion.config.generation_tables import CHECKPOINT
from signal_diffusion.config.legacy.outcomes import (
    NEW_KEY,
    ConversionError,
    Convert,
    Outcome,
    Written,
    ignored,
    inside,
    is_number,
    named,
)

__all__ = [
    "EPOCHS",
    "checkpoint",
    "classes_or_none",
    "directory",
    "guidance_of_generation",
    "is_conditional",
    "lowest_rate",
    "mode",
    "on_or_off",
    "return_labels",
    "samples_per_class",
    "scheduler",
    "t_max",
    "use_amp",
]

EPOCHS = 200
"""Default of `training.epochs` in the YAML layouts."""


def mode(value: Any, written: Written) -> Outcome:
    """Drop the mode: training and sampling are different commands now."""
    if value != "generate":
        return ignored("determined by the command", "train")(value, written)
    source = written("generation.checkpoint", default="CHECKPOINT")
    command = ["signal-diffusion", "sample", "RUN" if source in ("latest", "best") else str(source)]
    options = {"num": "num_samples", "guidance-scale": "guidance_scale"}
    for option, key in options.items():
        number = written(f"generation.{key}", f"generation.sampling.{key}")
        command += [f"--{option}", str(number)] if number is not None else []
    return Outcome(dropped=f"determined by the command; to generate, run `{shlex.join(command)}`")


def classes_or_none(value: Any, written: Written) -> Outcome:
    """model.num_classes of the flat YAML, which also determines whether the model is conditional."""
    if value is None:
        return Outcome(values={"model.conditioning.type": "none"})
    return Outcome(values={"model.conditioning.type": "class", "model.conditioning.num_classes": value})


def return_labels(value: Any, written: Written) -> Outcome:
    """data.return_labels, now determined by the conditioning; raises if the file contradicts that."""
    conditional = is_conditional(written.file)
    if value is not conditional:
        raise ConversionError(f"{value!r}, but the model is {'' if conditional else 'not '}conditioned on labels")
    return Outcome(dropped="determined by model.conditioning.type")


def checkpoint(value: Any, written: Written) -> Outcome:
    """generation.checkpoint: the name of a checkpoint, the last part of a path."""
    if not isinstance(value, str) or not value:
        return Outcome(values={} if value is None else {NEW_KEY: value})
    name = PurePosixPath(value).stem
    if re.fullmatch(CHECKPOINT, name):
        return Outcome(values={NEW_KEY: name})
    return Outcome(dropped="pass it to `signal-diffusion sample`")


def directory(name: str, key: str) -> Convert:
    """One of the flat YAML's folders, as the common parent folder and the path below it."""

    def convert(value: Any, written: Written) -> Outcome:
        if value is None:
            return Outcome()
        base = _common_folder(written)
        within = inside(value, base)
        if base is None or within is None:
            last = PurePosixPath(str(value)).name
            return Outcome(values={key: last or name}, dropped="is now always inside the run directory")
        return Outcome(values={"output.base_dir": base, key: within})

    return convert


def on_or_off(value: Any, written: Written) -> Outcome:
    """A boolean; in older files possibly the batch size below which to warn."""
    if not is_number(value):
        return Outcome(values={NEW_KEY: value})
    return Outcome(values={NEW_KEY: value > 0}, dropped="now true or false; warns below 8 examples per step")


def scheduler(value: Any, written: Written) -> Outcome:
    """A schedule by name; null is "constant"."""
    return named({"none": "constant"}, other=True)(value or "none", written)


def t_max(value: Any, written: Written) -> Outcome:
    """T_max in epochs; "auto" and the number of epochs both mean the whole run."""
    if value is None or value in ("auto", written("training.epochs", default=EPOCHS)):
        return Outcome(dropped="the whole run, the default")
    return Outcome(values={NEW_KEY: value})


def lowest_rate(value: Any, written: Written) -> Outcome:
    """The lowest learning rate, as a fraction of the peak."""
    highest = written("training.optimizer.learning_rate", "training.learning_rate", default=1e-4)
    if not (is_number(value) and is_number(highest)) or highest == 0:
        raise ConversionError(f"expected a learning rate, found {value!r}")
    if not 0 <= value <= highest:
        raise ConversionError(f"expected a learning rate from 0 to the peak, {highest!r}, found {value!r}")
    return Outcome(values={NEW_KEY: value / highest})


def samples_per_class(value: Any, written: Written) -> Outcome:
    """Samples per class, multiplied by the number of classes."""
    classes = written("model.conditioning.num_classes", "model.num_classes", default=1)
    total = value * classes if type(value) is int and type(classes) is int else value
    return Outcome(values={NEW_KEY: total})


def guidance_of_generation(value: Any, written: Written) -> Outcome:
    """generation.guidance_scale, which also applied to previews."""
    values = {"generation.sampling.guidance_scale": value}
    if written("training.visualization.guidance_scale") is None:
        values["training.visualization.guidance_scale"] = value
    return Outcome(values=values)


def use_amp(value: Any, written: Written) -> Outcome:
    """use_amp, which meant fp16."""
    precision = "fp16" if value is True else value or "no"
    return Outcome(values={NEW_KEY: precision})


def is_conditional(written: Written) -> bool:
    """Whether the model of a YAML file is conditioned on classes."""
    kind = written("model.conditioning.type")
    return kind == "class" if kind is not None else written("model.num_classes") is not None


def _common_folder(written: Written) -> str | None:
    """The common parent of the flat YAML's folders, also if there is only one; None if there is none."""
    keys = ("output.log_dir", "training.checkpoint_dir", "generation.output_dir")
    folders = [each for each in map(written, keys) if isinstance(each, str) and each]
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # no folders, or a mix of relative and absolute ones
        return None
    if len({PurePosixPath(each) for each in folders}) == 1:
        common = PurePosixPath(common).parent.as_posix()
    return common if common not in ("", ".", "/") else None
