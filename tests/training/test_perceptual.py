"""The perceptual loss is zero for a perfect prediction, fades with the noise as documented, and is off by default."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.data.augmentation import Augmenting
from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.diffusion.methods import PREDICTIONS, ddpm, rectified_flow
from signal_diffusion.diffusion.normalisation import Normalisation
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_autoencoder_experiment, load_experiment
from signal_diffusion.known import Known
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.training.by_montage import loss_of_each
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.objective import Denoising
from signal_diffusion.training.perceptual import Perceptual, perceptual_of
from tests.training.runs import largest_difference, metrics_of

CPU, WEIGHT, WINDOW = torch.device("cpu"), 0.5, 512
SIGNAL = 50 * torch.randn(4, 3, WINDOW, generator=torch.Generator().manual_seed(0))
SIGNALS = TimeSeries.fit(iter([SIGNAL]), sampling_rate=125.0, window=WINDOW)
SIZE = SIGNALS.data_std
X0 = SIGNALS.to_tensor(SIGNAL) / SIZE
NOISE = torch.randn(X0.shape, generator=torch.Generator().manual_seed(1))
TIMES = torch.tensor([0.0, 0.3, 0.8, 1.0])


def loss_of(representation: Any = SIGNALS, **table: Any) -> Perceptual:
    found = perceptual_of(schema.Training(**({"perceptual": WEIGHT} | table)), representation, CPU)
    assert found is not None
    return found


@pytest.mark.parametrize("build", [rectified_flow, ddpm])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_prediction_has_no_loss_and_any_other_a_finite_gradient(build: Any, prediction: str) -> None:
    method = replace(build(prediction=prediction), normalisation=Normalisation(std=((SIZE,),)))
    xt, target = method.add_noise(X0, NOISE, TIMES), method.target(X0, NOISE, TIMES)
    assert loss_of()(method, xt, target, X0, TIMES).max() < 1e-3 * WEIGHT

    wrong = (target + 0.5).requires_grad_()
    loss = loss_of()(method, xt, wrong, X0, TIMES)
    loss.sum().backward()
    assert wrong.grad is not None and torch.isfinite(loss).all() and torch.isfinite(wrong.grad).all()
    assert loss[1] > 0 and wrong.grad[1].any()


@pytest.mark.parametrize("build", [rectified_flow, ddpm])
def test_the_weight_is_the_share_of_x0_in_the_power_of_the_input(build: Any) -> None:
    """An x0 of half the amplitude has the distance 1/2 + ln 2; what is left is the weight."""
    method = replace(build(prediction="sample"), normalisation=Normalisation(std=((SIZE,),)))
    halved = SIGNALS.to_tensor(SIGNAL / 2) / SIZE
    alpha, sigma = method.schedule(TIMES)

    found = loss_of()(method, method.add_noise(X0, NOISE, TIMES), halved, X0, TIMES)

    expected = WEIGHT * alpha**2 / (alpha**2 + sigma**2) * (0.5 + math.log(2))
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-6)
    assert found[-1] < 1e-6 and (found.diff() < 0).all()


def test_given_values_are_no_errors() -> None:
    method = replace(rectified_flow(prediction="sample"), normalisation=Normalisation(std=((SIZE,),)))
    xt, wrong = method.add_noise(X0, NOISE, TIMES), X0 + 1
    mask = torch.zeros_like(X0, dtype=torch.bool)
    mask[:2] = True
    found = loss_of()(method, xt, wrong, X0, TIMES, Known(X0, mask))
    assert not found[:2].any() and found[2] > 0


def test_absent_electrodes_are_no_part_of_it() -> None:
    """The known answer of half the amplitude, over the electrodes that are there; see above."""
    method = replace(rectified_flow(prediction="sample"), normalisation=Normalisation(std=((SIZE,),)))
    rows = torch.tensor([True, False, True])
    x0, halved = (SIGNALS.to_tensor(each)[:, :, rows] / SIZE for each in (SIGNAL, SIGNAL / 2))
    prediction = halved.requires_grad_()

    found = loss_of().on(rows)(method, x0, prediction, x0, torch.zeros(4))
    found.sum().backward()

    torch.testing.assert_close(found, torch.full((4,), WEIGHT * (0.5 + math.log(2))), rtol=1e-2, atol=0)
    assert prediction.grad is not None and prediction.grad.flatten(3).any(3).all()


def test_a_batch_of_examples_that_lack_electrodes_has_the_loss_of_each_alone() -> None:
    method = replace(rectified_flow(), normalisation=Normalisation(std=((SIZE,),)))
    present = torch.tensor([[True, False, True], [True, True, True]] * 2)
    cond, places, perceptual = Conditioning({"label": torch.zeros(4)}), torch.randn(3, 3), loss_of()
    both, squared = (
        loss_of_each(Constant(), method, X0, NOISE, TIMES, cond, places=places, present=present, perceptual=each)
        for each in (perceptual, None)
    )
    xt = method.add_noise(X0, NOISE, TIMES)
    alone = torch.cat(
        [
            perceptual.on(rows)(method, *(v[[i]][:, :, rows] for v in (xt, torch.full_like(X0, 0.1), X0)), TIMES[[i]])
            for i, rows in enumerate(present)
        ]
    )
    torch.testing.assert_close(both - squared, alone, rtol=1e-4, atol=1e-5)


class Constant(nn.Module):
    """A network that predicts 0.1."""

    def forward(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        return torch.full_like(x, 0.1)


def test_the_objective_adds_it_to_the_squared_error_of_the_same_noise_and_leaves_it_alone_otherwise() -> None:
    method = replace(rectified_flow(), normalisation=Normalisation(std=((SIZE,),)))
    means = []
    for perceptual in (None, loss_of(), loss_of(perceptual=2 * WEIGHT)):
        objective = Denoising(
            method=method,
            encoding=None,
            augmentation=Augmenting(),
            cfg_dropout=0.0,
            attribute_dropout=0.0,
            perceptual=perceptual,
        )
        generator = torch.Generator().manual_seed(0)
        means.append(objective(Constant(), (X0 * SIZE, {}), generator))
    generator = torch.Generator().manual_seed(0)
    t = method.sample_time(4, generator)
    noise = torch.randn(X0.shape, generator=generator)
    assert means[0] == method.loss(torch.full_like(X0, 0.1), X0 * SIZE / SIZE, noise, t).mean()
    assert means[1] > means[0]
    torch.testing.assert_close(means[2] - means[0], 2 * (means[1] - means[0]))


def test_a_run_with_it_resumes_to_the_bit_and_its_validation_is_the_squared_error(
    signals_file: Path, tmp_path: Path
) -> None:
    on = ("training.perceptual=0.1", "training.log_interval=1", "training.validation.at_start=true")
    off = ("training.perceptual=0.0", *on[1:])
    for name, overrides in (("on", on), ("off", off)):
        assert train(signals_file, output_dir=tmp_path / name, overrides=overrides)
    checkpoint = str(tmp_path / "on" / "checkpoint-2")
    train(signals_file, output_dir=tmp_path / "resumed", resume=checkpoint, overrides=on)

    assert largest_difference(tmp_path / "on" / "checkpoint-4", tmp_path / "resumed" / "checkpoint-4") == 0
    start, first = metrics_of(tmp_path / "on")[:2]
    start_off, first_off = metrics_of(tmp_path / "off")[:2]
    assert start == start_off and first["train/loss"] > first_off["train/loss"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("data.representation=db-only",), r"perceptual: has no effect with .*; it needs 'timeseries' or 'image'"),
        (("model.autoencoder.enabled=true", "model.autoencoder.path=x"), r"perceptual: latents are neither signals"),
        (("training.perceptual_weights=x",), r"perceptual_weights: has no effect with .*; it needs 'image'"),
        (("data.representation=image",), r"perceptual_weights: expected the folder of the weights of LPIPS"),
        (("training.perceptual=-1",), r"perceptual: .*-1"),
    ],
)
def test_where_it_makes_no_sense_it_is_refused_in_one_line(
    overrides: tuple[str, ...], expected: str, signals_file: Path
) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        load_experiment(signals_file, ("training.perceptual=0.1", *overrides))
    assert len([line for line in caught.value.lines if "perceptual" in line]) == 1


def test_an_autoencoder_and_short_windows_are_refused_in_one_line() -> None:
    file = Path(__file__).parents[2] / "config" / "autoencoder" / "eeg-timeseries.toml"
    with pytest.raises(UserError, match="perceptual: has no effect on an autoencoder"):
        load_autoencoder_experiment(file, ("training.perceptual=0.1",))
    short = TimeSeries.fit(iter([SIGNAL[..., :32]]), sampling_rate=125.0, window=32)
    with pytest.raises(UserError, match=r"\[training\] perceptual: windows of 32 samples are shorter than"):
        loss_of(short)


# Images ---------------------------------------------------------------------------------------------------------------

PICTURE = Picture(channels=3, size=64)


@pytest.fixture(scope="module", params=["alex", "squeeze", "vgg"])
def lpips_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights; those of the last layers are positive, as LPIPS's are."""
    lpips = pytest.importorskip("lpips")
    from safetensors.torch import save_model

    torch.manual_seed(0)
    network = lpips.LPIPS(net=request.param, pretrained=False, pnet_rand=True, verbose=False)
    for layer in network.lins:
        nn.init.uniform_(layer.model[1].weight)
    folder = tmp_path_factory.mktemp("lpips")
    save_model(network, str(folder / f"{request.param}.safetensors"))
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_compared_by_lpips_with_the_weights_of_the_folder(lpips_folder: Path, channels: int) -> None:
    import lpips
    from safetensors.torch import load_model

    [file] = lpips_folder.iterdir()
    reference = lpips.LPIPS(net=file.stem, pretrained=False, pnet_rand=True, verbose=False)
    load_model(reference, str(file))
    x0, wrong = torch.randn(2, 4, channels, 64, 64, generator=torch.Generator().manual_seed(0)).div(3).clamp(-1, 1)
    method = rectified_flow(prediction="sample")
    loss = loss_of(replace(PICTURE, channels=channels), perceptual_weights=str(lpips_folder))
    prediction = wrong.clone().requires_grad_()

    found = loss(method, x0, prediction, x0, TIMES)
    found.sum().backward()

    alpha, sigma = method.schedule(TIMES)
    distance = reference.eval()(*(each.expand(-1, 3, -1, -1) for each in (x0, wrong))).flatten()
    torch.testing.assert_close(found, WEIGHT * alpha**2 / (alpha**2 + sigma**2) * distance)
    assert found[0] > 0 and prediction.grad is not None and prediction.grad[0].any()
    assert loss(method, x0, x0, x0, TIMES).max() < 1e-9 * found[0]


