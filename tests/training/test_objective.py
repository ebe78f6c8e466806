"""A denoiser is trained and validated on x0 of unit variance, whatever the scale of the data."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from signal_diffusion.data.augmentation import Augmenting
from signal_diffusion.diffusion.methods import rectified_flow
from signal_diffusion.diffusion.normalisation import Normalisation
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.training.objective import Denoising
from signal_diffusion.training.validation import Validation

SIZE = 0.04
METHOD = replace(rectified_flow(), normalisation=Normalisation(std=((SIZE,),)))
DATA = SIZE * torch.randn(512, 1, 4, 16, generator=torch.Generator().manual_seed(1))


class Zero(nn.Module):
    """A network that records its input and predicts 0, so that its loss is the power of the target, ε − x0."""

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: Conditioning) -> torch.Tensor:
        self.seen = (x.square().mean((1, 2, 3)) / ((1 - t) ** 2 + t**2)).mean().item()
        return torch.zeros_like(x)


class Data:
    """Examples without attributes."""

    def __len__(self) -> int:
        return len(DATA)

    def __getitem__(self, rows: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return DATA[rows], {}


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_training_normalises_data_to_unit_variance() -> None:
    objective = Denoising(
        method=METHOD,
        encoding=None,
        augmentation=Augmenting(),
        cfg_dropout=0.0,
        attribute_dropout=0.0,
    )
    network = Zero()
    loss = objective(network, (DATA, {}), torch.Generator().manual_seed(0))
    assert network.seen == pytest.approx(1, rel=0.03)
    assert loss.item() == pytest.approx(2, rel=0.03)


def test_validation_normalises_data_to_unit_variance(accelerator: Accelerator) -> None:
    validation = Validation(Data(), METHOD, num_examples=0, batch_size=512, seed=0, encoding=None)  # type: ignore[arg-type]
    network = Zero()
    found = validation(network, accelerator, lambda: None)
    assert network.seen == pytest.approx(1, rel=0.03)
    assert found["loss"] == pytest.approx(2, rel=0.03)
