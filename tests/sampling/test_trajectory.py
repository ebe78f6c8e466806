"""The frames of an animation: x_t, and the network's estimate of x0."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from signal_diffusion.sampling import job
from signal_diffusion.sampling.drawing import generate_samples, trajectory_frames
from signal_diffusion.sampling.requests import request_values
from signal_diffusion.sampling.trained import Trained, load_trained
from signal_diffusion.sampling.writing import SampleFiles


@pytest.fixture(scope="module")
def trained(electrodes_run: Path) -> Trained:
    return load_trained(electrodes_run, ["generation.sampling.steps=4"])


def test_frames_start_at_noise_end_at_the_samples_and_show_the_estimate_of_x0(trained: Trained) -> None:
    request = request_values(trained.attributes, {}, 2)
    frames = trajectory_frames(trained, request)
    samples = generate_samples(trained, request).tensors
    assert len(frames) == 5
    normalised = trained.method.normalisation.normalised
    assert 0.9 < normalised(frames[0][0]).std() < 1.1
    assert torch.equal(frames[-1][0], samples) and torch.equal(frames[-1][1], samples)
    assert torch.equal(frames[3][1], samples)  # the last step of euler ends at its estimate of x0
    t = torch.full((2,), 0.5)
    xt = normalised(frames[2][0])
    x0, _ = trained.method.split(xt, trained.model(xt, t, request.cond), t)
    assert (x0 - normalised(frames[2][1])).abs().max() < 1e-4


def test_a_trajectory_has_at_most_50_frames(electrodes_run: Path) -> None:
    trained = load_trained(electrodes_run, ["generation.sampling.steps=60"])
    assert len(trajectory_frames(trained, request_values(trained.attributes, {}, 1))) == 50


def test_the_batches_of_an_animation_are_no_larger_than_those_of_the_samples(
    electrodes_run: Path, tmp_path: Path
) -> None:
    trained = load_trained(electrodes_run)
    sizes = set()
    trained.model.register_forward_pre_hook(lambda module, arguments: sizes.add(len(arguments[0])))
    files = SampleFiles(animation=True)
    job.sample(trained, request_values(trained.attributes, {}, 3), tmp_path / "out", files=files, batch_size=2)
    assert sizes == {2} and (tmp_path / "out" / "trajectory.gif").exists()


class Negative:
    """A decoder that negates latents."""

    latent_shape = (3, 64, 64)

    def to(self, device: str) -> Negative:
        return self

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return -z


def test_the_frames_of_latents_are_decoded_and_at_most_13(electrodes_run: Path) -> None:
    trained = load_trained(electrodes_run, ["generation.sampling.steps=20"])
    decoder: Any = Negative()
    decoded = trajectory_frames(
        dataclasses.replace(trained, autoencoder=decoder), request_values(trained.attributes, {}, 1)
    )
    plain = trajectory_frames(trained, request_values(trained.attributes, {}, 1))
    assert len(decoded) == 13
    assert torch.equal(decoded[0][0], -plain[0][0]) and torch.equal(decoded[-1][1], -plain[-1][1])
