"""Electrodes that recordings lack, and positions in the card."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.preparing.prepare import PrepareOptions, SyntheticOptions, prepare, prepare_synthetic
from signal_diffusion.data.recordings.positions import _montage
from signal_diffusion.errors import UserError
from tests.data.recordings.files import noise, write_edf, write_fif

NAMES = ["Fp1", "Fz", "Cz", "Pz", "C3", "C4"]
OPTIONS = PrepareOptions(channels="Fz,Cz,Pz", window=256, representation="timeseries")


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people; b has no Pz in one of two recordings, and c has neither Pz nor Cz in the only one."""
    root = tmp_path_factory.mktemp("recordings") / "lab"
    lacks = {"a/1": (), "b/1": (), "b/2": ("Pz",), "c/1": ("Cz", "Pz"), "d/1": ()}
    for seed, (name, without) in enumerate(lacks.items()):
        write_edf(root / f"{name}.edf", noise([each for each in [*NAMES, "P3"] if each not in without], seed=seed))
    return root


def test_who_lacks_which_electrode_is_one_line_before_anything_is_read(
    lacking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("signal_diffusion.data.preparing.prepare.build", None)
    with pytest.raises(UserError) as caught:
        prepare([lacking], tmp_path / "out", OPTIONS)
    assert caught.value.lines == (
        "2 of 5 recordings lack electrodes: b/2.edf (Pz), c/1.edf (Cz, Pz); 1 subject would be lost: c; the "
        "first has Fp1, Fz, Cz, C3, C4, P3; choose others with --channels, interpolate with --missing interpolate, "
        "keep them absent with --missing absent, or skip recordings with --skip-bad",
    )


def test_with_skip_bad_the_loss_is_named(lacking: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    card = prepare([lacking], tmp_path / "out", replace(OPTIONS, skip_bad=True))
    assert (
        "2 of 5 recordings lack electrodes: b/2.edf (Pz), c/1.edf (Cz, Pz); they are skipped; 1 subject" in caplog.text
    )
    assert [line.split(":")[0] for line in card.skipped] == ["b/2.edf", "c/1.edf"]


def test_interpolated_electrodes_are_in_the_card_by_recording(
    lacking: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    card = prepare([lacking], tmp_path / "out", replace(OPTIONS, missing="interpolate"))
    assert card.preprocessing["interpolated"] == {"b/2.edf": ["Pz"], "c/1.edf": ["Cz", "Pz"]}
    assert sorted(name for split in card.splits.values() for name in split["subjects"]) == ["a", "b", "c", "d"]
    assert not card.skipped and "--missing interpolate" in card.command
    assert "2 of 5 recordings lack electrodes: b/2.edf (Pz), c/1.edf (Cz, Pz); they are interpolated" in caplog.text


def test_an_electrode_that_no_recording_has_is_not_interpolated(lacking: Path, tmp_path: Path):
    with pytest.raises(
        UserError, match="no recording has Oz, so there is nothing real to learn; remove it from --channels"
    ):
        prepare([lacking], tmp_path / "out", replace(OPTIONS, channels="Fz,Oz", missing="interpolate"))


def test_positions_are_standard_unless_all_recordings_have_their_own(tmp_path: Path):
    for seed, subject in enumerate(("a", "b", "c")):
        raw = noise(NAMES, seed=seed).set_montage(_montage(), verbose="ERROR")
        for channel in raw.info["chs"]:
            channel["loc"][0] += 0.01  # m, to the right
        write_fif(tmp_path / "own" / subject / "x_raw.fif", raw)
    own = prepare([tmp_path / "own"], tmp_path / "one", OPTIONS)
    write_edf(tmp_path / "own" / "d" / "x.edf", noise(NAMES, seed=4))
    standard = prepare([tmp_path / "own"], tmp_path / "two", OPTIONS)
    assert (own.preprocessing["positions"], standard.preprocessing["positions"]) == ("recordings", "standard_1005")
    assert own.positions.keys() == standard.positions.keys() == {"Fz", "Cz", "Pz"}
    assert np.linalg.norm(list(own.positions.values()), axis=1) == pytest.approx(1, abs=1e-3)
    assert own.positions["Cz"][0] - standard.positions["Cz"][0] == pytest.approx(0.1, abs=0.03)
    assert DatasetCard.load(tmp_path / "one").positions == own.positions


def test_synthetic_datasets_have_positions(tmp_path: Path):
    card = prepare_synthetic(
        tmp_path / "out", "timeseries", SyntheticOptions(num_subjects=1, num_windows=1, window=256)
    )
    assert tuple(card.positions) == card.channels
    assert card.positions["Cz"] == [0, 0, 1] and card.preprocessing["positions"] == "synthetic"


def test_an_average_reference_of_bipolar_channels_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_edf(tmp_path / "in" / "a.edf", noise(["EEG Fp1-F7", "F7-T3", "Cz"]))
    with caplog.at_level(logging.WARNING):
        prepare([tmp_path / "in"], tmp_path / "out", replace(OPTIONS, channels="Fp1-F7,F7-T3"))
    assert (
        "--channels: Fp1-F7, F7-T3 are differences of two electrodes, so their average is no reference" in caplog.text
    )
    caplog.clear()
    prepare([tmp_path / "in"], tmp_path / "two", replace(OPTIONS, channels="Fp1-F7,F7-T3", reference="none"))
    assert "differences" not in caplog.text


def write_tables(root: Path, **constant: float) -> Path:
    for seed, who in enumerate(("anna", "bert", "carl")):
        raw = noise(["Fz", "Cz"], seed=seed)
        table = pd.DataFrame((1e6 * raw.get_data()).T, columns=raw.ch_names).assign(time=raw.times, **constant)
        (root / who).mkdir(parents=True)
        table.to_csv(root / who / "rest.csv", index=False)
    return root


def test_a_column_that_is_constant_everywhere_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = write_tables(tmp_path / "headset", Battery=95.0, Pz=0.0, Oz=1.0)
    options = replace(OPTIONS, channels="file", units="uV")
    card = prepare([root], tmp_path / "out", options)
    assert card.channels == ("Fz", "Cz") and card.positions.keys() == {"Fz", "Cz"}
    assert card.preprocessing["constant"] == ["Pz", "Oz"] and sum(card.rejected.values()) == 0
    assert "--channels file: left out Pz, Oz, constant in all recordings; to choose channels" in caplog.text
    assert card.preprocessing["other_columns"] == ["Battery"]

    path = root / "carl" / "rest.csv"
    table = pd.read_csv(path)
    table.loc[len(table) - 9 :, "Oz"] = 94.0  # now it changes at the end of one recording
    table.to_csv(path, index=False)
    assert "Oz" in prepare([root], tmp_path / "more", replace(options, reject_flat=0.0)).channels


def test_a_single_channel_next_to_constant_ones_has_no_average(tmp_path: Path):
    for path in write_tables(tmp_path / "headset", Battery=95.0).rglob("*.csv"):
        pd.read_csv(path).drop(columns="Cz").to_csv(path, index=False)
    with pytest.raises(UserError, match="the average of a single channel leaves nothing; use --reference none"):
        prepare([tmp_path / "headset"], tmp_path / "out", replace(OPTIONS, channels="file", units="uV"))
