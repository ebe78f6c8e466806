"""Conversions of values of the flat TOML, where more than the name changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from signal_diffusion.config.legacy.outcomes import NEW_KEY, ConversionError, Outcome, Written, inside, is_number, named

__all__ = [
    "conditioning",
    "data_type",
    "dataset_name",
    "eval_num_examples",
    "eval_num_steps",
    "eval_strategy",
    "feed_forward_widths",
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
]


def output_type(value: Any, written: Written) -> Outcome:
    """[data] output_type, which does not apply to time series."""
    if written("data.data_type") == "timeseries":
        return Outcome(dropped="data.data_type is 'timeseries'")
    return Outcome(values={NEW_KEY: value})


def data_type(value: Any, written: Written) -> Outcome:
    """[data] data_type: "timeseries", or "spectrogram" of the kind that output_type names."""
    if value == "spectrogram":
        if written("data.output_type", "data.representation"):
            return Outcome(dropped="determined by the representation")
        return Outcome(values={NEW_KEY: "db-only"})
    return named({"timeseries": "timeseries"})(value, written)


def dataset_name(value: Any, written: Written) -> Outcome:
    """A folder, or else a dataset on the Hub, resolved as by `datasets.load_dataset`."""
    value = written.overrides("data.paths.root", default=value)
    if not isinstance(value, str) or value.startswith(("/", ".", "~", "$")) or value.count("/") != 1:
        return Outcome(values={"data.paths.root": value})
    if value.startswith(("data/", "datasets/")) or _is_folder(Path(value)) or _is_folder(Path(value).parent):
        return Outcome(values={"data.paths.root": value})
    return Outcome(values={"data.source": "hub", "data.paths.root": value})


def image_column(value: Any, written: Written) -> Outcome:
    """The column of the tensors, which may be signals."""
    return Outcome(values={f"data.columns.{'signal' if _of_series(written) else 'image'}": value})


def model_name(value: Any, written: Written) -> Outcome:
    """[model] name; current names are kept."""
    older = ("stable-diffusion-3.5-medium", "stable-diffusion-35")
    return Outcome(values={NEW_KEY: "sd35" if str(value).lower() in older else value})


def num_classes(value: Any, written: Written) -> Outcome:
    """A number of classes; 0 and null mean no classes."""
    if value in (None, 0):
        return Outcome(dropped="no classes")
    return Outcome(values={NEW_KEY: value})


def conditioning(value: Any, written: Written) -> Outcome:
    """[model] conditioning."""
    if value == "gend_hlth_age":
        names = ["gender", "health", "age"]
        return Outcome(values={"model.conditioning.type": "attributes", "model.conditioning.attributes": names})
    current_names = {"none": "none", "classes": "class", "caption": "caption"}
    return named(current_names)(value, written)


def pretrained(value: Any, written: Written) -> Outcome:
    """[model] pretrained, with the revision appended after an @."""
    revision = written("model.revision")
    return Outcome(values={NEW_KEY: f"{value}@{revision}" if value and revision else value})


def revision(value: Any, written: Written) -> Outcome:
    """[model] revision, which is appended to `pretrained`."""
    base = written.file("model.pretrained")
    if not base or not value:
        return Outcome(dropped="has no effect unless both model.pretrained and model.revision are set")
    return pretrained(base, written)


def patch_size(value: Any, written: Written) -> Outcome:
    """Rows and columns of a patch; a single number means both, or for time series the samples of one electrode."""
    name = written("model.name", default="")
    if type(value) is int and not str(name).startswith(("sd35", "stable-diffusion")):
        value = [1 if _of_series(written) else value, value]
    return Outcome(values={NEW_KEY: value})


def feed_forward_widths(value: Any, written: Written) -> Outcome:
    """d_ffs of an hourglass, which must be the same multiple of the widths at every level."""
    widths = written("model.architecture.widths", "model.extras.widths", default=[64, 128, 256])
    if not (_numbers(value) and _numbers(widths) and len(value) == len(widths)):
        raise ConversionError(f"expected one number per entry of widths, found {value!r}")
    ratios = {each / width for each, width in zip(value, widths, strict=True) if width}
    if len(ratios) != 1:
        raise ConversionError(f"{value!r}: expected the same multiple of each of the widths {widths!r}")
    return Outcome(values={NEW_KEY: ratios.pop()})


def self_attentions(value: Any, written: Written) -> Outcome:
    """self_attns of an hourglass: a table or a type for each level."""
    levels = [{"type": each} if isinstance(each, str) else each for each in value] if isinstance(value, list) else []
    if not levels or not all(isinstance(each, Mapping) for each in levels):
        raise ConversionError(f"expected a table for each level, found {value!r}")
    kernels, heads = [], []
    for level in levels:
        kind = level.get("type")
        if kind not in ("neighborhood", "neighbourhood", "global"):
            raise ConversionError(f"expected the type 'neighborhood' or 'global', found {kind!r}")
        kernels.append(0 if kind == "global" else level.get("kernel_size", 7))
        heads.append(level.get("d_head", level.get("attention_head_dim", 64)))
    if any(head != heads[0] for head in heads):
        raise ConversionError(f"expected one d_head for all levels, found {heads!r}")
    values = {"kernel_sizes": kernels, "attention_head_dim": heads[0]}
    return Outcome(values={f"model.architecture.{key}": each for key, each in values.items()})


def prediction(value: Any, written: Written) -> Outcome:
    """[objective] prediction_type, always with rectified flow."""
    names = {"vector_field": "velocity", "epsilon": "epsilon", "sample": "sample"}
    found = named(names)(value, written)
    return Outcome(values={**found.values, "model.diffusion.method": "rectified_flow"})


def optimizer_name(value: Any, written: Written) -> Outcome:
    """[optimizer] name."""
    name = value.lower() if isinstance(value, str) else value
    if name == "adamw_8bit":
        return Outcome(values={NEW_KEY: "adamw"}, dropped="8-bit optimizer states are no longer supported")
    return Outcome(values={NEW_KEY: name})


def scheduler_name(value: Any, written: Written) -> Outcome:
    """[scheduler] name; "constant" has no warm-up unless warmup_steps is set."""
    names = {"constant_with_warmup": "constant", "cosine_with_restarts": "cosine", "cosine_with_min_lr": "cosine"}
    values = dict(named(names, other=True)(value, written).values)
    steps = written("scheduler.warmup_steps", "training.scheduler.warmup_steps")
    if str(value).lower() == "constant" and steps is None:
        values["training.scheduler.warmup_steps"] = 0
    return Outcome(values=values)


def num_cycles(value: Any, written: Written) -> Outcome:
    """[scheduler.kwargs] num_cycles: for "cosine" periods, where 0.5 decays once; else the number of restarts."""
    name = str(written("scheduler.name", "training.scheduler.type", default="cosine")).lower()
    if not is_number(value) or not name.startswith("cosine"):
        return Outcome(values={NEW_KEY: value})
    if name == "cosine_with_restarts" and float(value).is_integer():
        return Outcome(values={NEW_KEY: int(value)})
    if name != "cosine_with_restarts" and value == 0.5:
        return Outcome(values={NEW_KEY: 1})
    raise ConversionError(
        f"{value!r} is not supported for {name!r}; expected 0.5 (a single decay), or scheduler.name = "
        "'cosine_with_restarts' and a whole number of cycles"
    )


def t_max(value: Any, written: Written) -> Outcome:
    """T_max in epochs; "auto" is the whole run."""
    return Outcome(dropped="the whole run, the default") if value == "auto" else Outcome(values={NEW_KEY: value})


def resume(value: Any, written: Written) -> Outcome:
    """[training] resume: a checkpoint, or whether to resume from the latest."""
    if not value:
        return Outcome(dropped="not resuming is the default")
    checkpoint = "latest" if value is True else value
    return Outcome(values={"training.resume.enabled": True, "training.resume.checkpoint": checkpoint})


def eval_strategy(value: Any, written: Written) -> Outcome:
    """[training] eval_strategy: the unit of the validation interval."""
    if value == "epoch":
        return Outcome(values={"training.validation.interval": 1, "training.validation.unit": "epochs"})
    if value in ("no", "none"):
        return Outcome(values={"training.validation.enabled": False})
    if value == "steps":
        return Outcome(dropped="steps are the default unit")
    raise ConversionError(f"expected 'steps', 'epoch' or 'no', found {value!r}")


def eval_num_steps(value: Any, written: Written) -> Outcome:
    """[training] eval_num_steps, unless validation runs once per epoch or never."""
    if written("training.eval_strategy") in ("epoch", "no", "none"):
        return Outcome(dropped="overridden by training.eval_strategy")
    if value == 0:
        return Outcome(values={"training.validation.enabled": False})
    return Outcome(values={"training.validation.interval": value})


def eval_num_examples(value: Any, written: Written) -> Outcome:
    """[training] eval_num_examples: samples per preview."""
    if value == 0:
        return Outcome(values={"training.visualization.enabled": False})
    return Outcome(values={"training.visualization.num_samples": value})


def log_dir(value: Any, written: Written) -> Outcome:
    """[logging] log_dir, relative to the run directory."""
    base = written.file("training.output_dir", "output.base_dir")
    within = inside(value, base)
    if within is not None:
        return Outcome(values={NEW_KEY: within})
    name = PurePosixPath(str(value)).name or "tensorboard"
    return Outcome(values={NEW_KEY: name}, dropped="logs are now always inside the run directory")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the name is longer than the file system allows
        return False


def _of_series(written: Written) -> bool:
    return bool(written("data.representation", "data.data_type") == "timeseries")


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_number, value))
