"""Export: written signals are read back unchanged, with names, rate and labels."""

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

from signal_diffusion.data import export
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import MappedTensors, open_split
from signal_diffusion.errors import UserError

MICROVOLTS = 1e6


@pytest.fixture
def card(synthetic_dataset: Path) -> DatasetCard:
    return DatasetCard.load(synthetic_dataset)


@pytest.fixture
def windows() -> np.ndarray:
    """Four windows of 19 electrodes, µV, one of them with a blink."""
    signals = np.random.default_rng(0).normal(0, 20, (4, 19, 2048)).astype(np.float32)
    signals[2, 0, 700] = 312.7
    return signals


METADATA: dict[str, Any] = {
    "label": ["alert", "relaxed", "", "alert"],
    "gender": ["female", None, "male", "female"],
    "age": [31.0, 72.5, float("nan"), 20.0],
}


def test_epochs_are_in_volts_with_names_positions_events_and_metadata(card: DatasetCard, windows: np.ndarray) -> None:
    epochs = export.to_mne(torch.from_numpy(windows), card, METADATA)
    assert np.allclose(epochs.get_data() * MICROVOLTS, windows, rtol=1e-6)
    assert tuple(epochs.ch_names) == card.channels and epochs.info["sfreq"] == 125.0
    assert set(epochs.get_montage().ch_names) == set(card.channels)
    assert epochs.event_id == {"alert": 1, "relaxed": 2, "unlabelled": 3}
    assert epochs.events[:, 2].tolist() == [1, 2, 3, 1]
    assert epochs.metadata["gender"].tolist() == ["female", None, "male", "female"]
    assert len(epochs["age > 30"]) == 2


def test_labels_may_be_codes_of_the_card(card: DatasetCard, windows: np.ndarray) -> None:
    epochs = export.to_mne(windows, card, {"label": np.array([1, 0, -1, 1])})
    assert epochs.metadata["label"].tolist() == ["relaxed", "alert", None, "relaxed"]


def test_codes_that_pandas_turned_into_floats_are_recognised() -> None:
    assert export.with_names(pd.Series([1.0, float("nan"), 0.0]), ["a", "b"]).tolist() == ["b", None, "a"]


def test_without_labels_every_epoch_is_a_sample(card: DatasetCard, windows: np.ndarray) -> None:
    epochs = export.to_mne(windows, card)
    assert epochs.event_id == {"sample": 1} and epochs.metadata is None and len(epochs) == 4


@pytest.mark.parametrize(
    ("electrodes", "name"), [(["O1"] * 4, "O1"), (["O1", "O2", "O1", "O1"], "EEG"), ([None] * 4, "EEG")]
)
def test_a_single_electrode_is_named_if_all_rows_agree(
    card: DatasetCard, windows: np.ndarray, electrodes: list[str | None], name: str
) -> None:
    epochs = export.to_mne(windows[:, 0], card, {"electrode": electrodes})
    assert epochs.ch_names == [name] and epochs.get_data().shape == (4, 1, 2048)


def test_channels_outside_the_10_20_system_have_no_position(card: DatasetCard, windows: np.ndarray) -> None:
    epochs = export.to_mne(windows[:, :2], replace(card, channels=("Cz", "EEG 001")))
    positions = [np.isfinite(channel["loc"][:3]).all() and channel["loc"][:3].any() for channel in epochs.info["chs"]]
    assert positions == [True, False]


@pytest.mark.parametrize(("source", "cz"), [("recordings", [0.095, 0, 0.04]), ("standard_1005", None)])
def test_positions_of_recordings_and_of_other_electrodes_are_the_cards(
    card: DatasetCard, windows: np.ndarray, source: str, cz: list[float] | None
) -> None:
    two = replace(
        card,
        channels=("Cz", "E17"),
        positions={"Cz": [1, 0, 0], "E17": [0, 1, 0]},
        preprocessing={"positions": source},
    )
    found = export.to_mne(windows[:, :2], two).get_montage().get_positions()["ch_pos"]
    standard = export.to_mne(windows[:, :2], replace(two, positions={})).get_montage().get_positions()["ch_pos"]
    assert np.allclose(found["Cz"], standard["Cz"] if cz is None else cz)
    assert np.allclose(found["E17"], [0, 0.095, 0.04])


