"""What values of the flat TOML are today, where they are not the same under another name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from signal_diffusion.config.legacy.outcomes import HERE, MistakeError, Outcome, Written, inside, is_number, named

__all__ = [
    "conditioning",
    "data_type",
    "dataset_name",
    "eval_num_examples",
    "eval_num_steps",
    "eval_strategy",
    "image_column",
    "log_dir",
    "model_name",
    "num_classes",
    "num_cycles",
    "optimizer_name",
    "output_type",
    "patch_size",
    "prediction",
    "pretrained",
    "resume",
    "revision",
    "scheduler_name",
    "self_attentions",
    "t_max",
    "widths_of_feed_forward",
]


def output_type(value: Any, written: Written) -> Outcome:
    """[data] output_type, which a time series does not have."""
    if written("data.data_type") == "timeseries":
        return Outcome(left="data.data_type is 'timeseries'")
    return Outcome(values={HERE: value})


def data_type(value: Any, written: Written) -> Outcome:
    """[data] data_type: the kind of which output_type says the rest."""
    if value == "spectrogram":
        if written("data.output_type", "data.representation"):
            return Outcome(left="the representation says it")
        return Outcome(values={HERE: "db-only"})
    return named({"timeseries": "timeseries"})(value, written)


def dataset_name(value: Any, written: Written) -> Outcome:
    """A folder, or else a dataset of the Hub, as `datasets.load_dataset` takes it."""
    value = written.overrides("data.paths.root", default=value)
    if not isinstance(value, str) or value.startswith(("/", ".", "~", "$")) or value.count("/") != 1:
        return Outcome(values={"data.paths.root": value})
    if value.startswith(("data/", "datasets/")) or _is_folder(Path(value)) or _is_folder(Path(value).parent):
        return Outcome(values={"data.paths.root": value})
    return Outcome(values={"data.source": "hub", "data.paths.root": value})


def image_column(value: Any, written: Written) -> Outcome:
    """The column of the tensors, of signals too."""
    return Outcome(values={f"data.columns.{'signal' if _of_series(written) else 'image'}": value})


def model_name(value: Any, written: Written) -> Outcome:
    """[model] name; a name of today stays as it is."""
    older = ("stable-diffusion-3.5-medium", "stable-diffusion-35")
    return Outcome(values={HERE: "sd35" if str(value).lower() in older else value})


def num_classes(value: Any, written: Written) -> Outcome:
    """A number of classes, of which none is none."""
    if value in (None, 0):
        return Outcome(left="no classes")
    return Outcome(values={HERE: value})


def conditioning(value: Any, written: Written) -> Outcome:
    """[model] conditioning."""
    if value == "gend_hlth_age":
        names = ["gender", "health", "age"]
        return Outcome(values={"model.conditioning.type": "attributes", "model.conditioning.attributes": names})
    names_today = {"none": "none", "classes": "class", "caption": "caption"}
    return named(names_today)(value, written)


def pretrained(value: Any, written: Written) -> Outcome:
    """[model] pretrained, with the revision behind an @."""
    revision = written("model.revision")
    return Outcome(values={HERE: f"{value}@{revision}" if value and revision else value})


def revision(value: Any, written: Written) -> Outcome:
    """[model] revision, which `pretrained` takes."""
    base = written.file("model.pretrained")
    if not base or not value:
        return Outcome(left="there are no model.pretrained and revision of it")
    return pretrained(base, written)


def patch_size(value: Any, written: Written) -> Outcome:
    """Rows and columns of a token; one number is for both, or for the samples of one electrode."""
    name = written("model.name", default="")
    if type(value) is int and not str(name).startswith(("sd35", "stable-diffusion")):
        value = [1 if _of_series(written) else value, value]
    return Outcome(values={HERE: value})


def widths_of_feed_forward(value: Any, written: Written) -> Outcome:
    """d_ffs of an hourglass, where they have one ratio to the widths."""
    widths = written("model.architecture.widths", "model.extras.widths", default=[64, 128, 256])
    if not (_numbers(value) and _numbers(widths) and len(value) == len(widths)):
        raise MistakeError(f"expected as many numbers as widths, found {value!r}")
    ratios = {each / width for each, width in zip(value, widths, strict=True) if width}
    if len(ratios) != 1:
        raise MistakeError(f"{value!r}: expected the same multiple of each of the widths {widths!r}")
    return Outcome(values={HERE: ratios.pop()})


def self_attentions(value: Any, written: Written) -> Outcome:
    """self_attns of an hourglass: a table, or a name, for each level."""
    levels = [{"type": each} if isinstance(each, str) else each for each in value] if isinstance(value, list) else []
    if not levels or not all(isinstance(each, Mapping) for each in levels):
        raise MistakeError(f"expected a table for each level, found {value!r}")
    kernels, heads = [], []
    for level in levels:
        kind = level.get("type")
        if kind not in ("neighborhood", "neighbourhood", "global"):
            raise MistakeError(f"expected the type 'neighborhood' or 'global', found {kind!r}")
        kernels.append(0 if kind == "global" else level.get("kernel_size", 7))
        heads.append(level.get("d_head", level.get("attention_head_dim", 64)))
    if any(head != heads[0] for head in heads):
        raise MistakeError(f"expected one d_head for all levels, found {heads!r}")
    values = {"kernel_sizes": kernels, "attention_head_dim": heads[0]}
    return Outcome(values={f"model.architecture.{key}": each for key, each in values.items()})


def prediction(value: Any, written: Written) -> Outcome:
    """[objective] prediction_type, on the straight path from data to noise."""
    names = {"vector_field": "velocity", "epsilon": "epsilon", "sample": "sample"}
    found = named(names)(value, written)
    return Outcome(values={**found.values, "model.diffusion.method": "rectified_flow"})


def optimizer_name(value: Any, written: Written) -> Outcome:
    """[optimizer] name."""
    name = value.lower() if isinstance(value, str) else value
    if name == "adamw_8bit":
        return Outcome(values={HERE: "adamw"}, left="a state of 8 bits has no counterpart in this version")
    return Outcome(values={HERE: name})


def scheduler_name(value: Any, written: Written) -> Outcome:
    """[scheduler] name; "constant" is without a warm-up, unless one is given."""
    names = {"constant_with_warmup": "constant", "cosine_with_restarts": "cosine", "cosine_with_min_lr": "cosine"}
    values = dict(named(names, other=True)(value, written).values)
    steps = written("scheduler.warmup_steps", "training.scheduler.warmup_steps")
    if str(value).lower() == "constant" and steps is None:
        values["training.scheduler.warmup_steps"] = 0
    return Outcome(values=values)


def num_cycles(value: Any, written: Written) -> Outcome:
    """[scheduler.kwargs] num_cycles: waves of a cosine, of which half a one is one way down, or restarts."""
    name = str(written("scheduler.name", "training.scheduler.type", default="cosine")).lower()
    if not is_number(value) or not name.startswith("cosine"):
        return Outcome(values={HERE: value})
    if name == "cosine_with_restarts" and float(value).is_integer():
        return Outcome(values={HERE: int(value)})
    if name != "cosine_with_restarts" and value == 0.5:
        return Outcome(values={HERE: 1})
    raise MistakeError(
        f"{value!r} waves of {name!r} have no counterpart; expected 0.5, once down, or the name 'cosine_with_restarts' "
        "and a whole number of cosines that each start from the full rate"
    )


def t_max(value: Any, written: Written) -> Outcome:
    """T_max in epochs; "auto" is the whole run."""
    return Outcome(left="the whole run, as today") if value == "auto" else Outcome(values={HERE: value})


def resume(value: Any, written: Written) -> Outcome:
    """[training] resume: a checkpoint, or whether to go on from the latest."""
    if not value:
        return Outcome(left="nothing is resumed")
    checkpoint = "latest" if value is True else value
    return Outcome(values={"training.resume.enabled": True, "training.resume.checkpoint": checkpoint})


def eval_strategy(value: Any, written: Written) -> Outcome:
    """[training] eval_strategy: what counts the validations."""
    if value == "epoch":
        return Outcome(values={"training.validation.interval": 1, "training.validation.unit": "epochs"})
    if value in ("no", "none"):
        return Outcome(values={"training.validation.enabled": False})
    if value == "steps":
        return Outcome(left="the unit of eval_num_steps, as today")
    raise MistakeError(f"expected 'steps', 'epoch' or 'no', found {value!r}")


def eval_num_steps(value: Any, written: Written) -> Outcome:
    """[training] eval_num_steps, unless each epoch is validated."""
    if written("training.eval_strategy") in ("epoch", "no", "none"):
        return Outcome(left="training.eval_strategy says when")
    if value == 0:
        return Outcome(values={"training.validation.enabled": False})
    return Outcome(values={"training.validation.interval": value})


def eval_num_examples(value: Any, written: Written) -> Outcome:
    """[training] eval_num_examples: samples drawn while training."""
    if value == 0:
        return Outcome(values={"training.visualization.enabled": False})
    return Outcome(values={"training.visualization.num_samples": value})


def log_dir(value: Any, written: Written) -> Outcome:
    """[logging] log_dir: a place below the run's folder."""
    base = written.file("training.output_dir", "output.base_dir")
    within = inside(value, base)
    if within is not None:
        return Outcome(values={HERE: within})
    name = PurePosixPath(str(value)).name or "tensorboard"
    return Outcome(values={HERE: name}, left="logs are inside the run's folder")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is longer than names are
        return False


def _of_series(written: Written) -> bool:
    return bool(written("data.representation", "data.data_type") == "timeseries")


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_number, value))
