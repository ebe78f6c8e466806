"""The flat TOML: short keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from signal_diffusion.config import schema
from signal_diffusion.config.legacy import engine
from signal_diffusion.config.legacy.engine import Default, Expected, File, Left, Refused, Several, cases, keep, lower
from signal_diffusion.config.legacy.yaml_layouts import is_number
from signal_diffusion.config.plain import shown

__all__ = ["IMPLIED", "TO_TODAY", "implied"]


def _is_latent(file: File) -> bool:
    return bool(file.get("model.latent_space", "model.extras.latent_space", "model.autoencoder.enabled"))


def _is_series(file: File) -> bool:
    return bool(file.get("data.representation", "data.data_type") == "timeseries")


def _output_type(value: Any, file: File) -> Any:
    return Left("data.data_type is 'timeseries'") if file.get("data.data_type") == "timeseries" else value


def _data_type(value: Any, file: File) -> Any:
    known = file.get("data.output_type", "data.representation")
    spectrogram = Left("determined by the representation") if known else "db-only"
    return cases({"timeseries": "timeseries", "spectrogram": spectrogram})(value, file)


def _size(value: Any, file: File) -> Any:
    """The side of a square: of pictures, which are resized to it, or of a dataset, which must have it."""
    is_pictures = file.get("data.output_type", "data.data_type", "data.representation") in (None, "image")
    side = value[0] if isinstance(value, list) and value and value.count(value[0]) == len(value) else value
    return Several({"data.image_size": side}) if is_pictures and type(side) is int else Expected("size")


def _model_size(value: Any, file: File) -> Any:
    return Left("determined by the autoencoder") if _is_latent(file) else _size(value, file)


def _channels(value: Any, file: File) -> Any:
    return Left("determined by the autoencoder") if _is_latent(file) else Expected("channels")


def _image_column(value: Any, file: File) -> Any:
    key = f"data.columns.{'signal' if _is_series(file) else 'image'}"
    return _text(value, file) if value == "" else Several({key: value})


def _num_classes(value: Any, file: File) -> Any:
    if file.get("model.conditioning", "dataset.conditioning", "model.conditioning.type") not in ("classes", "class"):
        return Left("the model is not conditioned on classes")
    return value or Left("no classes")


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


def _dropout_rate(value: Any, file: File) -> Any:
    """A number for all levels, or a list with one per level."""
    return Several({"model.architecture.dropout_rates": value}) if isinstance(value, list) else value


def _of_mapping(value: Any, file: File) -> Any:
    is_none = file.get("model.extras.mapping_depth", "model.architecture.mapping_depth") == 0
    return Left("the mapping network has no layers") if is_none else value


def _self_attentions(value: Any, file: File) -> Any:
    """A table or a type for each level."""
    levels = [{"type": each} if isinstance(each, str) else each for each in value] if isinstance(value, list) else []
    if not levels or not all(isinstance(each, Mapping) for each in levels):
        raise Refused(f"expected a table for each level, found {value!r}")
    kinds = [each.get("type") for each in levels]
    if wrong := [kind for kind in kinds if kind not in ("neighborhood", "neighbourhood", "global")]:
        raise Refused(f"expected the type 'neighborhood' or 'global', found {wrong[0]!r}")
    heads = [each.get("d_head", each.get("attention_head_dim", 64)) for each in levels]
    if heads.count(heads[0]) < len(heads):
        raise Refused(f"expected one d_head for all levels, found {heads!r}")
    sizes = [0 if each["type"] == "global" else each.get("kernel_size", 7) for each in levels]
    return Several({"model.architecture.kernel_sizes": sizes, "model.architecture.attention_head_dim": heads[0]})


def _scheduler(value: Any, file: File) -> Any:
    names = {"constant_with_warmup": "constant", "cosine_with_restarts": "cosine", "cosine_with_min_lr": "cosine"}
    new = Several({"training.scheduler.type": cases(names, other=lower)(value, file)})
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
    checkpoint = "latest" if value is True else value
    new = Several({"training.resume.enabled": True, "training.resume.checkpoint": checkpoint})
    return new if value else Left("not resuming is the default")


def _eval_num_steps(value: Any, file: File) -> Any:
    if file.get("training.eval_strategy") in ("epoch", "no", "none"):
        return Left("overridden by training.eval_strategy")
    return cases({0: _NO_VALIDATION}, other=keep)(value, file)


def _positive(value: Any, file: File) -> Any:
    return Left("0 or less: off") if is_number(value) and value <= 0 else value


def _log_dir(value: Any, file: File) -> Any:
    path, base = PurePosixPath(str(value)), file.get("training.output_dir", "output.base_dir")
    if isinstance(base, str) and base and path.is_relative_to(base):
        return path.relative_to(base).as_posix()
    return Left("logs are always inside the run directory", is_lost=True, instead=path.name or "tensorboard")


def _cfg_scale(value: Any, file: File) -> Any:
    return Several({f"{table}.guidance_scale": value for table in ("generation.sampling", "training.visualization")})


_NO_VALIDATION = Several({"training.validation.enabled": False})
_EACH_EPOCH = Several({"training.validation.interval": 1, "training.validation.unit": "epochs"})
_ATTRIBUTES = {"model.conditioning.type": "attributes", "model.conditioning.attributes": ["gender", "health", "age"]}
_text = cases({"": Left("empty, so as if absent")}, other=keep)
_trainer = cases({"diffusion": Left("determined by the command")})
_electrodes, _samples = (lambda value, file, name=name: Expected(name) for name in ("electrodes", "samples"))
_CROPPED = "images are always cropped at the centre"
_center_crop = cases({True: Left(_CROPPED), False: Left(_CROPPED, is_lost=True)})
_model_name = cases(dict.fromkeys(("stable-diffusion-3.5-medium", "stable-diffusion-35"), "sd35"), other=keep)
_conditioning = cases({"none": "none", "classes": "class", "caption": "caption", "gend_hlth_age": Several(_ATTRIBUTES)})
_augmented = cases({0: Left("no network has it")})
_text_encoder = cases({False: Left("text encoders are never trained")})
_bias = cases({"none": Left("LoRA never trains biases")})
_prediction = cases(
    {
        old: Several({"model.diffusion.prediction": new, "model.diffusion.method": "rectified_flow"})
        for old, new in {"vector_field": "velocity", "epsilon": "epsilon", "sample": "sample"}.items()
    }
)
_8_BIT = Left("8-bit optimizer states are not supported", is_lost=True, instead="adamw")
_optimizer = cases({"adamw_8bit": _8_BIT}, other=lower)
_t_max = cases({"auto": Left("the whole run, the default")}, other=keep)
_eval_strategy = cases(
    {"epoch": _EACH_EPOCH, "steps": Left("the default unit"), "no": _NO_VALIDATION, "none": _NO_VALIDATION}
)
_eval_num_examples = cases({0: Several({"training.visualization.enabled": False})}, other=keep)

TO_TODAY = engine.rows(
    """
    settings.config | | the file is given on the command line
    settings.trainer | | other than "diffusion": an error | _trainer
    data.output_type | data.representation | db-only, db-iq, db-polar | _output_type
    data.data_type | data.representation | "timeseries"; with "spectrogram", output_type decides | _data_type
    dataset.{name, identifier} | data.paths.root | a folder, or owner/name on the Hub
    dataset.{train, val}_split | data.paths.{} | "": none | _text
    dataset.{batch_size, num_workers, cache_dir} | data.loading.{}
    {dataset, training}.eval_batch_size | training.validation.batch_size
    dataset.resolution | data.image_size | of pictures; otherwise derived from the dataset, and checked | _size
    model.sample_size | data.image_size | of pictures; otherwise derived from the dataset, and checked | _model_size
    dataset.extras.n_eeg_channels | | derived from the dataset, and checked against it | _electrodes
    dataset.extras.sequence_length | | derived from the dataset, and checked against it | _samples
    dataset.center_crop | | true: always the case now | _center_crop
    dataset.random_flip | data.augmentation.horizontal_flip | an error for EEG: it reverses time
    dataset.image_column | data.columns.image data.columns.signal | the second for time series | _image_column
    dataset.class_column | data.columns.label | "": none | _text
    {dataset, model}.caption_column | data.columns.caption | "": none | _text
    dataset.{gender, health, age}_column | data.columns.{} | "": none | _text
    {dataset, model, model.extras}.num_classes | model.conditioning.num_classes | with "classes" | _num_classes
    dataset.max_train_samples | data.loading.max_train_examples
    dataset.max_eval_samples | data.loading.max_val_examples
    dataset.extras.gaussian_noise_std | data.augmentation.gaussian_noise_std
    model.name | model.name | stable-diffusion-3.5-medium, stable-diffusion-35 → sd35 | _model_name
    {dataset, model}.conditioning | model.conditioning.type model.conditioning.attributes | classes → class, \
