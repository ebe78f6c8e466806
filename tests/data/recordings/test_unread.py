from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest

from signal_diffusion.data.recordings.channels import eeg_names
from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.recordings.formats import FORMATS, format_of
from signal_diffusion.data.recordings.opening import open_recording
from signal_diffusion.data.recordings.reading import eeg_channels, read_recording
from signal_diffusion.errors import UserError
from tests.data.recordings.files import OPTIONS, noise, the_recording, write_edf


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


def test_curry_and_ant_files_are_recordings_and_their_headers_and_markers_are_not(tmp_path: Path):
    for name in ("a.dap", "a.dat", "a.rs3", "a.cef", "b.cdt", "b.cdt.dpa", "b.cdt.cef"):
        (tmp_path / name).write_text("x")
    (tmp_path / "c.cnt").write_bytes(b"RF64" + bytes(12))
    (tmp_path / "d.cnt").write_bytes(b"RIFF" + bytes(12))
    (tmp_path / "e.cnt").write_bytes(bytes(16))
    recordings = find(tmp_path).recordings
    assert [each.path.name for each in recordings] == ["a.dap", "b.cdt", "c.cnt", "d.cnt"]
    assert [format_of(each.path).reader for each in recordings] == ["read_raw_curry"] * 2 + ["read_raw_ant"] * 2


def test_eximia_is_read_in_microvolts_which_mne_takes_for_volts(tmp_path: Path):
    counts = np.random.default_rng(0).integers(-400, 400, (64, 4350)).astype("<i2")
    (tmp_path / "a.nxe").write_bytes(counts.T.tobytes())
    options = replace(OPTIONS, channels=("Cz", "Pz"), sampling_rate=1450.0, band=(0.5, 600.0))
    read_recording(the_recording(tmp_path), options, tmp_path / "x.npy")
    assert np.abs(np.load(tmp_path / "x.npy")).mean() == pytest.approx(200 * 10 / 65535 / 2000 * 1e6, rel=0.2)
    read_recording(the_recording(tmp_path), replace(options, volts_per_unit=1e-3), tmp_path / "y.npy")
    assert np.allclose(np.load(tmp_path / "y.npy"), 1000 * np.load(tmp_path / "x.npy"), rtol=1e-4)


def test_what_a_reader_prints_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "a.mff").mkdir()

    def prints(*_: object, **__: object) -> mne.io.Raw:
        print("categories.xml not found")
        return noise(["E1", "VREF", "Vertex Reference"])

    monkeypatch.setattr(mne.io, "read_raw_egi", prints)
    assert eeg_channels(the_recording(tmp_path)) == ("E1",)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("module", ["mffpy", "antio>=0.5.0"])
def test_a_package_that_a_format_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str):
    (tmp_path / "a.mff").mkdir()

    def needs_package(*_: object, **__: object) -> None:
        raise RuntimeError(f"For reading data to work, the module {module} is needed, but it could not be imported.")

    monkeypatch.setattr(mne.io, "read_raw_egi", needs_package)
    name = module.split(">")[0]
    with pytest.raises(
        UserError, match=rf"a\.mff: EGI MFF files need the Python package {name}; install it: uv sync --extra formats"
    ):
        eeg_channels(the_recording(tmp_path))
