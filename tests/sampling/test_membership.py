"""The loss tells training examples from others if a model has overfitted them, and does not if it was not trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from signal_diffusion.experiment.dataset import Dataset, dataset_of
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.sampling.membership import TIMES, Candidates, membership
from signal_diffusion.sampling.trained import Trained, load_trained

STEPS = 300


def candidates(trained: Trained, dataset: Dataset, rows: slice, people: int = 4) -> Candidates:
    """Examples of the training split, said to be of some people in turn."""
    examples = dataset.examples("train", trained.attributes)
    examples._rows = examples._rows[rows]
    examples._tensors = examples._tensors[rows]
    numbers = np.arange(len(examples))
    return Candidates(
        examples=examples,
        labels=np.array(["", "x"])[numbers % 2],
        people=np.array([f"{rows.start}-{number % people}" for number in numbers]),
    )


@pytest.fixture
def trained(run: Path) -> Trained:
    """A model that was trained for four steps."""
    return load_trained(run)


@pytest.fixture
def dataset(trained: Trained) -> Dataset:
    return dataset_of(trained.experiment.data)


def overfit(trained: Trained, members: Candidates) -> None:
    x, attributes = members.examples[list(range(len(members)))]
    x0, method = trained.method.normalisation.normalised(x), trained.method
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(trained.model.parameters(), lr=3e-3, fused=True)
    for _ in range(STEPS):
        t = torch.rand(len(x0), generator=generator)
        noise = torch.randn(x0.shape, generator=generator)
        prediction = trained.model(method.add_noise(x0, noise, t), t, Conditioning(attributes))
        optimizer.zero_grad()
        method.loss(prediction, x0, noise, t).mean().backward()
        optimizer.step()


def test_the_loss_of_an_overfitted_model_tells_its_examples_from_others(trained: Trained, dataset: Dataset) -> None:
    members, others = (candidates(trained, dataset, slice(start, start + 8)) for start in (0, 100))
    overfit(trained, members)

    found = membership(trained, members, others)

    assert found.total.auc > 0.95
    assert found.total.interval is not None and found.total.interval[0] > 0.5


def test_the_loss_of_an_untrained_model_tells_nothing(trained: Trained, dataset: Dataset) -> None:
    members, others = (candidates(trained, dataset, slice(start, None, 2)) for start in (0, 1))

    found = membership(trained, members, others)

    assert found.total.auc == pytest.approx(0.5, abs=0.1)
    assert found.total.interval is not None and found.total.interval[0] < 0.5 < found.total.interval[1]
    assert tuple(found.times) == TIMES


def test_as_many_examples_of_each_label_are_compared(trained: Trained, dataset: Dataset) -> None:
    members, others = (candidates(trained, dataset, slice(start, start + 12)) for start in (0, 100))
    others.labels[:] = ["x"] * 9 + [""] * 3

    found = membership(trained, members, others)

    assert (found.members, found.others) == (9, 9)  # 6 of x and 3 without a label


def test_one_person_gives_no_interval(trained: Trained, dataset: Dataset) -> None:
    members, others = (candidates(trained, dataset, slice(start, start + 8), people=1) for start in (0, 100))

    assert membership(trained, members, others).total.interval is None


def test_membership_is_the_same_each_time(trained: Trained, dataset: Dataset) -> None:
    members, others = (candidates(trained, dataset, slice(start, start + 8)) for start in (0, 100))

    assert membership(trained, members, others) == membership(trained, members, others)
