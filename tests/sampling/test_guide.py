"""Autoguidance by an earlier checkpoint of the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from signal_diffusion.checkpoints import write_manifest
from signal_diffusion.errors import UserError
from signal_diffusion.sampling import job
from signal_diffusion.sampling.drawing import draw
from signal_diffusion.sampling.requests import asked_for
from signal_diffusion.sampling.trained import Trained, load_trained, with_options
from signal_diffusion.training.diffusion import train

QUIET = ("training.validation.enabled=false", "training.max_steps=3")
BY_THE_FIRST = (
    "generation.sampling.guidance_type=autoguidance",
    "generation.sampling.guidance_checkpoint=checkpoint-1",
    "generation.sampling.guidance_scale=2.0",
)


@pytest.fixture(scope="module")
def run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoint-1 to checkpoint-3 of a model of classes."""
    folder = tmp_path_factory.mktemp("run")
    train(experiment_file, output_dir=folder, overrides=QUIET)
    return folder


def samples(trained: Trained) -> torch.Tensor:
    return draw(trained, asked_for(trained.attributes, {}, 2)).tensors


@pytest.mark.parametrize(("use_ema", "file"), [("true", "ema.safetensors"), ("false", "model.safetensors")])
def test_the_guide_has_the_weights_of_its_checkpoint_averaged_as_the_models_are(
    run: Path, use_ema: str, file: str
) -> None:
    trained = load_trained(run, (*BY_THE_FIRST, f"generation.sampling.use_ema={use_ema}"))

    guide, model = (dict(network.named_parameters()) for network in (trained.guide, trained.model))
    first, last = (load_file(run / name / file) for name in ("checkpoint-1", "checkpoint-3"))
    assert guide.keys() == model.keys() <= first.keys()
    assert all(torch.equal(guide[name], first[name]) and torch.equal(model[name], last[name]) for name in guide)
    assert not trained.guide.training


def test_samples_are_led_away_from_those_of_the_guide(run: Path) -> None:
    """One step of euler is linear in the networks: x = u + 2·(c − u)."""
    one_step = "generation.sampling.steps=1"
    guided = samples(load_trained(run, (*BY_THE_FIRST, one_step)))
    c, u = (samples(load_trained(run / name, (one_step,))) for name in ("checkpoint-3", "checkpoint-1"))

    torch.testing.assert_close(guided, u + 2 * (c - u))
    assert (c - u).abs().max() > 1e-3


def test_a_guide_is_loaded_where_it_guides_and_not_before(run: Path) -> None:
    unguided = load_trained(run, (*BY_THE_FIRST, "generation.sampling.guidance_scale=1.0"))
    assert unguided.guide is None

    guided = with_options(unguided, ["generation.sampling.guidance_scale=2.0"])
    other = with_options(guided, ["generation.sampling.guidance_checkpoint=checkpoint-2"])

    assert torch.equal(samples(guided), samples(load_trained(run, BY_THE_FIRST)))
    assert not torch.equal(samples(guided), samples(other))


def test_an_unconditional_model_is_guided_too(experiment_file: Path, tmp_path: Path) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=(*QUIET, "model.conditioning.type=none"))

    guided, model = (load_trained(tmp_path, overrides) for overrides in (BY_THE_FIRST, ()))

    assert (samples(guided) - samples(model)).abs().max() > 1e-3


def test_a_guide_of_another_folder_has_to_be_of_the_same_network(
    run: Path, experiment_file: Path, tmp_path: Path
) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=(*QUIET, "model.architecture.num_layers=1"))
    elsewhere = shutil.copytree(run / "checkpoint-1", tmp_path / "copy" / "checkpoint-1")

    assert load_trained(run, (*BY_THE_FIRST, f"generation.sampling.guidance_checkpoint={elsewhere}")).guide is not None
    with pytest.raises(UserError) as caught:
        load_trained(run, (*BY_THE_FIRST, f"generation.sampling.guidance_checkpoint={tmp_path / 'checkpoint-1'}"))

    [line] = caught.value.lines
    assert "config.toml: [generation.sampling] guidance_checkpoint: [model.architecture] num_layers: 2, but " in line
    assert line.endswith("checkpoint-1 was trained with 1; expected an earlier checkpoint of the same run")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("checkpoint-3", "checkpoint-3: a checkpoint cannot guide itself; expected an earlier checkpoint"),
        ("checkpoint-7", "checkpoint-7: no such checkpoint; there are checkpoint-1, checkpoint-2, checkpoint-3"),
        ("$NOWHERE/checkpoint-1", "contains an environment variable that is not set"),
    ],
)
def test_a_guide_that_cannot_be_is_one_line(run: Path, name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_trained(run, (*BY_THE_FIRST, f"generation.sampling.guidance_checkpoint={name}"))

    [line] = caught.value.lines
    assert message in line and "[generation.sampling] guidance_checkpoint: " in line


def test_a_guide_that_was_trained_longer_is_one_line(run: Path) -> None:
    later = "generation.sampling.guidance_checkpoint=checkpoint-3"
    with pytest.raises(UserError, match="checkpoint-3: is of step 3, and the one that is sampled from of 2; expected"):
        load_trained(run / "checkpoint-2", (*BY_THE_FIRST, later))


def test_the_guides_weights_are_kept_with_the_samples(run: Path, tmp_path: Path) -> None:
    trained = load_trained(run, BY_THE_FIRST)

    job.sample(trained, asked_for(trained.attributes, {}, 1), tmp_path / "out")

    settings = json.loads((tmp_path / "out" / "samples.json").read_text())
    files = json.loads((run / "checkpoint-1" / "manifest.json").read_text())["files"]
    names = ("model.safetensors", "ema.safetensors")
    assert settings["guide_weights_sha256"] == {name: files[name]["sha256"] for name in names}


def test_a_guide_cut_short_is_one_line(run: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(run / "checkpoint-1", tmp_path / "checkpoint-1")
    weights = (broken / "ema.safetensors").read_bytes()
    (broken / "ema.safetensors").write_bytes(weights[:-8])

    with pytest.raises(UserError, match=r"guidance_checkpoint: .*ema.safetensors: truncated or changed"):
        load_trained(run, (*BY_THE_FIRST, f"generation.sampling.guidance_checkpoint={broken}"))


def test_a_guide_that_was_trained_on_other_frozen_weights_is_one_line(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run / "checkpoint-1", tmp_path / "checkpoint-1")
    (other / "frozen.json").write_text(json.dumps({"pretrained": "0" * 64}))
    files = json.loads((other / "manifest.json").read_text())["files"]
    write_manifest(other, 1, {*files, "frozen.json"})

    with pytest.raises(UserError, match=r"guidance_checkpoint: .*frozen.json: differs from that of .*checkpoint-3"):
        load_trained(run, (*BY_THE_FIRST, f"generation.sampling.guidance_checkpoint={other}"))