def test_raw_concatenates_windows_and_marks_discontinuities(card: DatasetCard, windows: np.ndarray) -> None:
    raw = export.to_raw(windows, card, METADATA)
    assert np.allclose(raw.get_data()[:, 2048:4096] * MICROVOLTS, windows[1], rtol=1e-6)
    labels = [(each["onset"], each["description"]) for each in raw.annotations if each["duration"]]
    assert labels == [(0.0, "label/alert"), (16.384, "label/relaxed"), (49.152, "label/alert")]
    breaks = raw.annotations.onset[raw.annotations.description == "BAD boundary"]
    assert breaks.tolist() == [16.384, 32.768, 49.152]
    assert (raw.annotations.description == "EDGE boundary").sum() == 3


@pytest.mark.parametrize(("overlap", "breaks"), [(0.0, [32.768]), (0.5, [16.384, 32.768, 49.152])])
def test_consecutive_windows_have_no_boundary_unless_they_overlap(
    card: DatasetCard, windows: np.ndarray, overlap: float, breaks: list[float]
) -> None:
    metadata = {"recording": ["a", "a", "a", "a"], "window": [4, 5, 7, 8]}
    raw = export.to_raw(windows, replace(card, preprocessing={"overlap": overlap}), metadata)
    assert raw.annotations.onset[raw.annotations.description == "BAD boundary"].tolist() == breaks


def test_a_label_that_begins_with_bad_does_not_drop_its_windows(card: DatasetCard, windows: np.ndarray) -> None:
    raw = export.to_raw(windows[:1], card, {"label": ["bad_counter"]})
    assert raw.get_data(reject_by_annotation="omit").shape == (19, 2048)


def test_examples_of_single_electrodes_are_reassembled_into_windows(synthetic_dataset: Path, card: DatasetCard) -> None:
    split = open_split(synthetic_dataset, "validation")
    tensors = MappedTensors(split.data.column("image"), card.shape)[range(len(split))]
    metadata = split.remove_columns("image").to_pandas()
    shuffled = np.random.default_rng(0).permutation(len(split))
    windows, frame = export.assemble_windows(tensors[shuffled], card, metadata.iloc[shuffled])
    assert windows.shape == (card.splits["validation"]["windows"], 19, 1, 64, 64) and "electrode" not in frame
    first = (metadata["recording"] == frame["recording"][1]) & (metadata["window"] == frame["window"][1])
    assert np.array_equal(windows[1], tensors[first])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"electrode": ["Cz", "Cz"]}, "recording r, window 3: electrode Cz occurs 2 times"),
        ({"window": [3, 4]}, "recording r, window 3: electrode Pz occurs 0 times"),
        ({"electrode": ["Cz", "X1"]}, "electrode X1 is not in the card"),
        ({"recording": None}, "no column recording"),
    ],
)
def test_an_incomplete_window_is_an_error_that_names_it(
    card: DatasetCard, change: dict[str, Any], complaint: str
) -> None:
    metadata = {"recording": ["r", "r"], "window": [3, 3], "electrode": ["Cz", "Pz"]} | change
    metadata = {name: values for name, values in metadata.items() if values is not None}
    with pytest.raises(UserError, match=complaint):
        export.assemble_windows(np.zeros((2, 8)), replace(card, channels=("Cz", "Pz")), metadata)


def test_npz_is_read_back_by_numpy_without_pickle(card: DatasetCard, windows: np.ndarray, tmp_path: Path) -> None:
    tensors = torch.zeros(4, 1, 64, 64)
    path = export.write(tmp_path / "samples", windows, card, METADATA | {"file": [1, 2, 3, 4]}, tensors=tensors)
    assert path == tmp_path / "samples.npz"
    with np.load(path) as file:  # pickles are not allowed by default
        arrays = dict(file)
    assert np.array_equal(arrays["signals"], windows) and arrays["tensors"].shape == (4, 1, 64, 64)
    assert arrays["ch_names"].tolist() == list(card.channels) and arrays["sampling_rate"] == 125.0
    assert arrays["label"].tolist() == METADATA["label"] and arrays["gender"].tolist() == [
        "female",
        "",
        "male",
        "female",
    ]
    assert np.array_equal(arrays["age"], METADATA["age"], equal_nan=True) and arrays["file"].tolist() == [1, 2, 3, 4]


