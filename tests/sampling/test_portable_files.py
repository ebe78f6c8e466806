"""What is written to be passed on, datasets and samples, names no folder of this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare
from signal_diffusion.sampling import export, job
from signal_diffusion.sampling.request_options import RequestOptions, build_request
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.sampling.writing import SampleFiles
from signal_diffusion.training.diffusion import train

OPTIONS = PrepareOptions(channels="Fz,Cz", window=512, label="group", splits=(0.5, 0.5, 0.0), skip_bad=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings, a table and the dataset made from them; one recording is a broken link."""
    folder = tmp_path_factory.mktemp("home-of-jane")
    for number in range(4):
        signal = 20e-6 * np.random.default_rng(number).standard_normal((2, 125 * 8))
        raw = mne.io.RawArray(signal, mne.create_info(["Fz", "Cz"], 125.0, "eeg"), verbose="ERROR")
        (folder / "lab" / f"p{number}").mkdir(parents=True)
        raw.save(folder / "lab" / f"p{number}" / "raw.fif", verbose="ERROR")
    (folder / "lab" / "p0" / "gone.fif").symlink_to(folder / "annex" / "gone.fif")
    (folder / "people.csv").write_text("id,group\n" + "".join(f"p{number},{'ab'[number % 2]}\n" for number in range(4)))
    prepare([folder / "lab"], folder / "out", PrepareOptions(**{**vars(OPTIONS), "subjects": folder / "people.csv"}))
    return folder


def files_that_name(home: Path, folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and home.name.encode() in path.read_bytes()]


def test_a_dataset_names_no_folder_of_this_machine(home: Path) -> None:
    assert not files_that_name(home, home / "out")
    card = DatasetCard.load(home / "out")
    assert card.command.startswith("signal-diffusion prepare lab --output DIR")
    assert "--subjects people.csv" in card.command and "prepare lab" in (home / "out" / "README.md").read_text()
    assert card.skipped[0].startswith("p0/gone.fif: the file is a broken link")


def test_inputs_below_the_current_folder_are_named_as_they_are_given(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.parent)
    options = PrepareOptions(**{**vars(OPTIONS), "subjects": Path(home.name, "people.csv")})
    command = prepare([Path(home.name, "lab")], tmp_path / "a", options).command
    assert f"prepare {home.name}/lab --output DIR" in command and f"--subjects {home.name}/people.csv" in command
    monkeypatch.chdir(home / "lab")
    options = PrepareOptions(**{**vars(OPTIONS), "subjects": Path("../people.csv")})
    assert "prepare lab --output DIR" in prepare([Path()], tmp_path / "b", options).command


def test_samples_and_exports_name_no_folder_of_this_machine(home: Path, experiment_file: Path, tmp_path: Path) -> None:
    few = ("training.max_steps=2", "training.validation.enabled=false", "data.loading.batch_size=4")
    train(experiment_file, output_dir=home / "run", overrides=(f"data.paths.root={home / 'out'}", *few))
    guided = ("generation.sampling.guidance_scale=2", "generation.sampling.guidance_type=autoguidance")
    overrides = (*guided, f"generation.sampling.guidance_checkpoint={home / 'run' / 'checkpoint-1'}")
    trained = load_trained(home / "run" / "checkpoint-2", overrides)
    folders = {"splits": {str(home / "train"): "train"}}  # as in the card of converted folders
    trained = replace(trained, card=replace(trained.card, preprocessing=trained.card.preprocessing | folders))
    request, _ = build_request(RequestOptions(like="validation"), trained.experiment, trained.card)
    formats = ("npz", "parquet", "fif", "edf", "png")
    job.sample(trained, request[:2], tmp_path / "samples", files=SampleFiles(formats=formats))
    about = json.loads((tmp_path / "samples" / "samples.json").read_text())
    assert (about["checkpoint"], about["guidance_checkpoint"]) == ("run/checkpoint-2", "checkpoint-1")
    assert not files_that_name(home, tmp_path / "samples")
    assert not files_that_name(home, export.export(trained, tmp_path / "model"))
