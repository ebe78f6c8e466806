"""Datasets and samples of others whose files lie: one line, nothing outside of their folder is read."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.dataset import open_split, split_files
from signal_diffusion.data.foreign.parquet_rows import _json
from signal_diffusion.data.integrity import digest_of
from signal_diffusion.data.preparing.splitting import read_splits
from signal_diffusion.data.recordings.arrays import open_array
from signal_diffusion.data.recordings.finding import source_of
from signal_diffusion.data.recordings.opening import errors_naming
from signal_diffusion.data.stored_signals import open_signals
from signal_diffusion.data.verification.checks import check_dataset
from signal_diffusion.errors import UserError

FILE = "train/00000.parquet"
NESTED = "[" * 200_000


@pytest.fixture
def root(synthetic_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_dataset, tmp_path / "dataset"))


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    [line] = error.value.lines
    assert "\n" not in line and len(line) < 500
    return line


@pytest.mark.parametrize("text", [NESTED, "[]", "", "\udcff", '{"format_version": "3"}', '{"format_version": 1e999}'])
def test_a_damaged_card_is_one_line(text: str, root: Path) -> None:
    (root / CARD_NAME).write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match=r"signal_dataset.json: .*; make the dataset again") as caught:
        DatasetCard.load(root)
    one_line(caught)


def changed_card(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    entries = json.loads((root / CARD_NAME).read_text())
    change(entries)
    (root / CARD_NAME).write_text(json.dumps(entries))


@pytest.mark.parametrize("name", ["train/../../../etc/passwd", "/etc/passwd", "..", ""])
def test_a_card_lists_no_file_outside_of_its_folder(name: str, root: Path) -> None:
    changed_card(root, lambda entries: entries["files"].update({name: "0" * 64}))
    with pytest.raises(UserError, match="expected a path within the dataset"):
        DatasetCard.load(root)


@pytest.mark.parametrize("name", ["../other", "a/b", "", "/etc"])
def test_names_of_splits_are_names_of_folders(name: str, root: Path) -> None:
    changed_card(root, lambda entries: entries["splits"].update({name: entries["splits"]["test"]}))
    with pytest.raises(UserError, match=f"splits: expected names of folders in the dataset, found '{name}'"):
        DatasetCard.load(root)


def test_a_remembered_digest_that_a_power_failure_emptied_is_computed_again(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    expected = digest_of(root / FILE, str(cache))
    [remembered] = [path for path in cache.rglob("*") if path.is_file()]
    for content in (b"", b"\xff" * 10):
        remembered.write_bytes(content)
        assert digest_of(root / FILE, str(cache)) == expected


def test_a_bomb_among_recordings_is_refused_by_its_size(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(bomb())
    with (
        pytest.raises(UserError, match=r"a.npz: cannot be read as .npz \(expands from 0 MiB to 100 MiB\)"),
        errors_naming(tmp_path / "a.npz"),
    ):
        open_array(tmp_path / "a.npz", 250.0, ("Fz",))


def test_a_shape_that_the_tensors_do_not_have_is_refused_before_anything_is_allocated(root: Path) -> None:
    changed_card(root, lambda entries: entries.update(shape=[1, 10**9, 10**9]))
    with pytest.raises(UserError, match=r"its tensors have 933,888 values, but .* says 228 of shape \(1, 10") as caught:
        open_split(root, "train")
    one_line(caught)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(root: Path) -> None:
    (root / FILE).unlink()
    os.mkfifo(root / FILE)
    with pytest.raises(UserError, match=r"00000.parquet: listed in the card, but missing"):
        split_files(root, "train")


def linked(root: Path, store: Path) -> None:
    """Move a file of a dataset to a store, and link it."""
    store.mkdir(parents=True)
    shutil.move(root / FILE, store / "content")
    (root / FILE).symlink_to(store / "content")


def test_a_link_that_leaves_the_dataset_is_refused(root: Path, tmp_path: Path) -> None:
    linked(root, tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"00000.parquet: a link to .*elsewhere/content, which is not in the dataset"):
        open_split(root, "train")
    [files] = [check for check in check_dataset(root) if check.name == "files"]
    assert files.complaints == (f"{FILE}: a link to {tmp_path}/elsewhere/content, which is not in the dataset",)


@pytest.mark.parametrize("store", ["dataset/files", "dataset/.git/annex/objects/x", ".git/annex/objects/x"])
def test_links_within_a_dataset_and_into_git_annex_are_followed(store: str, root: Path, tmp_path: Path) -> None:
    linked(root, tmp_path / store)
    assert len(open_split(root, "train")) == 228


def test_links_of_the_hubs_cache_are_followed(synthetic_dataset: Path, tmp_path: Path) -> None:
    snapshot = Path(shutil.copytree(synthetic_dataset, tmp_path / "datasets--a--b" / "snapshots" / "0123"))
    linked(snapshot, tmp_path / "datasets--a--b" / "blobs")
    assert len(open_split(snapshot, "train")) == 228


def test_a_dataset_may_be_a_link_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert len(open_split(tmp_path / "link", "train")) == 228


# Samples --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def samples(synthetic_dataset: Path, tmp_path: Path) -> Path:
    """A folder as `sample` writes it: three windows of two electrodes."""
    about = {"checkpoint": "run/checkpoint-1", "num_samples": 3, "electrodes": 0}
    about["dataset"] = json.loads((synthetic_dataset / CARD_NAME).read_text())
    (tmp_path / "samples.json").write_text(json.dumps(about))
    np.savez(tmp_path / "samples.npz", signals=np.zeros((3, 2, 10), np.float32), label=np.array(["a", "b", "c"]))
    return tmp_path


def test_samples_are_read(samples: Path) -> None:
    assert [frame["label"][0] for _, frame in open_signals(samples).recordings()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text",
    [
        NESTED,
        "[]",
        "{}",
        '{"checkpoint": 1, "num_samples": 1, "electrodes": 1}',
        '{"checkpoint": "", "num_samples": 1e999, "electrodes": 1}',
        '{"checkpoint": "", "num_samples": -1, "electrodes": 1}',
        '{"checkpoint": "", "num_samples": 1, "electrodes": 1, "dataset": []}',
        '{"checkpoint": "", "num_samples": 1, "electrodes": 1, "dataset": {}}',
        '{"checkpoint": "", "num_samples": 1, "electrodes": 1, "dataset": {"format_version": [1]}}',
    ],
)
def test_damaged_settings_of_samples_are_one_line(text: str, samples: Path) -> None:
    (samples / "samples.json").write_text(text)
    with pytest.raises(UserError, match=r"samples.json: .*; sample again") as caught:
        open_signals(samples)
    one_line(caught)


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("signals.npy", "w") as entry:
        header = {"descr": "<f4", "fortran_order": False, "shape": (25 * 2**20,)}
        np.lib.format.write_array_header_1_0(entry, header)
        for _ in range(100):
            entry.write(bytes(2**20))
    return file.getvalue()


def saved(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"junk", "not a zip file"),
        (bomb(), "expands from 0 MiB to 100 MiB"),
        (saved(signals=np.array([{}], dtype=object)), "Object arrays cannot be loaded"),
        (saved(signals=np.array(["x"])), "expected signals as numbers"),
        (saved(signals=np.array(1.0)), "expected signals as numbers"),
        (saved(signals=np.zeros((3, 2, 10)), label=np.array(["a"])), "as many rows of each column"),
        (saved(tensors=np.zeros(3)), "has no signals, only tensors"),
    ],
    ids=["junk", "bomb", "pickle", "texts", "a number", "too few labels", "no signals"],
)
def test_damaged_arrays_of_samples_are_one_line(content: bytes, reason: str, samples: Path) -> None:
    (samples / "samples.npz").write_bytes(content)
    with pytest.raises(UserError, match=f"samples.npz: .*{reason}.*; sample again") as caught:
        list(open_signals(samples).recordings())
    one_line(caught)


# Metadata -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [NESTED, "[]", '{"train": "a"}', '{"train": [1]}', '{"other": ["a"]}'])
def test_a_damaged_file_of_splits_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(UserError, match=r"splits.json: .*expected") as caught:
        read_splits(tmp_path)
    one_line(caught)


@pytest.mark.parametrize("text", [NESTED, "[]", '{"License": 1}'])
def test_a_damaged_description_of_a_dataset_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset_description.json: .*; fix it or remove it") as caught:
        source_of(tmp_path)
    one_line(caught)


def test_nested_metadata_of_a_parquet_file_is_text() -> None:
    assert _json(pa.schema([], metadata={"huggingface": NESTED}), "huggingface") == NESTED
    assert _json(pa.schema([], metadata={"huggingface": '{"a": [1]}'}), "huggingface") == {"a": [1]}
