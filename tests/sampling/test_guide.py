"""Autoguidance by an earlier checkpoint of the same run."""

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
from signal_diffusion.sampling.drawing import generate_samples
from signal_diffusion.sampling.requests import request_values
from signal_diffusion.sampling.trained import Trained, load_trained, with_options
from signal_diffusion.training.diffusion import train

QUIET = ("training.validation.enabled=false", "training.max_steps=3")
GUIDED = (
    "generation.sampling.guidance_type=autoguidance",
    "generation.sampling.guidance_checkpoint=checkpoint-1",
    "generation.sampling.guidance_scale=2.0",
)


@pytest.fixture(scope="module")
def run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a class-conditional model with checkpoint-1 to checkpoint-3."""
    folder = tmp_path_factory.mktemp("run")
    train(experiment_file, output_dir=folder, overrides=QUIET)
    return folder


def samples(trained: Trained) -> torch.Tensor:
    return generate_samples(trained, request_values(trained.attributes, {}, 2)).tensors


@pytest.mark.parametrize(("use_ema", "file"), [("true", "ema.safetensors"), ("false", "model.safetensors")])
def test_the_guide_has_averaged_weights_if_the_model_has(run: Path, use_ema: str, file: str) -> None:
    trained = load_trained(run, (*GUIDED, f"generation.sampling.use_ema={use_ema}"))

    guide, model = (dict(network.named_parameters()) for network in (trained.guide, trained.model))
    first, last = (load_file(run / name / file) for name in ("checkpoint-1", "checkpoint-3"))
    assert guide.keys() == model.keys() <= first.keys()
    assert all(torch.equal(guide[name], first[name]) and torch.equal(model[name], last[name]) for name in guide)
    assert not trained.guide.training


def test_samples_are_guided_away_from_those_of_the_guide(run: Path) -> None:
    """One step of euler is linear in the networks: x = u + 2·(c − u)."""
    one_step = "generation.sampling.steps=1"
    guided = samples(load_trained(run, (*GUIDED, one_step)))
    c, u = (samples(load_trained(run / name, (one_step,))) for name in ("checkpoint-3", "checkpoint-1"))

    torch.testing.assert_close(guided, u + 2 * (c - u))
    assert (c - u).abs().max() > 1e-3


def test_the_guide_is_loaded_only_if_the_scale_is_not_1(run: Path) -> None:
    unguided = load_trained(run, (*GUIDED, "generation.sampling.guidance_scale=1.0"))
    assert unguided.guide is None

    guided = with_options(unguided, ["generation.sampling.guidance_scale=2.0"])
    other = with_options(guided, ["generation.sampling.guidance_checkpoint=checkpoint-2"])

    assert torch.equal(samples(guided), samples(load_trained(run, GUIDED)))
    assert not torch.equal(samples(guided), samples(other))


def test_an_unconditional_model_can_be_guided(experiment_file: Path, tmp_path: Path) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=(*QUIET, "model.conditioning.type=none"))

    guided, model = (load_trained(tmp_path, overrides) for overrides in (GUIDED, ()))

    assert (samples(guided) - samples(model)).abs().max() > 1e-3


def test_a_guide_in_another_folder_must_have_the_same_network(run: Path, experiment_file: Path, tmp_path: Path) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=(*QUIET, "model.architecture.num_layers=1"))
    elsewhere = shutil.copytree(run / "checkpoint-1", tmp_path / "copy" / "checkpoint-1")

    assert load_trained(run, (*GUIDED, f"generation.sampling.guidance_checkpoint={elsewhere}")).guide is not None
    with pytest.raises(UserError) as caught:
        load_trained(run, (*GUIDED, f"generation.sampling.guidance_checkpoint={tmp_path / 'checkpoint-1'}"))

    [line] = caught.value.lines
    assert "config.toml: [generation.sampling] guidance_checkpoint: [model.architecture] num_layers: 2, but " in line
    assert line.endswith("checkpoint-1 was trained with 1; use an earlier checkpoint of the same run")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("checkpoint-3", "checkpoint-3: a checkpoint cannot guide itself; use an earlier checkpoint"),
        ("checkpoint-7", "checkpoint-7: no such checkpoint; there are checkpoint-1, checkpoint-2, checkpoint-3"),
        ("$NOWHERE/checkpoint-1", "contains an environment variable that is not set"),
    ],
)
def test_an_impossible_guide_is_a_one_line_error(run: Path, name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_trained(run, (*GUIDED, f"generation.sampling.guidance_checkpoint={name}"))

    [line] = caught.value.lines
    assert message in line and "[generation.sampling] guidance_checkpoint: " in line


def test_a_guide_of_a_later_step_is_an_error(run: Path) -> None:
    later = "generation.sampling.guidance_checkpoint=checkpoint-3"
    with pytest.raises(UserError, match="checkpoint-3: its step 3 is not before the sampled checkpoint's 2; use"):
        load_trained(run / "checkpoint-2", (*GUIDED, later))


def test_samples_json_has_the_hashes_of_the_guides_weights(run: Path, tmp_path: Path) -> None:
    trained = load_trained(run, GUIDED)

    job.sample(trained, request_values(trained.attributes, {}, 1), tmp_path / "out")

    settings = json.loads((tmp_path / "out" / "samples.json").read_text())
    files = json.loads((run / "checkpoint-1" / "manifest.json").read_text())["files"]
    names = ("model.safetensors", "ema.safetensors")
    assert settings["guide_weights_sha256"] == {name: files[name]["sha256"] for name in names}


def test_a_truncated_guide_is_an_error(run: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(run / "checkpoint-1", tmp_path / "checkpoint-1")
    weights = (broken / "ema.safetensors").read_bytes()
    (broken / "ema.safetensors").write_bytes(weights[:-8])

    with pytest.raises(UserError, match=r"guidance_checkpoint: .*ema.safetensors: truncated or changed"):
        load_trained(run, (*GUIDED, f"generation.sampling.guidance_checkpoint={broken}"))


def test_a_guide_with_other_frozen_weights_is_an_error(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run / "checkpoint-1", tmp_path / "checkpoint-1")
    (other / "frozen.json").write_text(json.dumps({"pretrained": "0" * 64}))
    files = json.loads((other / "manifest.json").read_text())["files"]
    write_manifest(other, 1, {*files, "frozen.json"})

    with pytest.raises(UserError, match=r"guidance_checkpoint: .*frozen.json: differs from that of .*checkpoint-3"):
        load_trained(run, (*GUIDED, f"generation.sampling.guidance_checkpoint={other}"))
