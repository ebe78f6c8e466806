"""An autoencoder's loss matches its formulas, and its gradients are finite for every possible tensor."""

from __future__ import annotations

import math
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from signal_diffusion.config.autoencoder_tables import Loss
from signal_diffusion.data.augmentation import Augmenting
from signal_diffusion.data.representations.registry import REPRESENTATIONS
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.training.reconstruction import Reconstruction, ReconstructionPreviews, divergence
from signal_diffusion.training.stft_loss import stft_loss

WINDOW, RATE = 1024, 125.0


def fitted(name: str) -> Representation:
    signals = torch.randn(4, 3, WINDOW, generator=torch.Generator().manual_seed(0)) * 20
    return REPRESENTATIONS[name].fit(iter([signals]), sampling_rate=RATE, window=WINDOW)


def objective(name: str, **loss: float) -> Reconstruction:
    return Reconstruction(
        representation=fitted(name),
        loss=Loss(**loss),
        augmentation=Augmenting(),
        latent_shape=(1, 1, 1),
    )


def losses(each: Reconstruction, x: Tensor, reconstruction: Tensor) -> Tensor:
    moments = torch.zeros(len(x), 1, 1, 1)
    return each.losses(x, reconstruction, moments, moments)


@pytest.mark.parametrize("name", ["db-only", "db-iq", "db-polar", "timeseries"])
@pytest.mark.parametrize("value", [-1.5, -1.0, 0.0, 1.0, 1.5])
@pytest.mark.parametrize("original", [-1.0, 0.0])
def test_gradients_are_finite_at_zero_at_the_limits_and_for_silence(name: str, value: float, original: float) -> None:
    """At 0 a power law has no slope, at ±1 values are clipped, and a silent signal has no direction."""
    each = objective(name, stft_weight=1.0, signal_weight=1.0)
    x = torch.full((2, *each.representation.shape), original)
    reconstruction = torch.full_like(x, value, requires_grad=True)
    loss = losses(each, x, reconstruction)
    loss.sum().backward()
    assert reconstruction.grad is not None
    assert torch.isfinite(loss).all() and torch.isfinite(reconstruction.grad).all()


@pytest.mark.parametrize("name", ["db-iq", "db-polar", "timeseries"])
@pytest.mark.parametrize("term", ["stft_weight", "signal_weight"])
def test_each_signal_term_has_the_right_gradient_of_the_reconstruction(name: str, term: str) -> None:
    """Compared with a difference quotient along the gradient, for a tensor of realistic amplitudes."""
    weights = {"stft_weight": 0.0, "signal_weight": 0.0} | {term: 1e3}
    each = objective(name, **weights)
    generator = torch.Generator().manual_seed(1)
    signal = torch.randn(1, WINDOW, generator=generator) * 20
    signal = signal.expand(1, 3, WINDOW) if name == "timeseries" else signal
    x = each.representation.to_tensor(signal)
    reconstruction = (0.7 * x + 0.05).requires_grad_()
    losses(each, x, reconstruction).sum().backward()
    assert reconstruction.grad is not None
    direction = reconstruction.grad / reconstruction.grad.norm()
    with torch.no_grad():
        step = 1e-2
        up, down = (losses(each, x, reconstruction + sign * step * direction).sum() for sign in (1, -1))
    assert (up - down).item() / (2 * step) == pytest.approx(reconstruction.grad.norm().item(), rel=0.05)


def test_a_flat_electrode_does_not_outweigh_the_others() -> None:
    each = objective("timeseries", stft_weight=1.0, signal_weight=1.0)
    generator = torch.Generator().manual_seed(1)
    signal = torch.randn(1, 3, WINDOW, generator=generator) * 20
    flat = signal.clone()
    flat[:, 1] = 0.0
    found = []
    for original in (signal, flat):
        x = each.representation.to_tensor(original)
        reconstruction = (x + 0.02 * torch.randn(x.shape, generator=generator)).requires_grad_()
        losses(each, x, reconstruction).sum().backward()
        assert reconstruction.grad is not None
        found.append((losses(each, x, reconstruction).item(), reconstruction.grad[0, 0].norm(dim=1)))
    (without, _), (loss, gradients) = found
    assert loss == pytest.approx(without, rel=0.1)
    assert gradients[1] < 0.1 * gradients[0] and gradients[1] < 0.1 * gradients[2]


def test_previews_show_examples_from_the_whole_split(tmp_path: Path) -> None:
    examples = mock.MagicMock()
    examples.__len__.return_value = 64
    ReconstructionPreviews(tmp_path, examples, mock.MagicMock(), num_samples=32)
    examples.__getitem__.assert_called_once_with([0, 8, 16, 24, 32, 40, 48, 56])


def test_db_only_is_compared_as_a_tensor_without_signal_terms() -> None:
    each = objective("db-only", reconstruction="l1")  # type: ignore[arg-type]
    x = torch.zeros(2, *each.representation.shape)
    torch.testing.assert_close(losses(each, x, x + 0.25), torch.full((2,), 0.25))


def test_an_example_has_the_same_loss_in_any_batch() -> None:
    each = objective("timeseries")
    x, reconstruction = torch.rand(2, 4, *each.representation.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    together = losses(each, x, reconstruction)
    separately = torch.cat([losses(each, x[i : i + 1], reconstruction[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, separately)
    assert together.std() > 0


def test_the_stft_loss_matches_its_equations() -> None:
    """A signal at half its amplitude: spectral convergence 1/2, log-magnitude ln 2, at each resolution."""
    x = torch.randn(3, WINDOW, generator=torch.Generator().manual_seed(0)) * 1e3
    torch.testing.assert_close(stft_loss(x, x / 2), torch.full((3,), 0.5 + math.log(2)), atol=1e-3, rtol=0)
    assert (stft_loss(x, x) == 0).all()


def test_the_stft_loss_ignores_phase_and_the_signal_term_does_not() -> None:
    x = torch.randn(3, WINDOW, generator=torch.Generator().manual_seed(0)) * 20
    assert stft_loss(x, -x).max() < 1e-6
    each = objective("timeseries", stft_weight=0.0, signal_weight=1.0, reconstruction="l2")  # type: ignore[arg-type]
    tensor = each.representation.to_tensor(x[None])
    inverted = each.representation.to_tensor(-x[None])
    assert losses(each, tensor, inverted).item() > 2


def test_the_divergence_matches_torchs() -> None:
    mean, log_variance = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0))
    torch.testing.assert_close(divergence(mean, log_variance), expected.flatten(1).mean(1))
