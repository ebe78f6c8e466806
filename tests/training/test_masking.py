"""Masks for training: their kinds and frequencies, the reference of what is given, and the loss on what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from signal_diffusion.config import schema
from signal_diffusion.data.reference import Reference
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.diffusion.methods import METHODS
from signal_diffusion.known import Known
from signal_diffusion.training.masking import Masking

SHAPE = (2000, 1, 6, 64)
ONLY = {"electrodes": 0.0, "gaps": 0.0, "continuations": 0.0}


def averaging(scale: Tensor, zero: Tensor) -> Reference:
    return Reference(torch.ones(6, dtype=torch.bool), scale, zero[:, None])


def drawn(average: Reference | None = None, **table: float) -> tuple[Tensor, Known, Tensor]:
    """Masked examples, what is given of them, and the examples before."""
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(SHAPE, generator=generator)
    masking = Masking(table=schema.Masking(**({"probability": 1.0} | table)), average=average)
    return *masking(before, generator), before


def test_nothing_is_given_of_the_other_examples() -> None:
    _, known, _ = drawn(probability=0.3)
    given = known.mask.flatten(1).any(1).float().mean().item()
    assert given == pytest.approx(0.3, abs=0.04)


def test_every_example_has_values_to_restore() -> None:
    _, known, _ = drawn()
    assert not known.mask.flatten(1).all(1).any()


def test_electrodes_are_given_as_a_whole_and_each_number_of_them_equally_often() -> None:
    _, known, _ = drawn(**ONLY | {"electrodes": 1.0})
    given = known.mask[:, 0].float().mean(2)
    assert set(given.unique().tolist()) == {0.0, 1.0}
    numbers, counts = given.sum(1).unique(return_counts=True)
    assert numbers.tolist() == [1, 2, 3, 4, 5]
    assert counts.numpy() / len(given) == pytest.approx(0.2, abs=0.04)
    assert given.mean(0).numpy() == pytest.approx(0.5, abs=0.05)  # no electrode is preferred


def test_a_gap_is_one_stretch_of_all_electrodes_and_at_most_half_of_the_window() -> None:
    _, known, _ = drawn(**ONLY | {"gaps": 1.0})
    missing = ~known.mask[:, 0]
    assert (missing == missing[:, :1]).all()
    lengths = missing[:, 0].sum(1)
    assert ((missing[:, 0, 1:] != missing[:, 0, :-1]).sum(1) <= 2).all()
    assert (lengths.min(), lengths.max()) == (1, 32)


def test_a_continuation_is_given_at_its_beginning_or_its_end() -> None:
    _, known, _ = drawn(**ONLY | {"continuations": 1.0})
    given = known.mask[:, 0, 0]
    assert (given[:, 0] != given[:, -1]).all()
    assert ((given[:, 1:] != given[:, :-1]).sum(1) == 1).all()
    assert (given.sum(1).min(), given.sum(1).max()) == (4, 60)
    assert given[:, 0].float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_given_electrodes_of_an_average_reference_average_to_zero_microvolts() -> None:
    scale, zero = torch.linspace(3, 8, 6), torch.linspace(-1, 1, 6)
    x0, known, before = drawn(averaging(scale, zero), **ONLY | {"electrodes": 1.0})
    signals = x0 * scale[:, None] + zero[:, None]
    assert (signals * known.mask).sum(2).abs().max() < 1e-3
    difference = signals - (before * scale[:, None] + zero[:, None])
    assert torch.allclose(difference, difference[:, :, :1].expand_as(difference), atol=1e-4)  # one for all electrodes
    assert torch.equal(known.values, x0)


def test_gaps_and_free_examples_keep_the_average_of_all_electrodes() -> None:
    x0, _, before = drawn(averaging(torch.ones(6), torch.zeros(6)), **ONLY | {"gaps": 1.0})
    before = before - before.mean(2, keepdim=True)
    assert torch.allclose(x0, before, atol=1e-6)


def test_the_scale_of_x0_is_that_of_the_representation() -> None:
    signals = TimeSeries(sampling_rate=100, window=8, mean=(1.0, -2.0), std=(3.0, 5.0), limit=4.0, data_std=0.25)
    microvolts = torch.randn(2, 8)
    x0 = signals.normalisation.normalised(signals.to_tensor(microvolts)[0])
    scale, zero = signals.microvolts_of_x0()
    assert torch.allclose(x0 * scale[:, None] + zero[:, None], microvolts, atol=1e-5)


def test_the_mask_of_a_validation_example_depends_on_its_own_generator_only() -> None:
    masking = Masking(table=schema.Masking(probability=0.8))
    x0 = torch.randn(5, 1, 6, 64)

    def of(rows: slice) -> Known:
        return masking.of_each(x0[rows], [torch.Generator().manual_seed(i) for i in range(5)][rows])[1]

    assert torch.equal(of(slice(5)).mask[3:], of(slice(3, 5)).mask)


def test_the_loss_is_the_mean_over_what_is_not_given() -> None:
    method = replace(METHODS["rectified_flow"](), snr_gamma=5.0)
    prediction, x0, noise = torch.randn(3, 4, 1, 6, 8)
    t = torch.tensor([0.1, 0.4, 0.7, 0.9])
    mask = torch.rand(4, 1, 6, 8) < 0.5
    mask[3] = False
    known = Known(x0, mask)
    error = (prediction - (noise - x0)).square()
    expected = torch.stack([each[~given].mean() for each, given in zip(error, mask, strict=True)]) * method.weight(t)
    assert torch.allclose(method.loss(prediction, x0, noise, t, known), expected)
    assert torch.allclose(method.loss(prediction, x0, noise, t, known)[3:], method.loss(prediction, x0, noise, t)[3:])
