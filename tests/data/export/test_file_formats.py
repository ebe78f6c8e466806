"""Written files are read back unchanged, and what a format cannot hold is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import mne
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.file_formats import check_formats, parse_formats, write_file
from signal_diffusion.data.export.mne_objects import to_mne
from signal_diffusion.errors import UserError

MICROVOLTS = 1e6


def test_npz_is_read_back_by_numpy_without_pickle(
    card: DatasetCard, windows: np.ndarray, tmp_path: Path, metadata: dict[str, Any]
) -> None:
    tensors = torch.zeros(4, 1, 64, 64)
    path = write_file(tmp_path / "samples", windows, card, metadata | {"file": [1, 2, 3, 4]}, tensors=tensors)
    assert path == tmp_path / "samples.npz"
    with np.load(path) as file:  # pickles are not allowed by default
        arrays = dict(file)
    assert np.array_equal(arrays["signals"], windows) and arrays["tensors"].shape == (4, 1, 64, 64)
    assert arrays["ch_names"].tolist() == list(card.channels) and arrays["sampling_rate"] == 125.0
    assert arrays["label"].tolist() == metadata["label"] and arrays["gender"].tolist() == [
        "female",
        "",
        "male",
        "female",
    ]
    assert np.array_equal(arrays["age"], metadata["age"], equal_nan=True) and arrays["file"].tolist() == [1, 2, 3, 4]


def test_parquet_is_read_back_by_datasets(
    card: DatasetCard, windows: np.ndarray, tmp_path: Path, metadata: dict[str, Any]
) -> None:
    path = write_file(tmp_path / "samples", windows, card, metadata, "parquet")
    split = datasets.load_dataset("parquet", data_files=str(path), split="train").with_format("numpy")
    assert np.array_equal(np.stack(list(split["signal"])), windows)
    plain = split.with_format(None)
    assert plain["label"][:] == ["alert", "relaxed", None, "alert"] and plain["age"][:2] == [31.0, 72.5]
    about = pq.read_schema(path).metadata
    assert json.loads(about[b"sampling_rate"]) == 125.0
    assert json.loads(about[b"ch_names"]) == list(card.channels) and json.loads(about[b"unit"]) == "µV"


def test_fif_is_read_back_by_mne(
    card: DatasetCard, windows: np.ndarray, tmp_path: Path, metadata: dict[str, Any]
) -> None:
    path = write_file(tmp_path / "samples", windows, card, metadata, "fif")
    assert path.name == "samples-epo.fif"
    epochs = mne.read_epochs(path, verbose="error")
    assert np.allclose(epochs.get_data() * MICROVOLTS, windows, rtol=1e-6)
    assert tuple(epochs.ch_names) == card.channels and epochs.info["sfreq"] == 125.0
    assert epochs.event_id == {"alert": 1, "relaxed": 2, "unlabelled": 3}
    assert epochs.metadata["age"].tolist()[:2] == [31.0, 72.5]


@pytest.mark.parametrize(("reference", "applied"), [("average", True), ("A1,A2", True), ("none", False)])
def test_fif_records_filters_and_reference(
    card: DatasetCard, windows: np.ndarray, tmp_path: Path, reference: str, applied: bool, metadata: dict[str, Any]
) -> None:
    recorded = replace(card, preprocessing={"band": [0.5, 40.0], "reference": reference})
    path = write_file(tmp_path / "samples", windows, recorded, metadata, "fif")
    info = mne.read_epochs(path, verbose="error").info
    assert (info["highpass"], info["lowpass"], bool(info["custom_ref_applied"])) == (0.5, 40.0, applied)


@pytest.mark.parametrize("name", ["npz", "parquet", "edf"])
def test_the_bytes_are_reproducible(
    card: DatasetCard, windows: np.ndarray, tmp_path: Path, name: str, metadata: dict[str, Any]
) -> None:
    first, second = (write_file(tmp_path / stem, windows, card, metadata, name) for stem in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_tensors_without_signals_can_be_written_only_as_npz(
    card: DatasetCard, tmp_path: Path, metadata: dict[str, Any]
) -> None:
    not_invertible = replace(card, representation=card.representation | {"inverse": "none"})
    path = write_file(tmp_path / "samples", None, not_invertible, metadata, tensors=np.zeros((4, 1, 8, 8)))
    with np.load(path) as file:
        assert set(file) == {"tensors", "label", "gender", "age"}
    with pytest.raises(UserError, match="db-only examples of this dataset cannot be turned into signals"):
        to_mne(np.zeros((4, 2048)), not_invertible)
    with pytest.raises(
        UserError, match="--format fif: db-only examples of this dataset cannot be turned into signals; use npz"
    ):
        check_formats(["npz", "fif"], not_invertible)


@pytest.mark.parametrize(
    ("act", "complaint"),
    [
        (lambda card: parse_formats("npz,cvs"), "unknown format 'cvs'; use one of: npz, parquet, fif, edf"),
        (
            lambda card: check_formats(["edf"], replace(card, sampling_rate=102.4)),
            "EDF needs a whole number of Hz, found 102.4 Hz",
        ),
        (lambda card: check_formats(["edf"], replace(card, channels=("x" * 17,))), "more than 16 characters"),
        (
            lambda card: check_formats(["npz", "fif"], replace(card, channels=("Cz", "Fpµ1"))),
            "--format fif: channel Fpµ1 has characters that are not ASCII, which FIF cannot store; use parquet or npz",
        ),
        (
            lambda card: check_formats(["edf"], replace(card, channels=("Fpµ1",))),
            "--format edf: channel Fpµ1 has characters that are not ASCII, which EDF cannot store",
        ),
        (lambda card: check_formats(["edf"], replace(card, channels=("EDF Annotations",))), "EDF reserves"),
        (lambda card: check_formats(["fif"], card, labels=["a;b"]), "label a;b has characters that MNE cannot"),
        (
            lambda card: check_formats(["fif"], card, labels=["安静"]),
            "label 安静 has characters that MNE",
        ),
        (lambda card: check_formats(["edf"], card, labels=["a\x14b"]), "has control characters"),
        (
            lambda card: check_formats(["fif"], card, num=2**20),
            "2,147,483,648 samples per channel are more",
        ),
    ],
)
def test_invalid_arguments_are_one_line_errors(card: DatasetCard, act: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        act(card)
    assert len(caught.value.lines) == 1


def _with_labels(card: DatasetCard, *names: str) -> DatasetCard:
    return replace(card, columns=card.columns | {"label": {"kind": "categorical", "names": list(names)}})


def test_labels_that_pass_the_check_are_read_back(card: DatasetCard, tmp_path: Path) -> None:
    labels = ["a:b", "é ñ", "a/b", "<x>"]
    named = _with_labels(card, *labels)
    path = write_file(tmp_path / "a", np.zeros((4, 64)), named, {"label": labels}, "fif")
    assert set(mne.read_epochs(path, verbose="error").event_id) == {*labels}
    path = write_file(
        tmp_path / "a", np.zeros((2, 64)), _with_labels(card, "安静", "a;b"), {"label": ["安静", "a;b"]}, "edf"
    )
    assert {"label/安静", "label/a;b"} <= {*mne.io.read_raw_edf(path, verbose="error").annotations.description}


def test_values_that_a_format_cannot_store_are_errors(card: DatasetCard, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not finite"):
        write_file(tmp_path / "samples", np.full((1, 2048), np.nan), card, None, "edf")
    with pytest.raises(UserError, match="reach 20,000,000 µV, more than EDF can store; use npz or parquet"):
        write_file(tmp_path / "samples", np.full((1, 2048), 2e7), card, None, "edf")
    with pytest.raises(UserError, match="label a;b has characters that MNE cannot read back from FIF"):
        write_file(tmp_path / "samples", np.zeros((1, 2048)), _with_labels(card, "a;b"), {"label": ["a;b"]}, "fif")
    with pytest.raises(UserError, match="a column signal, a name that the file itself uses"):
        write_file(tmp_path / "samples", np.zeros((1, 64)), card, pd.DataFrame({"signal": [1]}), "parquet")