gend_hlth_age → attributes | _conditioning
    model.{pretrained, revision} | model.pretrained | name@revision | _pretrained
    {model, model.extras}.latent_space | model.autoencoder.enabled
    model.vae_tiling | model.autoencoder.tiling
    model.extras.vae | model.autoencoder.path
    model.extras.cfg_dropout | model.conditioning.cfg_dropout
    model.extras.{mapping_cond_dim, augment_prob, augment_wrapper} | | 0 and false; others are errors | _augmented
    {model, model.extras, training}.train_text_encoder | | false; true is an error | _text_encoder
    model.extras.skip_t5 | model.conditioning.skip_t5
    model.extras.{in, out}_channels | | derived from the dataset, and checked against it | _channels
    model.extras.patch_size | model.architecture.patch_size | n → [n, n]; for time series [1, n] | _patch_size
    model.extras.d_ffs | model.architecture.ff_widths
    model.extras.dropout_rate | model.architecture.dropout_rate model.architecture.dropout_rates \
| a list → dropout_rates | _dropout_rate
    model.extras.self_attns | model.architecture.kernel_sizes model.architecture.attention_head_dim | global → kernel \
size 0 | _self_attentions
    model.extras.mapping_d_ff | model.architecture.mapping_ff_width | | _of_mapping
    model.extras.mapping_dropout_rate | model.architecture.mapping_dropout_rate | | _of_mapping
    model.extras.* | model.architecture.* | all others, under the same names
    model.lora.bias | | "none"; others are errors | _bias
    objective.prediction_type | model.diffusion.prediction model.diffusion.method | vector_field → velocity | \
