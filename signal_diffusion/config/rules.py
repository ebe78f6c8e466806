"""Checks across tables: settings that are each valid but conflict, or have no effect, together."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from operator import attrgetter

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.schema import CHECKPOINT, GENERATED, Augmentation, Experiment, Paths
from signal_diffusion.hub import is_hub_id
from signal_diffusion.untrusted import weights_file_problem

__all__ = ["check", "without_effect"]

Finding = tuple[str, str]
Entry = tuple[str, str, str, tuple[object, ...]]
AnyExperiment = Experiment | AutoencoderExperiment


def check(
    experiment: AnyExperiment,
    written: Collection[str],
    mistaken: Collection[str] = (),
    overridden: Collection[str] = (),
) -> list[Finding]:
    """Conflicts between settings, as (dotted key, message).

    Parameters
    ----------
    experiment
        The experiment, including defaults.
    written
        Dotted keys that the file or `--set` contains; a default never counts as a conflict.
    mistaken
        Dotted keys with invalid values, replaced by their defaults here: no conflict is derived from them.
    overridden
        The part of `written` that comes from `--set`.
    """
    unread = without_effect(experiment, mistaken)
    accepted = _ineffective_by_override(overridden)
    findings = [(key, reason) for key, reason in unread.items() if key in written and key not in accepted]
    findings += [finding for rule in SHARED_RULES for finding in rule(experiment, written)]
    if isinstance(experiment, AutoencoderExperiment):
        return [*findings, *_groups(experiment)]
    return [*findings, *(finding for rule in DIFFUSION_RULES for finding in rule(experiment, written))]


# Writing a key that has no effect is an error. (table, keys, chooser, values): these keys of the table only have an
# effect if the chooser, another key, has one of these values.
READ_ONLY_WITH: tuple[Entry, ...] = (
    ("data", "image_size sampling_rate", "data.source", ("dataset", "hub")),
    ("data", "image_size", "data.representation", ("image", "db-only", "db-iq", "db-polar")),
    ("data", "sampling_rate", "data.representation", ("timeseries",)),
    ("data.augmentation.color_jitter", "strength", "data.augmentation.color_jitter.enabled", (True,)),
    ("model.diffusion", "num_timesteps beta_schedule zero_terminal_snr", "model.diffusion.method", ("ddpm",)),
    ("model.diffusion", "beta_start beta_end", "model.diffusion.method", ("ddpm",)),
    (
        "model.diffusion",
        "beta_start beta_end",
        "model.diffusion.beta_schedule",
        ("linear", "quadratic", "sigmoid"),
    ),
    ("model.diffusion", "time_sampling logit_mean logit_std", "model.diffusion.method", ("rectified_flow",)),
    ("model.diffusion", "logit_mean logit_std", "model.diffusion.time_sampling", ("logit_normal",)),
    ("model.conditioning", "num_classes", "model.conditioning.type", ("class",)),
    ("model.conditioning", "attributes", "model.conditioning.type", ("attributes",)),
    ("model.conditioning", "cfg_dropout", "model.conditioning.type", ("class", "caption", "attributes")),
    ("model.conditioning", "attribute_dropout", "model.conditioning.type", ("attributes",)),
    ("model.conditioning", "text_encoder max_caption_tokens skip_t5", "model.conditioning.type", ("caption",)),
    ("model.autoencoder", "path sample_posterior cache_latents tiling", "model.autoencoder.enabled", (True,)),
    ("model.lora", "rank alpha dropout target_modules", "model.lora.enabled", (True,)),
    (
        "training.validation",
        "num_generated",
        "data.representation",
        ("db-only", "db-iq", "db-polar", "timeseries"),
    ),
    ("training.optimizer", "eps", "training.optimizer.type", ("adamw", "adam")),
    (
        "training.scheduler",
        "min_lr_ratio",
        "training.scheduler.type",
        ("linear", "cosine", "step", "plateau"),
    ),
    ("training.scheduler", "num_cycles T_max", "training.scheduler.type", ("cosine",)),
    ("training.scheduler", "step_size", "training.scheduler.type", ("step",)),
    ("training.scheduler", "gamma", "training.scheduler.type", ("step", "plateau")),
    ("training.scheduler", "patience", "training.scheduler.type", ("plateau",)),
    ("training.performance", "compile_mode", "training.performance.compile_model", (True,)),
    ("generation.sampling", "eta", "generation.sampling.sampler", ("ddim",)),
    ("generation.sampling", "time_shift", "generation.sampling.time_grid", ("shifted",)),
    (
        "generation.sampling",
        "guidance_rescale",
        "generation.sampling.guidance_type",
        ("classifier-free", "autoguidance"),
    ),
    ("generation.sampling", "guidance_checkpoint", "generation.sampling.guidance_type", ("autoguidance",)),
    ("generation.output", "grid_nrow", "generation.output.save_grid", (True,)),
)

# The same for an autoencoder, in addition to the entries for tables that both kinds of experiments have.
AUTOENCODER_READ_ONLY_WITH: tuple[Entry, ...] = (
    ("model.loss", "stft_weight signal_weight", "data.representation", ("db-iq", "db-polar", "timeseries")),
)

# (table, keys) of shared tables that need conditions or samples from noise, which an autoencoder does not have.
NOT_OF_AN_AUTOENCODER = (
    ("data.columns", "label gender health age caption"),
    ("data.balancing", "columns max_weight"),
    ("training.validation", "num_generated"),
    ("training.visualization", "guidance_scale animation seed"),
    ("validation_rules", "require_labels_if_conditional warn_if_batch_size_small"),
    ("output.subdirs", "generated"),
)


def without_effect(experiment: AnyExperiment, mistaken: Collection[str] = ()) -> dict[str, str]:
    """Dotted keys that nothing reads, with the reason; ignores choosers that are `mistaken`."""
    reasons: dict[str, str] = {}
    entries = READ_ONLY_WITH
    if isinstance(experiment, AutoencoderExperiment):
        shared = (entry for entry in READ_ONLY_WITH if not entry[0].startswith(("model.", "generation.")))
        entries = (*shared, *AUTOENCODER_READ_ONLY_WITH)
        for table, keys in NOT_OF_AN_AUTOENCODER:
            reasons |= {f"{table}.{key}": "has no effect on an autoencoder; remove it" for key in keys.split()}
    for table, keys, chooser, values in entries:
        found = attrgetter(chooser)(experiment)
        if found not in values and chooser not in mistaken:
            expected = " or ".join(map(repr, values))
            for key in keys.split():
                reasons[f"{table}.{key}"] = f"has no effect with {chooser} = {found!r}; it needs {expected}"
    if experiment.training.scheduler.T_max is not None:
        reasons.setdefault("training.scheduler.num_cycles", "has no effect with training.scheduler.T_max")
    if not experiment.data.balancing.columns and "data.balancing.max_weight" not in reasons:
        reasons["data.balancing.max_weight"] = "has no effect without data.balancing.columns"
    if not experiment.logging.wandb_project and "logging.wandb_project" not in mistaken:
        for key in ("wandb_entity", "run_name"):
            reasons[f"logging.{key}"] = "has no effect without logging.wandb_project"
    return reasons


def _ineffective_by_override(overridden: Collection[str]) -> set[str]:
    """Keys of [generation] in the file that an override leaves without effect, which is not an error.

    The config.toml of a checkpoint has all settings of its own sampler, and users may sample with another.
    """
    entries = (entry for entry in READ_ONLY_WITH if entry[0].startswith("generation.") and entry[2] in overridden)
    return {f"{table}.{key}" for table, keys, _, _ in entries for key in keys.split()} - set(overridden)


def _guidance(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    """Guidance needs a null condition that the model was trained on."""
    conditioning = experiment.model.conditioning
    by_another_network = experiment.generation.sampling.guidance_type == "autoguidance"
    scales = {
        "training.visualization.guidance_scale": experiment.training.visualization.guidance_scale,
        "generation.sampling.guidance_scale": experiment.generation.sampling.guidance_scale,
    }
    for key, scale in scales.items():
        if scale == 1.0 or (key.startswith("generation") and by_another_network):
            continue
        if conditioning.type == "none":
            yield (
                key,
                f"guidance {scale} needs a condition, but model.conditioning.type is 'none'; set it to 1.0",
            )
        elif conditioning.cfg_dropout == 0.0:
            yield (
                key,
                f"guidance {scale} needs a trained null condition, but model.conditioning.cfg_dropout is 0; set it to "
                "1.0, or cfg_dropout to e.g. 0.1",
            )


def _resumed_checkpoint(experiment: AnyExperiment, written: Collection[str]) -> Iterator[Finding]:
    resume = experiment.training.resume
    if resume.enabled and (problem := weights_file_problem(resume.checkpoint)):
        yield "training.resume.checkpoint", f"{resume.checkpoint!r} is {problem}"


def _checkpoint_folders(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    """Files of weights where the folder of a checkpoint is expected."""
    values = {
        "model.pretrained": experiment.model.pretrained,
        "generation.checkpoint": experiment.generation.checkpoint,
        "generation.sampling.guidance_checkpoint": experiment.generation.sampling.guidance_checkpoint,
    }
    for key, value in values.items():
        if problem := weights_file_problem(value):
            yield key, f"{value!r} is {problem}"


def _sampled_checkpoint(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    name = experiment.generation.checkpoint
    if not re.fullmatch(CHECKPOINT, name) and not weights_file_problem(name):
        yield "generation.checkpoint", f"expected 'latest', 'best' or 'checkpoint-<step>', found {name!r}"


def _sampling(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    """Time grids and guidance types that need a rectified flow, or another setting."""
    sampling, table = experiment.generation.sampling, "generation.sampling"
    flow = experiment.model.diffusion.method == "rectified_flow"
    if sampling.time_grid == "shifted" and not flow:
        yield f"{table}.time_grid", "'shifted' needs model.diffusion.method = 'rectified_flow'; choose another grid"
    if sampling.guidance_type == "cfg++" and not (flow and sampling.sampler == "euler"):
        yield (
            f"{table}.guidance_type",
            "'cfg++' needs model.diffusion.method = 'rectified_flow' and sampler = 'euler'; set both, or choose "
            "another guidance_type",
        )
    if sampling.guidance_type == "autoguidance" and not sampling.guidance_checkpoint:
        yield (
            f"{table}.guidance_checkpoint",
            "'autoguidance' needs a weaker checkpoint to guide with, such as \"checkpoint-1000\"",
        )
    low, high = sampling.guidance_interval
    if low >= high:
        yield f"{table}.guidance_interval", f"expected [low, high] with low below high, found [{low}, {high}]"


def _data(experiment: AnyExperiment, written: Collection[str]) -> Iterator[Finding]:
    data = experiment.data
    if data.source == "synthetic" and data.paths.root:
        yield (
            "data.paths.root",
            f"{data.paths.root!r} is not read with data.source = 'synthetic'; remove one of the two",
        )
    if data.source == "synthetic" and data.representation == "image":
        yield "data.representation", "'image' is for images, but the synthetic dataset is EEG; choose another"
    if data.source == "dataset" and not data.paths.root and data.paths.train == Paths().train:
        yield "data.paths.root", "expected the folder of a dataset, or data.source = 'synthetic'"
    if data.source == "hub" and not is_hub_id(data.paths.root):
        yield "data.paths.root", f"expected a Hub id, 'owner/name' or 'owner/name@revision', found {data.paths.root!r}"
    train, val = ("validation" if name == "val" else name for name in (data.paths.train, data.paths.val))
    if train == val:
        yield (
            "data.paths.val",
            f"the split {data.paths.val!r} is also the training split; choose another, such as 'validation'",
        )


def _balancing(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    columns = experiment.data.balancing.columns
    if len(set(columns)) < len(columns):
        yield "data.balancing.columns", f"expected each name once, found {', '.join(columns)}"
    if columns and not experiment.data.loading.shuffle_train:
        yield "data.balancing.columns", "balancing samples at random, which needs data.loading.shuffle_train = true"


def _pretrained_parts(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    model = experiment.model
    if model.autoencoder.enabled and not (model.autoencoder.path or model.pretrained):
        yield (
            "model.autoencoder.path",
            "expected the folder or Hub id of a diffusers autoencoder, since model.pretrained is not set",
        )
    if model.lora.enabled and not model.pretrained:
        yield "model.lora.enabled", "LoRA needs pretrained weights; set model.pretrained"


def _cached_latents(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    """Examples that are encoded once cannot be augmented differently each time."""
    autoencoder, augmentation = experiment.model.autoencoder, experiment.data.augmentation
    if autoencoder.enabled and autoencoder.cache_latents and augmentation != Augmentation():
        yield (
            "model.autoencoder.cache_latents",
            "cached latents cannot be augmented; set it to false, or remove data.augmentation",
        )


def _augmentation(experiment: AnyExperiment, written: Collection[str]) -> Iterator[Finding]:
    """The axes of an EEG tensor are time, frequency and electrodes, and its values encode microvolts."""
    augmentation, representation = experiment.data.augmentation, experiment.data.representation
    harms = {
        "horizontal_flip": (augmentation.horizontal_flip, "reverses time"),
        "rotation_degrees": (augmentation.rotation_degrees, "mixes time with frequency or electrodes"),
        "color_jitter.enabled": (augmentation.color_jitter.enabled, "changes microvolts"),
    }
    for key, (on, harm) in harms.items():
        if on and representation != "image":
            yield (
                f"data.augmentation.{key}",
                f"{harm} in EEG (data.representation = {representation!r}); use it only with 'image'",
            )


def _precision(experiment: AnyExperiment, written: Collection[str]) -> Iterator[Finding]:
    device = experiment.compute.device
    if experiment.training.mixed_precision == "fp16" and device in ("cpu", "mps"):
        yield (
            "training.mixed_precision",
            f"'fp16' needs CUDA, but compute.device is {device!r}; use 'bf16' or 'no'",
        )


def _learning_rate(experiment: AnyExperiment, written: Collection[str]) -> Iterator[Finding]:
    training = experiment.training
    if training.scheduler.type == "plateau" and not training.validation.enabled:
        yield (
            "training.scheduler.type",
            "'plateau' needs the validation loss, but training.validation.enabled is false",
        )


def _checkpoints(experiment: AnyExperiment, written: Collection[str]) -> Iterator[Finding]:
    training = experiment.training
    if training.checkpointing.save_best_only and not training.validation.enabled:
        yield (
            "training.checkpointing.save_best_only",
            "finding the best checkpoint needs validation, but training.validation.enabled is false",
        )
    if training.on_nonfinite == "rollback" and not training.checkpointing.save_optimizer:
        yield (
            "training.on_nonfinite",
            "'rollback' resumes from a checkpoint, but training.checkpointing.save_optimizer is false",
        )


def _followed_metric(experiment: AnyExperiment, written: Collection[str]) -> Iterator[Finding]:
    validation = experiment.training.validation
    if not validation.metric.startswith(GENERATED):
        return
    if isinstance(experiment, AutoencoderExperiment) or experiment.data.representation == "image":
        what = "an autoencoder" if isinstance(experiment, AutoencoderExperiment) else "a model of images"
        yield (
            "training.validation.metric",
            f"{validation.metric!r} is not measured for {what}; use 'loss' or 'ema_loss'",
        )
    elif not validation.num_generated:
        yield (
            "training.validation.metric",
            f"{validation.metric!r} is measured on generated samples, but training.validation.num_generated is 0; set "
            "it to e.g. 64",
        )


def _attributes(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    names = experiment.model.conditioning.attributes or ()
    if len(set(names)) < len(names):
        yield "model.conditioning.attributes", f"expected each name once, found {', '.join(names)}"


def _captions(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    """A caption model takes its text encoder from `text_encoder`, or else from the pretrained pipeline."""
    model = experiment.model
    if model.conditioning.type == "caption" and not (model.conditioning.text_encoder or model.pretrained):
        yield (
            "model.conditioning.text_encoder",
            "expected the folder or Hub id of a text encoder, since model.pretrained is not set",
        )


def _betas(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    diffusion = experiment.model.diffusion
    if diffusion.beta_start > diffusion.beta_end:
        yield "model.diffusion.beta_start", f"expected at most beta_end = {diffusion.beta_end}"


def _groups(experiment: AutoencoderExperiment) -> Iterator[Finding]:
    architecture = experiment.model.architecture
    if wrong := [each for each in architecture.block_out_channels if each % architecture.norm_num_groups]:
        yield (
            "model.architecture.norm_num_groups",
            f"{architecture.norm_num_groups} does not divide {wrong[0]} of block_out_channels; choose a divisor of all",
        )


SHARED_RULES: tuple[Callable[[AnyExperiment, Collection[str]], Iterator[Finding]], ...] = (
    _data,
    _augmentation,
    _precision,
    _learning_rate,
    _resumed_checkpoint,
    _checkpoints,
    _followed_metric,
)
DIFFUSION_RULES: tuple[Callable[[Experiment, Collection[str]], Iterator[Finding]], ...] = (
    _guidance,
    _checkpoint_folders,
    _sampled_checkpoint,
    _sampling,
    _balancing,
    _pretrained_parts,
    _cached_latents,
    _attributes,
    _captions,
    _betas,
)
