"""What a run that goes on, or that starts from another, has to have in common with it.

Shapes of tensors tell little: patches of 4 × 16 and of 8 × 8, two orders of scans, two lists of attributes or two
methods have the same, and weights that mean something else give noise that looks like a result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.diffusion.methods import method_of
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.conditions import attributes_of
from signal_diffusion.models.conditioning.attributes import Attribute, Categorical

__all__ = [
    "check_same_dataset",
    "check_same_network",
    "check_same_run",
    "compare",
    "measured_otherwise",
    "other_conditions",
]

_SCHEDULE = ("method", "num_timesteps", "beta_schedule", "beta_start", "beta_end", "zero_terminal_snr")
_LATENTS = ("sample_posterior", "tiling")
_LORA = ("enabled", "rank", "alpha", "target_modules")

# What the figure that the best is chosen by depends on beside the weights, and a run may change: which figure it is and
# of which examples; the seed of their times and noise; and of diffusion the density of the times and the loss's weight.
_MEASURE = (
    "training.validation.metric",
    "training.validation.num_examples",
    "data.paths.val",
    "data.loading.max_val_examples",
    "compute.seed",
)
_MEASURE_OF_DIFFUSION = tuple(
    f"model.diffusion.{name}" for name in ("snr_gamma", "time_sampling", "logit_mean", "logit_std")
)


def check_same_run(
    checkpoint: Checkpoint,
    experiment: schema.Experiment,
    card: DatasetCard,
    advice: str = "expected the same, or a new run with model.pretrained",
) -> None:
    """Hold an experiment and its dataset against those of the checkpoint that it goes on from.

    Raises
    ------
    UserError
        With a line per difference that would change what the weights mean, and the `advice` at its end.
    """
    check_same_dataset(checkpoint, card, ("representation", "shape", "columns", "files"), advice)
    before, now = (
        {**_network(each), **_conditions(each, card), **_process(each)} for each in (checkpoint.experiment, experiment)
    )
    compare(checkpoint, before, now, advice)


def check_same_network(checkpoint: Checkpoint, experiment: schema.Experiment) -> None:
    """Hold an experiment's network, without what embeds conditions, against that of a checkpoint that it starts from.

    Raises
    ------
    UserError
        With a line per difference.
    """
    before, now = _network(checkpoint.experiment), _network(experiment)
    compare(checkpoint, before, now, "expected the same, or another model.pretrained")


def other_conditions(checkpoint: Checkpoint, experiment: schema.Experiment, card: DatasetCard) -> str:
    """The conditions of a checkpoint whose weights an experiment starts from; "" where they are the experiment's."""
    before = _conditions(checkpoint.experiment, checkpoint.card)
    return "" if before == _conditions(experiment, card) else ", ".join(before.values())


def check_same_dataset(checkpoint: Checkpoint, card: DatasetCard, names: Sequence[str], advice: str) -> None:
    """Hold the entries `names` of a dataset's card against those of what a checkpoint was trained on."""
    for name in names:
        if getattr(checkpoint.card, name) != getattr(card, name):
            raise UserError(f"[data.paths] root: a dataset of other {name} than {checkpoint} was trained on; {advice}")


def compare(checkpoint: Checkpoint, before: Mapping[str, Any], now: Mapping[str, Any], advice: str) -> None:
    """Hold what an experiment says, by "[table] key", against what a checkpoint was trained with: a line per key."""
    different = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if "[model] name" in different:  # all of the architecture differs, then
        different = ["[model] name"]
    if different:
        raise UserError(
            *(
                f"{key}: {_told(now.get(key))}, but {checkpoint} was trained with {_told(before.get(key))}; {advice}"
                for key in different
            )
        )


def measured_otherwise(checkpoint: Checkpoint, experiment: schema.Experiment | AutoencoderExperiment) -> list[str]:
    """The keys by which a validation measures something else than that of the run that wrote a checkpoint did."""
    then: schema.Experiment | AutoencoderExperiment
    if isinstance(experiment, schema.Experiment):
        keys, then = (*_MEASURE, *_MEASURE_OF_DIFFUSION), checkpoint.experiment
    else:
        keys, then = _MEASURE, checkpoint.autoencoder_experiment
    return [
        "[{}] {}".format(*key.rsplit(".", 1)) for key in keys if attrgetter(key)(then) != attrgetter(key)(experiment)
    ]


def _network(experiment: schema.Experiment) -> dict[str, Any]:
    """What decides what weights mean, but for those of `_conditions`, by table and key."""
    model = experiment.model
    keys = {"[model] name": model.name, "[model.autoencoder] enabled": model.autoencoder.enabled}
    for field in dataclasses.fields(model.architecture):
        if not field.name.startswith("dropout"):
            keys[f"[model.architecture] {field.name}"] = getattr(model.architecture, field.name)
    return keys


def _conditions(experiment: schema.Experiment, card: DatasetCard) -> dict[str, str]:
    """What decides what the weights of `conditioning` mean, by table and key."""
    conditioning = experiment.model.conditioning
    keys: dict[str, str] = {"[model.conditioning] type": conditioning.type}
    if conditioning.type in ("class", "attributes"):
        attributes = attributes_of(conditioning, card, experiment.data.columns)
        keys["[model.conditioning] attributes"] = "; ".join(map(_described, attributes))
    return keys


def _process(experiment: schema.Experiment) -> dict[str, Any]:
    """What else a run keeps from its beginning to its end."""
    diffusion, lora = experiment.model.diffusion, experiment.model.lora
    keys: dict[str, Any] = {f"[model.diffusion] {name}": getattr(diffusion, name) for name in _SCHEDULE}
    keys["[model.diffusion] prediction"] = method_of(diffusion).prediction
    if experiment.model.autoencoder.enabled:  # what the latents are made by, and their statistics of
        for name in _LATENTS:
            keys[f"[model.autoencoder] {name}"] = getattr(experiment.model.autoencoder, name)
    return keys | {f"[model.lora] {name}": getattr(lora, name) for name in _LORA}


def _described(attribute: Attribute) -> str:
    return f"{attribute.name} ({', '.join(attribute.names)})" if isinstance(attribute, Categorical) else attribute.name


def _told(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value)
