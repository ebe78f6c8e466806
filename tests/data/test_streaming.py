"""Training splits that are read from the Hub while a run trains; here from a folder in the Hub's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from signal_diffusion.config import schema
from signal_diffusion.data.loaders import ExampleOrder, batches
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.dataset import Dataset, dataset_of
from signal_diffusion.experiment.loading import load_experiment
from tests.data.hub_folder import Requests, dataset_on_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return dataset_on_hub(tmp_path, monkeypatch)


def data(hub: Path, **options: Any) -> schema.Data:
    loading = schema.Loading(cache_dir=str(hub.parents[2] / "cache"))
    return schema.Data(source="hub", paths=schema.Paths(root="me/eeg@v1"), loading=loading, **options)


@pytest.fixture
def streamed(hub: Path) -> Dataset:
    return dataset_of(data(hub, streaming=True))


def test_the_training_split_is_not_downloaded_and_its_examples_are_the_same(hub: Path, streamed: Dataset) -> None:
    examples = streamed.examples("train")
    assert not (streamed.root / "train").exists() and (streamed.root / "validation").exists()
    local = Dataset(data=schema.Data(loading=streamed.data.loading), root=hub, card=streamed.card).examples("train")
    assert len(examples) == len(local) == 228 and examples.block == 32
    rows = [227, 0, 31, 32, 100, 0]
    assert torch.equal(examples[rows][0], local[rows][0])
    assert examples.column("subject", rows) == local.column("subject", rows)


def test_an_epoch_reads_each_row_group_once(streamed: Dataset) -> None:
    examples = streamed.examples("train")
    Requests.opened.clear()
    order = ExampleOrder(num_examples=228, batch_size=6, block=examples.block)
    x = torch.cat([x for x, _ in batches(examples, order, 0, 38, num_workers=0, pin_memory=False)])
    assert len(x) == 228
    assert Requests.opened == {"00000.parquet": 3, "00001.parquet": 3, "00002.parquet": 2}


def test_a_part_of_a_split_is_read_by_row_groups_too(streamed: Dataset) -> None:
    assert streamed.examples("train", limit=57).block == 8  # a quarter of the examples, of blocks of 32 rows


def test_processes_read_other_row_groups_and_go_on_at_any_step(streamed: Dataset) -> None:
    seen = []
    for rank in range(3):
        order = ExampleOrder(
            num_examples=228, batch_size=4, block=32, is_apart=True, num_processes=3, process_index=rank
        )
        whole, late = (
            [x for x, _ in batches(streamed.examples("train"), order, first, 19, num_workers=0, pin_memory=False)]
            for first in (0, 7)
        )
        assert all(torch.equal(one, other) for one, other in zip(whole[7:], late, strict=True))
        seen += [row for step in range(19) for row in np.concatenate(order.indices(step)).tolist()]
    assert sorted(seen) == list(range(228))


def test_only_as_many_row_groups_are_kept_as_are_mixed(streamed: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal_diffusion.data.streaming.BLOCKS_MIXED", 2)
    examples = streamed.examples("train")
    examples[list(range(228))]
    assert len(examples._tensors._kept) == 3  # type: ignore[union-attr]


def test_a_file_that_cannot_be_read_is_one_line(hub: Path, streamed: Dataset) -> None:
    examples = streamed.examples("train")
    (hub / "train" / "00001.parquet").unlink()
    with pytest.raises(UserError, match=r"00001\.parquet: cannot be read .*check the connection and resume") as error:
        examples[[100]]
    assert len(error.value.lines) == 1


def test_what_prepare_did_not_make_cannot_be_streamed(hub: Path) -> None:
    (hub / "signal_dataset.json").unlink()
    with pytest.raises(UserError, match=r"me/eeg@v1 has no signal_dataset\.json.* set data\.streaming = false"):
        dataset_of(data(hub, streaming=True))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.balancing.columns=['label']"], "data.balancing picks single examples"),
        (["model.autoencoder.enabled=true", "model.autoencoder.cache_latents=true"], "encodes the whole split first"),
    ],
)
def test_what_needs_the_whole_split_is_refused(overrides: list[str], message: str, experiment_file: Path) -> None:
    streaming = ["data.source=hub", "data.paths.root=me/eeg", "data.streaming=true"]
    with pytest.raises(UserError, match=message):
        load_experiment(experiment_file, [*streaming, *overrides])
