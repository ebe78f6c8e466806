"""Checks that an experiment fits the checkpoint that it resumes from, or whose weights it starts from.

Equal tensor shapes are not enough: patches of 4 × 16 and of 8 × 8, two scan orders, two lists of attributes or two
methods have equal shapes, and the weights of the wrong one give noise that looks like a result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.dotted import dotted
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.card_entries import shown
from signal_diffusion.diffusion.methods import method_of
from signal_diffusion.errors import UserError, listed
from signal_diffusion.experiment.changed_data import different_files
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.conditions import attributes_of
from signal_diffusion.models.conditioning.attributes import Attribute, Categorical

__all__ = [
    "RESUME_ON_CHANGED",
    "changed_example_keys",
    "changed_metric_keys",
    "check_same_dataset",
    "check_same_network",
    "check_same_origin",
    "check_same_run",
    "compare",
    "other_conditions",
]

RESUME_ON_CHANGED = (
    "use the same, start a new run, or train on the changed data from here on with --accept-changed-data"
)
_LOSS = ("loss", "snr_gamma", "time_sampling", "logit_mean", "logit_std")
"""Keys of [model.diffusion] that a run may change: none says what the network's input or output is."""
_LATENTS = ("sample_posterior", "tiling")
_LORA = ("enabled", "rank", "alpha", "target_modules")

# Keys that a run may change, and that change the validation metric for the same weights: the metric, its examples, the
# seed of their times and noise; for diffusion also what the loss is of, its weights and the distribution of times, or
# how samples are generated.
_MEASURE = (
    "training.validation.metric",
    "training.validation.num_examples",
    "data.paths.val",
    "data.loading.max_val_examples",
    "compute.seed",
)
_MEASURE_OF_GENERATED = (
    "training.validation.num_generated",
    "training.visualization.guidance_scale",
    "generation.sampling",
)
_MEASURE_OF_DIFFUSION = (*(f"model.diffusion.{name}" for name in _LOSS), "training.masking")

_EXAMPLES = ("data.augmentation", "data.balancing", "training.masking")
"""Tables that a run may change, and that change what examples are trained on."""


def check_same_run(
    checkpoint: Checkpoint,
    experiment: schema.Experiment,
    card: DatasetCard,
    advice: str = "use the same, or start a new run with model.pretrained",
    *,
    files_advice: str | None = RESUME_ON_CHANGED,
) -> None:
    """Check that an experiment and its dataset match those of the checkpoint that it resumes from.

    `files_advice` is the advice if only the dataset's files differ; None accepts other files.

    Raises
    ------
    UserError
        With one line per difference that changes the meaning of the weights; each line ends with the `advice`.
    """
    check_same_dataset(checkpoint, card, ("representation", "shape", "columns"), advice, files_advice)
    before, now = (
        {**_network_keys(each), **_condition_keys(each, card), **_method_keys(each)}
        for each in (checkpoint.experiment, experiment)
    )
    compare(checkpoint, before, now, advice)


def check_same_network(checkpoint: Checkpoint, experiment: schema.Experiment) -> None:
    """Check that an experiment's network, except for its embeddings of conditions, matches that of a checkpoint.

    Raises
    ------
    UserError
        With one line per difference.
    """
    before, now = _network_keys(checkpoint.experiment), _network_keys(experiment)
    compare(checkpoint, before, now, "use the same, or another model.pretrained")


def check_same_origin(
    checkpoint: Checkpoint, experiment: schema.Experiment | AutoencoderExperiment, card: DatasetCard
) -> None:
    """Check that a checkpoint is of a run of this experiment, and not put among the checkpoints of that run.

    Raises
    ------
    UserError
        If the seed, the network, the method or the dataset differs.
    """
    advice = "it may be of another run"
    before, now = (
        {"[compute] seed": each.compute.seed, **_origin_keys(each)}
        for each in (checkpoint.experiment_like(experiment), experiment)
    )
    compare(checkpoint, before, now, advice)
    check_same_dataset(checkpoint, card, ("representation", "shape"), advice, files_advice=None)


def _origin_keys(experiment: schema.Experiment | AutoencoderExperiment) -> dict[str, Any]:
    if isinstance(experiment, schema.Experiment):
        keys = {**_network_keys(experiment), **_method_keys(experiment)}
        if experiment.model.pretrained:  # its architecture is in checkpoints, but not yet in the file
            keys = {key: value for key, value in keys.items() if not key.startswith("[model.architecture]")}
        return keys
    return {f"[model.architecture] {key}": value for key, value in vars(experiment.model.architecture).items()}


def other_conditions(checkpoint: Checkpoint, experiment: schema.Experiment, card: DatasetCard) -> str:
    """The conditions that a checkpoint was trained with, if they differ from the experiment's; "" otherwise."""
    before = _condition_keys(checkpoint.experiment, checkpoint.card)
    return "" if before == _condition_keys(experiment, card) else ", ".join(before.values())


