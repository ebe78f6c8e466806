import logging
import shutil
from pathlib import Path

import mne
import numpy as np
import pytest

from signal_diffusion.data import recordings
from signal_diffusion.data.recordings import TEN_TWENTY, channel_names, find_recordings, read_recording
from signal_diffusion.errors import UserError

READING = {
    "channels": ("Fz", "Cz", "Pz"),
    "reference": "none",
    "band": (0.5, 60.0),
    "notch": (),
    "sampling_rate": 125.0,
    "min_samples": 256,
    "flat_below": 0.1,
}


def noise(names: list[str], sfreq: float = 250.0, seconds: float = 8.0, types: str | list[str] = "eeg") -> mne.io.Raw:
    microvolts = 20 * np.random.default_rng(0).standard_normal((len(names), round(sfreq * seconds)))
    return mne.io.RawArray(microvolts * 1e-6, mne.create_info(names, sfreq, types), verbose="ERROR")


def write_edf(path: Path, raw: mne.io.Raw) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mne.export.export_raw(path, raw, physical_range=(-500, 500), overwrite=True, verbose="ERROR")
    return path


def read(path: Path, **changes: object) -> np.ndarray:
    return read_recording(find_recordings(path)[0], **READING | changes)[0]


def sine(frequency: float, amplitude: float, sfreq: float, seconds: float = 20.0) -> mne.io.Raw:
    raw = noise(["Fz", "Cz", "Pz"], sfreq, seconds)
    wave = np.sin(2 * np.pi * frequency * raw.times)
    raw.apply_function(lambda _: amplitude * 1e-6 * wave, channel_wise=True)
    return raw


def test_edf_and_fif_of_one_recording_are_the_same_microvolts(tmp_path: Path):
    raw = noise(["Fz", "Cz", "Pz"])
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    from_fif = read(tmp_path / "a_raw.fif")
    assert from_fif.shape == (3, 1000)
    assert from_fif.dtype == np.float32
    assert 10 < from_fif.std() < 20
    assert np.abs(from_fif - read(write_edf(tmp_path / "a.edf", raw))).max() < 0.05  # one step of 16 bits


@pytest.mark.parametrize("there", ["T3", "t7", "EEG T3-REF", "EEG T7", "T7.", "T3-A1", "EEG T3-LE"])
@pytest.mark.parametrize("wanted", ["T3", "T7"])
def test_an_electrode_is_found_by_all_of_its_names(there: str, wanted: str):
    raw = noise(["Fz", there, "Cz"])
    assert recordings._find_channels(["Cz", wanted], raw) == [2, 1]


@pytest.mark.parametrize("there", ["T3-F7", "A2-A1", "ECG", "T7x"])
def test_a_bipolar_pair_or_another_channel_is_no_electrode(there: str):
    with pytest.raises(UserError, match=f"no channel T7, A2; it has Fz, {there}"):
        recordings._find_channels(["Fz", "T7", "A2"], noise(["Fz", there]))


def test_a_channel_that_is_not_eeg_is_taken_only_under_its_own_name():
    raw = noise(["EEG Cz", "Cz trigger", "EEG Pz"], types=["eeg", "stim", "eog"])
    assert recordings._find_channels(["Cz", "Cz trigger"], raw) == [0, 1]
    with pytest.raises(UserError, match="no channel Pz"):
        recordings._find_channels(["Pz"], raw)


def test_10_20_is_its_19_scalp_electrodes():
    assert channel_names("10-20") == TEN_TWENTY
    assert len(set(TEN_TWENTY)) == 19
    assert channel_names("Fz, A1") == ("Fz", "A1")
    with pytest.raises(UserError, match="twice"):
        channel_names("T3,T7")


def test_resampling_keeps_what_fits_and_removes_what_would_alias(tmp_path: Path):
    kept = read(write_edf(tmp_path / "10.edf", sine(10.0, 50.0, 500.0)))[:, 500:-500]
    assert kept.std() * np.sqrt(2) == pytest.approx(50.0, rel=0.01)
    aliased = read(write_edf(tmp_path / "80.edf", sine(80.0, 50.0, 500.0)))[:, 500:-500]  # would appear at 45 Hz
    assert aliased.std() < 0.2


def test_band_and_notch_remove_what_they_should_without_delay(tmp_path: Path):
    path = write_edf(tmp_path / "50.edf", sine(50.0, 50.0, 250.0))
    assert read(path, notch=(50.0,))[:, 500:-500].std() < 1
    assert read(path, band=(0.5, 40.0))[:, 500:-500].std() < 1
    ten = sine(10.0, 50.0, 125.0)
    filtered = read(write_edf(tmp_path / "10.edf", ten))
    assert np.abs(filtered - 1e6 * ten.get_data())[:, 500:-500].max() < 1


def test_references_are_subtracted(tmp_path: Path):
    path = write_edf(tmp_path / "a.edf", noise(["Fz", "Cz", "Pz", "A1", "A2"]))
    plain = read(path, channels=("Fz", "Cz", "Pz", "A1", "A2"))
    average = read(path, reference="average")
    assert np.allclose(average, plain[:3] - plain[:3].mean(axis=0), atol=1e-3)
    assert np.allclose(read(path, reference="A1,A2"), plain[:3] - plain[3:].mean(axis=0), atol=1e-3)


def test_a_dead_channel_is_flat_though_the_average_reference_hides_it(tmp_path: Path):
    raw = noise(["Fz", "Cz", "Pz"])
    raw._data[1, 500:1250] = 0  # seconds 2 to 5
    recording = find_recordings(write_edf(tmp_path / "a.edf", raw))[0]
    _, flat = read_recording(recording, **READING | {"reference": "average"})
    assert np.flatnonzero(flat).tolist() == [2, 3, 4]


