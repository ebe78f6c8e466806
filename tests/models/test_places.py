"""A network that knows electrodes by place: a function of a set of electrodes, whatever their number and order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from signal_diffusion.known import Known
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.conditioning.electrodes import PlaceEmbedding
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.registry import BACKBONES
from tests.models.tiny import conditions, tiny

TRAINED, WINDOW = 5, 256
T = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)

every_able_backbone = pytest.mark.parametrize("backbone", [name for name, b in BACKBONES.items() if b.takes_places])


def on_sphere(*shape: int, seed: int = 0) -> Tensor:
    random = torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed))
    return random / random.norm(dim=-1, keepdim=True)


def network(backbone: str) -> Denoiser:
    """A small network of five electrodes with random weights everywhere, in float64."""
    model = tiny(
        backbone,
        (1, TRAINED, WINDOW),
        conditioning="class",
        electrode_rows=True,
        known=True,
        places=on_sphere(TRAINED),
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model.double().eval()


def inputs(electrodes: int) -> tuple[Tensor, Conditioning]:
    """Three examples, each with its own places, and half of its values given."""
    x, values = torch.randn(2, 3, 1, electrodes, WINDOW, generator=torch.Generator().manual_seed(1)).double()
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.5
    cond = conditions("class", 3).with_known(Known(values, mask))
    return x, cond.with_places(on_sphere(3, electrodes, seed=3))


def rows_of(cond: Conditioning, rows: Tensor) -> Conditioning:
    """The conditions of some rows of the same examples."""
    assert cond.known is not None and cond.places is not None
    known = Known(cond.known.values[:, :, rows], cond.known.mask[:, :, rows])
    return replace(cond, known=known, places=cond.places[:, rows])


@pytest.mark.parametrize("electrodes", [TRAINED, 7, 31])
@every_able_backbone
def test_a_permutation_of_the_electrodes_permutes_the_prediction_and_nothing_else(backbone: str, electrodes: int):
    model, (x, cond) = network(backbone), inputs(electrodes)
    order = torch.randperm(electrodes, generator=torch.Generator().manual_seed(4))

    found = model(x[:, :, order], T, rows_of(cond, order))

    expected = model(x, T, cond)[:, :, order]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    assert (found - model(x[:, :, order], T, cond)).norm() > 0.05 * found.norm()  # without their places it differs


@pytest.mark.parametrize("copies", [2, 5])
@every_able_backbone
def test_electrodes_that_are_there_several_times_change_nothing(backbone: str, copies: int):
    model, (x, cond) = network(backbone), inputs(TRAINED)
    rows = torch.arange(TRAINED).repeat(copies)

    found = model(x[:, :, rows], T, rows_of(cond, rows))

    torch.testing.assert_close(found, model(x, T, cond)[:, :, rows], rtol=1e-9, atol=1e-10)


@every_able_backbone
def test_every_example_of_a_batch_may_have_its_own_places(backbone: str):
    model, (x, cond) = network(backbone), inputs(4)

    together = model(x, T, cond)

    alone = [model(x[[i]], T[[i]], cond[torch.tensor([i])]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-10)


@every_able_backbone
def test_without_places_the_electrodes_are_those_of_training(backbone: str):
    model, (x, cond) = network(backbone), inputs(TRAINED)
    given = cond.with_places(on_sphere(TRAINED).expand(3, -1, -1))

    torch.testing.assert_close(model(x, T, cond.with_places(None)), model(x, T, given), rtol=1e-9, atol=1e-10)


@every_able_backbone
def test_weights_do_not_depend_on_the_montage(backbone: str):
    model, (x, cond) = network(backbone), inputs(7)
    other = tiny(
        backbone, (1, 7, WINDOW), conditioning="class", electrode_rows=True, known=True, places=on_sphere(7, seed=8)
    )

    other.double().load_state_dict(model.state_dict(), strict=True)

    assert torch.equal(other(x, T, cond), model(x, T, cond))


@every_able_backbone
def test_places_of_another_number_of_electrodes_are_an_error(backbone: str):
    model, (x, cond) = network(backbone), inputs(7)

    with pytest.raises(ValueError, match="7 electrodes, but places of 5"):
        model(x, T, cond.with_places(None))


@every_able_backbone
def test_a_network_that_knows_electrodes_by_name_does_not_ignore_places(backbone: str):
    model, (x, cond) = tiny(backbone, (1, TRAINED, WINDOW), electrode_rows=True, known=True), inputs(TRAINED)

    with pytest.raises(ValueError, match="knows electrodes by name"):
        model(x.float(), T.float(), cond)


@every_able_backbone
def test_all_parameters_of_a_network_by_place_have_an_effect(backbone: str):
    model, (x, cond) = network(backbone), inputs(TRAINED)

    model(x, T, cond).square().sum().backward()

    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_able_backbone
def test_places_keep_their_precision_under_autocast(backbone: str):
    model, (x, cond) = network(backbone).float(), inputs(7)
    x, t = x.float(), T.float()
    exact = model(x, t, cond)

    with torch.autocast("cpu", torch.bfloat16):
        found = model(x, t, cond)

    assert (found.float() - exact).norm() < 0.03 * exact.norm()


def test_places_of_a_network_compile_into_one_graph():
    model, (x, cond) = network("dit"), inputs(7)

    found = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")(x, T, cond)

    torch.testing.assert_close(found, model(x, T, cond))


def test_places_stay_with_their_examples_when_conditions_are_dropped_cut_and_moved():
    _, cond = inputs(4)
    assert cond.places is not None

    dropped = cond.drop(torch.tensor([True, True, True])).drop_each({"label": torch.tensor([True] * 3)})
    cut = dropped.to("cpu")[torch.tensor([2, 0])]

    assert cut.places is not None and torch.equal(cut.places, cond.places[[2, 0]])
    assert len(Conditioning(places=cond.places)) == 3
    assert cond.with_known(None).places is cond.places


@pytest.mark.parametrize("std", [1.0, 0.5])
def test_embeddings_of_places_have_the_standard_deviation_of_learnt_ones(std: float):
    torch.manual_seed(0)
    places = on_sphere(64)

    with torch.no_grad():
        found = torch.cat([PlaceEmbedding(places, 64, std=std)(None) for _ in range(20)])

    assert found.std().item() == pytest.approx(std, rel=0.1)


def test_near_places_are_embedded_alike_and_others_are_not():
    torch.manual_seed(0)
    angles = torch.tensor([0.0, 0.01, 0.6, 1.5])
    embedding = PlaceEmbedding(torch.stack([angles.cos(), angles.sin(), torch.zeros(4)], dim=1), 256)

    with torch.no_grad():
        first, *others = embedding(None)

    near, neighbour, far = ((first - each).norm().item() / first.norm().item() for each in others)
    assert near < 0.03 < 0.4 < neighbour < far
