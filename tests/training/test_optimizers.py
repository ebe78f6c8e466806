"""Learning rates against their formulas, which weights decay, and steps that are skipped on the device."""

from __future__ import annotations

import copy
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from signal_diffusion.config import schema
from signal_diffusion.training.nonfinite import SkippingStep
from signal_diffusion.training.optimizers import LearningRate, build_optimizer, learning_rate_schedule


def rates(num_steps: int = 1000, steps_per_epoch: int = 100, **config: object) -> list[float]:
    schedule = learning_rate_schedule(
        schema.Scheduler(**config),  # type: ignore[arg-type]
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
    )
    return [schedule(step) for step in range(num_steps + 1)]


def test_warm_up_takes_at_most_a_tenth_of_the_run_and_starts_at_a_thousandth() -> None:
    rate = rates(type="constant", warmup_steps=2000)
    assert rate[0] == pytest.approx(1e-3)
    assert rate[50] == pytest.approx(1e-3 + 0.999 * 0.5)
    assert rate[99] < 1.0 == rate[100] == rate[1000]


def test_a_cosine_schedule_falls_to_its_lowest_rate() -> None:
    rate = rates(type="cosine", warmup_steps=0, min_lr_ratio=0.01)
    assert rate[0] == 1.0
    assert rate[500] == pytest.approx(0.505)
    assert rate[1000] == pytest.approx(0.01)
    assert all(later <= earlier for earlier, later in pairwise(rate))


def test_a_cosine_schedule_can_have_several_cycles() -> None:
    rate = rates(type="cosine", warmup_steps=0, num_cycles=2, min_lr_ratio=0.0)
    assert rate[500] == pytest.approx(1.0)
    assert rate[250] == rate[750] == pytest.approx(0.5)


def test_linear_and_step_schedules() -> None:
    assert rates(type="linear", warmup_steps=0, min_lr_ratio=0.2)[500] == pytest.approx(0.6)
    rate = rates(type="step", warmup_steps=0, step_size=3, gamma=0.5, min_lr_ratio=0.1)
    assert (rate[299], rate[300], rate[600], rate[999]) == (1.0, 0.5, 0.25, 0.125)


def test_only_matrices_decay() -> None:
    model = nn.Sequential(nn.Embedding(4, 8), nn.Linear(8, 8), nn.LayerNorm(8))
    decayed, free = build_optimizer(model, schema.Optimizer(weight_decay=0.1)).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(8, 8)] and decayed["weight_decay"] == 0.1
    assert sum(p.numel() for p in free["params"]) == 32 + 8 + 16 and free["weight_decay"] == 0.0


def test_matrices_named_in_no_weight_decay_do_not_decay() -> None:
    class Scan(nn.Linear):
        no_weight_decay = ("weight",)

    model = copy.deepcopy(nn.Sequential(Scan(3, 3), nn.Linear(8, 8))).to(torch.float64)
    decayed, free = build_optimizer(model, schema.Optimizer(weight_decay=0.1)).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(8, 8)]
    assert sorted(tuple(p.shape) for p in free["params"]) == [(3,), (3, 3), (8,)]


def guarded_step(
    model: nn.Linear, optimizer: torch.optim.Optimizer, skipping: SkippingStep, number: int, factor: float
) -> None:
    optimizer.zero_grad()
    (model(torch.ones(2, 4)).sum() * factor).backward()
    skipping.guard({name: weight.grad for name, weight in model.named_parameters()}, number)  # type: ignore[misc]
    optimizer.step()


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_state(kind: str) -> None:
    model = nn.Linear(4, 4)
    optimizer = build_optimizer(model, schema.Optimizer(type=kind, learning_rate=0.1))  # type: ignore[arg-type]
    skipping = SkippingStep(optimizer, torch.device("cpu"))
    step = partial(guarded_step, model, optimizer, skipping)
    step(1, 1.0)
    weights = model.weight.detach().clone()
    state = [{key: value.clone() for key, value in s.items() if value is not None} for s in optimizer.state.values()]
    step(2, float("nan"))
    step(3, float("inf"))
    assert torch.equal(model.weight, weights)
    for before, after in zip(state, optimizer.state.values(), strict=True):
        assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert (skipping.num_skipped.item(), skipping.first_skipped.item()) == (2, 2)
    step(4, 1.0)
    assert not torch.equal(model.weight, weights)


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_a_first_gradient_that_is_not_finite_does_not_affect_later_steps(kind: str) -> None:
    with_it = nn.Linear(4, 4)
    without = copy.deepcopy(with_it)
    for model, factors in ((with_it, (float("nan"), 1.0)), (without, (1.0,))):
        optimizer = build_optimizer(model, schema.Optimizer(type=kind, learning_rate=0.1))  # type: ignore[arg-type]
        skipping = SkippingStep(optimizer, torch.device("cpu"))
        for number, factor in enumerate(factors):
            guarded_step(model, optimizer, skipping, number, factor)
    assert torch.equal(with_it.weight, without.weight)


def test_momentum_starts_at_zero_and_steps_stay_bit_identical_to_torch() -> None:
    ours = nn.Linear(4, 4)
    plain = copy.deepcopy(ours)
    optimizer = build_optimizer(ours, schema.Optimizer(type="sgd", learning_rate=0.1, weight_decay=0.0))
    assert all(torch.equal(optimizer.state[p]["momentum_buffer"], torch.zeros_like(p)) for p in ours.parameters())
    optimizers = (optimizer, torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, fused=True))
    for model, each in zip((ours, plain), optimizers, strict=True):
        for _ in range(3):
            each.zero_grad()
            model(torch.ones(2, 4)).square().sum().backward()
            each.step()
    assert torch.equal(ours.weight, plain.weight)


@pytest.mark.parametrize(
    ("rate", "scheduler", "first_dead"),
    [
        (1e-4, {"type": "step", "gamma": 0.1, "step_size": 10, "min_lr_ratio": 0.0}, 60),  # 1e-10 from epoch 6 × 10 on
        (1e-4, {"type": "step", "gamma": 0.1, "step_size": 10, "min_lr_ratio": 0.01}, None),
        (1e-4, {"type": "cosine", "min_lr_ratio": 0.0}, None),
        (1e-4, {"type": "linear", "min_lr_ratio": 0.0}, None),
        (1e-7, {"type": "constant", "warmup_steps": 10}, None),  # begins at 1e-10
        (1e-12, {"type": "constant"}, None),  # `config check` warns of it
    ],
)
def test_a_learning_rate_is_dead_if_decays_leave_nothing_for_the_rest_of_the_run(
    rate: float, scheduler: dict[str, Any], first_dead: int | None
) -> None:
    training = schema.Training(
        scheduler=schema.Scheduler(**scheduler), optimizer=schema.Optimizer(learning_rate=rate), max_steps=100
    )
    learning_rate = LearningRate(training, num_steps=100, steps_per_epoch=1)
    dead = [step for step in range(101) if learning_rate.is_dead(step)]
    assert dead == (list(range(first_dead, 96)) if first_dead else [])


def test_steps_that_a_scaler_skips_are_only_counted() -> None:
    optimizer = build_optimizer(nn.Linear(4, 4), schema.Optimizer())
    skipping = SkippingStep(optimizer, torch.device("cpu"))
    for number, norm in enumerate((1.0, float("inf"), float("nan"))):
        skipping.guard({"weight": torch.tensor([norm])}, number, by_scaler=True)
    assert (skipping.num_skipped.item(), skipping.first_skipped.item()) == (2, -1)
    assert not hasattr(optimizer, "found_inf")