def test_in_a_plain_folder_the_subject_is_the_folder_or_the_file(tmp_path: Path):
    for name in ("alone.edf", "anna/one.edf", "anna/deep/two.edf"):
        write_edf(tmp_path / name, noise(["Fz"]))
    (tmp_path / "notes.txt").write_text("not a recording")
    found = {recording.recording: recording.subject for recording in find_recordings(tmp_path)}
    assert found == {"alone.edf": "alone", "anna/one.edf": "anna", "anna/deep/two.edf": "anna"}


def test_participants_of_a_bids_folder_come_with_usual_names(tmp_path: Path):
    write_edf(tmp_path / "sub-01" / "eeg" / "sub-01_task-rest_eeg.edf", noise(["Fz", "Cz", "Pz"]))
    (tmp_path / "participants.tsv").write_text(
        "\ufeffparticipant_id\tage\tsex\tgroup\thand\nsub-01\t31\tF\tcontrol\tn/a\n", encoding="utf-8"
    )
    (recording,) = find_recordings(tmp_path)
    assert (recording.subject, recording.task) == ("sub-01", "rest")
    assert (recording.gender, recording.age, recording.health) == ("female", 31.0, "control")
    assert "hand" not in recording.participant
    assert read_recording(recording, **READING)[0].shape == (3, 1000)


def damaged(tmp_path: Path, what: str) -> Path:
    path = write_edf(tmp_path / f"{what}.edf", noise(["Fz", "Cz", "Pz"]))
    contents = {
        "truncated": path.read_bytes()[:-2500],
        "empty": b"",
        "text": b"Dear diary, today we recorded EEG.\n",
    }
    path.write_bytes(contents[what])
    return path


@pytest.mark.parametrize(
    ("what", "complaint"),
    [("truncated", "than its header says"), ("empty", "is empty"), ("text", "cannot be read as .edf")],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, what: str, complaint: str):
    with pytest.raises(UserError, match=complaint) as caught:
        read(damaged(tmp_path, what))
    assert str(caught.value).startswith(str(tmp_path / f"{what}.edf"))
    assert len(str(caught.value).splitlines()) == 1


def test_an_edf_that_was_never_closed_is_read(tmp_path: Path):
    path = write_edf(tmp_path / "a.edf", noise(["Fz", "Cz", "Pz"]))
    contents = path.read_bytes()
    path.write_bytes(contents[:236] + b"-1      " + contents[244:])
    assert read(path).shape == (3, 1000)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"channels": ("Fz", "O1")}, "no channel O1; it has Fz, Cz, Pz"),
        ({"reference": "A1"}, "no channel A1; it has Fz, Cz, Pz"),
        ({"sampling_rate": 500.0}, "sampled at 250 Hz, below the dataset's 500 Hz; use --rate 250"),
        ({"min_samples": 2048}, "lasts 8 s, less than one window of 16.4 s"),
    ],
)
def test_a_recording_that_does_not_fit_is_one_line_that_says_why(tmp_path: Path, changes: dict, complaint: str):
    path = write_edf(tmp_path / "a.edf", noise(["Fz", "Cz", "Pz"]))
    with pytest.raises(UserError, match=complaint):
        read(path, **changes)


def test_samples_that_are_no_numbers_are_refused(tmp_path: Path):
    raw = noise(["Fz", "Cz", "Pz"])
    raw._data[0, 10:13] = np.nan
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    with pytest.raises(UserError, match="3 samples are not finite"):
        read(tmp_path / "a_raw.fif")


def test_a_wrong_unit_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    raw = noise(["Fz", "Cz", "Pz"])
    raw._data *= 1e3
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    with caplog.at_level(logging.WARNING):
        read(tmp_path / "a_raw.fif")
    assert "a_raw.fif: the median amplitude is" in caplog.text


def test_an_input_without_recordings_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"no recordings here; known formats are \.edf"):
        find_recordings(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        find_recordings(tmp_path / "nowhere")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("edf/test_edf_overlapping_annotations.edf", None),
        ("edf/test_reduced.edf", None),
        ("edf/eegmat_Subject06_2_500hz.edf", TEN_TWENTY),
        ("bdf/eeglab_test.bdf", None),
        ("bdf/test_bdf_stim_channel.bdf", None),
        ("brainvision/test_NO.vhdr", None),
        ("eeglab/eeglab_data.set", ("Fz", "Cz", "Pz", "T3", "T4")),
        ("fif/ssvep_subject02_raw.fif", ("Oz", "O1", "O2")),
        ("tiny_bids", ("Fz", "Cz", "Pz")),
    ],
)
def test_every_format_reads(real_data: Path, name: str, channels: tuple[str, ...] | None):
    recording = find_recordings(real_data / "formats" / name)[0]
    channels = channels or tuple(recordings._open(recording).ch_names[:3])
    signal, _ = read_recording(
        recording,
        **READING | {"channels": channels, "sampling_rate": 100.0, "band": (1.0, 40.0), "min_samples": 30},
    )
    assert signal.shape[0] == len(channels)
    assert np.isfinite(signal).all()
    assert signal.std() > 0


@pytest.mark.real_data
def test_a_copy_outside_bids_reads_as_the_file_inside(real_data: Path, tmp_path: Path):
    inside = find_recordings(real_data / "eegmat")[0]
    shutil.copy(inside.path, tmp_path / "copy.edf")
    assert np.array_equal(read_recording(inside, **READING)[0], read(tmp_path / "copy.edf"))
