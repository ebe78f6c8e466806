"""A network trained with masks restores a Gaussian process with its conditional mean and variance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from signal_diffusion.config import schema
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.diffusion.methods import METHODS
from signal_diffusion.known import Known
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.hourglass import HourglassArchitecture
from signal_diffusion.models.registry import build
from signal_diffusion.training.masking import Masking
from tests.diffusion import oracles

ELECTRODES, SAMPLES, DRAWS = 4, 32, 64
SPATIAL = 0.7 ** (torch.arange(ELECTRODES)[:, None] - torch.arange(ELECTRODES)).abs().double()
IN_TIME = oracles.autoregression((1.2, -0.6), SAMPLES)
COVARIANCE = torch.kron(SPATIAL, IN_TIME / IN_TIME[0, 0])
ROOT = torch.linalg.cholesky(COVARIANCE)
SHAPE = (1, ELECTRODES, SAMPLES)


def examples(count: int, generator: torch.Generator) -> Tensor:
    return (torch.randn(count, len(ROOT), generator=generator).double() @ ROOT.T).float().view(count, *SHAPE)


@pytest.mark.slow
def test_a_network_trained_with_masks_has_the_conditional_mean_and_variance_of_a_gaussian_process() -> None:
    torch.manual_seed(0)
    generator, method = torch.Generator().manual_seed(0), METHODS["rectified_flow"]()
    architecture = HourglassArchitecture(
        depths=(1, 2), widths=(64, 64), kernel_sizes=(5, 0), attention_head_dim=32, patch_size=(1, 2)
    )
    model = build("hourglass", architecture, shape=SHAPE, electrode_rows=True, known=True)
    steps = 1000
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    masking = Masking(table=schema.Masking(probability=0.9))
    for _ in range(steps):
        x0, known = masking(examples(32, generator), generator)
        noise, t = torch.randn(x0.shape, generator=generator), method.sample_time(len(x0), generator)
        prediction = model(method.add_noise(x0, noise, t), t, Conditioning(known=known))
        optimizer.zero_grad()
        method.loss(prediction, x0, noise, t, known).mean().backward()
        optimizer.step()
        schedule.step()

    sampler = SampleGenerator(method=method, sampling=schema.Sampling(steps=40), shape=SHAPE, takes_known=True)
    always = Masking(table=schema.Masking(probability=1.0))
    truth, known = always(examples(12, generator), generator)
    errors, variances, conditional = 0.0, 0.0, 0.0
    for value, mask in zip(truth, known.mask, strict=True):
        given = Known(value.expand(DRAWS, *SHAPE), mask.expand(DRAWS, *SHAPE))
        draws = sampler.generate(model.eval(), Conditioning(known=given), range(DRAWS)).flatten(1).double()
        rows = mask.flatten()
        gain = COVARIANCE[~rows][:, rows] @ torch.linalg.inv(COVARIANCE[rows][:, rows])
        expected = gain @ value.flatten().double()[rows]
        left = (COVARIANCE[~rows][:, ~rows] - gain @ COVARIANCE[rows][:, ~rows]).trace().item()
        errors += (draws[:, ~rows].mean(0) - expected).square().sum().item()
        variances += draws[:, ~rows].var(0).sum().item()
        conditional += left
    assert errors / conditional < 0.15  # 1/64 of it is due to the number of draws
    assert variances / conditional == pytest.approx(1, abs=0.25)