def test_parquet_is_read_back_by_datasets(card: DatasetCard, windows: np.ndarray, tmp_path: Path) -> None:
    path = export.write(tmp_path / "samples", windows, card, METADATA, "parquet")
    split = datasets.load_dataset("parquet", data_files=str(path), split="train").with_format("numpy")
    assert np.array_equal(np.stack(list(split["signal"])), windows)
    plain = split.with_format(None)
    assert plain["label"][:] == ["alert", "relaxed", None, "alert"] and plain["age"][:2] == [31.0, 72.5]
    about = pq.read_schema(path).metadata
    assert json.loads(about[b"sampling_rate"]) == 125.0
    assert json.loads(about[b"ch_names"]) == list(card.channels) and json.loads(about[b"unit"]) == "µV"


def test_fif_is_read_back_by_mne(card: DatasetCard, windows: np.ndarray, tmp_path: Path) -> None:
    path = export.write(tmp_path / "samples", windows, card, METADATA, "fif")
    assert path.name == "samples-epo.fif"
    epochs = mne.read_epochs(path, verbose="error")
    assert np.allclose(epochs.get_data() * MICROVOLTS, windows, rtol=1e-6)
    assert tuple(epochs.ch_names) == card.channels and epochs.info["sfreq"] == 125.0
    assert epochs.event_id == {"alert": 1, "relaxed": 2, "unlabelled": 3}
    assert epochs.metadata["age"].tolist()[:2] == [31.0, 72.5]


@pytest.mark.parametrize(("reference", "applied"), [("average", True), ("A1,A2", True), ("none", False)])
def test_fif_records_filters_and_reference(
    card: DatasetCard, windows: np.ndarray, tmp_path: Path, reference: str, applied: bool
) -> None:
    recorded = replace(card, preprocessing={"band": [0.5, 40.0], "reference": reference})
    path = export.write(tmp_path / "samples", windows, recorded, METADATA, "fif")
    info = mne.read_epochs(path, verbose="error").info
    assert (info["highpass"], info["lowpass"], bool(info["custom_ref_applied"])) == (0.5, 40.0, applied)


def test_edf_records_filters(card: DatasetCard, windows: np.ndarray, tmp_path: Path) -> None:
    recorded = replace(card, preprocessing={"band": [0.5, 40.0], "reference": "average"})
    path = export.write(tmp_path / "samples", windows, recorded, METADATA, "edf")
    info = mne.io.read_raw_edf(path, verbose="error").info
    assert (info["highpass"], info["lowpass"]) == (0.5, 40.0)


def test_edf_is_read_back_to_half_a_step(card: DatasetCard, windows: np.ndarray, tmp_path: Path) -> None:
    path = export.write(tmp_path / "samples", windows, card, METADATA, "edf")
    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    joined = windows.transpose(1, 0, 2).reshape(19, -1)
    step = export.edf_step(windows)
    assert step == 313 / 32767  # µV, 1/65534 of the range that contains the blink
    error = np.abs(raw.get_data()[:, : joined.shape[1]] * MICROVOLTS - joined)
    assert error.max() <= step / 2 * (1 + 1e-6)
    assert tuple(raw.ch_names) == card.channels and raw.info["sfreq"] == 125.0
    written = {(round(each["onset"], 3), each["description"]) for each in raw.annotations}
    assert {(0.0, "label/alert"), (16.384, "label/relaxed"), (16.384, "BAD boundary")} <= written


def test_silence_and_a_single_electrode_can_be_written(card: DatasetCard, tmp_path: Path) -> None:
    path = export.write(tmp_path / "samples", np.zeros((2, 2048)), card, {"electrode": ["Pz", "Pz"]}, "edf")
    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    assert raw.ch_names == ["Pz"] and not raw.get_data().any()


