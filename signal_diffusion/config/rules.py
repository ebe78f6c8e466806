"""Tables held against each other: what each key says may be fine, and the two together not."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from operator import attrgetter

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.schema import CHECKPOINT, Augmentation, Experiment, Paths
from signal_diffusion.hub import is_hub_id

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
    """What contradicts what, as (dotted key, message).

    Parameters
    ----------
    experiment
        The experiment with its defaults filled in.
    written
        Dotted keys that the file or `--set` really contains: a default is never a contradiction.
    mistaken
        Dotted keys whose values were wrong, and which have their defaults instead: nothing follows from those.
    overridden
        Those of `written` that `--set` contains.
    """
    unread = without_effect(experiment, mistaken)
    unread_now = _set_aside(overridden)
    findings = [(key, reason) for key, reason in unread.items() if key in written and key not in unread_now]
    findings += [finding for rule in SHARED_RULES for finding in rule(experiment, written)]
    if isinstance(experiment, AutoencoderExperiment):
        return [*findings, *_groups(experiment)]
    return [*findings, *(finding for rule in DIFFUSION_RULES for finding in rule(experiment, written))]


# A key that has no effect beside another key's value is a mistake, not a decoration:
# (table, its keys) have an effect only where the chooser has one of these values.
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
    ("model.conditioning", "text_encoder max_caption_tokens", "model.conditioning.type", ("caption",)),
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

# The same of an autoencoder, beside those of the tables that it shares.
AUTOENCODER_READ_ONLY_WITH: tuple[Entry, ...] = (
    ("model.loss", "stft_weight signal_weight", "data.representation", ("db-iq", "db-polar", "timeseries")),
)

# What of the shared tables is for models of conditions, or for samples from noise: (table, its keys).
NOT_OF_AN_AUTOENCODER = (
    ("data.columns", "label gender health age caption"),
    ("data.balancing", "columns max_weight"),
    ("training.validation", "num_generated"),
    ("training.visualization", "guidance_scale animation seed"),
    ("validation_rules", "require_labels_if_conditional warn_if_batch_size_small"),
    ("output.subdirs", "generated"),
)


def without_effect(experiment: AnyExperiment, mistaken: Collection[str] = ()) -> dict[str, str]:
    """Dotted keys that nothing reads, given the other keys but those that are `mistaken`, and why."""
    reasons: dict[str, str] = {}
    entries = READ_ONLY_WITH
    if isinstance(experiment, AutoencoderExperiment):
        shared = (entry for entry in READ_ONLY_WITH if not entry[0].startswith(("model.", "generation.")))
        entries = (*shared, *AUTOENCODER_READ_ONLY_WITH)
        for table, keys in NOT_OF_AN_AUTOENCODER:
            reasons |= {f"{table}.{key}": "has no effect on an autoencoder; leave it out" for key in keys.split()}
    for table, keys, chooser, values in entries:
        found = attrgetter(chooser)(experiment)
        if found not in values and chooser not in mistaken:
            expected = " or ".join(map(repr, values))
            for key in keys.split():
                reasons[f"{table}.{key}"] = f"has no effect with {chooser} = {found!r}; it goes with {expected}"
    if experiment.training.scheduler.T_max is not None:
        reasons.setdefault("training.scheduler.num_cycles", "has no effect with training.scheduler.T_max")
    if not experiment.data.balancing.columns and "data.balancing.max_weight" not in reasons:
        reasons["data.balancing.max_weight"] = "has no effect without data.balancing.columns"
    if not experiment.logging.wandb_project and "logging.wandb_project" not in mistaken:
        for key in ("wandb_entity", "run_name"):
            reasons[f"logging.{key}"] = "has no effect without logging.wandb_project"
    return reasons


def _set_aside(overridden: Collection[str]) -> set[str]:
    """Keys of [generation] that lost their effect by an override, and are no mistake of the file.

    A checkpoint's file has all that goes with its own sampler, and is asked for others.
    """
    entries = (entry for entry in READ_ONLY_WITH if entry[0].startswith("generation.") and entry[2] in overridden)
    return {f"{table}.{key}" for table, keys, _, _ in entries for key in keys.split()} - set(overridden)


def _guidance(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    """Guidance subtracts the null condition, which has to exist and to be trained."""
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
                f"guidance {scale} needs a condition, but model.conditioning.type is 'none'; expected 1.0",
            )
        elif conditioning.cfg_dropout == 0.0:
            yield (
                key,
                f"guidance {scale} needs a trained null condition, but model.conditioning.cfg_dropout is 0; "
                "expected 1.0 here, or a cfg_dropout such as 0.1",
            )


def _sampled_checkpoint(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    name = experiment.generation.checkpoint
    if not re.fullmatch(CHECKPOINT, name):
        yield "generation.checkpoint", f"expected 'latest', 'best' or 'checkpoint-<step>', found {name!r}"


def _sampling(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    """Grids and guidance that are defined for straight paths alone, or that need something beside them."""
    sampling, table = experiment.generation.sampling, "generation.sampling"
    flow = experiment.model.diffusion.method == "rectified_flow"
    if sampling.time_grid == "shifted" and not flow:
        yield f"{table}.time_grid", "'shifted' is for model.diffusion.method = 'rectified_flow'; expected another"
    if sampling.guidance_type == "cfg++" and not (flow and sampling.sampler == "euler"):
        yield (
            f"{table}.guidance_type",
            "'cfg++' is a step of euler on a flow; expected model.diffusion.method = 'rectified_flow' and sampler = "
            "'euler', or another guidance_type",
        )
    if sampling.guidance_type == "autoguidance" and not sampling.guidance_checkpoint:
        yield (
            f"{table}.guidance_checkpoint",
            "expected the checkpoint that 'autoguidance' guides by, such as \"checkpoint-1000\"",
        )
    low, high = sampling.guidance_interval
    if low >= high:
        yield f"{table}.guidance_interval", f"expected [low, high] with low below high, found [{low}, {high}]"


def _data(experiment: AnyExperiment, written: Collection[str]) -> Iterator[Finding]:
    data = experiment.data
    if data.source == "synthetic" and data.paths.root:
        yield (
            "data.paths.root",
            f"{data.paths.root!r} is not read with data.source = 'synthetic'; leave one of the two out",
        )
    if data.source == "synthetic" and data.representation == "image":
        yield "data.representation", "'image' is of pictures, and the synthetic data are EEG; expected another"
    if data.source == "dataset" and not data.paths.root and data.paths.train == Paths().train:
        yield "data.paths.root", "expected the folder of a dataset, or data.source = 'synthetic'"
    if data.source == "hub" and not is_hub_id(data.paths.root):
        yield "data.paths.root", f"expected 'owner/name' or 'owner/name@revision' of the Hub, found {data.paths.root!r}"
    train, val = ("validation" if name == "val" else name for name in (data.paths.train, data.paths.val))
    if train == val:
        yield (
            "data.paths.val",
            f"the split {data.paths.val!r} is trained on; expected another, such as 'validation'",
        )


def _balancing(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    columns = experiment.data.balancing.columns
    if len(set(columns)) < len(columns):
        yield "data.balancing.columns", f"expected each name once, found {', '.join(columns)}"
    if columns and not experiment.data.loading.shuffle_train:
        yield "data.balancing.columns", "balancing draws at random, but data.loading.shuffle_train is false"


def _frozen_parts(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    model = experiment.model
    if model.autoencoder.enabled and not (model.autoencoder.path or model.pretrained):
        yield (
            "model.autoencoder.path",
            "expected the folder, or the Hub id, of an autoencoder of diffusers; without model.pretrained there is "
            "none to take it from",
        )
    if model.lora.enabled and not model.pretrained:
        yield "model.lora.enabled", "changes pretrained weights, but there are none; set model.pretrained"


def _cached_latents(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    """What is encoded once cannot be changed anew each time."""
    autoencoder, augmentation = experiment.model.autoencoder, experiment.data.augmentation
    if autoencoder.enabled and autoencoder.cache_latents and augmentation != Augmentation():
        yield (
            "model.autoencoder.cache_latents",
            "data.augmentation changes examples before they are encoded, each time anew; expected false, or no "
            "augmentation",
        )


def _augmentation(experiment: AnyExperiment, written: Collection[str]) -> Iterator[Finding]:
    """A picture of EEG has time, frequency and electrodes as axes, and microvolts as colours."""
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
                f"{harm} in EEG (data.representation = {representation!r}); it goes with 'image' alone",
            )


def _precision(experiment: AnyExperiment, written: Collection[str]) -> Iterator[Finding]:
    device = experiment.compute.device
    if experiment.training.mixed_precision == "fp16" and device in ("cpu", "mps"):
        yield (
            "training.mixed_precision",
            f"'fp16' needs CUDA, but compute.device is {device!r}; expected 'bf16' or 'no'",
        )


def _learning_rate(experiment: AnyExperiment, written: Collection[str]) -> Iterator[Finding]:
    training = experiment.training
    if training.scheduler.type == "plateau" and not training.validation.enabled:
        yield (
            "training.scheduler.type",
            "'plateau' watches the validation loss, but training.validation.enabled is false",
        )


def _checkpoints(experiment: AnyExperiment, written: Collection[str]) -> Iterator[Finding]:
    training = experiment.training
    if training.checkpointing.save_best_only and not training.validation.enabled:
        yield (
            "training.checkpointing.save_best_only",
            "the best is known by validation, but training.validation.enabled is false",
        )


def _attributes(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    names = experiment.model.conditioning.attributes or ()
    if len(set(names)) < len(names):
        yield "model.conditioning.attributes", f"expected each name once, found {', '.join(names)}"


def _captions(experiment: Experiment, written: Collection[str]) -> Iterator[Finding]:
    """Without an encoder of its own, a model of captions takes that of its pretrained pipeline."""
    model = experiment.model
    if model.conditioning.type == "caption" and not (model.conditioning.text_encoder or model.pretrained):
        yield (
            "model.conditioning.text_encoder",
            "expected the folder, or the Hub id, of a text encoder; without model.pretrained there is none to take it "
            "from",
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
            f"{architecture.norm_num_groups} does not divide {wrong[0]} of block_out_channels; expected a divisor",
        )


SHARED_RULES: tuple[Callable[[AnyExperiment, Collection[str]], Iterator[Finding]], ...] = (
    _data,
    _augmentation,
    _precision,
    _learning_rate,
    _checkpoints,
)
DIFFUSION_RULES: tuple[Callable[[Experiment, Collection[str]], Iterator[Finding]], ...] = (
    _guidance,
    _sampled_checkpoint,
    _sampling,
    _balancing,
    _frozen_parts,
    _cached_latents,
    _attributes,
    _captions,
    _betas,
)