_prediction
    objective.{num_timesteps, flow_match_timesteps} | | times are continuous
    optimizer.name | training.optimizer.type | adamw_8bit → adamw: 8-bit states are not supported | _optimizer
    optimizer.{learning_rate, weight_decay, betas, eps} | training.optimizer.{}
    scheduler.name | training.scheduler.type training.scheduler.warmup_steps | constant: no warm-up, unless it is set; \
constant_with_warmup → constant, cosine_with_… → cosine | _scheduler
    scheduler.warmup_steps | training.scheduler.warmup_steps
    scheduler.kwargs.min_lr_ratio | training.scheduler.min_lr_ratio
    scheduler.kwargs.num_cycles | training.scheduler.num_cycles | cosine: only 0.5, → 1 | _num_cycles
    training.scheduler.T_max | training.scheduler.T_max | auto: the whole run | _t_max
    training.seed | compute.seed
    training.max_train_steps | training.max_steps | 0 or less: off | _positive
    training.log_every_steps | training.log_interval
    training.checkpoint_interval | training.checkpointing.interval
    training.checkpoint_total_limit | training.checkpointing.total_limit
    training.resume | training.resume.enabled training.resume.checkpoint | a checkpoint | _resume
    training.gradient_clip_norm | training.optimizer.gradient_clip_norm
    training.ema_{decay, power, inv_gamma, update_after_step, warmup} | training.ema.{}
    training.{ema_use_ema_warmup, ema_use_warmup} | training.ema.warmup
    training.snr_gamma | model.diffusion.snr_gamma | 0 or less: off | _positive
    training.allow_tf32 | training.performance.use_tf32
    training.{compile_model, compile_mode} | training.performance.{}
    training.eval_strategy | training.validation.interval training.validation.unit training.validation.enabled | epoch \
