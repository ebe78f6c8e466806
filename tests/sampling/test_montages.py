"""A model that knows electrodes by their places samples others than it was trained on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.recordings.channels import TEN_TEN, TEN_TWENTY
from signal_diffusion.data.recordings.positions import standard_positions
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.diffusion import generation
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.experiment.network import assemble
from signal_diffusion.experiment.pretrained import pretrained_of
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.randomness import noise_for
from signal_diffusion.sampling.drawing import generate_samples
from signal_diffusion.sampling.given_windows import window_filler
from signal_diffusion.sampling.job import sample
from signal_diffusion.sampling.montages import (
    check_takes_montages,
    electrodes_named,
    montage_card,
    montage_named,
    with_montage,
)
from signal_diffusion.sampling.request_options import build_request, request_options
from signal_diffusion.sampling.requests import request_values
from signal_diffusion.sampling.trained import Trained, load_trained
from signal_diffusion.training.diffusion import train


@pytest.fixture(scope="session")
def place_run(experiment_file: Path, datasets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model that knows electrodes by place, trained with masks."""
    folder = tmp_path_factory.mktemp("runs") / "places"
    overrides = (
        f"data.paths.root={datasets['timeseries']}",
        "data.representation=timeseries",
        "model.architecture.patch_size=[1,256]",
        "model.conditioning.electrodes=position",
        "data.loading.batch_size=2",
        "training.gradient_accumulation_steps=1",
        "training.masking.probability=0.8",
        "training.max_steps=3",
        "training.validation.enabled=false",
    )
    train(experiment_file, output_dir=folder, overrides=overrides)
    return folder


@pytest.fixture
def trained(place_run: Path) -> Trained:
    """Its model with random weights everywhere: after three steps, most have little effect."""
    loaded = load_trained(place_run)
    torch.manual_seed(0)
    for parameter in loaded.model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return loaded


def samples_of(trained: Trained, num: int = 2) -> torch.Tensor:
    found = generate_samples(trained, request_values(trained.attributes, {"label": "relaxed"}, num))
    assert found.signals is not None and found.ch_names == list(trained.card.channels)
    return found.signals


def test_the_own_electrodes_give_the_same_samples_and_the_same_card(trained: Trained) -> None:
    same = with_montage(trained, {name: trained.card.positions[name] for name in trained.card.channels})

    assert same.card.to_json() == trained.card.to_json() and same.representation == trained.representation
    torch.testing.assert_close(samples_of(same), samples_of(trained), rtol=1e-4, atol=1e-3)


def test_any_number_of_electrodes_in_any_order_is_sampled(trained: Trained) -> None:
    few, many = (with_montage(trained, montage_named(names, trained.card)) for names in (["O2", "POz", "Fz"], TEN_TEN))

    assert samples_of(few).shape == (2, 3, trained.card.window) and few.card.channels == ("O2", "POz", "Fz")
    assert samples_of(many, 1).shape == (1, 61, trained.card.window) and many.card.channels == TEN_TEN
    assert representation_of(many.card) == many.representation  # the card is consistent, as in a checkpoint


