"""The flat TOML: short keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from signal_diffusion.config import schema
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
from signal_diffusion.config.legacy.yaml_layouts import is_number, lower

__all__ = ["IMPLIED", "TO_TODAY", "implied"]


def _only(*neutral: Any, why: str) -> Convert:
    """Leave these values behind; any other is an error."""

    def convert(value: Any, file: File) -> Any:
        if not any(value == each and type(value) is type(each) for each in neutral):
            raise Refused(f"expected {neutral[0]!r}, found {value!r}: {why}")
        return Left(why)

    return convert


def _ignored(why: str) -> Convert:
    return lambda value, file: Left(why)


def _named(names: Mapping[str, str], *, other: bool = False) -> Convert:
    """Rename values, ignoring case; others are errors, or with `other` kept."""

    def convert(value: Any, file: File) -> Any:
        name = lower(value, file)
        if isinstance(name, str) and name in names:
            return names[name]
        if other:
            return name
        raise Refused(f"expected one of {', '.join(map(repr, names))}, found {value!r}")

    return convert


def _text(value: Any, file: File) -> Any:
    return Left("empty, so as if absent") if value == "" else value


def _positive(otherwise: str) -> Convert:
    return lambda value, file: Left(otherwise) if is_number(value) and value <= 0 else value


# [data], [dataset] ----------------------------------------------------------------------------------------------------


def _is_latent(file: File) -> bool:
    return bool(file.get("model.latent_space", "model.extras.latent_space", "model.autoencoder.enabled"))


def _is_series(file: File) -> bool:
    return bool(file.get("data.representation", "data.data_type") == "timeseries")


def _size(value: Any, file: File, *, of_the_model: bool = False) -> Any:
    """The side of a square: of pictures, which are resized to it, or of a dataset, which must have it."""
    if of_the_model and _is_latent(file):
        return Left("determined by the autoencoder")
    is_pictures = file.get("data.output_type", "data.data_type", "data.representation") in (None, "image")
    side = value[0] if isinstance(value, list) and value and value.count(value[0]) == len(value) else value
    return Several({"data.image_size": side}) if is_pictures and type(side) is int else Expected("size")


def _expected(quantity: str, *, of_the_model: bool = False) -> Convert:
    def convert(value: Any, file: File) -> Any:
        if value is None:
            return None
        return Left("determined by the autoencoder") if of_the_model and _is_latent(file) else Expected(quantity)

    return convert


def _output_type(value: Any, file: File) -> Any:
    return Left("data.data_type is 'timeseries'") if file.get("data.data_type") == "timeseries" else value


def _data_type(value: Any, file: File) -> Any:
    if value != "spectrogram":
        return _named({"timeseries": "timeseries"})(value, file)
    known = file.get("data.output_type", "data.representation")
    return Left("determined by the representation") if known else "db-only"


def _image_column(value: Any, file: File) -> Any:
    if value == "":
        return _text(value, file)
    return Several({f"data.columns.{'signal' if _is_series(file) else 'image'}": value})


def _center_crop(value: Any, file: File) -> Any:
    return Left("images are always cropped at the centre", is_lost=value is not True)


# [model], [objective] -------------------------------------------------------------------------------------------------


def _model_name(value: Any, file: File) -> Any:
    return "sd35" if str(value).lower() in ("stable-diffusion-3.5-medium", "stable-diffusion-35") else value


def _num_classes(value: Any, file: File) -> Any:
    if file.get("model.conditioning", "dataset.conditioning", "model.conditioning.type") not in ("classes", "class"):
        return Left("the model is not conditioned on classes")
    return value or Left("no classes")


def _conditioning(value: Any, file: File) -> Any:
    if value == "gend_hlth_age":
        names = ["gender", "health", "age"]
        return Several({"model.conditioning.type": "attributes", "model.conditioning.attributes": names})
    return _named({"none": "none", "classes": "class", "caption": "caption"})(value, file)


def _pretrained(value: Any, file: File) -> Any:
    name, revision = file.get("model.pretrained"), file.get("model.revision")
    if name:
        return f"{name}@{revision}" if revision else name
    return value if value != revision else Left("has no effect unless model.pretrained is set")


def _patch_size(value: Any, file: File) -> Any:
    """A number means both sides, or for time series the samples of one electrode."""
    if type(value) is int and not str(file.get("model.name", default="")).startswith(("sd35", "stable-diffusion")):
        return [1 if _is_series(file) else value, value]
    return value


def _feed_forward_widths(value: Any, file: File) -> Any:
    """Today's models have one ratio for all levels."""
    widths = file.get("model.architecture.widths", "model.extras.widths", default=[64, 128, 256])
    numbers = [isinstance(each, list) and all(map(is_number, each)) for each in (value, widths)]
    if not all(numbers) or len(value) != len(widths) or not value:
        raise Refused(f"expected one number per entry of widths, found {value!r}")
    ratios = {each / width for each, width in zip(value, widths, strict=True) if width}
    if len(ratios) != 1:
        raise Refused(f"{value!r}: expected the same multiple of each of the widths {widths!r}")
    return ratios.pop()


