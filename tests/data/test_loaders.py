"""The order of examples, and reading them by batch."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.loaders import ExampleOrder, Examples, batches, evenly_spaced


def seen(order: ExampleOrder, steps: int) -> list[int]:
    return [int(i) for step in range(steps) for indices in order.indices(step) for i in indices]


def test_each_epoch_has_every_example_once_in_another_order() -> None:
    order = ExampleOrder(num_examples=60, batch_size=5, accumulation=2)
    first, second = seen(order, 6), [int(i) for s in range(6, 12) for b in order.indices(s) for i in b]
    assert sorted(first) == sorted(second) == list(range(60))
    assert first != second


def test_processes_share_an_epoch_without_overlap() -> None:
    shares = [
        seen(ExampleOrder(num_examples=60, batch_size=5, num_processes=3, process_index=rank), 4) for rank in range(3)
    ]
    assert sorted(itertools.chain(*shares)) == list(range(60))


def test_two_processes_together_equal_one_with_twice_the_accumulation() -> None:
    one = ExampleOrder(num_examples=64, batch_size=4, accumulation=2)
    two = [ExampleOrder(num_examples=64, batch_size=4, num_processes=2, process_index=rank) for rank in range(2)]
    for step in range(10):
        together = [indices for order in two for indices in order.indices(step)]
        assert np.array_equal(np.concatenate(one.indices(step)), np.concatenate(together))


@pytest.mark.parametrize(("drop_last", "expected"), [(True, 4), (False, 5)])
def test_the_incomplete_last_step_is_dropped_or_filled_up(drop_last: bool, expected: int) -> None:
    order = ExampleOrder(num_examples=19, batch_size=4, drop_last=drop_last)
    assert order.steps_per_epoch == expected
    indices = seen(order, expected)
    assert len(indices) == 4 * expected
    assert (set(indices) == set(range(19))) == (not drop_last)


def test_a_split_smaller_than_a_step_is_repeated_without_drop_last() -> None:
    order = ExampleOrder(num_examples=3, batch_size=8, drop_last=False)
    assert set(seen(order, 1)) == {0, 1, 2}


def test_order_depends_on_the_seed_and_shuffling_can_be_off() -> None:
    make = lambda **kw: seen(ExampleOrder(num_examples=30, batch_size=5, **kw), 6)  # noqa: E731
    assert make(seed=0) != make(seed=1)
    assert make(shuffle=False) == list(range(30))


BLOCK = {"num_examples": 1000, "batch_size": 5, "block": 10, "is_apart": True}


def by_rank(ranks: int, **options: object) -> list[list[int]]:
    """What each of several processes sees in an epoch of many small blocks."""
    orders = [ExampleOrder(**(BLOCK | options), num_processes=ranks, process_index=rank) for rank in range(ranks)]  # type: ignore[arg-type]
    return [seen(order, order.steps_per_epoch) for order in orders]


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_processes_share_blocks_without_overlap_whatever_their_number(ranks: int) -> None:
    shares = by_rank(ranks)
    every = list(itertools.chain(*shares))
    assert len(set(every)) == len(every) == 1000 - 1000 % (5 * ranks)
    blocks = [len({row // 10 for row in share}) for share in shares]
    assert sum(blocks) <= 100 + ranks - 1  # one is shared where two stretches meet


def test_examples_of_blocks_are_mixed_but_only_with_a_few_at_a_time() -> None:
    (rows,) = by_rank(1)
    live = [len({row // 10 for row in rows[start : start + 10]}) for start in range(200, 800)]
    assert np.mean(live) > 6 and all(
        np.ptp(np.flatnonzero(np.array(rows) // 10 == block)) < 180 for block in range(100)
    )
    assert rows != sorted(rows) and by_rank(1, seed=1) != [rows]


def test_an_order_in_blocks_depends_on_the_epoch_and_starts_at_any_step() -> None:
    order = ExampleOrder(**BLOCK, accumulation=2, num_processes=3, process_index=1, drop_last=False)  # type: ignore[arg-type]
    first, second = (list(order.stream(at, at + order.steps_per_epoch)) for at in (0, order.steps_per_epoch))
    assert first != second
    assert list(order.stream(order.steps_per_epoch + 4, order.steps_per_epoch + 9)) == second[8:18]


def test_blocks_that_processes_share_give_each_step_the_same_examples_whatever_their_number() -> None:
    shared = BLOCK | {"is_apart": False}
    one = ExampleOrder(**shared, accumulation=2)  # type: ignore[arg-type]
    two = [ExampleOrder(**shared, num_processes=2, process_index=rank) for rank in range(2)]  # type: ignore[arg-type]
    for step in range(150, 160):
        together = [indices for order in two for indices in order.indices(step)]
        assert np.array_equal(np.concatenate(one.indices(step)), np.concatenate(together))


def test_only_a_large_split_is_read_in_blocks(synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_examples(synthetic_dataset, memory_limit_mb=0).block is None  # however little memory is free
    monkeypatch.setattr("signal_diffusion.data.loaders.LARGEST_IN_MEMORY", 2**20)
    assert open_examples(synthetic_dataset, memory_limit_mb=2**20).block == 2**23 // (2 * 64 * 64)


def open_examples(root: Path, **options: object) -> Examples:
    card = DatasetCard.load(root)
    attributes = {
        "label": ("label", card.columns["label"]["names"]),
        "gender": ("gender", card.columns["gender"]["names"]),
        "age": ("age", None),
    }
    return Examples(open_split(root, "train"), shape=card.shape, attributes=attributes, **options)  # type: ignore[arg-type]


def test_memory_mapped_and_in_memory_batches_are_the_same(synthetic_dataset: Path) -> None:
    in_memory, mapped = open_examples(synthetic_dataset), open_examples(synthetic_dataset, memory_limit_mb=0)
    assert in_memory.in_memory and not mapped.in_memory
    for indices in ([5, 3, 3, 0], list(range(len(mapped)))[::-7]):
        (x, attributes), (mapped_x, mapped_attributes) = in_memory[indices], mapped[indices]
        assert x.dtype == mapped_x.dtype == torch.float32
        assert torch.equal(x, mapped_x)
        assert all(torch.equal(attributes[name], mapped_attributes[name]) for name in attributes)


def test_attributes_belong_to_their_examples(synthetic_dataset: Path) -> None:
    split, card = open_split(synthetic_dataset, "train"), DatasetCard.load(synthetic_dataset)
    rows = [len(split) - 1, 0, 17]
    _, attributes = open_examples(synthetic_dataset)[rows]
    assert attributes["age"].tolist() == [split[row]["age"] for row in rows]
    names = card.columns["gender"]["names"]
    assert [names[i] for i in attributes["gender"]] == [split[row]["gender"] for row in rows]
    assert attributes["label"].tolist() == [split[row]["label"] for row in rows]


def test_a_subset_is_evenly_spread_over_the_split(synthetic_dataset: Path) -> None:
    whole = open_examples(synthetic_dataset)
    subset = evenly_spaced(len(whole), 5)
    assert subset is not None and subset[0] == 0 and subset[-1] > len(whole) // 2
    part = open_examples(synthetic_dataset, subset=subset)
    assert len(part) == 5
    assert torch.equal(part[[0, 4]][0], whole[[subset[0], subset[4]]][0])
    assert torch.equal(part[[0, 4]][1]["age"], whole[[subset[0], subset[4]]][1]["age"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_that_starts_later_gives_the_same_batches(synthetic_dataset: Path, num_workers: int) -> None:
    examples = open_examples(synthetic_dataset, memory_limit_mb=0)
    order = ExampleOrder(num_examples=len(examples), batch_size=16)
    stream = lambda first: batches(examples, order, first, 12, num_workers=num_workers, pin_memory=False)  # noqa: E731
    whole, late = list(stream(0)), list(stream(7))
    assert len(whole) == 12 and len(late) == 5
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[7:], late, strict=True))


def test_missing_values_become_minus_one_or_nan() -> None:
    import datasets

    split = datasets.Dataset.from_dict(
        {"image": [[[[0.0]]]] * 3, "gender": ["male", None, "female"], "age": [20.0, None, 60.0]},
        features=datasets.Features(
            image=datasets.Array3D((1, 1, 1), "float16"),
            gender=datasets.Value("string"),
            age=datasets.Value("float32"),
        ),
    )
    examples = Examples(
        split, shape=(1, 1, 1), attributes={"gender": ("gender", ["female", "male"]), "age": ("age", None)}
    )
    _, attributes = examples[[0, 1, 2]]
    assert attributes["gender"].tolist() == [1, -1, 0]
    assert torch.isnan(attributes["age"]).tolist() == [False, True, False]
