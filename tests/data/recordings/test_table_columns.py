"""Which columns of the tables of headsets are electrodes."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare
from signal_diffusion.data.recordings.arrays import is_array, open_array
from signal_diffusion.data.recordings.reading import eeg_and_other_columns
from signal_diffusion.errors import UserError
from tests.data.recordings.files import the_recording

ROWS = 1000
NUMBER = np.arange(ROWS)
OPTIONS = PrepareOptions(
    channels="file", window=256, rate=128, units="uV", representation="timeseries", splits=(1, 0, 0)
)


def table(electrodes: str, others: dict[str, object] | None = None, *, seed: int = 0) -> pd.DataFrame:
    """A table of 1000 rows at 128 Hz; a column of `others` that is `...` holds noise."""
    rng = np.random.default_rng(seed)
    names = electrodes.split(",")
    noise = {name: rng.normal(0, 1, ROWS) for name, values in (others or {}).items() if values is ...}
    frame = pd.DataFrame(20 * rng.standard_normal((ROWS, len(names))), columns=names)
    return frame.assign(**{"Timestamp": NUMBER / 128, **(others or {}), **noise})


def prepared(tmp_path: Path, electrodes: str, others: dict[str, object], **changes: object):
    for seed, who in enumerate(("anna", "bert")):
        (tmp_path / "in" / who).mkdir(parents=True)
        table(electrodes, others, seed=seed).to_csv(tmp_path / "in" / who / "a.csv", index=False)
    return prepare([tmp_path / "in"], tmp_path / "out", replace(OPTIONS, **changes))


OPENBCI = {"Sample Index": NUMBER % 256, "Accel Channel 0": ..., "Other": 0.0, "Analog Channel 0": ...}
EMOTIV = {
    "COUNTER": NUMBER % 128, "CQ_Fz": NUMBER % 5, "GYROX": ..., "MARKER": 0.0, "BATTERY": 80.0,
    "label": NUMBER // 500,
}  # fmt: skip
EMOTIV_PRO = {
    "EEG.Counter": NUMBER % 128, "EEG.Interpolated": 0, "EEG.RawCq": 100 * (NUMBER % 2), "EEG.Battery": 80,
    "CQ.Fz": 3, "CQ.Overall": 70, "POW.Fz.Theta": ..., "MOT.GyroX": ...,
}  # fmt: skip
MUSE = {"Delta_TP9": ..., "AUX_RIGHT": ..., "Accelerometer_X": ..., "Gyro_X": ..., "HSI_TP9": 1.0, "Battery": 95.0}
UNKNOWN = {"counter": NUMBER % 128, "Accel X": ..., "label": NUMBER // 500, "n": 3.0 * NUMBER + (NUMBER > 500)}


@pytest.mark.parametrize(
    ("electrodes", "others", "expected"),
    [
        ("EXG Channel 0,EXG Channel 1,EXG Channel 2", OPENBCI, None),
        ("AF3,Fz,T7", EMOTIV, None),
        ("EEG.Fz,EEG.Cz,EEG.T7", EMOTIV_PRO, ("Fz", "Cz", "T7")),
        ("RAW_TP9,RAW_AF7,RAW_AF8", MUSE, ("TP9", "AF7", "AF8")),
        ("TP9,AF7,AF8,TP10", {"Right AUX": ...}, None),
        ("Fp1-F7,F7-T3", {"ECG": ...}, None),
        ("CH 1,CH 2", {"Accel": ..., "Packet": NUMBER % 7}, None),
        ("left,right", UNKNOWN, None),
        ("A1,A2,A3,B1,C1,C2,E1,E2", {"EXG1": ..., "Status": 0.0}, None),
        ("Fz", {"Battery": 95.0, "label": NUMBER // 500}, None),
    ],
)
def test_the_electrodes_of_a_table_are_used_and_its_other_columns_are_named(
    tmp_path: Path, electrodes: str, others: dict[str, object], expected: tuple[str, ...] | None
) -> None:
    table(electrodes, others).to_csv(tmp_path / "a.csv")
    names, left_out = eeg_and_other_columns(the_recording(tmp_path / "a.csv"))
    assert names == (expected or tuple(electrodes.split(",")))
    assert sorted(left_out) == sorted(others)


def test_a_dataset_of_a_headset_has_only_its_electrodes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        card = prepared(tmp_path, "EEG.Fz,EEG.Cz,EEG.T7", EMOTIV_PRO)
    assert card.channels == ("Fz", "Cz", "T7") and card.positions.keys() == {"Fz", "Cz", "T7"}
    assert card.preprocessing["other_columns"] == list(EMOTIV_PRO) and sum(card.rejected.values()) == 0
    assert (
        "--channels file: anna/a.csv has 3 electrodes (Fz, Cz, T7); left out 8 other columns: EEG.Counter, "
        "EEG.Interpolated, EEG.RawCq, EEG.Battery, CQ.Fz, CQ.Overall, POW.Fz.Theta, MOT.GyroX; to choose columns "
    ) in caplog.text


def test_columns_that_are_named_are_taken_whatever_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    card = prepared(tmp_path, "Fz,Cz", {"GYROX": ...}, channels="Fz,GYROX")
    assert card.channels == ("Fz", "GYROX") and "left out" not in caplog.text
    recording = replace(the_recording(tmp_path / "in" / "anna" / "a.csv"), ch_names=("GYROX", "Cz"))
    assert eeg_and_other_columns(recording) == (("Cz",), ["GYROX"])  # --channels file means EEG


def test_a_clock_in_text_is_named_and_no_label(tmp_path: Path) -> None:
    clock = pd.Timestamp("2024-01-01") + pd.to_timedelta(NUMBER / 128, unit="s")
    others = {"Timestamp (Formatted)": clock.strftime("%H:%M:%S.%f"), "stage": np.repeat(["rest", "work"], ROWS // 2)}
    table("Fz,Cz", others).to_csv(tmp_path / "a.csv", index=False)
    assert eeg_and_other_columns(the_recording(tmp_path / "a.csv"))[1] == ["Timestamp (Formatted)"]
    assert list(open_array(tmp_path / "a.csv", None, ()).annotations.description) == ["rest", "work"]


def test_a_line_about_the_recording_before_the_names_is_skipped(tmp_path: Path) -> None:
    text = table("EEG.Fz,EEG.Cz", EMOTIV_PRO).to_csv(index=False)
    (tmp_path / "a.csv").write_text(f"title:rest,start timestamp:1.7e9,headset type:EPOCX\n{text}")
    assert is_array(tmp_path / "a.csv")
    assert eeg_and_other_columns(the_recording(tmp_path / "a.csv")) == (("Fz", "Cz"), list(EMOTIV_PRO))


def test_a_table_of_other_signals_has_no_electrode(tmp_path: Path) -> None:
    table("ECG,GYROX", {"COUNTER": NUMBER % 128}).to_csv(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"no EEG channel; the file has ECG, GYROX, COUNTER; choose from these with"):
        eeg_and_other_columns(the_recording(tmp_path / "a.csv"))
