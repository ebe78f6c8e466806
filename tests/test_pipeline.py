"""From a run to samples: the same ones whatever is around them, in microvolts, whole or not there."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from signal_diffusion import pipeline
from signal_diffusion.cli import app
from signal_diffusion.data.representations.spectrogram import DbOnly
from signal_diffusion.errors import UserError
from signal_diffusion.training.diffusion import train


@pytest.fixture(scope="module")
def run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(experiment_file, output_dir=folder, overrides=("training.max_steps=4",))
    return folder


def sample_with(run: Path, output: Path, *arguments: str) -> dict[str, np.ndarray]:
    result = CliRunner().invoke(app, ["sample", str(run), "--output", str(output), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with np.load(output / "samples.npz") as file:
        return dict(file)


def test_samples_are_tensors_and_microvolts_with_their_labels(run: Path, tmp_path: Path) -> None:
    samples = sample_with(run, tmp_path / "out", "--num", "5")
    assert samples["tensors"].shape == (5, 1, 64, 64) and samples["signals"].shape == (5, 2048)
    assert samples["sampling_rate"] == 125.0
    assert samples["label"].tolist() == ["alert", "relaxed", "alert", "relaxed", "alert"]
    assert samples["ch_names"].tolist() == ["EEG"]
    assert np.isfinite(samples["signals"]).all() and 0.01 < np.abs(samples["signals"]).mean() < 1000
    assert (tmp_path / "out" / "samples.png").stat().st_size > 1000
    settings = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert (settings["num_samples"], settings["sampler"], settings["seed"]) == (5, "euler", 0)


def test_samples_are_written_in_the_formats_asked_for(run: Path, tmp_path: Path) -> None:
    samples = sample_with(run, tmp_path / "out", "--num", "3", "--format", "edf,npz, parquet,fif")
    names = ["samples-epo.fif", "samples.edf", "samples.json", "samples.npz", "samples.parquet", "samples.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    raw = mne.io.read_raw_edf(tmp_path / "out" / "samples.edf", verbose="error")
    step = json.loads((tmp_path / "out" / "samples.json").read_text())["edf_step_microvolts"]
    off = np.abs(raw.get_data()[0, : 3 * 2048] * 1e6 - samples["signals"].reshape(-1))
    assert 0 < off.max() <= step / 2 * (1 + 1e-4)
    epochs = mne.read_epochs(tmp_path / "out" / "samples-epo.fif", verbose="error")
    assert epochs.metadata["label"].tolist() == samples["label"].tolist()


def test_without_npz_there_is_none(run: Path, tmp_path: Path) -> None:
    arguments = ["sample", str(run), "--output", str(tmp_path / "out"), "--num", "2", "--format", "parquet"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "samples.parquet, samples.json, samples.png" in result.stdout
    assert not (tmp_path / "out" / "samples.npz").exists()


def without_signals(trained: pipeline.Trained) -> pipeline.Trained:
    """The same model, of pictures that nobody can turn back."""
    card = dataclasses.replace(trained.card, representation=trained.card.representation | {"inverse": "none"})

    class Pictures(DbOnly):
        inverse = "none"  # type: ignore[assignment]  # a property, in the class it replaces

    representation = Pictures.from_parameters(trained.card.representation["parameters"])
    return dataclasses.replace(trained, card=card, representation=representation)


def test_pictures_without_signals_are_sampled_as_tensors(run: Path, tmp_path: Path) -> None:
    trained = without_signals(pipeline.load_trained(run))
    pipeline.sample(trained, pipeline.conditions(trained.attributes, {}, 2), 2, tmp_path / "out")
    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert set(file) == {"tensors", "label"}


def test_formats_of_signals_are_refused_before_pictures_are_generated(run: Path, tmp_path: Path) -> None:
    trained = without_signals(pipeline.load_trained(run))
    cond = pipeline.conditions(trained.attributes, {}, 2)
    batches: list[int] = []
    with pytest.raises(UserError, match="--format fif: db-only of this dataset do not become signals"):
        pipeline.sample(trained, cond, 2, tmp_path / "out", formats=("npz", "fif"), on_batch=batches.append)
    assert not batches and not (tmp_path / "out").exists()


def test_a_sample_depends_on_its_number_and_seed_alone(run: Path, tmp_path: Path) -> None:
    alone = sample_with(run, tmp_path / "a", "--num", "3", "--label", "relaxed", "--batch-size", "1")
    among = sample_with(run, tmp_path / "b", "--num", "7", "--label", "relaxed", "--batch-size", "4")
    assert np.abs(alone["tensors"] - among["tensors"][:3]).max() < 1e-5
    other = sample_with(run, tmp_path / "c", "--num", "3", "--label", "relaxed", "--seed", "1")
    assert np.abs(alone["tensors"] - other["tensors"]).max() > 0.1


def test_the_label_and_guidance_change_the_sample(run: Path, tmp_path: Path) -> None:
    relaxed = sample_with(run, tmp_path / "a", "--num", "2", "--label", "relaxed")
    alert = sample_with(run, tmp_path / "b", "--num", "2", "--label", "alert")
    guided = sample_with(run, tmp_path / "c", "--num", "2", "--label", "relaxed", "--guidance-scale", "3")
    assert np.abs(relaxed["tensors"] - alert["tensors"]).max() > 0
    assert np.abs(relaxed["tensors"] - guided["tensors"]).max() > 0


def test_every_parameter_that_matters_is_in_the_checkpoint(run: Path, tmp_path: Path) -> None:
    here = sample_with(run, tmp_path / "here", "--num", "2")
    command = Path(sys.executable).parent / "signal-diffusion"
    subprocess.run(
        [command, "sample", str(run), "--num", "2", "--output", str(tmp_path / "there")],
        check=True,
        capture_output=True,
    )
    with np.load(tmp_path / "there" / "samples.npz") as there:
        assert np.array_equal(here["tensors"], there["tensors"])
        assert np.array_equal(here["signals"], there["signals"])


def test_raw_weights_differ_from_the_average(run: Path) -> None:
    average = pipeline.load_trained(run).model.state_dict()
    raw = pipeline.load_trained(run, ["generation.sampling.use_ema=false"]).model.state_dict()
    assert any(not torch.equal(average[name], raw[name]) for name in average)


def test_samples_already_there_are_not_touched(run: Path, tmp_path: Path) -> None:
    sample_with(run, tmp_path / "out", "--num", "1")
    before = (tmp_path / "out" / "samples.npz").read_bytes()
    with pytest.raises(UserError, match="there already"):
        CliRunner().invoke(app, ["sample", str(run), "--output", str(tmp_path / "out")], catch_exceptions=False)
    assert (tmp_path / "out" / "samples.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--label", "asleep"], "expected one of alert, relaxed"),
        (["--attributes", "age=60"], "no attribute age; it has label"),
        (["--caption", "a man"], "--caption: the model has no attribute caption; it has label"),
        (["--attributes", "age"], "expected name=value"),
        (["--label", "alert", "--attributes", "label"], "expected name=value"),
        (["--sampler", "eulr"], "did you mean 'euler'"),
        (["--format", "npz,csv"], "there is no 'csv'; use one of: npz, parquet, fif, edf"),
        (["--steps", "0"], "expected a number greater than or equal to 1"),
    ],
)
def test_what_cannot_be_sampled_is_one_line(run: Path, arguments: list[str], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        CliRunner().invoke(app, ["sample", str(run), *arguments], catch_exceptions=False)
    assert len(caught.value.lines) == 1 and expected in str(caught.value)
    assert not (run / "generated").exists()


def test_a_truncated_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    import shutil

    checkpoint = tmp_path / "checkpoint-4"
    shutil.copytree(run / "checkpoint-4", checkpoint)
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match="cut short or changed"):
        pipeline.load_trained(checkpoint)


def test_a_model_of_attributes_is_asked_for_some_of_them(experiment_file: Path, tmp_path: Path) -> None:
    conditioning = ("model.conditioning.type=attributes", "model.conditioning.attributes=['gender', 'health', 'age']")
    overrides = (*conditioning, "training.max_steps=2", "training.validation.enabled=false")
    train(experiment_file, output_dir=tmp_path / "run", overrides=overrides)
    female, male = (
        sample_with(tmp_path / "run", tmp_path / gender, "--num", "2", "--attributes", f"gender={gender},age=60")
        for gender in ("female", "male")
    )
    assert female["gender"].tolist() == ["female"] * 2 and female["health"].tolist() == [""] * 2
    assert female["age"].tolist() == [60.0] * 2
    assert np.abs(female["tensors"] - male["tensors"]).max() > 0


@pytest.mark.parametrize("asked", [{}, {"age": "60"}, {"gender": "female", "age": "60", "health": "patient"}])
def test_attributes_left_open_are_the_null(asked: dict[str, str]) -> None:
    from signal_diffusion.models.conditioning import Categorical, Numeric

    attributes = (
        Categorical("gender", ("female", "male")),
        Categorical("health", ("healthy", "patient")),
        Numeric("age", 40.0, 10.0),
    )
    cond = pipeline.conditions(attributes, asked, 2)
    assert cond.attributes["gender"].tolist() == [0 if "gender" in asked else -1] * 2
    assert cond.attributes["health"].tolist() == [1 if "health" in asked else -1] * 2
    assert [str(age) for age in cond.attributes["age"].tolist()] == ["60.0" if "age" in asked else "nan"] * 2
