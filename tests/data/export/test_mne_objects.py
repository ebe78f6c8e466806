"""MNE's objects have volts, names, positions, events and metadata."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.mne_objects import to_mne, to_raw

MICROVOLTS = 1e6


def test_epochs_are_in_volts_with_names_positions_events_and_metadata(
    card: DatasetCard, windows: np.ndarray, metadata: dict[str, Any]
) -> None:
    epochs = to_mne(torch.from_numpy(windows), card, metadata)
    assert np.allclose(epochs.get_data() * MICROVOLTS, windows, rtol=1e-6)
    assert tuple(epochs.ch_names) == card.channels and epochs.info["sfreq"] == 125.0
    assert set(epochs.get_montage().ch_names) == set(card.channels)
    assert epochs.event_id == {"alert": 1, "relaxed": 2, "unlabelled": 3}
    assert epochs.events[:, 2].tolist() == [1, 2, 3, 1]
    assert epochs.metadata["gender"].tolist() == ["female", None, "male", "female"]
    assert len(epochs["age > 30"]) == 2


def test_labels_may_be_codes_of_the_card(card: DatasetCard, windows: np.ndarray) -> None:
    epochs = to_mne(windows, card, {"label": np.array([1, 0, -1, 1])})
    assert epochs.metadata["label"].tolist() == ["relaxed", "alert", None, "relaxed"]


def test_without_labels_every_epoch_is_a_sample(card: DatasetCard, windows: np.ndarray) -> None:
    epochs = to_mne(windows, card)
    assert epochs.event_id == {"sample": 1} and epochs.metadata is None and len(epochs) == 4


@pytest.mark.parametrize(
    ("electrodes", "name"), [(["O1"] * 4, "O1"), (["O1", "O2", "O1", "O1"], "EEG"), ([None] * 4, "EEG")]
)
def test_a_single_electrode_is_named_if_all_rows_agree(
    card: DatasetCard, windows: np.ndarray, electrodes: list[str | None], name: str
) -> None:
    epochs = to_mne(windows[:, 0], card, {"electrode": electrodes})
    assert epochs.ch_names == [name] and epochs.get_data().shape == (4, 1, 2048)


def test_channels_outside_the_10_20_system_have_no_position(card: DatasetCard, windows: np.ndarray) -> None:
    epochs = to_mne(windows[:, :2], replace(card, channels=("Cz", "EEG 001")))
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
    found = to_mne(windows[:, :2], two).get_montage().get_positions()["ch_pos"]
    standard = to_mne(windows[:, :2], replace(two, positions={})).get_montage().get_positions()["ch_pos"]
    assert np.allclose(found["Cz"], standard["Cz"] if cz is None else cz)
    assert np.allclose(found["E17"], [0, 0.095, 0.04])


def test_raw_concatenates_windows_and_marks_discontinuities(
    card: DatasetCard, windows: np.ndarray, metadata: dict[str, Any]
) -> None:
    raw = to_raw(windows, card, metadata)
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
    raw = to_raw(windows, replace(card, preprocessing={"overlap": overlap}), metadata)
    assert raw.annotations.onset[raw.annotations.description == "BAD boundary"].tolist() == breaks


def test_a_label_that_begins_with_bad_does_not_drop_its_windows(card: DatasetCard, windows: np.ndarray) -> None:
    raw = to_raw(windows[:1], card, {"label": ["bad_counter"]})
    assert raw.get_data(reject_by_annotation="omit").shape == (19, 2048)
