"""What values of the YAML layouts are today, where they are not the same under another name."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Any

from signal_diffusion.config.generation_tables import CHECKPOINT
from signal_diffusion.config.legacy.outcomes import (
    HERE,
    Convert,
    MistakeError,
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
"""What an absent `training.epochs` is."""


def mode(value: Any, written: Written) -> Outcome:
    """The command decides; one that generated is now another command."""
    if value != "generate":
        return ignored("the command decides", "train")(value, written)
    place = written("generation.checkpoint", default="CHECKPOINT")
    command = f"signal-diffusion sample {'RUN' if place in ('latest', 'best') else place}"
    options = {"num": "num_samples", "guidance-scale": "guidance_scale"}
    for option, key in options.items():
        number = written(f"generation.{key}", f"generation.sampling.{key}")
        command += f" --{option} {number}" if number is not None else ""
    return Outcome(left=f"the command decides: `{command}` generates")


def classes_or_none(value: Any, written: Written) -> Outcome:
    """model.num_classes of the flat YAML, which says whether there are conditions."""
    if value is None:
        return Outcome(values={"model.conditioning.type": "none"})
    return Outcome(values={"model.conditioning.type": "class", "model.conditioning.num_classes": value})


def return_labels(value: Any, written: Written) -> Outcome:
    """data.return_labels, which conditions decide."""
    conditional = is_conditional(written.file)
    if value is not conditional:
        raise MistakeError(f"{value!r}, but the model is {'' if conditional else 'not '}conditioned on labels")
    return Outcome(left="follows from model.conditioning.type")


def checkpoint(value: Any, written: Written) -> Outcome:
    """generation.checkpoint: of a path, the name, which the run's folder is searched for."""
    if not isinstance(value, str) or not value:
        return Outcome(values={} if value is None else {HERE: value})
    name = PurePosixPath(value).stem
    if re.fullmatch(CHECKPOINT, name):
        return Outcome(values={HERE: name})
    return Outcome(left="is the argument of `signal-diffusion sample`")


def directory(name: str, key: str) -> Convert:
    """One of the flat YAML's folders, as a place below the one that they share."""

    def convert(value: Any, written: Written) -> Outcome:
        if value is None:
            return Outcome()
        base = _common_folder(written)
        within = inside(value, base)
        if base is None or within is None:
            last = PurePosixPath(str(value)).name
            return Outcome(values={key: last or name}, left="folders of a run are inside the run's folder")
        return Outcome(values={"output.base_dir": base, key: within})

    return convert


def on_or_off(value: Any, written: Written) -> Outcome:
    """A switch that may have been the number from which it warns."""
    if not is_number(value):
        return Outcome(values={HERE: value})
    return Outcome(values={HERE: value > 0}, left="a switch today, which warns of fewer than 8 examples in a step")


def scheduler(value: Any, written: Written) -> Outcome:
    """A schedule by PyTorch's name, or none."""
    return named({"none": "constant"}, other=True)(value or "none", written)


def t_max(value: Any, written: Written) -> Outcome:
    """T_max in epochs, of which "auto" and the number of epochs are the whole run."""
    if value is None or value in ("auto", written("training.epochs", default=EPOCHS)):
        return Outcome(left="the whole run, as today")
    return Outcome(values={HERE: value})


def lowest_rate(value: Any, written: Written) -> Outcome:
    """A lowest learning rate, as a share of the highest."""
    highest = written("training.optimizer.learning_rate", "training.learning_rate", default=1e-4)
    if not (is_number(value) and is_number(highest)) or highest == 0:
        raise MistakeError(f"expected a learning rate, found {value!r}")
    if not 0 <= value <= highest:
        raise MistakeError(f"expected a learning rate from 0 to the highest, {highest!r}, found {value!r}")
    return Outcome(values={HERE: value / highest})


def samples_per_class(value: Any, written: Written) -> Outcome:
    """Samples of each class, as their total."""
    classes = written("model.conditioning.num_classes", "model.num_classes", default=1)
    total = value * classes if type(value) is int and type(classes) is int else value
    return Outcome(values={HERE: total})


def guidance_of_generation(value: Any, written: Written) -> Outcome:
    """generation.guidance_scale, which was that of the previews too."""
    values = {"generation.sampling.guidance_scale": value}
    if written("training.visualization.guidance_scale") is None:
        values["training.visualization.guidance_scale"] = value
    return Outcome(values=values)


def use_amp(value: Any, written: Written) -> Outcome:
    """use_amp, which was of fp16."""
    precision = "fp16" if value is True else value or "no"
    return Outcome(values={HERE: precision})


def is_conditional(written: Written) -> bool:
    """Whether a YAML layout's model is of classes."""
    kind = written("model.conditioning.type")
    return kind == "class" if kind is not None else written("model.num_classes") is not None


def _common_folder(written: Written) -> str | None:
    """The folder that the flat YAML's folders share; the parent of one that is alone."""
    keys = ("output.log_dir", "training.checkpoint_dir", "generation.output_dir")
    folders = [each for each in map(written, keys) if isinstance(each, str) and each]
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # none, or relative and absolute ones
        return None
    if len({PurePosixPath(each) for each in folders}) == 1:
        common = PurePosixPath(common).parent.as_posix()
    return common if common not in ("", ".", "/") else None
