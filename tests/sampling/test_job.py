"""Sampling jobs: samples in microvolts that depend only on their number, seed and conditions."""

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

from signal_diffusion.cli import app
from signal_diffusion.data.representations.spectrogram import DbOnly
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Categorical, Numeric
from signal_diffusion.sampling import job
from signal_diffusion.sampling.drawing import generate_samples
from signal_diffusion.sampling.requests import request_values
from signal_diffusion.sampling.trained import Trained, load_trained
from signal_diffusion.sampling.writing import SampleFiles


def sample_with(run: Path, output: Path, *arguments: str) -> dict[str, np.ndarray]:
    result = CliRunner().invoke(app, ["sample", str(run), "--output", str(output), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with np.load(output / "samples.npz") as file:
        return dict(file)


def test_npz_has_tensors_and_microvolts_with_labels(run: Path, tmp_path: Path) -> None:
    samples = sample_with(run, tmp_path / "out", "--num", "5")
    assert samples["tensors"].shape == (5, 1, 64, 64) and samples["signals"].shape == (5, 2048)
    assert samples["sampling_rate"] == 125.0
    assert samples["label"].tolist() == ["alert", "relaxed", "alert", "relaxed", "alert"]
    assert samples["ch_names"].tolist() == ["EEG"]
    assert np.isfinite(samples["signals"]).all() and 0.01 < np.abs(samples["signals"]).mean() < 1000
    assert (tmp_path / "out" / "samples.png").stat().st_size > 1000
    settings = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert (settings["num_samples"], settings["sampler"], settings["seed"]) == (5, "euler", 0)


def test_samples_are_written_in_the_requested_formats(run: Path, tmp_path: Path) -> None:
    samples = sample_with(run, tmp_path / "out", "--num", "3", "--format", "edf,npz, parquet,fif")
    names = ["samples-epo.fif", "samples.edf", "samples.json", "samples.npz", "samples.parquet", "samples.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    raw = mne.io.read_raw_edf(tmp_path / "out" / "samples.edf", verbose="error")
    step = json.loads((tmp_path / "out" / "samples.json").read_text())["edf_step_microvolts"]
    error = np.abs(raw.get_data()[0, : 3 * 2048] * 1e6 - samples["signals"].reshape(-1))
    assert 0 < error.max() <= step / 2 * (1 + 1e-4)
    epochs = mne.read_epochs(tmp_path / "out" / "samples-epo.fif", verbose="error")
    assert epochs.metadata["label"].tolist() == samples["label"].tolist()


def test_npz_is_not_written_unless_requested(run: Path, tmp_path: Path) -> None:
    arguments = ["sample", str(run), "--output", str(tmp_path / "out"), "--num", "2", "--format", "parquet"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "samples.parquet, samples.json, samples.png" in result.stdout
    assert not (tmp_path / "out" / "samples.npz").exists()


def without_signals(trained: Trained) -> Trained:
    """The same model with a representation that cannot be converted to signals."""
    card = dataclasses.replace(trained.card, representation=trained.card.representation | {"inverse": "none"})

    class NotInvertible(DbOnly):
        inverse = "none"  # type: ignore[assignment]  # a property in the base class

    representation = NotInvertible.from_parameters(trained.card.representation["parameters"])
    return dataclasses.replace(trained, card=card, representation=representation)


def test_examples_without_signals_are_sampled_as_tensors(run: Path, tmp_path: Path) -> None:
    trained = without_signals(load_trained(run))
    job.sample(trained, request_values(trained.attributes, {}, 2), tmp_path / "out")
    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert set(file) == {"tensors", "label"}


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("fif", {"channels": ("Cz", "Fpµ1")}, "channel Fpµ1 has characters that are not ASCII, which FIF cannot store"),
        ("edf", {"channels": ("Cz", "Fpµ1")}, "channel Fpµ1 has characters that are not ASCII, which EDF cannot store"),
        ("edf", {"sampling_rate": 102.4}, "EDF needs a whole number of Hz"),
        ("fif", {"window": 2**30}, "samples per channel are more than FIF's events can count"),
    ],
)
def test_limits_of_a_format_are_checked_before_anything_is_generated(
    run: Path, tmp_path: Path, name: str, change: dict[str, object], complaint: str
) -> None:
    trained = load_trained(run)
    trained = dataclasses.replace(trained, card=dataclasses.replace(trained.card, **change))
    calls: list[int] = []
    with pytest.raises(UserError, match=f"--format {name}: .*{complaint}"):
        request = request_values(trained.attributes, {}, 2)
        job.sample(trained, request, tmp_path / "out", files=SampleFiles(formats=("npz", name)), on_batch=calls.append)
    assert not calls and not list(tmp_path.iterdir())


def test_formats_that_need_signals_are_refused_before_anything_is_generated(run: Path, tmp_path: Path) -> None:
    trained = without_signals(load_trained(run))
    request = request_values(trained.attributes, {}, 2)
    batches: list[int] = []
    files = SampleFiles(formats=("npz", "fif"))
    with pytest.raises(UserError, match="--format fif: db-only examples of this dataset cannot be turned into signals"):
        job.sample(trained, request, tmp_path / "out", files=files, on_batch=batches.append)
    assert not batches and not (tmp_path / "out").exists()


def test_a_sample_depends_only_on_its_number_and_the_seed(electrodes_run: Path, tmp_path: Path) -> None:
    same = ("--attributes", "gender=female", "--num")
    three = sample_with(electrodes_run, tmp_path / "a", *same, "3", "--batch-size", "1")
    seven = sample_with(electrodes_run, tmp_path / "b", *same, "7", "--batch-size", "4")
    assert np.abs(three["tensors"] - seven["tensors"][:3]).max() < 1e-5
    other = sample_with(electrodes_run, tmp_path / "c", *same, "3", "--seed", "1")
    assert np.abs(three["tensors"] - other["tensors"]).max() > 0.1


def test_samples_of_a_short_last_batch_are_bit_identical(electrodes_run: Path) -> None:
    trained = load_trained(electrodes_run)
    sizes = set()
    trained.model.register_forward_pre_hook(lambda module, arguments: sizes.add(len(arguments[0])))
    five, eight = (
        generate_samples(trained, request_values(trained.attributes, {"gender": "female"}, num), batch_size=4)
        for num in (5, 8)
    )
    assert len(five) == len(five.columns["gender"]) == 5 and sizes == {4}
    assert torch.equal(five.tensors, eight.tensors[:5])


def test_a_sample_does_not_depend_on_the_others_in_its_batch(electrodes_run: Path) -> None:
    trained = load_trained(electrodes_run)
    request = request_values(trained.attributes, {"gender": "female"}, 4)
    others = dataclasses.replace(request, noise=(90, 1, 91, 92))
    first, second = (generate_samples(trained, each, batch_size=4).tensors for each in (request, others))
    assert torch.equal(first[1], second[1]) and not torch.equal(first[0], second[0])


def test_the_label_and_guidance_change_the_sample(run: Path) -> None:
    trained, guided = load_trained(run), load_trained(run, ["generation.sampling.guidance_scale=3.0"])
    relaxed, alert = (request_values(trained.attributes, {"label": label}, 2) for label in ("relaxed", "alert"))
    tensors = [generate_samples(*each).tensors for each in ((trained, relaxed), (trained, alert), (guided, relaxed))]
    assert np.abs(tensors[0] - tensors[1]).max() > 0
    assert np.abs(tensors[0] - tensors[2]).max() > 0


@pytest.mark.slow
def test_another_process_generates_the_same_samples_from_the_checkpoint(run: Path, tmp_path: Path) -> None:
    first = sample_with(run, tmp_path / "first", "--num", "2")
    command = Path(sys.executable).parent / "signal-diffusion"
    subprocess.run(
        [command, "sample", str(run), "--num", "2", "--output", str(tmp_path / "second")],
        check=True,
        capture_output=True,
    )
    with np.load(tmp_path / "second" / "samples.npz") as second:
        assert np.array_equal(first["tensors"], second["tensors"])
        assert np.array_equal(first["signals"], second["signals"])


def test_use_ema_false_loads_the_last_weights(run: Path) -> None:
    average = load_trained(run).model.state_dict()
    raw = load_trained(run, ["generation.sampling.use_ema=false"]).model.state_dict()
    assert any(not torch.equal(average[name], raw[name]) for name in average)


def test_some_attributes_can_be_requested_and_others_left_open(electrodes_run: Path, tmp_path: Path) -> None:
    female, male = (
        sample_with(electrodes_run, tmp_path / gender, "--num", "2", "--attributes", f"gender={gender},age=60")
        for gender in ("female", "male")
    )
    assert female["gender"].tolist() == ["female"] * 2 and female["electrode"].tolist() == [""] * 2
    assert female["age"].tolist() == [60.0] * 2
    assert np.abs(female["tensors"] - male["tensors"]).max() > 0


@pytest.mark.parametrize("requested", [{}, {"age": "60"}, {"gender": "female", "age": "60", "health": "patient"}])
def test_attributes_that_are_not_requested_are_left_open(requested: dict[str, str]) -> None:
    attributes = (
        Categorical("gender", ("female", "male")),
        Categorical("health", ("healthy", "patient")),
        Numeric("age", 40.0, 10.0),
    )
    cond = request_values(attributes, requested, 2).cond
    assert cond.attributes["gender"].tolist() == [0 if "gender" in requested else -1] * 2
    assert cond.attributes["health"].tolist() == [1 if "health" in requested else -1] * 2
    assert [str(age) for age in cond.attributes["age"].tolist()] == ["60.0" if "age" in requested else "nan"] * 2


@pytest.mark.parametrize(("text", "index"), [("female", 0), ("F", 0), ("ma", 1), ("male", 1)])
def test_a_category_can_be_abbreviated(text: str, index: int) -> None:
    gender = Categorical("gender", ("female", "male"))
    assert request_values([gender], {"gender": text}, 1).cond.attributes["gender"].tolist() == [index]


def test_an_ambiguous_abbreviation_of_a_category_is_an_error() -> None:
    label = Categorical("label", ("rest", "relaxed", "re"))
    assert request_values([label], {"label": "re"}, 1).cond.attributes["label"].tolist() == [2]
    with pytest.raises(UserError, match="label=r: expected one of rest, relaxed, re"):
        request_values([label], {"label": "r"}, 1)
