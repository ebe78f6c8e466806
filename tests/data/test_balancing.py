"""Rare groups are sampled as often as `balanced_weights` says, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from signal_diffusion.data.balancing import balanced_weights, marginals
from signal_diffusion.data.loaders import ExampleOrder

GENDER = ["female"] * 270 + ["male"] * 90


def sampled(weights: np.ndarray | None, *, batch_size: int = 10, epochs: int = 1, **options: int) -> np.ndarray:
    order = ExampleOrder(num_examples=len(GENDER), batch_size=batch_size, weights=weights, **options)
    steps = range(epochs * order.steps_per_epoch)
    return np.concatenate([indices for step in steps for indices in order.indices(step)])


def share_of(values: list, value: object, indices: np.ndarray) -> float:
    return float(np.mean([values[index] == value for index in indices]))


def test_a_quarter_of_examples_becomes_half():
    assert share_of(GENDER, "male", sampled(balanced_weights([GENDER], 10.0))) == pytest.approx(0.5, abs=0.005)


def test_the_cap_limits_how_often_rare_examples_are_sampled():
    # Men have weight 1.2 instead of 2, women 2/3: 90 · 1.2 = 108 of 108 + 270 · 2/3 = 288.
    assert share_of(GENDER, "male", sampled(balanced_weights([GENDER], 1.2))) == pytest.approx(108 / 288, abs=0.005)


def test_combinations_are_balanced_together():
    health = ["patient" if index % 10 == 0 else "healthy" for index in range(360)]
    indices = sampled(balanced_weights([GENDER, health], 100.0), epochs=4)
    for gender in ("female", "male"):
        for state in ("patient", "healthy"):
            both = float(np.mean([GENDER[index] == gender and health[index] == state for index in indices]))
            assert both == pytest.approx(0.25, abs=0.01)


def test_unknown_values_keep_their_share():
    values = ["a"] * 200 + ["b"] * 40 + [None] * 120
    indices = sampled(balanced_weights([values], 100.0))
    assert share_of(values, None, indices) == pytest.approx(1 / 3, abs=0.005)
    assert share_of(values, "b", indices) == pytest.approx(1 / 3, abs=0.005)


def test_unknown_values_keep_their_share_when_the_cap_is_reached():
    values = ["a"] * 99 + ["b"] + [None] * 100
    weights = balanced_weights([values], 10.0)
    assert weights[100:].sum() / weights.sum() == pytest.approx(0.5)


def test_rows_may_stand_for_many_examples():
    whole = marginals({"gender": GENDER}, {"gender": balanced_weights([GENDER], 10.0)})
    counts = [270, 90]
    weights = {"gender": balanced_weights([["female", "male"]], 10.0, counts)}
    assert marginals({"gender": ["female", "male"]}, weights, counts) == whole


def test_every_example_of_the_frequent_group_is_still_used():
    counts = np.bincount(sampled(balanced_weights([GENDER], 10.0), epochs=30), minlength=360)
    assert counts[:270].min() > 0 and counts[270:].min() >= 30 * 2 - 1


def test_weighted_epochs_differ_and_any_step_is_reproducible():
    weights = balanced_weights([GENDER], 10.0)
    order = ExampleOrder(num_examples=360, batch_size=10, weights=weights)
    again = ExampleOrder(num_examples=360, batch_size=10, weights=weights)
    assert np.array_equal(order.indices(57)[0], again.indices(57)[0])
    first, second = sampled(weights, epochs=2).reshape(2, 360)
    assert not np.array_equal(first, second)


def test_two_processes_share_a_weighted_epoch():
    weights = balanced_weights([GENDER], 10.0)
    whole = ExampleOrder(num_examples=360, batch_size=5, accumulation=2, weights=weights).indices(3)
    parts = [
        ExampleOrder(num_examples=360, batch_size=5, num_processes=2, process_index=rank, weights=weights).indices(3)
        for rank in range(2)
    ]
    assert np.array_equal(np.concatenate(whole), np.concatenate([part[0] for part in parts]))


def test_marginals_before_and_after_balancing():
    found = marginals({"gender": GENDER}, {"gender": balanced_weights([GENDER], 10.0)})
    assert found == {
        "gender": {
            "female": {"examples": 270, "share": 0.75, "balanced": 0.5},
            "male": {"examples": 90, "share": 0.25, "balanced": 0.5},
        }
    }


def test_without_weights_an_epoch_has_each_example_once():
    assert sorted(sampled(None)) == list(range(360))
