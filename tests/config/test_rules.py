"""The keys in the rules exist, and conflicting settings are found."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.rules import effects
from signal_diffusion.config.rules.checking import check
from signal_diffusion.config.schema import (
    Conditioning,
    Data,
    Diffusion,
    Experiment,
    Generation,
    Logging,
    Model,
    Paths,
    Sampling,
    Training,
    Validation,
)
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment


@pytest.mark.parametrize("entry", effects.READ_ONLY_WITH, ids=lambda entry: f"{entry[0]}.{entry[1]} with {entry[2]}")
def test_every_key_in_the_rules_exists(entry: tuple[str, str, str, tuple[object, ...]]) -> None:
    table, keys, chooser, _ = entry
    names = {field.name for field in dataclasses.fields(attrgetter(table)(Experiment()))}
    assert set(keys.split()) <= names
    assert attrgetter(chooser)(Experiment()) is not None


FLOW = Diffusion(method="rectified_flow")
FLOW_OF_CLASSES = Experiment(
    data=Data(source="synthetic"), model=Model(diffusion=FLOW, conditioning=Conditioning(type="class"))
)


def findings(experiment: Experiment, overridden: Collection[str] = (), **sampling: Any) -> dict[str, str]:
    """The findings for an experiment with this [generation.sampling]."""
    generation = Generation(sampling=Sampling(**sampling))
    written = {f"generation.sampling.{name}" for name in sampling}
    return dict(check(dataclasses.replace(experiment, generation=generation), written, (), overridden))


@pytest.mark.parametrize(
    ("sampling", "key", "message"),
    [
        (
            {"guidance_type": "cfg++", "sampler": "heun"},
            "guidance_type",
            "'cfg++' needs model.diffusion.method = 'rectified_flow'",
        ),
        ({"guidance_type": "autoguidance"}, "guidance_checkpoint", "'autoguidance' needs a weaker checkpoint"),
        ({"guidance_interval": (0.5, 0.5)}, "guidance_interval", "expected [low, high] with low below high"),
        ({"guidance_type": "cfg++", "guidance_rescale": 0.5}, "guidance_rescale", "has no effect with"),
        ({"guidance_checkpoint": "checkpoint-1"}, "guidance_checkpoint", "has no effect with"),
    ],
)
def test_conflicting_guidance_settings_are_reported_with_the_key(
    sampling: dict[str, Any], key: str, message: str
) -> None:
    [(found, finding)] = findings(FLOW_OF_CLASSES, **sampling).items()

    assert found == f"generation.sampling.{key}" and finding.startswith(message)


def test_the_checkpoint_to_sample_from_is_latest_best_or_a_step() -> None:
    def findings_for(name: str) -> list[tuple[str, str]]:
        return check(dataclasses.replace(FLOW_OF_CLASSES, generation=Generation(checkpoint=name)), ())

    assert not [finding for name in ("latest", "best", "checkpoint-500") for finding in findings_for(name)]
    assert findings_for("runs/a") == [
        ("generation.checkpoint", "expected 'latest', 'best' or 'checkpoint-<step>', found 'runs/a'")
    ]


@pytest.mark.parametrize(
    ("key", "needed"),
    [
        ("training.resume.checkpoint", ("training.resume.enabled=true",)),
        ("model.pretrained", ()),
        ("generation.checkpoint", ()),
        ("generation.sampling.guidance_checkpoint", ("generation.sampling.guidance_type=autoguidance",)),
    ],
)
def test_a_file_of_weights_is_explained_once_wherever_a_checkpoint_is_named(
    key: str, needed: tuple[str, ...], experiment_file: Path
) -> None:
    with pytest.raises(UserError) as caught:
        load_experiment(experiment_file, (*needed, f"{key}=old/epoch_7.pt"))

    table, _, name = key.rpartition(".")
    [line] = caught.value.lines
    assert line.startswith(f"--set: [{table}] {name}: 'old/epoch_7.pt' is a file of weights; expected the folder of a")
    assert line.endswith('(docs/models.md, "Weights of other projects")')


def test_samples_of_image_datasets_cannot_be_compared_by_spectra() -> None:
    written = {"training.validation.num_generated"}
    image = Experiment(data=Data(representation="image", source="hub", paths=Paths(root="a/b")))

    assert [key for key, _ in check(image, written)] == ["training.validation.num_generated"]
    assert not check(FLOW_OF_CLASSES, written)


def test_a_metric_of_generated_samples_needs_some() -> None:
    def found(experiment: Experiment | AutoencoderExperiment, **validation: Any) -> list[tuple[str, str]]:
        table = Validation(metric="generated/lsd", **validation)
        return check(dataclasses.replace(experiment, training=Training(validation=table)), ())

    image = Experiment(data=Data(representation="image", source="hub", paths=Paths(root="a/b")))
    expected = (
        (FLOW_OF_CLASSES, "'generated/lsd' is measured on generated samples, but training.validation.num_generated"),
        (image, "'generated/lsd' is not measured for a model of images; use 'loss' or 'ema_loss'"),
        (AutoencoderExperiment(data=FLOW_OF_CLASSES.data), "'generated/lsd' is not measured for an autoencoder"),
    )
    for experiment, message in expected:
        [(key, reason)] = found(experiment)
        assert key == "training.validation.metric" and reason.startswith(message)
    assert not found(FLOW_OF_CLASSES, num_generated=64)


def test_a_wandb_entity_or_run_name_needs_a_project() -> None:
    written = {"logging.wandb_entity", "logging.run_name"}
    named = dataclasses.replace(FLOW_OF_CLASSES, logging=Logging(wandb_project="eeg", wandb_entity="lab"))

    assert {key for key, _ in check(FLOW_OF_CLASSES, written)} == written
    assert not check(named, written)


def test_cfg_plus_plus_needs_rectified_flow() -> None:
    ddpm = dataclasses.replace(FLOW_OF_CLASSES, model=Model(conditioning=Conditioning(type="class")))

    assert "generation.sampling.guidance_type" in findings(ddpm, guidance_type="cfg++", guidance_scale=2.0)
    assert not findings(FLOW_OF_CLASSES, guidance_type="cfg++", guidance_scale=2.0)


def test_only_autoguidance_works_without_conditions() -> None:
    unconditional = Experiment(data=Data(source="synthetic"))
    autoguidance = {"guidance_type": "autoguidance", "guidance_checkpoint": "checkpoint-1"}

    assert findings(unconditional, guidance_scale=2.0).keys() == {"generation.sampling.guidance_scale"}
    assert not findings(unconditional, guidance_scale=2.0, **autoguidance)


def test_a_setting_of_the_file_may_lose_its_effect_by_an_override() -> None:
    chooser, without_effect = "generation.sampling.guidance_type", "generation.sampling.guidance_rescale"
    sampling = {"guidance_type": "cfg++", "guidance_rescale": 0.5}

    assert not findings(FLOW_OF_CLASSES, {chooser}, **sampling)
    assert findings(FLOW_OF_CLASSES, {chooser, without_effect}, **sampling).keys() == {without_effect}


def test_the_loss_is_weighed_over_time_in_one_way(experiment_file: Path) -> None:
    both = ("model.diffusion.snr_gamma=5", "model.diffusion.loss=x0")
    with pytest.raises(UserError, match=r"\[model.diffusion\] snr_gamma: .* so does loss = 'x0'; remove one of them"):
        load_experiment(experiment_file, both)
    load_experiment(experiment_file, both[:1])
    load_experiment(experiment_file, both[1:])
