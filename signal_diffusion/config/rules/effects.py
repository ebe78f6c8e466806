"""Keys without effect: which keys are only read with some values of another key."""

from __future__ import annotations

from collections.abc import Collection
from operator import attrgetter

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.rules.findings import AnyExperiment

__all__ = [
    "AUTOENCODER_READ_ONLY_WITH",
    "NOT_OF_AN_AUTOENCODER",
    "READ_ONLY_WITH",
    "ineffective_by_override",
    "without_effect",
]

Entry = tuple[str, str, str, tuple[object, ...]]

# Writing a key that has no effect is an error. (table, keys, chooser, values): these keys of the table only have an
# effect if the chooser, another key, has one of these values.
READ_ONLY_WITH: tuple[Entry, ...] = (
    ("data", "image_size sampling_rate", "data.source", ("dataset", "hub")),
    ("data", "image_size", "data.representation", ("image", "db-only", "db-iq", "db-polar")),
    ("data", "streaming", "data.source", ("hub",)),
    ("data", "sampling_rate", "data.representation", ("timeseries",)),
    ("data.augmentation.color_jitter", "strength", "data.augmentation.color_jitter.enabled", (True,)),
    ("model.diffusion", "noise", "data.representation", ("timeseries",)),
    ("model.diffusion", "noise", "model.autoencoder.enabled", (False,)),
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
    ("model.conditioning", "electrodes", "data.representation", ("timeseries",)),
    ("model.autoencoder", "path sample_posterior cache_latents tiling", "model.autoencoder.enabled", (True,)),
    ("model.lora", "rank alpha dropout target_modules", "model.lora.enabled", (True,)),
    (
        "training.validation",
        "num_generated",
        "data.representation",
        ("db-only", "db-iq", "db-polar", "timeseries"),
    ),
    ("training", "perceptual", "data.representation", ("timeseries", "image")),
    ("training", "perceptual_weights", "data.representation", ("image",)),
    ("training.optimizer", "eps", "training.optimizer.type", ("adamw", "adam", "muon")),
    ("training.ema", "post_hoc", "training.ema.enabled", (True,)),
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
    ("training.performance", "compile_mode", "training.performance.compile_model", (True, "auto")),
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
    ("training.ema", "post_hoc"),
    ("training.validation", "num_generated"),
    ("training.visualization", "guidance_scale animation seed"),
    ("training", "perceptual perceptual_weights"),
    ("training.masking", "probability electrodes gaps continuations"),
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
    if not experiment.training.perceptual:
        reasons.setdefault("training.perceptual_weights", "has no effect without training.perceptual")
    if not experiment.data.balancing.columns and "data.balancing.max_weight" not in reasons:
        reasons["data.balancing.max_weight"] = "has no effect without data.balancing.columns"
    if not experiment.logging.wandb_project and "logging.wandb_project" not in mistaken:
        for key in ("wandb_entity", "run_name"):
            reasons[f"logging.{key}"] = "has no effect without logging.wandb_project"
    return reasons


def ineffective_by_override(overridden: Collection[str]) -> set[str]:
    """Keys of [generation] in the file that an override leaves without effect, which is not an error.

    The config.toml of a checkpoint has all settings of its own sampler, and users may sample with another.
    """
    entries = (entry for entry in READ_ONLY_WITH if entry[0].startswith("generation.") and entry[2] in overridden)
    return {f"{table}.{key}" for table, keys, _, _ in entries for key in keys.split()} - set(overridden)
