"""Every backbone learns what every representation is about: its samples have the spectrum of what it was shown."""

import pytest
import torch

from signal_diffusion.config.schema import Sampling
from signal_diffusion.diffusion.generation import generate
from signal_diffusion.diffusion.methods import rectified_flow
from signal_diffusion.models.conditioning import Conditioning
from signal_diffusion.models.registry import BACKBONES
from tests.models.tiny import examples, tiny

STEPS = {"dit": 400, "hourglass": 250, "localmamba": 250, "sd35": 400, "unet": 150}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["db-only", "db-iq", "db-polar", "timeseries"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_samples_have_the_spectrum_of_the_batch_that_was_learnt(backbone, name):
    if (backbone, name) == ("sd35", "timeseries"):
        pytest.xfail("6 dB off after 400 steps on samples themselves; its experiments are in latents")
    representation, x0 = examples(name, 2)
    shape = tuple(x0.shape[1:])
    model, method = tiny(backbone, shape, electrode_rows=name == "timeseries"), rectified_flow()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS[backbone])
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS[backbone]):
        noise = torch.randn(x0.shape, generator=generator)
        t = method.sample_time(len(x0), generator)
        loss = method.loss(model(method.add_noise(x0, noise, t), t, Conditioning()), x0, noise, t).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    samples = generate(
        model.eval(), method, Conditioning(), range(8), shape=shape, sampling=Sampling(steps=25), device="cpu"
    )

    frequencies, expected = representation.mean_spectrum(x0)
    band = (frequencies >= 1) & (frequencies <= 45)
    difference = (representation.mean_spectrum(samples)[1] - expected)[band]
    assert difference.square().mean().sqrt() < 3  # dB
