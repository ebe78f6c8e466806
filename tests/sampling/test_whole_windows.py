"""Whole windows: all electrodes of a window, from shared or independent noise."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.assembling import assemble_windows
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Categorical
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.sampling.drawing import generate_samples
from signal_diffusion.sampling.requests import Request, request_values
from signal_diffusion.sampling.trained import Trained, load_trained
from signal_diffusion.sampling.whole_windows import Noise, check_windows, request_windows


@pytest.fixture(scope="module")
def trained(electrodes_run: Path) -> Trained:
    return load_trained(electrodes_run)


def windows(trained: Trained, num: int, noise: Noise) -> Request:
    request = request_values(trained.attributes, {"gender": "female"}, num)
    return request_windows(request, trained.attributes, trained.card, noise)


def test_a_window_has_each_electrode_once_with_the_same_conditions(trained: Trained) -> None:
    request = windows(trained, 2, "shared")
    electrodes = request.cond.attributes["electrode"]
    [names] = [each.names for each in trained.attributes if each.name == "electrode" and isinstance(each, Categorical)]
    assert tuple(names[code] for code in electrodes) == trained.card.channels * 2
    assert set(request.cond.attributes["gender"].tolist()) == {0}


def test_shared_noise_has_a_number_per_window_and_independent_noise_one_per_electrode(trained: Trained) -> None:
    shared, independent = (windows(trained, 2, noise) for noise in ("shared", "independent"))  # type: ignore[arg-type]
    assert shared.noise == (0,) * 19 + (1,) * 19
    assert independent.noise == tuple(range(38))
    assert shared.phase == independent.phase == tuple(range(38))


def test_electrodes_with_shared_noise_are_similar(trained: Trained) -> None:
    shared, independent = (generate_samples(trained, windows(trained, 1, noise)) for noise in ("shared", "independent"))  # type: ignore[arg-type]
    correlations = [torch.corrcoef(each.tensors.flatten(1))[0, 1:].mean().item() for each in (shared, independent)]
    assert correlations[0] > 0.8 > 0.4 > correlations[1]


def test_samples_with_shared_noise_have_independent_phases(run: Path) -> None:
    trained = load_trained(run)
    request = request_values(trained.attributes, {"label": "alert"}, 2)
    same = generate_samples(trained, dataclasses.replace(request, noise=(0, 0)))
    different = generate_samples(trained, dataclasses.replace(request, noise=(0, 0), phase=(0, 1)))
    assert torch.equal(same.tensors, different.tensors) and torch.equal(different.tensors[0], different.tensors[1])
    assert same.signals is not None and different.signals is not None
    assert torch.equal(same.signals[0], same.signals[1])
    assert abs(torch.corrcoef(different.signals)[0, 1].item()) < 0.5


def test_windows_are_the_reassembled_samples_of_their_electrodes(electrodes_run: Path, tmp_path: Path) -> None:
    words = ["sample", str(electrodes_run), "--windows", "2", "--format", "npz,fif,png", "--grid", "19"]
    result = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0
    trained = load_trained(electrodes_run)
    single = generate_samples(
        trained, request_windows(request_values(trained.attributes, {}, 2), trained.attributes, trained.card, "shared")
    )
    assert single.signals is not None
    numbers = {"recording": ["generated"] * 38, "window": np.arange(38) // 19, "electrode": single.columns["electrode"]}
    signals, _ = assemble_windows(single.signals, trained.card, numbers)

    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert np.abs(file["signals"] - signals).max() < 1e-3 * np.abs(signals).max()
        assert file["tensors"].shape == (2, 19, 3, 64, 64) and file["ch_names"].tolist() == list(trained.card.channels)
        assert file["gender"].tolist() == ["", ""] and "electrode" not in file
    assert len(list((tmp_path / "out" / "samples").glob("*.png"))) == 38
    assert (tmp_path / "out" / "samples" / "metadata.csv").read_text().splitlines()[20] == "000019.png,1,Fp1,,"


def test_the_pipeline_and_the_command_generate_the_same_windows(trained: Trained, tmp_path: Path) -> None:
    words = [
        "--windows",
        "2",
        "--noise",
        "independent",
        "--attributes",
        "gender=female",
        "--output",
        str(tmp_path / "o"),
    ]
    result = CliRunner().invoke(app, ["sample", str(trained.run), *words], catch_exceptions=False)
    assert result.exit_code == 0

    samples = SignalDiffusionPipeline(trained)(windows=2, noise="independent", attributes={"gender": "female"})

    assert samples.signals is not None and samples.ch_names == list(trained.card.channels) and len(samples) == 2
    with np.load(tmp_path / "o" / "samples.npz") as file:
        assert np.array_equal(file["tensors"], samples.tensors) and np.array_equal(file["signals"], samples.signals)
        assert {name: file[name].tolist() for name in ("gender",)} == {"gender": samples.columns["gender"].tolist()}
    assert samples.to_mne().get_data().shape == (2, 19, samples.signals.shape[-1])
    assert len(samples.to_pictures()) == 38


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"windows": 2, "num": 3}, "windows 2: determines the number of samples, one per electrode; leave out num 3"),
        ({"windows": 0}, "windows: 0; expected a whole number from 1 to 100000"),
        ({"noise": "shared"}, "noise shared: only applies to windows; leave it out"),
        ({"windows": 1, "noise": "loud"}, "noise loud: expected shared or independent"),
        (
            {"windows": 1, "attributes": {"electrode": "Cz"}},
            "attributes electrode=Cz: windows generates all electrodes",
        ),
    ],
)
def test_errors_of_the_pipeline_about_windows_name_arguments(
    trained: Trained, arguments: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        SignalDiffusionPipeline(trained)(**arguments)
    assert str(caught.value).startswith(expected)


def test_windows_need_a_model_of_single_electrodes(trained: Trained) -> None:
    card: DatasetCard = dataclasses.replace(
        trained.card, representation=trained.card.representation | {"layout": "mosaic"}
    )
    with pytest.raises(UserError, match="--windows: an example of this model is a whole mosaic, not an electrode"):
        check_windows(card, trained.attributes, {})
    with pytest.raises(UserError, match="--attributes electrode=Cz: --windows generates all electrodes"):
        check_windows(trained.card, trained.attributes, {"electrode": "Cz"})
