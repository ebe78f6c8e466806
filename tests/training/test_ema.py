"""The moving average of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from signal_diffusion.config import schema
from signal_diffusion.training.ema import Ema


def test_the_average_of_a_drifting_weight_lags_by_the_memory_of_the_decay() -> None:
    model = nn.Linear(1, 1, bias=False)
    ema = Ema(model, schema.Ema(decay=0.99, update_every=1, warmup=False))
    for step in range(1, 2001):
        with torch.no_grad():
            model.weight.fill_(step * 1e-4)
        ema.update(step)
    lag = 2000 - ema.state_dict()["weight"].item() / 1e-4
    assert lag == pytest.approx(99, rel=0.1)


def test_small_drifts_are_not_lost_to_rounding() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    ema = Ema(model, schema.Ema(decay=0.999, update_every=1, warmup=False))
    with torch.no_grad():
        model.weight.fill_(1.001)
    for step in range(1, 5001):
        ema.update(step)
    assert ema.state_dict()["weight"].item() == pytest.approx(1.001, abs=1e-4)


def test_the_average_is_updated_every_update_every_steps() -> None:
    model = nn.Linear(2, 2)
    ema = Ema(model, schema.Ema(update_every=10, warmup=False, decay=0.0))
    for step in range(1, 21):
        with torch.no_grad():
            model.weight.fill_(float(step))
        ema.update(step)
        # a copy until the first update: a short run would otherwise average in random weights
        assert ema.state_dict()["weight"][0, 0] == (step if step <= 10 else step // 10 * 10)


def test_until_update_after_step_the_average_is_a_copy() -> None:
    model = nn.Linear(2, 2)
    ema = Ema(model, schema.Ema(update_every=1, update_after_step=5, warmup=False, decay=0.9))
    for step in range(1, 7):
        with torch.no_grad():
            model.weight.fill_(float(step))
        ema.update(step)
    assert ema.state_dict()["weight"][0, 0].item() == pytest.approx(0.9 * 5 + 0.1 * 6)


def test_warm_up_shortens_the_memory_at_first_and_ends_at_the_decay() -> None:
    ema = Ema(nn.Linear(1, 1), schema.Ema(decay=0.99, update_every=1, warmup=True, power=0.75))
    ema.update(1)
    assert ema.decay == pytest.approx(1 - 2**-0.75)
    for step in range(2, 1000):
        ema.update(step)
    assert ema.decay == 0.99


def test_the_models_own_weights_are_restored_even_after_an_exception() -> None:
    model = nn.Linear(3, 3)
    ema = Ema(model, schema.Ema(update_every=1))
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        ema.state_dict()["weight"].add_(1.0)
    with pytest.raises(RuntimeError, match="inside"), ema.applied():
        assert not torch.equal(model.weight, own["weight"])
        raise RuntimeError("inside")
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_averages_of_another_model_are_refused() -> None:
    ema = Ema(nn.Linear(2, 2), schema.Ema())
    with pytest.raises(KeyError):
        ema.load_state_dict({"weight": torch.zeros(2, 2)}, 0)
