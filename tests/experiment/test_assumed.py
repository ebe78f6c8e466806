"""An experiment whose dataset or weights are not on this machine: sizes are shown, assumptions and needs are listed."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.config.schema import Conditioning
from signal_diffusion.config.sources import written_keys
from signal_diffusion.data.preparing.building import WindowOptions
from signal_diffusion.data.representations.registry import REPRESENTATIONS, representation_of
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.assumed import SAMPLING_RATE, WINDOW, Assumptions, assumed_dataset, assumed_vae
from signal_diffusion.experiment.inspection import fresh_network, inspect
from signal_diffusion.experiment.loading import load_autoencoder_experiment, load_experiment
from signal_diffusion.experiment.resolving import resolve
from signal_diffusion.training.autoencoder import network_of, outline

CONFIG = Path(__file__).parents[2] / "config"
SHIPPED = [path for path in sorted(CONFIG.glob("*/*.toml")) if path.stem != "quickstart"]  # it makes its own dataset

QUICK = ("dit-db-only", "hourglass-db-iq", "eeg-timeseries-x4")


@pytest.fixture(autouse=True)
def no_hub_and_no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    monkeypatch.chdir(tmp_path)


def check(*words: str | Path) -> tuple[int, str]:
    """Exit code and standard output of `signal-diffusion config check`."""
    result = CliRunner().invoke(app, ["config", "check", *map(str, words)])
    if isinstance(result.exception, UserError):
        raise result.exception
    return result.exit_code, result.stdout


def shipped() -> list[Any]:
    """The shipped files; a few are not slow."""
    return [pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow) for path in SHIPPED]


@pytest.mark.parametrize("path", shipped())
def test_a_shipped_file_is_checked_without_dataset_and_hub(path: Path) -> None:
    code, printed = check(path)

    names = [line[2:16].strip() for line in printed.splitlines()]
    needs = [line.split()[3:5] for line in printed.splitlines() if line.startswith("  a run needs")]
    assert code == 0 and names[1] == "parameters" and {"compute", "memory", "steps", "assumed"} <= {*names}
    weights = [["[model]", "pretrained:"]] if path.stem.startswith("sd35") else []
    assert needs == [*weights, ["[data.paths]", "root:"]]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_parts_of_a_shipped_file_fit_together(path: Path) -> None:
    """Its network can be built for the dataset that `prepare` makes."""
    if path.parent.name == "autoencoder":
        experiment = load_autoencoder_experiment(path)
        card = assumed_dataset(experiment.data, Conditioning())[0].card
        assert network_of(experiment, card).latent_shape
    else:
        resolved = resolve(load_experiment(path), written_keys(path, []), assumptions=Assumptions())
        with torch.device("meta"):
            network, _ = fresh_network(resolved)
        assert resolved.dataset.is_assumed and network.num_tokens


def test_a_wrong_file_is_an_error_whether_or_not_the_dataset_is_here() -> None:
    with pytest.raises(UserError, match=r"dit-db-iq.toml: \[model.architecture\] patch_size .* does not divide"):
        check(CONFIG / "diffusion" / "dit-db-iq.toml", "--set", "model.architecture.patch_size=[5, 5]")


def test_what_is_assumed_costs_the_same_as_the_dataset_of_prepare(
    experiment_file: Path, synthetic_dataset: Path
) -> None:
    found = inspect(resolve(load_experiment(experiment_file)))
    assumptions = Assumptions()
    experiment = load_experiment(experiment_file, ["data.paths.root=nowhere"])

    assumed = inspect(resolve(experiment, assumptions=assumptions))

    assert assumed == replace(found, extent=None)
    assert len(assumptions.missing) == 1 and assumptions.assumed == ["examples of 1 × 64 × 64 in 2 classes"]


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_the_assumed_card_has_the_defaults_of_prepare(name: str) -> None:
    data = replace(load_experiment(CONFIG / "diffusion" / "dit-db-iq.toml").data, representation=name)

    dataset, line = assumed_dataset(data, Conditioning(type="class", num_classes=3))

    card = dataset.card
    assert dataset.is_assumed and representation_of(card).shape == card.shape
    shape = (1, 19, 2048) if name == "timeseries" else (1 if name == "db-only" else 3, 64, 64)
    assert card.shape == shape and line == f"examples of {' × '.join(map(str, shape))} in 3 classes"
    defaults = {field.name: field.default for field in fields(WindowOptions)}
    assert (defaults["rate"], defaults["window"]) == (SAMPLING_RATE, WINDOW)


def test_the_assumed_vae_has_the_weights_of_stable_diffusion_3_5() -> None:
    vae, _ = assumed_vae()

    assert sum(parameter.numel() for parameter in vae.parameters()) == 83_819_683


def test_the_flops_of_an_autoencoder_are_those_that_torch_counts() -> None:
    experiment = load_autoencoder_experiment(CONFIG / "autoencoder" / "eeg-db-only.toml")
    card = assumed_dataset(experiment.data, Conditioning())[0].card
    network = network_of(experiment, card)

    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *card.shape))

    assert outline(experiment, card)[2] == counter.get_total_flops()


@pytest.mark.parametrize(
    ("conditioning", "assumed"),
    [
        ({"type": "attributes"}, "examples of 1 × 64 × 64"),
        ({"type": "attributes", "attributes": ["age", "label", "task"]}, "examples of 1 × 64 × 64"),
        (
            {"type": "caption", "text_encoder": "owner/clip"},
            "one caption of 77 tokens × 768, as by the text encoder of",
        ),
    ],
)
def test_conditions_are_assumed_too(conditioning: dict[str, Any], assumed: str, experiment_file: Path) -> None:
    overrides = [f"model.conditioning.{key}={json.dumps(value)}" for key, value in conditioning.items()]

    code, printed = check(
        experiment_file, *(word for each in [*overrides, "data.paths.root=nowhere"] for word in ("--set", each))
    )

    assert code == 0 and f"  assumed          {assumed}" in printed


def test_a_missing_checkpoint_to_resume_or_to_start_from_is_what_a_run_needs(experiment_file: Path) -> None:
    resume = ("training.resume.enabled=true", "training.resume.checkpoint=runs/a/checkpoint-9")
    for overrides, line in (
        (resume, "  a run needs      runs/a/checkpoint-9: no such checkpoint\n"),
        (
            ("model.pretrained=runs/a/checkpoint-9",),
            "  a run needs      [model] pretrained: runs/a/checkpoint-9: not a",
        ),
    ):
        code, printed = check(experiment_file, *(word for each in overrides for word in ("--set", each)))
        assert code == 0 and line in printed and "  steps            6 per epoch of 100 examples" in printed


def test_sizes_that_an_older_file_states_are_used() -> None:
    text = """
        [data]
        output_type = "db-only"
        data_type = "timeseries"
        [dataset]
        name = "nowhere"
        [dataset.extras]
        n_eeg_channels = 20
        sequence_length = 1024
        [model]
        name = "dit"
        [model.extras]
        patch_size = [1, 8]
        num_layers = 1
        """
    Path("old.toml").write_text(text)

    code, printed = check("old.toml")

    assert code == 0 and "  assumed          examples of 1 × 20 × 1024\n" in printed
