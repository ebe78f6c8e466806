"""Apply all rules: settings that are each valid but conflict, or have no effect, together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.rules import checkpoint_names, data, generation, model, training
from signal_diffusion.config.rules.effects import ineffective_by_override, without_effect
from signal_diffusion.config.rules.findings import AnyExperiment, Finding
from signal_diffusion.config.schema import Experiment

__all__ = ["check"]


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
    accepted = ineffective_by_override(overridden)
    findings = [(key, reason) for key, reason in unread.items() if key in written and key not in accepted]
    findings += [finding for rule in SHARED_RULES for finding in rule(experiment)]
    if isinstance(experiment, AutoencoderExperiment):
        return [*findings, *model.norm_groups(experiment)]
    return [*findings, *(finding for rule in DIFFUSION_RULES for finding in rule(experiment))]


SHARED_RULES: tuple[Callable[[AnyExperiment], Iterator[Finding]], ...] = (
    data.source,
    data.augmentation,
    training.precision,
    training.optimizer,
    training.scheduler,
    checkpoint_names.resumed,
    training.checkpointing,
    training.followed_metric,
)
DIFFUSION_RULES: tuple[Callable[[Experiment], Iterator[Finding]], ...] = (
    generation.guidance,
    checkpoint_names.folders,
    checkpoint_names.sampled,
    generation.sampling,
    data.balancing,
    model.pretrained_parts,
    model.cached_latents,
    training.masking,
    training.perceptual,
    model.attributes,
    model.captions,
    model.electrodes,
    model.betas,
    model.weights,
)
