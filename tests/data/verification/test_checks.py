"""`data check`: each kind of damage fails only the check that is about it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.data.preparing.splitting import SPLITS_NAME, write_splits
from signal_diffusion.data.shared_examples import example_digests
from signal_diffusion.data.verification.checks import check_dataset
from signal_diffusion.errors import UserError

TEST_FILE = "test/00000.parquet"


@pytest.fixture
def root(synthetic_dataset: Path, tmp_path: Path) -> Path:
    """A dataset to damage, with a splits.json."""
    copy = tmp_path / "dataset"
    shutil.copytree(synthetic_dataset, copy)
    card = DatasetCard.load(copy)
    write_splits(copy, {split: entry["subjects"] for split, entry in card.splits.items()})
    return copy


def failed(root: Path) -> dict[str, tuple[str, ...]]:
    return {check.name: check.complaints for check in check_dataset(root) if check.complaints}


def edit_card(root: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    entries = json.loads(DatasetCard.load(root).to_json())
    edit(entries)
    DatasetCard.from_json(json.dumps(entries)).save(root)


def edit_table(root: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    """Change the file of the test split and its hash in the card: a wrong file, not a damaged one."""
    path = root / TEST_FILE
    pq.write_table(edit(pq.read_table(path)), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_card(root, lambda card: card["files"].update({TEST_FILE: digest}))


def with_column(name: str, change: Callable[[pa.ChunkedArray], Any]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, change(table.column(name)))


def with_value(value: float, dtype: Any = None) -> Callable[[pa.Table], pa.Table]:
    """Replace one value of one image; optionally cast all values to another type."""

    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("image")
        values = table.column(at).combine_chunks()
        nested: Any = getattr(values, "storage", values)
        flat = nested.flatten().flatten().flatten().to_numpy().copy()
        flat[5] = value
        array = pa.array(flat if dtype is None else flat.astype(dtype))
        for size in (64, 64, 1):
            array = pa.ListArray.from_arrays(pa.array(range(0, len(array) + 1, size), pa.int32()), array)
        return table.set_column(at, "image", array)

    return change


@pytest.mark.parametrize("representation", ["db-only", "timeseries"])
def test_an_unchanged_dataset_passes_all_checks(tmp_path: Path, representation: str) -> None:
    prepare_synthetic(tmp_path / "made", representation, SyntheticOptions(num_subjects=3, num_windows=2))
    assert failed(tmp_path / "made") == {}


def test_a_missing_and_an_unlisted_file_fail_the_check_of_files(root: Path) -> None:
    (root / "validation" / "00000.parquet").rename(root / "validation" / "00001.parquet")
    complaints = failed(root)["files"]
    assert "validation/00000.parquet: listed in the card, but missing" in complaints
    assert any("validation/00001.parquet: exists, but is not listed in the card" in each for each in complaints)


def test_a_changed_file_fails_the_check_of_hashes(root: Path) -> None:
    path = root / TEST_FILE
    table = pq.read_table(path)
    pq.write_table(table, path, compression="zstd")
    assert list(failed(root)) == ["files"] and "SHA-256" in failed(root)["files"][0]


def test_a_truncated_file_is_reported_and_does_not_stop_the_other_checks(root: Path) -> None:
    path = root / TEST_FILE
    path.write_bytes(path.read_bytes()[:-1000])
    complaints = failed(root)
    assert any("cannot be read" in each for each in complaints["files"])
    assert complaints["rows"] == ("test: the card says 76 examples, found 0",)


CARD_DAMAGES: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "shape": ("representation", lambda card: card.update(representation=wrong(card, inverse="exact")), "inverse exact"),
    "parameters": (
        "representation",
        lambda card: card["representation"]["parameters"].update(colour=1),
        "invalid parameters for db-only",
    ),
    "rows": (
        "rows",
        lambda card: card["splits"]["test"].update(examples=75),
        "test: the card says 75 examples, found 76",
    ),
    "windows": (
        "rows",
        lambda card: card["splits"]["test"].update(windows=5),
        "test: the card says 5 windows, found 4",
    ),
    "names": ("values", lambda card: card["columns"]["label"]["names"].pop(), "label: the card says alert; found"),
    "mean": ("values", lambda card: card["columns"]["age"].update(mean=3.0), "age has mean 3"),
    "range": ("values", lambda card: card["splits"]["train"]["ranges"].update(age=[3.0, 4.0]), "age is 3 to 4, found"),
    "counts": (
        "marginals",
        lambda card: card["splits"]["test"]["marginals"]["label"]["alert"].update(examples=9),
        "test: the card says label alert: examples 9, share 0.5, found examples 38, share 0.5",
    ),
    "balanced": (
        "marginals",
        lambda card: card["splits"]["train"]["marginals"]["gender"]["male"].update(balanced=0.1),
        "train: the card says gender male",
    ),
}


def wrong(card: dict[str, Any], **entries: str) -> dict[str, Any]:
    return card["representation"] | entries


@pytest.mark.parametrize("damage", CARD_DAMAGES)
def test_a_wrong_claim_fails_only_its_check(root: Path, damage: str) -> None:
    name, edit, complaint = CARD_DAMAGES[damage]
    edit_card(root, edit)
    found = failed(root)
    assert complaint in " ".join(found.pop(name))
    assert set(found) <= {"marginals"} if damage == "names" else found == {}


DATA_DAMAGES: dict[str, tuple[str, Callable[[pa.Table], pa.Table], str]] = {
    "column missing": ("columns", lambda table: table.drop_columns(["caption"]), "missing or unexpected: caption"),
    "column added": (
        "columns",
        lambda table: table.append_column("x", table.column("age")),
        "missing or unexpected: x",
    ),
    "kind": ("columns", with_column("age", lambda column: column.cast(pa.string())), "age is numeric, found string"),
    "nan": ("tensors", with_value(float("nan")), "expected all finite, but 1 are not"),
    "large": ("tensors", with_value(1.5), "expected all in [-1, 1], but 1 are not"),
    "double": ("tensors", with_value(0.0, "float64"), "expected all float16 or float32"),
    "twice": (
        "windows",
        with_column("electrode", lambda column: pc.if_else(pc.equal(column, 18), 17, column)),
        "electrode O1 occurs 2 times; expected once",
    ),
}


@pytest.mark.parametrize("damage", DATA_DAMAGES)
def test_wrong_data_fail_only_their_check(root: Path, damage: str) -> None:
    name, edit, complaint = DATA_DAMAGES[damage]
    edit_table(root, edit)
    found = failed(root)
    assert list(found) == [name] and complaint in " ".join(found[name])
    assert all(each.startswith("test") for each in found[name])


def test_tensors_of_another_shape_fail(root: Path) -> None:
    edit_card(root, lambda card: card.update(shape=[1, 32, 128]))
    assert set(failed(root)) == {"representation", "tensors"}


def test_a_subject_in_two_splits_fails(root: Path) -> None:
    train = DatasetCard.load(root).splits["train"]["subjects"][0]
    edit_table(root, with_column("subject", lambda column: pa.array([train] * len(column))))
    found = failed(root)
    assert list(found) == ["subjects"]
    assert any(f"subject {train} is also in train" in each for each in found["subjects"])
    assert any("found no example" in each for each in found["subjects"])


def test_a_window_in_two_splits_fails(root: Path) -> None:
    recording = pq.read_table(root / "train" / "00000.parquet", columns=["recording"]).column(0)[0]
    edit_table(
        root,
        with_column("recording", lambda column: pc.if_else(pc.equal(column, column[0]), recording, column)),
    )
    assert list(failed(root)) == ["windows"] and "is also in train" in failed(root)["windows"][0]


def test_a_splits_file_that_contradicts_the_card_fails(root: Path) -> None:
    card = DatasetCard.load(root)
    write_splits(root, {"train": [each for entry in card.splits.values() for each in entry["subjects"]]})
    assert list(failed(root)) == ["splits"] and "found in train" in failed(root)["splits"][0]
    (root / SPLITS_NAME).write_text("[]")
    assert list(failed(root)) == ["splits"]


def test_a_readme_without_a_split_fails(root: Path) -> None:
    readme = root / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8").replace("- split: test", "- split: tset"), encoding="utf-8")
    assert list(failed(root)) == ["readme"] and "names train, validation, tset" in failed(root)["readme"][0]
    readme.unlink()
    assert list(failed(root)) == ["readme"]


def test_the_command_prints_a_line_per_check_and_an_error_per_complaint(root: Path) -> None:
    result = CliRunner().invoke(app, ["data", "check", str(root)], catch_exceptions=False)
    assert result.exit_code == 0 and result.stdout.count("✓") == len(check_dataset(root)) and "✗" not in result.stdout
    card = DatasetCard.load(root)
    replace(card, channels=card.channels[:-1]).save(root)
    (root / "README.md").unlink()
    with pytest.raises(UserError) as caught:
        CliRunner().invoke(app, ["data", "check", str(root)], catch_exceptions=False)
    assert f"{root}/README.md: missing; the Hub's viewer needs it" in caught.value.lines
    assert all("\n" not in line for line in caught.value.lines)


def test_a_missing_card_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a dataset"):
        check_dataset(tmp_path)


def test_an_example_in_two_splits_is_a_complaint_whatever_its_names_say(root: Path):
    examples = pq.read_table(root / "train" / "00000.parquet").column("image").slice(5, 2)

    def copied(column: pa.ChunkedArray) -> pa.ChunkedArray:
        return pa.chunked_array([*column.slice(0, 3).chunks, *examples.chunks, *column.slice(5).chunks])

    edit_table(root, with_column("image", copied))
    complaint = "test: 2 examples have the same values as examples of train, the first is row 3 of test/00000.parquet"
    assert list(failed(root)) == ["contents"]
    assert failed(root)["contents"][0].startswith(f"{complaint}, as row 5 of train/00000.parquet; expected")


def test_constant_examples_may_be_in_every_split():
    constant = np.ones((3, 2, 4, 5), dtype=np.float16) * np.array([-1, 0.5], dtype=np.float16)[:, None, None]
    assert not example_digests(constant).any()
    varied = np.random.default_rng(0).random((3, 2, 4, 5))
    assert len(set(example_digests(varied))) == 3 and example_digests(varied).all()
    broken = np.where(varied > 0.9, np.nan, varied)
    assert not example_digests(broken).any()
