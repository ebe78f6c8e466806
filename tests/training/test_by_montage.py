"""Examples that lack electrodes: trained and validated on the electrodes that they have, and on nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from signal_diffusion.config import schema
from signal_diffusion.data.augmentation import Augmenting
from signal_diffusion.data.reference import Reference
from signal_diffusion.diffusion.methods import rectified_flow
from signal_diffusion.diffusion.normalisation import Normalisation
from signal_diffusion.known import Known
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.registry import BACKBONES
from signal_diffusion.training.by_montage import loss_of_each, without_absent
from signal_diffusion.training.masking import Masking
from signal_diffusion.training.objective import Denoising
from signal_diffusion.training.validation import Validation
from tests.models.tiny import conditions, tiny

ELECTRODES, WINDOW = 6, 256
METHOD = rectified_flow()
MONTAGES = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 1]], dtype=torch.bool)
PRESENT = MONTAGES[[0, 1, 1, 0, 1]]  # of five examples
every_able_backbone = pytest.mark.parametrize("backbone", [name for name, b in BACKBONES.items() if b.takes_places])


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PLACES = torch.nn.functional.normalize(random(ELECTRODES, 3, seed=0), dim=1)


def network(backbone: str, places: Tensor = PLACES) -> Denoiser:
    """A small network with random weights everywhere, in float64."""
    shape = (1, len(places), WINDOW)
    model = tiny(backbone, shape, conditioning="class", electrode_rows=True, known=True, places=places)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    return model.double()


def batch(seed: int = 2) -> tuple[Tensor, Tensor, Tensor, Conditioning]:
    """x0, noise, times and conditions of five examples, a third of whose values are given."""
    x0, noise = random(2, 5, 1, ELECTRODES, WINDOW, seed=seed)
    mask = random(5, 1, ELECTRODES, WINDOW, seed=3) > 0.43
    return x0, noise, torch.linspace(0.1, 0.9, 5).double(), conditions("class", 5).with_known(Known(x0, mask))


def gradients(model: Denoiser, loss: Tensor) -> list[Tensor]:
    return [each for each in torch.autograd.grad(loss, list(model.parameters()), allow_unused=True) if each is not None]


@every_able_backbone
def test_a_batch_of_two_montages_has_the_loss_and_gradients_of_the_two_apart(backbone: str) -> None:
    x0, noise, t, cond = batch()
    model = network(backbone)
    together = loss_of_each(model, METHOD, x0, noise, t, cond, places=PLACES, present=PRESENT)

    apart, weights = torch.zeros(5, dtype=torch.float64), []
    for montage in MONTAGES:
        own = network(backbone, PLACES[montage])  # built for these electrodes, without knowing of others
        some = (montage == PRESENT).all(1)
        given = Known(cond.known.values[some][:, :, montage], cond.known.mask[some][:, :, montage])  # type: ignore[union-attr]
        parts = [each[some][:, :, montage] for each in (x0, noise)]
        losses = loss_of_each(own, METHOD, *parts, t[some], cond[some].with_known(given))
        apart[some] = losses.detach()
        weights.append(gradients(own, losses.sum() / 5))

    torch.testing.assert_close(together, apart, rtol=1e-10, atol=1e-12)
    for found, *expected in zip(gradients(model, together.mean()), *weights, strict=True):
        torch.testing.assert_close(found, sum(expected), rtol=1e-8, atol=1e-10)


@every_able_backbone
def test_no_value_of_an_absent_electrode_has_an_influence(backbone: str) -> None:
    x0, noise, t, cond = batch()
    absent = ~PRESENT[:, None, :, None].expand_as(x0)

    def found(value: float) -> tuple[Tensor, list[Tensor]]:
        model, known = network(backbone), cond.known
        assert known is not None
        other = cond.with_known(Known(known.values.masked_fill(absent, value), known.mask ^ (absent & (value > 0))))
        filled = [each.masked_fill(absent, value) for each in (x0, noise)]
        losses = loss_of_each(model, METHOD, *filled, t, other, places=PLACES, present=PRESENT)
        return losses, gradients(model, losses.mean())

    (losses, slopes), (others, other_slopes) = found(1e6), found(math.nan)
    assert torch.equal(losses, others) and losses.isfinite().all()
    assert all(map(torch.equal, slopes, other_slopes))


def masking(**table: float) -> Masking:
    scale, zero = torch.linspace(3, 8, ELECTRODES), torch.linspace(-1, 1, ELECTRODES)
    average = Reference(torch.ones(ELECTRODES, dtype=torch.bool), scale, zero[:, None])
    return Masking(table=schema.Masking(**({"probability": 0.8} | table)), average=average)


def objective(places: Tensor | None) -> Denoising:
    return Denoising(
        method=replace(METHOD, normalisation=Normalisation(std=((0.1,),))),
        encoding=None,
        augmentation=Augmenting(table=schema.Augmentation(gaussian_noise_std=0.01)),
        cfg_dropout=0.2,
        attribute_dropout=0.0,
        masking=masking(),
        places=places,
    )


@pytest.fixture
def small() -> Denoiser:
    """A network in float32 whose prediction is not zero."""
    model = tiny("dit", (1, ELECTRODES, WINDOW), electrode_rows=True, known=True, places=PLACES.float())
    torch.nn.init.normal_(model.output.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    return model.eval()


def test_examples_with_all_electrodes_get_the_same_draws_whether_others_may_lack_some_or_not(small: Denoiser) -> None:
    x = 0.1 * random(8, 1, ELECTRODES, WINDOW, seed=5).float()
    losses = [objective(places)(small, (x, {}), torch.Generator().manual_seed(6)) for places in (None, PLACES.float())]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)  # places are embedded once, or for each example


def test_absent_electrodes_change_nothing_for_the_other_examples_of_a_batch(small: Denoiser) -> None:
    x = 0.1 * random(5, 1, ELECTRODES, WINDOW, seed=5).float()
    mixed = x.masked_fill(~PRESENT[:, None, :, None], math.nan)
    losses = []
    for batch_of in (x, mixed):
        with pytest.MonkeyPatch.context() as patch:
            kept: list[Tensor] = []
            patch.setattr(
                "signal_diffusion.training.objective.loss_of_each",
                lambda *args, kept=kept, **options: kept.append(loss_of_each(*args, **options)) or kept[0],
            )
            total = objective(PLACES.float())(small, (batch_of, {}), torch.Generator().manual_seed(6))
        assert total.isfinite()
        losses.append(kept[0])
    whole = PRESENT.all(1)
    torch.testing.assert_close(losses[0][whole], losses[1][whole], rtol=1e-5, atol=1e-6)
    assert (losses[0][~whole] != losses[1][~whole]).all()


class Split:
    """Examples without attributes, some of which lack electrodes."""

    x = (0.1 * random(5, 1, ELECTRODES, WINDOW, seed=5).float()).masked_fill(~PRESENT[:, None, :, None], math.nan)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.x[rows], {}


def test_the_validation_loss_of_mixed_examples_does_not_depend_on_the_batches(small: Denoiser) -> None:
    found = [
        Validation(
            Split(),  # type: ignore[arg-type]
            replace(METHOD, normalisation=Normalisation(std=((0.1,),))),
            num_examples=0,
            batch_size=size,
            seed=0,
            encoding=None,
            masking=masking(),
            places=PLACES.float(),
        )(small, Accelerator(cpu=True), lambda: None)["loss"]
        for size in (1, 2, 5)
    ]
    assert math.isfinite(found[0])
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)


def test_only_wholly_missing_rows_are_absent_electrodes() -> None:
    x = torch.randn(2, 1, 3, 8)
    x[0, :, 1], x[1, :, 2, :4] = math.nan, math.nan
    filled, present = without_absent(x)
    assert present.tolist() == [[True, False, True], [True, True, True]]
    assert (filled[0, :, 1] == 0).all() and filled[1, :, 2, :4].isnan().all()  # a defect stays one


def test_masks_are_of_electrodes_that_are_there_and_give_each_number_of_them_equally_often() -> None:
    present = MONTAGES[1].expand(3000, -1)
    x0 = torch.randn(3000, 1, ELECTRODES, 4)
    masks = masking(probability=1.0, electrodes=1.0, gaps=0.0, continuations=0.0)
    _, known = masks(x0, torch.Generator().manual_seed(0), present)
    given = known.mask[:, 0].float().mean(2)
    assert not given[:, ~MONTAGES[1]].any()
    numbers, counts = given.sum(1).unique(return_counts=True)
    assert numbers.tolist() == [1, 2]
    assert counts.numpy() / len(given) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("kind", ["electrodes", "gaps"])
def test_the_average_reference_is_over_given_electrodes_that_are_there(kind: str) -> None:
    x0 = torch.randn(300, 1, ELECTRODES, 4).masked_fill(~MONTAGES[1][:, None], 1e6)
    kinds = {"electrodes": 0.0, "gaps": 0.0, "continuations": 0.0} | {kind: 1.0}
    masks = masking(probability=1.0, **kinds)
    assert masks.average is not None
    found, known = masks(x0, torch.Generator().manual_seed(0), MONTAGES[1].expand(300, -1))
    signals = found * masks.average.scale[:, None] + masks.average.zero
    averaged = known.mask if kind == "electrodes" else MONTAGES[1][:, None].expand_as(signals)
    assert (signals * averaged).sum(2).abs().max() < 1e-3


def test_of_a_single_electrode_nothing_is_given_and_nothing_becomes_infinite() -> None:
    present = torch.zeros(50, ELECTRODES, dtype=torch.bool)
    present[:, 2] = True
    masks = masking(probability=1.0, electrodes=1.0, gaps=0.0, continuations=0.0)
    x0, known = masks(torch.randn(50, 1, ELECTRODES, 4), torch.Generator().manual_seed(0), present)
    assert not known.mask.any() and x0.isfinite().all()