def _self_attentions(value: Any, file: File) -> Any:
    """A table or a type for each level."""
    levels = [{"type": each} if isinstance(each, str) else each for each in value] if isinstance(value, list) else []
    if not levels or not all(isinstance(each, Mapping) for each in levels):
        raise Refused(f"expected a table for each level, found {value!r}")
    kinds = [each.get("type") for each in levels]
    if wrong := [kind for kind in kinds if kind not in ("neighborhood", "neighbourhood", "global")]:
        raise Refused(f"expected the type 'neighborhood' or 'global', found {wrong[0]!r}")
    heads = [each.get("d_head", each.get("attention_head_dim", 64)) for each in levels]
    if any(head != heads[0] for head in heads):
        raise Refused(f"expected one d_head for all levels, found {heads!r}")
    sizes = [0 if each["type"] == "global" else each.get("kernel_size", 7) for each in levels]
    return Several({"model.architecture.kernel_sizes": sizes, "model.architecture.attention_head_dim": heads[0]})


def _prediction(value: Any, file: File) -> Any:
    name = _named({"vector_field": "velocity", "epsilon": "epsilon", "sample": "sample"})(value, file)
    return Several({"model.diffusion.prediction": name, "model.diffusion.method": "rectified_flow"})


# [scheduler], [training], [logging] -----------------------------------------------------------------------------------


def _optimizer(value: Any, file: File) -> Any:
    if lower(value, file) == "adamw_8bit":
        return Left("8-bit optimizer states are not supported", is_lost=True, instead="adamw")
    return lower(value, file)


def _scheduler(value: Any, file: File) -> Any:
    names = {"constant_with_warmup": "constant", "cosine_with_restarts": "cosine", "cosine_with_min_lr": "cosine"}
    new = Several({"training.scheduler.type": _named(names, other=True)(value, file)})
    steps = file.get("scheduler.warmup_steps", "training.scheduler.warmup_steps")
    if lower(value, file) == "constant" and steps is None:
        new["training.scheduler.warmup_steps"] = 0
    return new


def _num_cycles(value: Any, file: File) -> Any:
    """For "cosine" periods, where 0.5 decays once; else the number of restarts."""
    name = str(file.get("scheduler.name", "training.scheduler.type", default="cosine")).lower()
    if not is_number(value) or not name.startswith("cosine"):
        return value
    if name == "cosine_with_restarts" and float(value).is_integer():
        return int(value)
    if name != "cosine_with_restarts" and value == 0.5:
        return 1
    raise Refused(
        f"{value!r} is not supported for {name!r}; expected 0.5 (a single decay), or scheduler.name = "
        "'cosine_with_restarts' and a whole number of cycles"
    )


def _resume(value: Any, file: File) -> Any:
    if not value:
        return Left("not resuming is the default")
    checkpoint = "latest" if value is True else value
    return Several({"training.resume.enabled": True, "training.resume.checkpoint": checkpoint})


