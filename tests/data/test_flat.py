"""Flat examples and values that are not finite are named where data are prepared, converted, checked and trained on."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.flat import find_flat
from signal_diffusion.data.loaders import Examples
from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare
from signal_diffusion.data.verification.checks import check_dataset
from signal_diffusion.data.writing_splits import write_split
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.dataset import dataset_of


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """48 s of noise at 125 Hz; Cz is zero after 16 s, that is in the last windows."""
    microvolts = 20 * np.random.default_rng(0).standard_normal((3, 125 * 48))
    microvolts[1, 125 * 16 :] = 0
    raw = mne.io.RawArray(microvolts * 1e-6, mne.create_info(["Fz", "Cz", "Pz"], 125.0, "eeg"), verbose="ERROR")
    raw.save(tmp_path / "sub-01_eeg.fif", verbose="ERROR")
    return tmp_path / "sub-01_eeg.fif"


@pytest.mark.parametrize("representation", ["timeseries", "db-only", "db-iq"])
def test_flat_windows_that_are_kept_are_named_by_prepare_and_by_data_check(
    representation: str, recording: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = PrepareOptions(
        representation=representation, channels="file", reference="none", window=1024, overlap=0, reject_flat=0
    )
    with caplog.at_level(logging.WARNING):
        prepare([recording], tmp_path / "out", options)
    named = ", ".join(f"sub-01_eeg.fif, window {number}, electrode Cz" for number in (3, 4))
    warnings = [record.message for record in caplog.records if "flat" in record.message]
    within = "" if representation == "timeseries" else " within the limits of decibels"
    assert warnings == [
        f"train: 2 examples or electrodes are flat, without a signal{within} (--reject-flat leaves out flat windows): "
        + named
    ]
    failed = {check.name: check.complaints for check in check_dataset(tmp_path / "out") if check.complaints}
    assert failed == {
        "flat": (f"train/00000.parquet: expected a signal in every example, but 2 are flat: {named}",),
    }


def test_flat_windows_are_left_out_by_default(
    recording: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = PrepareOptions(representation="timeseries", channels="file", reference="none", window=1024, overlap=0)
    with caplog.at_level(logging.WARNING):
        card = prepare([recording], tmp_path / "out", options)
    assert card.rejected["flat"] == 4
    assert not [record for record in caplog.records if "are flat, without" in record.message]
    assert "1 of 1 recordings have channels that are flat most of the time" in caplog.text and "(Cz)" in caplog.text


def write_signals(root: Path, signals: list[np.ndarray]) -> schema.Data:
    root.mkdir()
    metadata = {"sampling_rate": "100", "ch_names": '["Fz", "Cz"]', "unit": "µV"}
    table = pa.table({"signal": [signal.tolist() for signal in signals]}).replace_schema_metadata(metadata)
    pq.write_table(table, root / "train.parquet")
    return schema.Data(paths=schema.Paths(root=str(root)), representation="timeseries")


def test_converted_signals_are_named_by_file_row_and_electrode(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    signals = list(20 * np.random.default_rng(0).standard_normal((4, 2, 100)))
    signals[1][1], signals[3][:] = 0, 7
    data = write_signals(tmp_path / "signals", signals)
    with caplog.at_level(logging.WARNING):
        dataset_of(data)
    file = tmp_path / "signals" / "train.parquet"
    [line] = [record.message for record in caplog.records if "are flat" in record.message]
    assert line.startswith("train: 2 examples") and line.endswith(f"{file}: row 1: electrode Cz, {file}: row 3")

    signals[2][1, 5:8] = np.nan
    data = write_signals(tmp_path / "broken", signals)
    with pytest.raises(UserError, match=r"train\.parquet: row 2: the signal has values that are not finite, 3 on Cz;"):
        dataset_of(data)


def test_values_that_are_not_finite_are_never_written(synthetic_dataset: Path, tmp_path: Path) -> None:
    card = DatasetCard.load(synthetic_dataset)
    batch = {name: [None] * 3 for name in card.columns} | {"recording": ["a", "a", "b"], "window": [0, 1, 0]}
    batch |= {"image": np.random.default_rng(0).uniform(-1, 1, (3, 1, 64, 64)), "electrode": ["Cz"] * 3}
    batch["image"][1, 0, 3, 3] = np.inf
    with pytest.raises(UserError, match="train: a, window 1, electrode Cz: has values that are not finite"):
        write_split(tmp_path, "train", card, [batch])


def test_an_image_of_constant_colours_is_flat_and_one_that_differs_in_one_pixel_is_not(synthetic_dataset: Path) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (3, 3, 64, 64)).astype(np.float16)
    images[1:] = np.array([-1, 0, 0.5]).reshape(3, 1, 1)
    images[2, 0, 40, 3] = 1
    card = DatasetCard.load(synthetic_dataset)
    card = replace(card, representation=card.representation | {"name": "image", "layout": "picture"})
    assert find_flat(images, card) == [(1, "")]


def test_examples_that_are_not_finite_are_named_by_their_place_in_the_split(synthetic_dataset: Path) -> None:
    card = DatasetCard.load(synthetic_dataset)
    split = open_split(synthetic_dataset, "train")
    examples = Examples(split, shape=card.shape, attributes={}, subset=range(0, 228, 2))
    examples._tensors = examples._tensors.clone()  # type: ignore[union-attr]
    assert examples.not_finite([3, 10, 10]) == []
    examples._tensors[10, 0, 0, 0] = float("nan")  # type: ignore[index]
    assert examples.not_finite([3, 10, 10]) == [f"{split[20]['recording']}, window 1, electrode {card.channels[1]}"]