@pytest.mark.parametrize("name", ["npz", "parquet", "edf"])
def test_the_bytes_are_reproducible(card: DatasetCard, windows: np.ndarray, tmp_path: Path, name: str) -> None:
    first, second = (export.write(tmp_path / stem, windows, card, METADATA, name) for stem in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_tensors_without_signals_can_be_written_only_as_npz(card: DatasetCard, tmp_path: Path) -> None:
    not_invertible = replace(card, representation=card.representation | {"inverse": "none"})
    path = export.write(tmp_path / "samples", None, not_invertible, METADATA, tensors=np.zeros((4, 1, 8, 8)))
    with np.load(path) as file:
        assert set(file) == {"tensors", "label", "gender", "age"}
    with pytest.raises(UserError, match="db-only examples of this dataset cannot be turned into signals"):
        export.to_mne(np.zeros((4, 2048)), not_invertible)
    with pytest.raises(
        UserError, match="--format fif: db-only examples of this dataset cannot be turned into signals; use npz"
    ):
        export.check_formats(["npz", "fif"], not_invertible)


@pytest.mark.parametrize(
    ("act", "complaint"),
    [
        (lambda card: export.parse_formats("npz,cvs"), "unknown format 'cvs'; use one of: npz, parquet, fif, edf"),
        (
            lambda card: export.check_formats(["edf"], replace(card, sampling_rate=102.4)),
            "EDF needs a whole number of Hz, found 102.4 Hz",
        ),
        (lambda card: export.check_formats(["edf"], replace(card, channels=("x" * 17,))), "more than 16 characters"),
        (
            lambda card: export.check_formats(["npz", "fif"], replace(card, channels=("Cz", "Fpµ1"))),
            "--format fif: channel Fpµ1 has characters that are not ASCII, which FIF cannot store; use parquet or npz",
        ),
        (
            lambda card: export.check_formats(["edf"], replace(card, channels=("Fpµ1",))),
            "--format edf: channel Fpµ1 has characters that are not ASCII, which EDF cannot store",
        ),
        (lambda card: export.check_formats(["edf"], replace(card, channels=("EDF Annotations",))), "EDF reserves"),
        (lambda card: export.check_formats(["fif"], card, labels=["a;b"]), "label a;b has characters that MNE cannot"),
        (
            lambda card: export.check_formats(["fif"], card, labels=["安静"]),
            "label 安静 has characters that MNE",
        ),
        (lambda card: export.check_formats(["edf"], card, labels=["a\x14b"]), "has control characters"),
        (
            lambda card: export.check_formats(["fif"], card, num=2**20),
            "2,147,483,648 samples per channel are more",
        ),
        (lambda card: export.to_mne(np.zeros((1, 7, 64)), card), "7 electrodes; the card has 19"),
        (lambda card: export.to_mne(np.zeros(64), card), "expected"),
        (lambda card: export.to_mne(np.zeros((2, 64)), card, {"label": ["alert"]}), "label has 1 values for 2 samples"),
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
    path = export.write(tmp_path / "a", np.zeros((4, 64)), named, {"label": labels}, "fif")
    assert set(mne.read_epochs(path, verbose="error").event_id) == {*labels}
    path = export.write(
        tmp_path / "a", np.zeros((2, 64)), _with_labels(card, "安静", "a;b"), {"label": ["安静", "a;b"]}, "edf"
    )
    assert {"label/安静", "label/a;b"} <= {*mne.io.read_raw_edf(path, verbose="error").annotations.description}


def test_values_that_a_format_cannot_store_are_errors(card: DatasetCard, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not finite"):
        export.write(tmp_path / "samples", np.full((1, 2048), np.nan), card, None, "edf")
    with pytest.raises(UserError, match="reach 20,000,000 µV, more than EDF can store; use npz or parquet"):
        export.write(tmp_path / "samples", np.full((1, 2048), 2e7), card, None, "edf")
    with pytest.raises(UserError, match="label a;b has characters that MNE cannot read back from FIF"):
        export.write(tmp_path / "samples", np.zeros((1, 2048)), _with_labels(card, "a;b"), {"label": ["a;b"]}, "fif")
    with pytest.raises(UserError, match="a column signal, a name that the file itself uses"):
        export.write(tmp_path / "samples", np.zeros((1, 64)), card, pd.DataFrame({"signal": [1]}), "parquet")