def _eval_strategy(value: Any, file: File) -> Any:
    if value == "epoch":
        return Several({"training.validation.interval": 1, "training.validation.unit": "epochs"})
    if value in ("no", "none"):
        return Several({"training.validation.enabled": False})
    if value == "steps":
        return Left("steps are the default unit")
    raise Refused(f"expected 'steps', 'epoch' or 'no', found {value!r}")


def _cfg_scale(value: Any, file: File) -> Any:
    return Several({f"{table}.guidance_scale": value for table in ("generation.sampling", "training.visualization")})


def _eval_num_steps(value: Any, file: File) -> Any:
    if file.get("training.eval_strategy") in ("epoch", "no", "none"):
        return Left("overridden by training.eval_strategy")
    return Several({"training.validation.enabled": False}) if value == 0 else value


def _eval_num_examples(value: Any, file: File) -> Any:
    return Several({"training.visualization.enabled": False}) if value == 0 else value


def _log_dir(value: Any, file: File) -> Any:
    path, base = PurePosixPath(str(value)), file.get("training.output_dir", "output.base_dir")
    if isinstance(base, str) and base and path.is_relative_to(base):
        return path.relative_to(base).as_posix()
    return Left("logs are always inside the run directory", is_lost=True, instead=path.name or "tensorboard")


