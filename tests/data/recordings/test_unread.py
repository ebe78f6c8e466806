from pathlib import Path

import mne
import numpy as np
import pytest

from signal_diffusion.data.recordings.channels import eeg_names
from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.recordings.formats import FORMATS, format_of
from signal_diffusion.data.recordings.opening import open_recording
from signal_diffusion.data.recordings.reading import eeg_channels
from signal_diffusion.errors import UserError
from tests.data.recordings.files import noise, the_recording, write_edf


def found(root: Path) -> list[str]:
    return [each.recording for each in find(root).recordings]


def test_every_format_has_a_reader_in_mne():
    assert all(hasattr(mne.io, each.reader) for each in FORMATS)


def test_formats_that_are_not_read_are_named_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_edf(tmp_path / "p1" / "a.edf", noise(["Fz"]))
    for name in ("p2/b.xdf", "p3/c.acq", "p4/d.cnt", "p4/notes.txt", "p4/a-cov.fif", "p5/SC4001EC-Hypnogram.edf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"anything")
    assert found(tmp_path) == ["p1/a.edf"]
    assert "5 files are not read: p2/b.xdf (a Lab Streaming Layer recording), p3/c.acq (a BIOPAC" in caplog.text
    assert "p5/SC4001EC-Hypnogram.edf (a hypnogram without its recording (…-PSG.edf))" in caplog.text


def test_the_only_file_of_an_unread_format_comes_with_the_way_to_fif(tmp_path: Path):
    (tmp_path / "rec.xdf").write_bytes(b"XDF:")
    for root in (tmp_path, tmp_path / "rec.xdf"):
        with pytest.raises(UserError) as caught:
            find(root)
        (line,) = caught.value.lines
        assert "rec.xdf: a Lab Streaming Layer recording, which is not read; turn it into FIF with Python: (1)" in line
        assert 'pyxdf.load_xdf("rec.xdf")' in line and '(3) raw.save("rec_raw.fif")' in line


def test_companions_of_recordings_are_neither_recordings_nor_unread(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for name in (
        "a.vhdr",
        "a.vmrk",
        "renamed.eeg",
        "b.lay",
        "b.dat",
        "c.set",
        "c.fdt",
        "m.mff/signal1.bin",
        "m.mff/x.edf",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"anything")
    assert found(tmp_path) == ["a.vhdr", "b.lay", "c.set", "m.mff"]
    assert "not read" not in caplog.text


def test_an_eeg_file_is_nihon_kohden_by_its_first_bytes(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "nihon.EEG").write_bytes(b"EEG-1100A V01.00" + bytes(100))
    (tmp_path / "brainvision.eeg").write_bytes(bytes(100))
    assert found(tmp_path) == ["nihon.EEG"]
    known = format_of(tmp_path / "nihon.EEG")
    assert known is not None and known.name == "Nihon Kohden"
    assert "1 file is not read: brainvision.eeg (signals without their header (.vhdr))" in caplog.text


def test_a_fif_of_another_kind_says_what_it_is(tmp_path: Path):
    noise_covariance = mne.Covariance(np.eye(1), ["Fz"], [], [], 1)
    noise_covariance.save(tmp_path / "noise-cov.fif", verbose="ERROR")
    (tmp_path / "noise-cov.fif").rename(tmp_path / "noise.fif")
    with pytest.raises(
        UserError, match=r"noise\.fif: holds cov, not a continuous recording; give the recording it was"
    ):
        eeg_channels(the_recording(tmp_path / "noise.fif"))


@pytest.mark.real_data
def test_one_person_each_as_edf_gdf_and_cnt_are_three_people(cases: Path):
    root = cases / "mixed_formats"
    recordings = find(root).recordings
    assert [each.subject for each in recordings] == ["p1", "p2", "p3"]
    assert [len(eeg_channels(each)) for each in recordings] == [136, 8, 126]


@pytest.mark.real_data
def test_a_cnt_without_its_number_of_samples_is_read_with_the_right_width(cases: Path):
    path = cases / "mixed_formats" / "p3" / "scan41_short.cnt"
    raw = open_recording(the_recording(path))
    assert 10 < 1e6 * np.median(raw.get_data(picks="eeg").std(axis=1)) < 200


def test_persyst_is_read(tmp_path: Path):
    samples = np.random.default_rng(0).integers(-100, 100, (500, 2)).astype("<i2")
    (tmp_path / "a.dat").write_bytes(samples.tobytes())
    (tmp_path / "a.lay").write_text(
        "[FileInfo]\nFile=a.dat\nFileType=Interleaved\nSamplingRate=250\nHeaderLength=0\nCalibration=0.5\n"
        "WaveformCount=2\nDataType=0\n[ChannelMap]\nFz-REF=1\nCz-REF=2\n[Patient]\nFirst=\nMI=\nLast=\nSex=\n"
        "Hand=\nBirthDate=01/01/80\nID=\nTestDate=01/01/2000\nTestTime=10:00:00\n[Comments]\n"
    )
    raw = open_recording(the_recording(tmp_path))
    assert eeg_names(raw) == ("Fz", "Cz") and raw.info["sfreq"] == 250
    assert np.allclose(raw.get_data() * 1e6, 0.5 * samples.T)


def test_a_package_that_a_format_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.mff").mkdir()

    def needs_package(*_: object, **__: object) -> None:
        raise RuntimeError(
            "For reading EGI MFF data to work, the module mffpy is needed, but it could not be imported."
        )

    monkeypatch.setattr(mne.io, "read_raw_egi", needs_package)
    with pytest.raises(UserError, match=r"a\.mff: EGI MFF files need the Python package mffpy; install it: uv"):
        eeg_channels(the_recording(tmp_path))