def test_from_noise_in_another_order_the_samples_are_the_same_in_that_order(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["O2", "FC1", "Fz", "POz", "T7"]
    order = [3, 0, 4, 1, 2]
    expected = samples_of(with_montage(trained, montage_named(names, trained.card)))

    monkeypatch.setattr(generation, "noise_for", lambda *arguments: noise_for(*arguments)[:, :, order])
    found = samples_of(with_montage(trained, montage_named([names[i] for i in order], trained.card)))

    torch.testing.assert_close(found, expected[:, order], rtol=1e-4, atol=1e-3)
    assert (found - expected).norm() > 0.5 * expected.norm()


def test_the_window_filler_takes_the_other_electrodes_and_keeps_what_is_given(trained: Trained) -> None:
    other = with_montage(trained, montage_named(["O2", "FC1", "Fz"], trained.card))
    given = np.zeros((2, 3, 2048))
    given[:, 0] = 5 * np.sin(np.arange(2048) / 9)
    known = np.zeros((3, 2048), dtype=bool)
    known[0] = True
    conditions = Conditioning({"label": torch.tensor([1, 1])})

    filled = window_filler(other, lambda start: conditions, [0, 1])(given, known, number=0, start=0)

    np.testing.assert_allclose(filled[:, 0], given[:, 0], atol=1e-4)
    assert np.isfinite(filled).all() and (filled[:, 1:].std(axis=-1) > 0).all()


def test_a_sampling_job_writes_the_other_electrodes_and_says_where_they_are(trained: Trained, tmp_path: Path) -> None:
    other = with_montage(trained, montage_named(["O2", "FC1"], trained.card))

    sample(other, request_values(other.attributes, {}, 2), tmp_path / "out")

    written = np.load(tmp_path / "out/samples.npz")
    about = json.loads((tmp_path / "out/samples.json").read_text())
    assert written["ch_names"].tolist() == ["O2", "FC1"] and written["signals"].shape == (2, 2, 2048)
    assert about["montage"]["FC1"] == standard_positions(["FC1"])["FC1"]


def test_the_command_and_the_pipeline_sample_the_same_other_electrodes(place_run: Path, tmp_path: Path) -> None:
    words = ["sample", str(place_run), "--num", "2", "--electrodes", "O2,FC1,Fz", "--output", str(tmp_path / "out")]

    result = CliRunner().invoke(app, words, catch_exceptions=False)
    samples = SignalDiffusionPipeline.from_pretrained(place_run)(num=2, electrodes="O2,FC1,Fz")

    assert result.exit_code == 0
    written = np.load(tmp_path / "out/samples.npz")
    assert samples.signals is not None and samples.ch_names == written["ch_names"].tolist() == ["O2", "FC1", "Fz"]
    np.testing.assert_array_equal(samples.signals, written["signals"])


def test_electrodes_are_refused_before_the_weights_are_loaded(place_run: Path, run: Path) -> None:
    experiment, card = (
        load_experiment(place_run / "checkpoint-3/config.toml"),
        DatasetCard.load(place_run / "checkpoint-3"),
    )

    with pytest.raises(UserError, match="--electrodes: Q7: no known position"):
        build_request(request_options(electrodes="Fz,Q7"), experiment, card)
    with pytest.raises(UserError, match=r"--electrodes: is blank; leave it out for the"):
        request_options(electrodes=" ")
    with pytest.raises(UserError, match=r"^electrodes: the model knows electrodes by name"):
        SignalDiffusionPipeline.from_pretrained(run)(electrodes="Fz")


def test_an_export_of_the_model_for_other_electrodes_samples_these(trained: Trained, tmp_path: Path) -> None:
    from signal_diffusion.sampling.export import export

    other = with_montage(trained, montage_named(["O2", "FC1", "Fz"], trained.card))

    loaded = load_trained(export(other, tmp_path / "exported"))

    assert loaded.card.channels == other.card.channels
    torch.testing.assert_close(samples_of(loaded), samples_of(other), rtol=1e-4, atol=1e-3)


def test_a_run_on_another_montage_can_start_from_the_weights(place_run: Path) -> None:
    checkpoint = place_run / "checkpoint-3"
    experiment = load_experiment(checkpoint / "config.toml", [f"model.pretrained={checkpoint}"])
    card = DatasetCard.load(checkpoint)
    other = montage_card(card, montage_named(TEN_TEN, card))

    assembly = assemble(experiment, other, None, pretrained=pretrained_of(experiment.model))

    averaged = load_file(checkpoint / "ema.safetensors")
    assert all(torch.equal(value, averaged[name]) for name, value in assembly.model.state_dict().items())
    assert assembly.model.num_tokens == 61 * 8


def test_electrodes_of_the_dataset_are_where_its_card_says_and_others_are_standard(trained: Trained) -> None:
    card = dataclasses.replace(trained.card, positions=trained.card.positions | {"Cz": [0.6, 0.0, 0.8]})

    found = montage_named(electrodes_named("T3, cz,FC1"), card)

    assert list(found) == ["T3", "cz", "FC1"]
    assert found == {"T3": card.positions["T7"], "cz": [0.6, 0.0, 0.8], "FC1": standard_positions(["FC1"])["FC1"]}
    assert list(montage_named(electrodes_named("10-20"), card)) == list(TEN_TWENTY)


def test_digitised_positions_reach_mne(trained: Trained) -> None:
    place = [0.0, -0.6, 0.8]
    card = montage_card(trained.card, {"Cz": place, "new": [0.0, 0.0, 1.0]})
    from signal_diffusion.data.export.mne_objects import to_mne

    epochs = to_mne(torch.randn(1, 2, 2048), card)

    found = epochs.info["chs"][0]["loc"][:3] - np.array([0.0, 0.0, 0.04])
    np.testing.assert_allclose(found / np.linalg.norm(found), place, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Fz,Q7",
            r"--electrodes: Q7: no known position; use electrodes of the dataset \(.*\), or of MNE's standard_1005",
        ),
        ("Fz,T7,T3", r"--electrodes: 'Fz,T7,T3' is empty or names a channel twice"),
        (" ", r"--electrodes: '' is empty or names a channel twice"),
    ],
)
def test_electrodes_that_cannot_be_placed_are_refused(trained: Trained, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        montage_named(electrodes_named(text), trained.card)


def test_a_position_off_the_unit_sphere_is_refused(trained: Trained) -> None:
    with pytest.raises(UserError, match=r"electrode Fz: position \[0, 0, 95.0\]; expected x, y, z on the unit sphere"):
        with_montage(trained, {"Fz": [0, 0, 95.0]})


def test_scales_are_never_estimated_from_estimates(trained: Trained) -> None:
    other = with_montage(trained, montage_named(["FC1"], trained.card))

    with pytest.raises(UserError, match="has other electrodes already; start from the model as it was loaded"):
        with_montage(other, montage_named(["FC2"], trained.card))


def test_a_model_that_knows_electrodes_by_name_is_refused(run: Path) -> None:
    model = load_trained(run)

    with pytest.raises(UserError, match="knows electrodes by name, and can only sample those that it was trained on"):
        with_montage(model, {"Fz": [0.0, 0.6, 0.8]})
    with pytest.raises(UserError, match=r"^--electrodes: the model knows electrodes by name"):
        check_takes_montages(model.experiment)


def test_the_dataset_is_checked_as_before(place_run: Path, datasets: dict[str, Path]) -> None:
    assert load_trained(place_run).card == DatasetCard.load(datasets["timeseries"])


def test_long_recordings_are_of_the_other_electrodes_too(place_run: Path, tmp_path: Path) -> None:
    words = [
        "sample",
        place_run,
        "--duration",
        "17",
        "--electrodes",
        "FC1,Fz",
        "--steps",
        "1",
        "--output",
        tmp_path / "o",
    ]
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "o" / "samples.npz") as file:
        written = dict(file)
    assert written["ch_names"].tolist() == ["FC1", "Fz"]

    pipeline = SignalDiffusionPipeline.from_pretrained(place_run)
    recordings = pipeline(duration=17, electrodes="FC1,Fz", steps=1)
    assert recordings.ch_names == ["FC1", "Fz"]
    np.testing.assert_allclose(recordings.signals, written["signals"], atol=1e-3)