TO_TODAY = rows(
    """
    settings.config | | the file is given on the command line | on_command_line
    settings.trainer | | other than "diffusion": an error | trainer
    data.output_type | data.representation | db-only, db-iq, db-polar | output_type
    data.data_type | data.representation | "timeseries"; with "spectrogram", output_type decides | data_type
    dataset.{name, identifier} | data.paths.root | a folder, or owner/name on the Hub
    dataset.{train, val}_split | data.paths.{} | "": none | text
    dataset.{batch_size, num_workers, cache_dir} | data.loading.{}
    {dataset, training}.eval_batch_size | training.validation.batch_size
    dataset.resolution | data.image_size | of pictures; otherwise derived from the dataset, and checked | size
    model.sample_size | data.image_size | of pictures; otherwise derived from the dataset, and checked | model_size
    dataset.extras.n_eeg_channels | | derived from the dataset, and checked against it | electrodes
    dataset.extras.sequence_length | | derived from the dataset, and checked against it | samples
    dataset.center_crop | | true: always the case now | center_crop
    dataset.random_flip | data.augmentation.horizontal_flip | an error for EEG: it reverses time
    dataset.image_column | data.columns.image data.columns.signal | the second for time series | image_column
    dataset.class_column | data.columns.label | "": none | text
    {dataset, model}.caption_column | data.columns.caption | "": none | text
    dataset.{gender, health, age}_column | data.columns.{} | "": none | text
    {dataset, model, model.extras}.num_classes | model.conditioning.num_classes | only with "classes" | num_classes
    dataset.max_train_samples | data.loading.max_train_examples
    dataset.max_eval_samples | data.loading.max_val_examples
    dataset.extras.gaussian_noise_std | data.augmentation.gaussian_noise_std
    model.name | model.name | stable-diffusion-3.5-medium, stable-diffusion-35 → sd35 | model_name
    {dataset, model}.conditioning | model.conditioning.type model.conditioning.attributes | classes → class, \
gend_hlth_age → attributes | conditioning
    model.{pretrained, revision} | model.pretrained | name@revision | pretrained
    {model, model.extras}.latent_space | model.autoencoder.enabled
    model.vae_tiling | model.autoencoder.tiling
    model.extras.vae | model.autoencoder.path
    model.extras.cfg_dropout | model.conditioning.cfg_dropout
    model.extras.{mapping_cond_dim, augment_prob, augment_wrapper} | | 0 and false; others are errors | augmented
    {model, model.extras, training}.train_text_encoder | | false; true is an error | text_encoder
    model.extras.skip_t5 | | false; true is an error | skip_t5
    model.extras.{in, out}_channels | | derived from the dataset, and checked against it | channels
    model.extras.patch_size | model.architecture.patch_size | n → [n, n]; for time series [1, n] | patch_size
    model.extras.d_ffs | model.architecture.mlp_ratio | d_ffs / widths, which must be one ratio | d_ffs
    model.extras.self_attns | model.architecture.kernel_sizes model.architecture.attention_head_dim | global → kernel \
size 0 | self_attentions
    model.extras.mapping_d_ff | | always mapping_width × mlp_ratio | mapping_d_ff
    model.extras.mapping_dropout_rate | | 0; others are errors | mapping_dropout
    model.extras.* | model.architecture.* | all others, under the same names
    model.lora.bias | | "none"; others are errors | bias
    objective.prediction_type | model.diffusion.prediction model.diffusion.method | vector_field → velocity | prediction
    objective.{num_timesteps, flow_match_timesteps} | | times are continuous | continuous
    optimizer.name | training.optimizer.type | adamw_8bit → adamw: 8-bit states are not supported | optimizer
    optimizer.{learning_rate, weight_decay, betas, eps} | training.optimizer.{}
    scheduler.name | training.scheduler.type training.scheduler.warmup_steps | constant: no warm-up, unless it is set; \
constant_with_warmup → constant, cosine_with_… → cosine | scheduler
    scheduler.warmup_steps | training.scheduler.warmup_steps
    scheduler.kwargs.min_lr_ratio | training.scheduler.min_lr_ratio
    scheduler.kwargs.num_cycles | training.scheduler.num_cycles | cosine: only 0.5, → 1 | num_cycles
    training.scheduler.T_max | training.scheduler.T_max | auto: the whole run | t_max
    training.seed | compute.seed
    training.max_train_steps | training.max_steps | 0 or less: off | no_limit
    training.log_every_steps | training.log_interval
    training.checkpoint_interval | training.checkpointing.interval
    training.checkpoint_total_limit | training.checkpointing.total_limit
    training.resume | training.resume.enabled training.resume.checkpoint | a checkpoint | resume
    training.gradient_clip_norm | training.optimizer.gradient_clip_norm
    training.ema_{decay, power, inv_gamma, update_after_step, warmup} | training.ema.{}
    training.{ema_use_ema_warmup, ema_use_warmup} | training.ema.warmup
    training.snr_gamma | model.diffusion.snr_gamma | 0 or less: off | unweighted
    training.allow_tf32 | training.performance.use_tf32
    training.{compile_model, compile_mode} | training.performance.{}
    training.eval_strategy | training.validation.interval training.validation.unit training.validation.enabled | epoch \
→ once an epoch; steps → eval_num_steps; no | eval_strategy
    training.eval_num_steps | training.validation.interval training.validation.enabled | 0: never | eval_num_steps
    training.initial_eval | training.validation.at_start
    training.eval_num_examples | training.visualization.num_samples training.visualization.enabled | 0: none | \
eval_num_examples
    training.eval_gen_seed | training.visualization.seed
    training.eval_mmd_samples | training.validation.num_generated | compared by metrics of EEG, not by MMD
    training.eval_mmd_fallback_ntrain | | samples are compared with the validation examples | fallback
    training.output_dir | output.base_dir
    logging.log_dir | output.subdirs.logs | inside the run directory | log_dir
    inference.denoising_steps | generation.sampling.steps
    inference.cfg_scale | generation.sampling.guidance_scale training.visualization.guidance_scale | both | cfg_scale
    """,
    {
        "on_command_line": _ignored("the file is given on the command line"),
        "trainer": _only("diffusion", why="determined by the command"),
        "output_type": _output_type,
        "data_type": _data_type,
        "text": _text,
        "size": _size,
        "model_size": lambda value, file: _size(value, file, of_the_model=True),
        "channels": _expected("channels", of_the_model=True),
        "electrodes": _expected("electrodes"),
        "samples": _expected("samples"),
        "center_crop": _center_crop,
        "image_column": _image_column,
        "num_classes": _num_classes,
        "model_name": _model_name,
        "conditioning": _conditioning,
        "pretrained": _pretrained,
        "patch_size": _patch_size,
        "d_ffs": _feed_forward_widths,
        "mapping_d_ff": lambda value, file: Left("always mapping_width × mlp_ratio", is_lost=True),
        "mapping_dropout": _only(0.0, 0, why="the mapping network has no dropout"),
        "augmented": _only(0, 0.0, False, why="no network has it"),
        "text_encoder": _only(False, why="text encoders are never trained"),
        "skip_t5": _only(False, why="captions are always read by all encoders of the pipeline"),
        "self_attentions": _self_attentions,
        "bias": _only("none", why="LoRA never trains biases"),
        "prediction": _prediction,
        "continuous": _ignored("times are continuous"),
        "optimizer": _optimizer,
        "scheduler": _scheduler,
        "num_cycles": _num_cycles,
        "t_max": lambda value, file: Left("the whole run, the default") if value == "auto" else value,
        "no_limit": _positive("no limit"),
        "unweighted": _positive("unweighted"),
        "resume": _resume,
        "cfg_scale": _cfg_scale,
        "eval_strategy": _eval_strategy,
        "eval_num_steps": _eval_num_steps,
        "eval_num_examples": _eval_num_examples,
        "fallback": _ignored("samples are compared with the validation examples"),
        "log_dir": _log_dir,
    },
)

