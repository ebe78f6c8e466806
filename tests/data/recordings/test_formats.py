"""Every format is read in the same way, and every kind of damage is a one-line error."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest

from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.recordings.reading import eeg_channels, read_recording
from signal_diffusion.errors import UserError
from tests.data.recordings.files import OPTIONS, noise, write_edf, write_fif


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["bdf", "brainvision", "edf", "eeglab", "fif", "tiny_bids"])
def test_every_recording_of_every_format_can_be_read_with_the_same_options(
    real_data: Path, tmp_path: Path, folder: str, caplog: pytest.LogCaptureFixture
):
    recordings = find(real_data / "formats" / folder).recordings
    for recording in recordings:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            channels = eeg_channels(recording)
            options = replace(OPTIONS, channels=channels, reference="average", sampling_rate=100.0, band=(0.5, 45.0))
            made = read_recording(recording, replace(options, min_samples=40), tmp_path / "signal.npy")
        signal = np.load(tmp_path / "signal.npy")
        assert signal.shape == (len(channels), made.num_samples)
        assert np.isfinite(signal).all()
        assert (signal.std(axis=1) > 0).all()
    # Only our own log records, none of MNE:
    ours = {f"signal_diffusion.data.recordings.{name}" for name in ("reading", "source", "finding", "identity")}
    assert {record.name for record in caplog.records} <= ours


@pytest.mark.real_data
def test_a_unit_wrong_by_1000_is_warned_about_in_a_real_file(
    real_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (recording,) = find(real_data / "formats" / "fif").recordings
    read_recording(recording, replace(OPTIONS, channels=("Oz", "O1")), tmp_path / "signal.npy")
    assert "check the unit in the file" in caplog.text


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "count", "among"),
    [
        ("bdf/eeglab_test.bdf", 16, {"A1", "A16"}),
        ("edf/test_reduced.edf", 124, {"A10", "I7"}),
        ("edf/eegmat_Subject06_2_500hz.edf", 19, {"Fp1", "T7", "Pz"}),
        ("edf/test_edf_overlapping_annotations.edf", 64, {"FC5", "CPz", "Iz"}),
        ("brainvision/test_NO.vhdr", 63, {"1", "71"}),
        ("eeglab/eeglab_data.set", 30, {"Fpz", "PO8"}),
        ("tiny_bids", 64, {"Fp1", "PO10"}),
    ],
)
def test_eeg_channels_of_real_files_are_named_by_electrode(real_data: Path, name: str, count: int, among: set[str]):
    names = eeg_channels(find(real_data / "formats" / name).recordings[0])
    assert len(set(names)) == len(names) == count
    assert among <= set(names)
    assert not [name for name in names if "EOG" in name or "ECG" in name or "EMG" in name]


@pytest.mark.real_data
def test_annotations_and_triggers_of_real_files_become_spans(real_data: Path, tmp_path: Path):
    def spans(name: str, channel: str) -> list[tuple[float, float, str]]:
        recording = find(real_data / "formats" / name).recordings[0]
        options = replace(OPTIONS, channels=(channel,), sampling_rate=100.0, band=(1.0, 40.0), min_samples=1)
        made = read_recording(recording, options, tmp_path / "signal.npy")
        return [(round(span.onset, 3), round(span.end, 3), span.description) for span in made.spans]

    assert spans("edf/test_edf_overlapping_annotations.edf", "Cz")[:2] == [(0, 1.375, "T0"), (1.375, 6.5, "T1")]
    assert spans("bdf/test_bdf_stim_channel.bdf", "Cz")[:2] == [(0.484, 0.62, "4"), (0.62, 1.904, "2")]
    assert spans("tiny_bids", "Cz") == [(0, 0.2, "start_experiment"), (0.2, 0.4, "show_stimulus")]
    assert len(spans("eeglab/eeglab_data.set", "Cz")) == 154


def truncated(folder: Path) -> None:
    path = write_edf(folder / "a.edf", noise(["Fz", "Cz", "Pz"]))
    path.write_bytes(path.read_bytes()[:-2500])


def empty(folder: Path) -> None:
    (folder / "a.edf").touch()


def text(folder: Path) -> None:
    (folder / "a.edf").write_text("Dear diary, today we recorded EEG.\n")


def header_only(folder: Path) -> None:
    path = write_edf(folder / "a.edf", noise(["Fz", "Cz", "Pz"]))
    path.write_bytes(path.read_bytes()[:300])


def not_finite(folder: Path) -> None:
    raw = noise(["Fz", "Cz", "Pz"])
    raw._data[0, 1250:1253] = np.nan
    write_fif(folder / "a_raw.fif", raw)


def without_channel(folder: Path) -> None:
    write_edf(folder / "a.edf", noise(["Fz", "Cz"]))


def not_fetched(folder: Path) -> None:
    (folder / "a.edf").symlink_to(folder / ".git" / "annex" / "objects" / "XY.edf")


def short(folder: Path) -> None:
    write_edf(folder / "a.edf", noise(["Fz", "Cz", "Pz"], seconds=2.0))


def slow(folder: Path) -> None:
    write_edf(folder / "a.edf", noise(["Fz", "Cz", "Pz"], 100.0))


def no_mat(folder: Path) -> None:
    (folder / "a.set").write_bytes(b"This is not MATLAB.\n" * 100)


def without_data(folder: Path) -> None:
    (folder / "a.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=a.eeg\nDataFormat=BINARY\n"
        "DataOrientation=MULTIPLEXED\nNumberOfChannels=1\nSamplingInterval=4000\n[Binary Infos]\n"
        "BinaryFormat=INT_16\n[Channel Infos]\nCh1=Fz,,0.1,µV\n",
        encoding="utf-8",
    )


def broken_fif(folder: Path) -> None:
    (folder / "a_raw.fif").write_bytes(b"no FIF" * 1000)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (truncated, "is shorter or longer than its header says; fetch it again"),
        (empty, "is empty; fetch it again"),
        (not_fetched, "the file is a broken link; fetch it (datalad get, git annex get) or remove the link"),
        (text, "cannot be read as .edf"),
        (header_only, "cannot be read as .edf"),
        (not_finite, "has samples that are not finite, the first at 5 s, on "),
        (without_channel, "no channel Pz; the file has Fz, Cz; choose from these with --channels"),
        (short, "lasts 2 s, less than one window of 2.05 s"),
        (slow, "sampling rate 100 Hz is below the dataset's 125 Hz; use --rate 100"),
        (no_mat, "cannot be read as .set"),
        (without_data, "cannot be read as .vhdr"),
        (broken_fif, "cannot be read as .fif"),
    ],
)
def test_damage_is_a_one_line_error_that_names_the_file_and_leaves_no_output(
    tmp_path: Path,
    damage: Callable[[Path], None],
    complaint: str,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
):
    damage(tmp_path)
    (recording,) = find(tmp_path).recordings
    with pytest.raises(UserError) as caught:
        read_recording(recording, OPTIONS, tmp_path / "signal.npy")
    (line,) = caught.value.lines
    assert complaint in line
    assert line.startswith(f"{recording.path}: ")
    assert len(line) < len(str(recording.path)) * 2 + 300
    assert "\n" not in line
    assert not (tmp_path / "signal.npy").exists()
    assert "".join(capfd.readouterr()) == ""
    assert not recwarn.list


def test_two_subjects_with_the_same_id_are_a_one_line_error(tmp_path: Path):
    write_edf(tmp_path / "sub-01" / "eeg" / "sub-01_task-rest_eeg.edf", noise(["Fz", "Cz", "Pz"]))
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t31\nsub-01\t62\n")
    with pytest.raises(UserError, match=r"participants\.tsv: sub-01 is in line 2 and in line 3; keep one"):
        find(tmp_path)


def test_an_edf_that_was_not_closed_is_read(tmp_path: Path):
    path = write_edf(tmp_path / "a.edf", noise(["Fz", "Cz", "Pz"]))
    contents = path.read_bytes()
    path.write_bytes(contents[:236] + b"-1      " + contents[244:])
    assert read_recording(find(path).recordings[0], OPTIONS, tmp_path / "signal.npy").num_samples == 1000


def test_interrupted_reading_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    path = write_edf(tmp_path / "a.edf", noise(["Fz", "Cz", "Pz"]))
    monkeypatch.setattr(mne.io.BaseRaw, "get_data", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_recording(find(path).recordings[0], OPTIONS, tmp_path / "signal.npy")
    assert not (tmp_path / "signal.npy").exists()
