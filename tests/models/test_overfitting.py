"""Every backbone overfits one fixed batch of every representation, under every conditioning and method."""

import pytest
import torch

from signal_diffusion.diffusion.methods import METHODS
from signal_diffusion.models.registry import BACKBONES
from tests.models.tiny import conditions, examples, tiny

STEPS = 150


@pytest.mark.parametrize("method", ["rectified_flow", pytest.param("ddpm", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "conditioning",
    [*(pytest.param(name, marks=pytest.mark.slow) for name in ("none", "class", "caption")), "attributes"],
)
@pytest.mark.parametrize(
    "representation",
    ["db-only", "db-iq", pytest.param("db-polar", marks=pytest.mark.slow), "timeseries"],  # db-polar: shaped as db-iq
)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_backbone_overfits_a_fixed_batch(backbone, representation, conditioning, method):
    x0 = examples(representation, 4)[1]
    x0 = x0[..., :3, :64] if representation == "timeseries" else x0[..., :16, :16]
    model = tiny(
        backbone, tuple(x0.shape[1:]), conditioning=conditioning, electrode_rows=representation == "timeseries"
    )
    process = METHODS[method]()
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.2, 0.4, 0.6, 0.8])
    cond, xt = conditions(conditioning, 4), process.add_noise(x0, noise, t)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)

    losses = []
    for _ in range(STEPS):
        loss = process.loss(model(xt, t, cond), x0, noise, t).mean()
        losses.append(loss.item())
        if loss < losses[0] / 10:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert losses[-1] < losses[0] / 10