IMPLIED = defaults(
    """
    uses the seed 42 | compute.seed = 42
    keeps the last batch of an epoch | data.loading.drop_last = false
    trains a rectified flow | model.diffusion.method = "rectified_flow"
    adds LoRA of rank 4 | model.lora.rank = 4
    updates the EMA at every step | training.ema.update_every = 1
    evaluates before training | training.validation.at_start = true
    """
)
VAE = "stabilityai/stable-diffusion-3.5-medium"


def implied(values: Mapping[str, Any]) -> list[Default]:
    """Defaults of the layout, some of which depend on other `values`, including those of `--set`."""
    found = File(dict(values)).get
    made: list[tuple[str, dict[str, Any]]] = []
    if found("data.representation") is None:
        made.append(("means pictures where [data] output_type is missing", {"data.representation": "image"}))
    if _is_on_the_hub(found("data.paths.root")):
        made.append(("finds the dataset on the Hub", {"data.source": "hub"}))
    if found("model.diffusion.method", default="rectified_flow") == "rectified_flow":
        made.append(("predicts the noise", {"model.diffusion.prediction": "epsilon"}))
    if found("training.max_steps") is None:
        made.append(("trains for one epoch", {"training.epochs": 1}))
    if found("training.scheduler.type") is None:
        made.append(("keeps the learning rate constant", {"training.scheduler.type": "constant"}))
        made.append(("has no warm-up", {"training.scheduler.warmup_steps": 0}))
    if found("training.scheduler.type") == "linear":
        made.append(("lowers the learning rate to 0", {"training.scheduler.min_lr_ratio": 0.0}))
    if found("training.visualization.enabled", default=True) is not True:
        pass
    elif found("training.validation.enabled", default=True) is True:
        interval = found("training.validation.interval", default=schema.Validation().interval)
        with_unit = {"interval": interval, "unit": found("training.validation.unit", default="steps")}
        previews = {f"training.visualization.{key}": value for key, value in with_unit.items()}
        made.append(("draws previews at each evaluation", previews))
    else:
        made.append(("draws previews only at evaluations", {"training.visualization.enabled": False}))
    needed = found("model.autoencoder.enabled") is True and not found("model.pretrained")
    vae = Default("takes this autoencoder", {"model.autoencoder.path": VAE}, needs_decision=True)
    return [*IMPLIED, *(Default(*each) for each in made), *([vae] if needed else [])]


def _is_on_the_hub(root: Any) -> bool:
    """Whether `datasets.load_dataset` would look for a name on the Hub: it is no folder, and not in one."""
    if not isinstance(root, str) or root.startswith(("/", ".", "~", "$", "data/", "datasets/")) or root.count("/") != 1:
        return False
    try:
        return not (Path(root).is_dir() or Path(root).parent.is_dir())
    except OSError:  # the name is longer than the file system allows
        return True
