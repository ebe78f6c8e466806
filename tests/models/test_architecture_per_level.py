"""Feed-forward widths and dropout of each level, and mapping networks, of both hierarchical backbones."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch
from torch import nn

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Categorical, Conditioning
from signal_diffusion.models.fingerprint import fingerprint
from signal_diffusion.models.hierarchy import Hierarchy
from signal_diffusion.models.hourglass import Hourglass, HourglassArchitecture
from signal_diffusion.models.levels import MappingNetwork
from signal_diffusion.models.localmamba import LocalMamba, LocalMambaArchitecture

TINY: dict[str, dict[str, Any]] = {
    "hourglass": {"depths": (1, 2), "widths": (16, 32), "kernel_sizes": (3, 0), "attention_head_dim": 16},
    "localmamba": {"depths": (1, 2), "dims": (16, 32)},
}
AS_BEFORE = {"hourglass": "c0a1533a", "localmamba": "145d5c9c"}
"""SHA-256 of names and shapes of the weights of version 0.1.0."""


def model(backbone: str, **architecture: Any) -> Hierarchy:
    torch.manual_seed(0)
    options: dict[str, Any] = {"shape": (3, 8, 16), "attributes": (Categorical("label", ("a", "b")),)}
    table = TINY[backbone] | architecture
    if backbone == "hourglass":
        return Hourglass(HourglassArchitecture(**table), **options)
    return LocalMamba(LocalMambaArchitecture(**table), **options)


def prediction(network: nn.Module) -> torch.Tensor:
    """A prediction with random weights everywhere, because initially most have no effect."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network(torch.randn(2, 3, 8, 16), torch.tensor([0.2, 0.9]), Conditioning({"label": torch.arange(2)}))


@pytest.mark.parametrize("backbone", TINY)
def test_weights_at_the_defaults_have_the_names_and_shapes_of_earlier_runs(backbone: str) -> None:
    state = model(backbone).state_dict()
    lines = "\n".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
    assert hashlib.sha256(lines.encode()).hexdigest()[:8] == AS_BEFORE[backbone]


@pytest.mark.parametrize(
    ("backbone", "written"),
    [
        ("hourglass", {"ff_widths": (48, 96), "mapping_ff_width": 768, "mapping_dropout_rate": 0.0}),
        ("hourglass", {"dropout_rates": (0.0, 0.0)}),
        ("localmamba", {"ff_widths": (64, 128), "mapping_width": 32, "dropout_rates": (0.0, 0.0)}),
    ],
)
def test_defaults_that_are_written_out_give_the_same_weights(backbone: str, written: dict[str, Any]) -> None:
    assert fingerprint(model(backbone, **written).state_dict()) == fingerprint(model(backbone).state_dict())


@pytest.mark.parametrize("backbone", TINY)
def test_each_level_has_its_feed_forward_width_and_dropout(backbone: str) -> None:
    network = model(backbone, ff_widths=(24, 40), dropout_rates=(0.1, 0.2))

    for blocks, width, rate in [(network.down[0], 24, 0.1), (network.middle, 40, 0.2), (network.up[0], 24, 0.1)]:
        for block in blocks.children():
            [last] = [each for name, each in block.named_modules() if name in ("feed_forward.down", "mlp.2")]
            assert last.in_features == width
            assert {each.p for each in block.modules() if isinstance(each, nn.Dropout)} == {rate}
    assert prediction(network.eval()).isfinite().all()


@pytest.mark.parametrize("backbone", TINY)
def test_the_mapping_network_has_its_own_width_depth_feed_forward_and_dropout(backbone: str) -> None:
    network = model(
        backbone, mapping_width=20, mapping_depth=3, mapping_ff_width=28, mapping_dropout_rate=0.3, dropout_rate=0.1
    )

    assert isinstance(network.mapping, MappingNetwork)
    assert [layer.down.weight.shape for layer in network.mapping.layers] == [(20, 28)] * 3
    assert {each.p for each in network.mapping.modules() if isinstance(each, nn.Dropout)} == {0.3}
    prediction(network).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.mapping.parameters())


@pytest.mark.parametrize("backbone", TINY)
def test_the_mapping_network_has_the_dropout_of_the_levels_unless_it_is_given(backbone: str) -> None:
    network = model(backbone, mapping_depth=1, dropout_rate=0.1)

    assert {each.p for each in network.mapping.modules() if isinstance(each, nn.Dropout)} == {0.1}


@pytest.mark.parametrize("backbone", TINY)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ff_widths": (24,)}, "numbers of levels differ: .*ff_widths 1"),
        ({"dropout_rates": (0.1, 0.1, 0.1)}, "numbers of levels differ: .*dropout_rates 3"),
        ({"mapping_depth": 0, "mapping_ff_width": 24}, "mapping_ff_width has no effect, because mapping_depth = 0"),
        ({"mapping_depth": 0, "mapping_dropout_rate": 0.1}, "mapping_dropout_rate has no effect"),
    ],
)
def test_wrong_numbers_of_levels_and_keys_without_effect_are_refused(
    backbone: str, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        model(backbone, **wrong)
