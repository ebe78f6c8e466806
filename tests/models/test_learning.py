"""Every backbone learns every representation: its samples have the spectrum of the training batch."""

from dataclasses import replace

import pytest
import torch

from signal_diffusion.config.schema import Sampling
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.diffusion.methods import rectified_flow
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.registry import BACKBONES
from tests.models.tiny import examples, tiny

IMAGES = {"dit": (300, 2), "sd35": (400, 2)}
SIGNALS = {"dit": (200, 4), "sd35": (400, 8), "unet": (250, 2)}
FEW = (200, 2)
"""Steps, and the batch size that two examples are repeated to; a signal's weakest frequencies are learnt last."""

SIZES_FOR_SIGNALS = {
    "sd35": {
        "patch_size": 32,
        "num_layers": 1,
        "attention_head_dim": 64,
    },  # its patches are square, and so mostly padding
    "unet": {"model_channels": 8},  # convolutions at every sample take the longest
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["db-only", "db-iq", "db-polar", "timeseries"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_samples_have_the_spectrum_of_the_training_batch(backbone, name):
    representation, x0 = examples(name, 2, window=512)
    signals, shape = name == "timeseries", tuple(x0.shape[1:])
    steps, batch = (SIGNALS if signals else IMAGES).get(backbone, FEW)
    x0 = representation.normalisation.normalised(x0.repeat(batch // 2, 1, 1, 1))
    sizes = SIZES_FOR_SIGNALS.get(backbone, {}) if signals else {}
    model = tiny(backbone, shape, electrode_rows=signals, **sizes)
    method = replace(rectified_flow(), normalisation=representation.normalisation)
    rate = 6e-3 if backbone == "unet" else 4e-3
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        noise = torch.randn(x0.shape, generator=generator)
        t = method.sample_time(batch, generator)
        loss = method.loss(model(method.add_noise(x0, noise, t), t, Conditioning()), x0, noise, t).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    generator = SampleGenerator(method=method, sampling=Sampling(steps=25), shape=shape)
    samples = generator.generate(model.eval(), Conditioning(), range(8))

    frequencies, expected = representation.mean_spectrum(representation.normalisation.restored(x0))
    band = (frequencies >= 1) & (frequencies <= 45)
    difference = (representation.mean_spectrum(samples)[1] - expected)[band]
    assert difference.square().mean().sqrt() < 3  # dB
