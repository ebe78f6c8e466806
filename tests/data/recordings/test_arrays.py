import logging
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import scipy.io

from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare
from signal_diffusion.data.recordings.arrays import open_array, volts_per_unit
from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.recordings.headers import read_headers
from signal_diffusion.data.recordings.reading import read_recording
from signal_diffusion.errors import UserError
from tests.data.recordings.files import OPTIONS, noise, the_recording, write_edf, write_fif

NAMES = ("Fz", "Cz", "Pz")
SIGNALS = 20 * np.random.default_rng(0).standard_normal((3, 250 * 8))  # µV
PREPARE = PrepareOptions(channels="Fz,Cz,Pz", window=256, units="uV")


def write_table(path: Path, separator: str = ",", index: bool = False, shift: int = 0, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(np.roll(SIGNALS.T, shift, axis=0), columns=list(NAMES)).assign(**columns)
    frame.to_csv(path, sep=separator, index=index)
    return path


TIMES = np.arange(2000) / 250


@pytest.mark.parametrize(
    ("name", "separator", "time"),
    [
        ("time", ",", TIMES),
        ("Timestamp", "\t", 1.6e9 + TIMES),
        ("t [ms]", ";", 1e3 * TIMES),
        ("anything", ",", TIMES),
        ("time", ",", np.round(TIMES, 2)),
        ("time", ",", pd.Timestamp("2024-01-01 10:00") + pd.to_timedelta(TIMES, unit="s")),
    ],
)
def test_the_rate_of_a_table_comes_from_its_time(tmp_path: Path, name: str, separator: str, time: object):
    path = write_table(tmp_path / ("a.tsv" if separator == "\t" else "a.csv"), separator, index=True, **{name: time})
    raw = open_array(path, None, ())
    assert raw.ch_names == list(NAMES)
    assert raw.info["sfreq"] == 250
    assert np.allclose(raw.get_data(), SIGNALS)


@pytest.mark.parametrize("suffix", ["npy", "npz", "mat", "struct", "csv"])
@pytest.mark.parametrize("order", ["channels first", "samples first"])
def test_an_array_of_microvolts_is_read_like_the_fif_of_the_same_signals(tmp_path: Path, suffix: str, order: str):
    array = SIGNALS if order == "channels first" and suffix != "csv" else SIGNALS.T
    path = tmp_path / f"a.{suffix.replace('struct', 'mat')}"
    {
        "npy": lambda: np.save(path, array),
        "npz": lambda: np.savez(path, eeg=array, sfreq=250),
        "mat": lambda: scipy.io.savemat(path, {"eeg": array, "fs": 250.0}),
        "struct": lambda: scipy.io.savemat(path, {"EEG": {"data": array, "name": "x"}}),
        "csv": lambda: np.savetxt(path, array, delimiter=","),
    }[suffix]()
    recording = replace(the_recording(path), sfreq=250.0, ch_names=NAMES)
    read_recording(recording, replace(OPTIONS, volts_per_unit=1e-6), tmp_path / "x.npy")
    raw = mne.io.RawArray(SIGNALS * 1e-6, mne.create_info(list(NAMES), 250.0, "eeg"), verbose="ERROR")
    read_recording(the_recording(write_fif(tmp_path / "b_raw.fif", raw)), OPTIONS, tmp_path / "y.npy")
    assert np.allclose(np.load(tmp_path / "x.npy"), np.load(tmp_path / "y.npy"), atol=1e-3)


def test_one_command_on_a_folder_of_tables_makes_a_dataset(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    stage = np.repeat(["rest", "", "work"], [1000, 200, 800])
    for number in (1, 2, 3):
        write_table(tmp_path / "in" / f"p{number}" / "rec.csv", shift=100 * number, time=TIMES, Condition=stage)
    table = pd.DataFrame({"id": [f"p{number % 3 + 1}" for number in range(200)], "age": 30}).drop_duplicates("id")
    table.to_csv(tmp_path / "in" / "participants.csv", index=False)
    options = replace(PREPARE, subjects=tmp_path / "in" / "participants.csv", label="annotation")
    card = prepare([tmp_path / "in"], tmp_path / "out", options)
    assert [split["subjects"] for split in card.splits.values()] and not card.skipped
    assert card.columns["label"]["names"] == ["rest", "work"]
    assert card.columns["age"]["mean"] == 30
    assert card.preprocessing["units"] == "uV"
    assert "--units uV" in card.command
    assert "median amplitude" not in caplog.text


def test_the_pass_over_headers_reads_only_the_start_of_a_table(tmp_path: Path):
    fz = [*map(str, range(2000, 0, -1)), "broken"]
    pd.DataFrame({"time": np.arange(2001) / 250, "Fz": fz, "Cz": np.sin(np.arange(2001))}).to_csv(tmp_path / "a.csv")
    recording = the_recording(tmp_path / "a.csv")
    assert read_headers([recording], ("Fz", "Cz", "Pz"), lambda *_: None).missing == {"a.csv": ["Pz"]}
    with pytest.raises(UserError, match=r"a\.csv: no channel Fz; the file has Cz"):
        read_recording(recording, replace(OPTIONS, channels=("Fz", "Cz")), tmp_path / "x.npy")


def test_tables_next_to_participants_tsv_have_its_people(tmp_path: Path):
    for name in ("p1", "p2"):
        write_table(tmp_path / name / "rec.csv")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\np1\t30\np2\t40\n")
    recordings = find(tmp_path).recordings
    assert [(each.subject, each.participant["age"]) for each in recordings] == [("p1", "30"), ("p2", "40")]


def test_units_scale_a_recording_whose_header_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    raw = noise(list(NAMES))
    right = write_fif(tmp_path / "right_raw.fif", raw)
    raw._data *= 1e6  # microvolts, written as if they were volts
    wrong = write_fif(tmp_path / "wrong_raw.fif", raw)
    read_recording(the_recording(right), OPTIONS, tmp_path / "x.npy")
    with caplog.at_level(logging.WARNING):
        read_recording(the_recording(wrong), replace(OPTIONS, volts_per_unit=1e-6), tmp_path / "y.npy")
    assert np.allclose(np.load(tmp_path / "x.npy"), np.load(tmp_path / "y.npy"), atol=1e-3)
    assert not caplog.text


@pytest.mark.parametrize(("factor", "units"), [(1e6, "uV"), (1e3, "mV"), (1e-3, "1e3")])
def test_an_implausible_amplitude_comes_with_the_units_that_correct_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, factor: float, units: str
):
    raw = noise(list(NAMES))
    raw._data *= factor
    path = write_fif(tmp_path / "a_raw.fif", raw)
    read_recording(the_recording(path), OPTIONS, tmp_path / "x.npy")
    assert f"check the unit in the file, or try --units {units}" in caplog.text
    caplog.clear()
    read_recording(the_recording(path), replace(OPTIONS, volts_per_unit=volts_per_unit(units)), tmp_path / "x.npy")
    assert not caplog.text


def test_tables_of_other_things_are_not_recordings(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_edf(tmp_path / "p1" / "a.edf", noise(["Fz"]))
    pd.DataFrame({"subject": range(200), "score": 1.5}).to_csv(tmp_path / "scores.csv", index=False)
    pd.DataFrame({"onset": range(20), "value": 1.5}).to_csv(tmp_path / "events.tsv", index=False, sep="\t")
    pd.DataFrame({"word": ["a"] * 200, "sentence": "b", "n": 1}).to_csv(tmp_path / "words.csv", index=False)
    (tmp_path / "empty.csv").touch()
    (tmp_path / "bytes.csv").write_bytes(bytes(range(128, 256)))
    assert [each.recording for each in find(tmp_path).recordings] == ["p1/a.edf"]
    assert "not read" not in caplog.text
    write_table(tmp_path / "p2" / "b.csv")
    assert [each.recording for each in find(tmp_path).recordings] == ["p1/a.edf"]
    assert "1 file is not read: p2/b.csv (an array; give arrays in a command of their own" in caplog.text


@pytest.mark.parametrize(
    ("columns", "sfreq", "ch_names", "complaint"),
    [
        ({}, None, (), r"does not say its sampling rate; add --sfreq, such as --sfreq 256"),
        ({"time": TIMES}, 256.0, (), r"column 'time' says 250 Hz, but --sfreq 256; correct one of them"),
        ({"time": 1e3 * TIMES}, None, (), r"column 'time' says 0.25 Hz if it is in seconds, 250 Hz if in ms; add --sf"),
        ({"time": np.where(TIMES < 4, TIMES, TIMES + 1)}, 250.0, (), r"1 s off|samples are missing|says"),
        ({"time": -TIMES}, 250.0, (), r"column 'time' does not increase"),
        ({"time": TIMES}, None, ("Fz", "Cz"), None),
        ({"time": TIMES}, None, ("A", "B"), r"has 3 columns of signals \(Fz, Cz, Pz\), but --ch-names has 2 names"),
    ],
)
def test_a_table_with_unclear_columns_is_a_line(
    tmp_path: Path, columns: dict, sfreq: float | None, ch_names: tuple[str, ...], complaint: str | None
):
    path = write_table(tmp_path / "a.csv", **columns)
    if complaint is None:
        assert open_array(path, sfreq, ch_names).ch_names == list(ch_names)
        return
    with pytest.raises(UserError, match=complaint):
        open_array(path, sfreq, ch_names)


@pytest.mark.parametrize(
    ("array", "ch_names", "complaint"),
    [
        (SIGNALS, (), r"an array of 3×2000 numbers does not name its electrodes; add --ch-names with 3 names"),
        (SIGNALS, ("Fz", "Cz"), r"an array of 3×2000 numbers, but --ch-names has 2 names"),
        (SIGNALS[:, :3], NAMES, r"an array of 3×3 numbers: channels and samples cannot be told apart"),
        (SIGNALS[None], NAMES, r"expected one array of numbers with two dimensions.*; found a.npy 1×3×2000; save one"),
        (np.array([["a", "b"]]), NAMES, r"expected one array of numbers with two dimensions"),
    ],
)
def test_an_array_with_unclear_axes_is_a_line(tmp_path: Path, array: np.ndarray, ch_names: tuple, complaint: str):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=complaint):
        open_array(tmp_path / "a.npy", 250.0, ch_names)


@pytest.mark.parametrize("suffix", ["npz", "mat"])
def test_labels_next_to_an_array_of_trials_are_not_read_as_eeg(tmp_path: Path, suffix: str):
    arrays = {"data": SIGNALS.reshape(3, 4, 500), "labels": np.ones((3, 4))}
    path = tmp_path / f"s01.{suffix}"
    np.savez(path, **arrays) if suffix == "npz" else scipy.io.savemat(path, arrays)
    complaint = r"found data 3×4×500, labels 3×4; save one recording as one array, or its trials as epochs: mne\.Epo"
    with pytest.raises(UserError, match=complaint):
        open_array(path, 128.0, NAMES)


def test_options_that_do_not_fit_the_input_are_a_line(tmp_path: Path):
    table = write_table(tmp_path / "in" / "a.csv", time=TIMES)
    edf = write_edf(tmp_path / "other" / "b.edf", noise(list(NAMES)))
    for inputs, changes, complaint in (
        ([table], {"units": None}, r"a\.csv: an array does not say its unit; add --units uV"),
        ([table, edf], {}, r"--units would apply to 1 arrays and 1 other recordings alike; prepare them separately"),
        ([edf], {"sfreq": 256.0}, r"--sfreq and --ch-names are for arrays .* and there are none"),
    ):
        with pytest.raises(UserError, match=complaint):
            prepare(inputs, tmp_path / "out", replace(PREPARE, **changes))
    with pytest.raises(UserError, match="units: 'uv'; use one of V, mV, uV, nV, or the size of the unit in V"):
        replace(PREPARE, units="uv")
