from pathlib import Path

import edfio
import mne
import numpy as np
import pytest

from signal_diffusion.data.recordings.companions import companions_of
from signal_diffusion.data.recordings.finding import find
from signal_diffusion.errors import UserError
from tests.data.recordings.files import noise, staged, write_edf, write_fif


def write_hypnogram(path: Path, *stages: tuple[float, float, str]) -> Path:
    edfio.Edf([], annotations=[edfio.EdfAnnotation(*stage) for stage in stages]).write(path)
    return path


def spans(path: Path, output: Path) -> list[tuple[float, float, str]]:
    return [(round(span.onset, 3), round(span.end, 3), span.description) for span in staged(path, output)[1].spans]


def test_a_hypnogram_gives_its_recording_stages_and_is_no_recording(tmp_path: Path):
    for subject in ("SC4001", "SC4011"):
        write_edf(tmp_path / f"{subject}E0-PSG.edf", noise(["Fz", "Cz", "Pz"]))
        # It goes on for longer than the recording, as in Sleep-EDF.
        write_hypnogram(tmp_path / f"{subject}EC-Hypnogram.edf", (0, 5, f"W {subject}"), (5, 5, "R"), (10, 90, "?"))
    assert [each.recording for each in find(tmp_path).recordings] == ["SC4001E0-PSG.edf", "SC4011E0-PSG.edf"]
    assert spans(tmp_path / "SC4011E0-PSG.edf", tmp_path / "x.npy") == [(0, 5, "W SC4011"), (5, 8, "R")]


def test_a_hypnogram_of_the_same_name_comes_first(tmp_path: Path):
    for name in ("SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf", "SC4001E0-Hypnogram.edf", "a-PSG.edf", "ab-PSG.edf"):
        (tmp_path / name).touch()
    assert companions_of(tmp_path / "SC4001E0-PSG.edf") == [tmp_path / "SC4001E0-Hypnogram.edf"]
    assert companions_of(tmp_path / "a-PSG.edf") == []


def test_a_broken_hypnogram_is_named(tmp_path: Path):
    path = write_edf(tmp_path / "a-PSG.edf", noise(["Fz", "Cz", "Pz"]))
    (tmp_path / "a-Hypnogram.edf").write_bytes(b"no EDF")
    with pytest.raises(
        UserError, match=r"a-PSG\.edf: its annotations in a-Hypnogram\.edf cannot be read \(no annotation found"
    ):
        staged(path, tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["rest_raw.fif", "rest.fif"])
def test_events_of_a_fif_belong_to_its_recording(tmp_path: Path, name: str):
    raw = noise(["Fz", "Cz", "Pz"], 250.0, 20.0).crop(8.0)  # samples count from the start of the acquisition
    write_fif(tmp_path / name, raw)
    mne.write_events(tmp_path / "rest-eve.fif", np.array([[2250, 0, 7], [2750, 0, 9]]), verbose="ERROR")
    assert [each.recording for each in find(tmp_path).recordings] == [name]
    assert spans(tmp_path / name, tmp_path / "x.npy") == [(1, 3, "7"), (3, 5, "9")]


@pytest.mark.real_data
def test_sleep_edf_as_it_is_unpacked_has_stages(cases: Path, tmp_path: Path):
    root = cases / "sleep_edf_layout"
    paths = [each.path for each in find(root).recordings]
    assert [path.name for path in paths] == ["SC4001E0-PSG.edf", "SC4011E0-PSG.edf", "SC4021E0-PSG.edf"]
    options = {"channels": ("Fpz-Cz",), "sampling_rate": 100.0, "band": (0.5, 40.0)}
    for path in paths:
        (span,) = staged(path, tmp_path / "x.npy", **options)[1].spans
        assert (span.onset, span.end, span.description) == (0.0, 120.0, "Sleep stage W")