def test_weights_of_lpips_that_are_missing_or_wrong_are_one_line(tmp_path: Path) -> None:
    pytest.importorskip("lpips")
    from safetensors.torch import save_file

    save_file({"lin0.model.1.weight": torch.zeros(1, 64, 1, 1)}, tmp_path / "alex.safetensors")
    with pytest.raises(UserError, match=r"alex\.safetensors does not have these weights of LPIPS's alex: ") as caught:
        loss_of(PICTURE, perceptual_weights=str(tmp_path))
    assert len(caught.value.lines) == 1 and "lin0.model" not in str(caught.value)
    with pytest.raises(UserError, match=r"has none of alex\.safetensors.*; expected one of them"):
        loss_of(PICTURE, perceptual_weights=str(tmp_path / "elsewhere"))


def test_images_too_small_for_the_network_are_one_line(lpips_folder: Path) -> None:
    size = 1 if (lpips_folder / "vgg.safetensors").exists() else 8
    with pytest.raises(UserError, match=rf"images of {size} × {size} pixels are too small"):
        loss_of(replace(PICTURE, size=size), perceptual_weights=str(lpips_folder))


def test_without_the_package_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vgg.safetensors").touch()
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(UserError, match=r"lpips is not installed; run `uv sync --extra perceptual`$"):
        loss_of(PICTURE, perceptual_weights=str(tmp_path))