def check_same_dataset(
    checkpoint: Checkpoint,
    card: DatasetCard,
    names: Sequence[str],
    advice: str,
    files_advice: str | None = RESUME_ON_CHANGED,
) -> None:
    """Raise a `UserError` unless a card has the same `names` as that of the dataset of a checkpoint.

    The files must be the same too, unless `files_advice` is None.
    """
    for name in names:
        if different := _differences(name, getattr(checkpoint.card, name), getattr(card, name)):
            raise UserError(
                f"[data.paths] root: {checkpoint} was trained on another dataset ({listed(different)}); {advice}"
            )
    different = different_files(checkpoint.card, card)
    if different and files_advice is not None:
        raise UserError(
            f"[data.paths] root: {checkpoint} was trained on a dataset with other files "
            f"({listed(different)}); {files_advice}"
        )


def _differences(name: str, before: Any, now: Any) -> list[str]:
    """The keys within an entry of two cards that have different values, each with both values."""
    if before == now:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        return [line for key in keys for line in _differences(f"{name}.{key}", before.get(key), now.get(key))]
    return [f"{name} was {shown(before)}, now {shown(now)}"]


def compare(checkpoint: Checkpoint, before: Mapping[str, Any], now: Mapping[str, Any], advice: str) -> None:
    """Compare values by "[table] key": raise a `UserError` with one line per key that differs from the checkpoint's."""
    different = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if "[model] name" in different:  # then all keys of the architecture differ
        different = ["[model] name"]
    if different:
        raise UserError(
            *(
                f"{key}: {_formatted(now.get(key))}, but {checkpoint} was trained with {_formatted(before.get(key))}; "
                f"{advice}"
                for key in different
            )
        )


def changed_metric_keys(checkpoint: Checkpoint, experiment: schema.Experiment | AutoencoderExperiment) -> list[str]:
    """The keys that make validation metrics incomparable with those of the run that wrote a checkpoint."""
    then: schema.Experiment | AutoencoderExperiment
    if isinstance(experiment, schema.Experiment):
        is_loss = not experiment.training.validation.metric.startswith(schema.GENERATED)
        keys = (*_MEASURE, *(_MEASURE_OF_DIFFUSION if is_loss else _MEASURE_OF_GENERATED))
        then = checkpoint.experiment
    else:
        keys, then = _MEASURE, checkpoint.autoencoder_experiment
    return [
        "[{}] {}".format(*key.rsplit(".", 1)) for key in keys if attrgetter(key)(then) != attrgetter(key)(experiment)
    ]


def changed_example_keys(checkpoint: Checkpoint, experiment: schema.Experiment | AutoencoderExperiment) -> list[str]:
    """The keys that change what examples are trained on from a checkpoint on, with the values of before and now."""
    then, now = (
        {
            key: value
            for table in _EXAMPLES
            for key, value in dotted({table: dataclasses.asdict(attrgetter(table)(each))})
        }
        for each in (checkpoint.experiment_like(experiment), experiment)
    )
    return [
        "[{}] {}".format(*key.rsplit(".", 1)) + f" was {shown(then[key])}, now {shown(now[key])}"
        for key in now
        if then[key] != now[key]
    ]


def _network_keys(experiment: schema.Experiment) -> dict[str, Any]:
    """The keys that determine what the network's weights mean, except for those of `_condition_keys`."""
    model = experiment.model
    keys = {"[model] name": model.name, "[model.autoencoder] enabled": model.autoencoder.enabled}
    keys["[training.masking] probability > 0"] = experiment.training.masking.probability > 0
    keys["[model.conditioning] electrodes"] = model.conditioning.electrodes
    for field in dataclasses.fields(model.architecture):
        if not field.name.startswith("dropout"):
            keys[f"[model.architecture] {field.name}"] = getattr(model.architecture, field.name)
    return keys


def _condition_keys(experiment: schema.Experiment, card: DatasetCard) -> dict[str, str]:
    """The keys that determine what the weights of `conditioning` mean."""
    conditioning = experiment.model.conditioning
    keys: dict[str, str] = {"[model.conditioning] type": conditioning.type}
    if conditioning.type in ("class", "attributes"):
        attributes = attributes_of(conditioning, card, experiment.data.columns)
        keys["[model.conditioning] attributes"] = "; ".join(map(_described, attributes))
    return keys


def _method_keys(experiment: schema.Experiment) -> dict[str, Any]:
    """The other keys that must not change within a run: of the method, the latents and LoRA."""
    diffusion, lora = experiment.model.diffusion, experiment.model.lora
    names = [field.name for field in dataclasses.fields(diffusion) if field.name not in _LOSS]
    keys: dict[str, Any] = {f"[model.diffusion] {name}": getattr(diffusion, name) for name in names}
    keys["[model.diffusion] prediction"] = method_of(diffusion).prediction
    if experiment.model.autoencoder.enabled:  # they determine the latents and their statistics
        for name in _LATENTS:
            keys[f"[model.autoencoder] {name}"] = getattr(experiment.model.autoencoder, name)
    return keys | {f"[model.lora] {name}": getattr(lora, name) for name in _LORA}


def _described(attribute: Attribute) -> str:
    return f"{attribute.name} ({', '.join(attribute.names)})" if isinstance(attribute, Categorical) else attribute.name


def _formatted(value: object) -> str:
    """A value as errors show it: tuples as lists, text in quotes."""
    return str(list(value)) if isinstance(value, tuple) else repr(value)
