"""Runs with `noise = "pink"`: its spectrum falls half as steeply as that of the training signals, in exports too."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.config.schema import Diffusion
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.diffusion.normalisation import cosines
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.experiment.network import method_on
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train
from tests.training.runs import largest_difference, metrics_of

PINK = ("model.diffusion.noise=pink", "training.log_interval=1", "model.architecture.patch_size=[0,64]")


@pytest.fixture(scope="module")
def run(signals_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pink") / "run"
    assert train(signals_file, output_dir=folder, overrides=PINK)
    return folder


def refused(*words: str | Path) -> str:
    with pytest.raises(UserError) as caught:
        CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    return str(caught.value)


def test_the_spectrum_of_noise_falls_half_as_steeply_as_that_of_the_training_signals(run: Path) -> None:
    trained = load_trained(run)
    spectrum = torch.tensor(trained.representation.normalisation.spectrum, dtype=torch.float64)
    noise = trained.generator.first_noise(range(64)).double() / trained.representation.normalisation.std[0][0]
    power = (noise @ cosines(len(spectrum))).square().mean((0, 1, 2))
    bands = [slice(first, first + 40) for first in range(20, len(spectrum) // 2, 40)]
    found, expected = (torch.stack([each[band].mean().log() for band in bands]) for each in (power, spectrum.square()))
    slope = np.polyfit(expected.numpy(), found.numpy(), 1)[0]
    assert slope == pytest.approx(0.5, abs=0.05)
    assert expected[0] > expected[-1] + 3  # of EEG, it falls, here by more than 13 dB


def test_a_resumed_run_is_the_same_to_the_bit(run: Path, signals_file: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "checkpoint-2", tmp_path / "run" / "checkpoint-2")
    shutil.copy(run / "metrics.jsonl", tmp_path / "run")
    assert train(signals_file, output_dir=tmp_path / "run", overrides=PINK, resume="latest")
    assert largest_difference(run / "checkpoint-4", tmp_path / "run" / "checkpoint-4") == 0
    white = tmp_path / "white"
    assert train(signals_file, output_dir=white, overrides=PINK[1:])
    assert metrics_of(white)[0]["train/loss"] != metrics_of(run)[0]["train/loss"]


def test_it_does_not_go_on_with_white_noise_nor_is_guided_by_it(run: Path, signals_file: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(UserError, match=r"\[model.diffusion\] noise: 'white', but .* was trained with 'pink'; use the"):
        train(signals_file, output_dir=tmp_path / "run", overrides=PINK[1:], resume="latest")
    assert train(signals_file, output_dir=tmp_path / "white", overrides=PINK[1:])
    guide = ("guidance_type=autoguidance", "guidance_scale=2", f"guidance_checkpoint={run / 'checkpoint-2'}")
    words = [word for each in guide for word in ("--set", f"generation.sampling.{each}")]
    message = refused("sample", tmp_path / "white", "--num", 1, "--output", tmp_path / "out", *words)
    assert "[model.diffusion] noise: 'white', but" in message


def test_an_export_samples_what_its_run_does(run: Path, tmp_path: Path) -> None:
    for words in (
        ["export", run, "--output", tmp_path / "model"],
        *(
            ["sample", source, "--num", 2, "--steps", 3, "--output", tmp_path / name]
            for name, source in (("own", run), ("exported", tmp_path / "model"))
        ),
    ):
        assert CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False).exit_code == 0
    own, exported = (np.load(tmp_path / name / "samples.npz")["signals"] for name in ("own", "exported"))
    assert np.array_equal(own, exported)


def test_signals_cannot_be_continued_and_one_line_says_so(run: Path, tmp_path: Path) -> None:
    message = refused("sample", run, "--num", 1, "--duration", 40, "--output", tmp_path / "out")
    assert message.startswith("[model.diffusion] noise: ") and "generates whole windows only" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.masking.probability=0.5", "noise: 'pink' is for whole windows; use 'white', or"),
        ("data.representation=db-only", "noise: has no effect with data.representation = 'db-only'"),
        (
            "model.autoencoder.enabled=true model.autoencoder.path=x",
            "noise: has no effect with model.autoencoder.enabled = True",
        ),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(override: str, expected: str, signals_file: Path) -> None:
    with pytest.raises(UserError, match=expected):
        load_experiment(signals_file, (*PINK, *override.split()))


def test_a_card_without_a_spectrum_has_white_noise_only(signals_file: Path, datasets: dict[str, Path]) -> None:
    card = DatasetCard.load(datasets["timeseries"])
    parameters = {key: value for key, value in card.representation["parameters"].items() if key != "spectrum"}
    older = replace(card, representation=card.representation | {"parameters": parameters})
    model = load_experiment(signals_file).model
    assert method_on(model, older).normalisation == method_on(model, card).normalisation
    with pytest.raises(UserError, match=r"noise: the dataset's card has no spectrum .*prepare the dataset again"):
        method_on(replace(model, diffusion=Diffusion(noise="pink")), older)