→ once an epoch; steps → eval_num_steps; no | _eval_strategy
    training.eval_num_steps | training.validation.interval training.validation.enabled | 0: never | _eval_num_steps
    training.initial_eval | training.validation.at_start
    training.eval_num_examples | training.visualization.num_samples training.visualization.enabled | 0: none | \
_eval_num_examples
    training.eval_gen_seed | training.visualization.seed
    training.eval_mmd_samples | training.validation.num_generated | compared by metrics of EEG, not by MMD
    training.eval_mmd_fallback_ntrain | | samples are compared with the validation examples
    training.output_dir | output.base_dir
    logging.log_dir | output.subdirs.logs | inside the run directory | _log_dir
    inference.denoising_steps | generation.sampling.steps
    inference.cfg_scale | generation.sampling.guidance_scale training.visualization.guidance_scale | both | _cfg_scale
    """,
    globals(),
)

VAE = "stabilityai/stable-diffusion-3.5-medium"
IMPLIED = engine.defaults(
    """
    uses the seed 42 | compute.seed = 42
    keeps the last batch of an epoch | data.loading.drop_last = false
    trains a rectified flow | model.diffusion.method = "rectified_flow"
    adds LoRA of rank 4 | model.lora.rank = 4
    updates the EMA at every step | training.ema.update_every = 1
    evaluates before training | training.validation.at_start = true
    evaluates on the whole validation split | training.validation.num_examples = 0
    """.splitlines()
)


def implied(values: Mapping[str, Any]) -> tuple[Default, ...]:
    """Defaults of the layout, some of which depend on other `values`, including those of `--set`."""
    found = File(dict(values)).get
    pictures, hub = found("data.representation") is None, _is_on_the_hub(found("data.paths.root"))
    flow = found("model.diffusion.method", default="rectified_flow") == "rectified_flow"
    latent = found("model.autoencoder.enabled") is True and not found("model.pretrained")
    draws = found("training.visualization.enabled", default=True) is True
    validates = found("training.validation.enabled", default=True) is True
    kind, interval = found("training.scheduler.type"), found("training.validation.interval")
    each = shown(interval or schema.Validation().interval)
    unit = shown(found("training.validation.unit", default="steps"))
    previews = f"training.visualization.interval = {each}; training.visualization.unit = {unit}"
    if found("training.validation.at_start", default=True) is True:
        previews += "; training.visualization.at_start = true"
    maps = found("model.name") == "localmamba" and any(key.startswith("model.architecture.mapping_") for key in values)
    lines = [
        (pictures, 'means pictures where [data] output_type is missing | data.representation = "image"'),
        (hub, 'finds the dataset on the Hub | data.source = "hub"'),
        (flow, 'predicts the noise | model.diffusion.prediction = "epsilon"'),
        (found("training.max_steps") is None, "trains for one epoch | training.epochs = 1"),
        (kind is None, 'keeps the learning rate constant | training.scheduler.type = "constant"'),
        (kind is None, "has no warm-up of the learning rate | training.scheduler.warmup_steps = 0"),
        (kind == "linear", "lowers the learning rate to 0 | training.scheduler.min_lr_ratio = 0.0"),
        (draws and validates, f"draws previews at each evaluation | {previews}"),
        (draws and not validates, "draws previews only at evaluations | training.visualization.enabled = false"),
        (maps, "has a mapping network of two layers | model.architecture.mapping_depth = 2"),
        (latent, f'takes this autoencoder | model.autoencoder.path = "{VAE}" | decide'),
    ]
    return (*IMPLIED, *engine.defaults(line for is_so, line in lines if is_so))


def _is_on_the_hub(root: Any) -> bool:
    """Whether `datasets.load_dataset` would look for a name on the Hub: it is no folder, and not in one."""
    if not isinstance(root, str) or root.startswith(("/", ".", "~", "$", "data/", "datasets/")) or root.count("/") != 1:
        return False
    try:
        return not (Path(root).is_dir() or Path(root).parent.is_dir())
    except OSError:  # the name is longer than the file system allows
        return True
