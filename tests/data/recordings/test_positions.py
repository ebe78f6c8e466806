from pathlib import Path

import mne
import numpy as np
import pytest

from signal_diffusion.data.recordings.channels import TEN_TWENTY
from signal_diffusion.data.recordings.positions import _montage, digitised_positions, mean_positions, standard_positions
from signal_diffusion.data.synthetic import POSITIONS, sphere_positions
from signal_diffusion.errors import UserError
from tests.data.recordings.files import noise, staged, write_edf, write_fif

NAMES = ["EEG Fp1-REF", "F3", "F4", "Fz", "Cz", "C3", "C4", "T3"]


@pytest.mark.parametrize("reference", ["none", "average", "C3"])
def test_a_missing_electrode_is_that_of_mne(tmp_path: Path, reference: str):
    raw = noise(["F3", "F4", "Fz", "Cz", "C3", "C4", "T7"])
    raw._data[1] *= 20
    raw.info["bads"] = ["F4"]  # not used for the interpolation
    path = write_fif(tmp_path / "lacks_raw.fif", raw)
    options = {"channels": ("Pz", "Fz", "Cz"), "reference": reference}
    signal, _ = staged(path, tmp_path / "x.npy", interpolate=True, **options)
    whole = mne.concatenate_raws([raw.copy()], verbose="ERROR")
    flat = mne.io.RawArray(np.zeros((1, raw.n_times)), mne.create_info(["Pz"], 250.0, "eeg"), verbose="ERROR")
    whole.add_channels([flat], force_update_info=True).set_montage(_montage(), verbose="ERROR")
    whole.info["bads"] = ["Pz", "F4"]
    whole.interpolate_bads(origin=(0, 0, 0.04), reset_bads=False, verbose="ERROR")
    whole.info["bads"] = []
    expected, _ = staged(write_fif(tmp_path / "whole_raw.fif", whole), tmp_path / "y.npy", **options)
    assert np.abs(signal - expected).max() < 1e-3
    assert signal[0].std() > 1


def test_recorders_names_are_sources_of_an_interpolation(tmp_path: Path):
    path = write_edf(tmp_path / "a.edf", noise(NAMES))
    signal, made = staged(path, tmp_path / "x.npy", channels=("T7", "C3", "Pz", "Fp1", "Oz"), interpolate=True)
    kept, _ = staged(path, tmp_path / "y.npy", channels=("T7", "C3", "Fp1"))
    assert np.allclose(signal[[0, 1, 3]], kept, atol=1e-3)
    assert (signal.std(axis=1) > 1).all() and not made.flat.any()


@pytest.mark.parametrize(
    ("names", "wanted", "complaint"),
    [
        (["Fz", "Cz", "C3"], "Pz", "no channel Pz, and only 3 electrodes with a standard position to interpolate from"),
        (NAMES, "X1", "no channel X1, and no standard position to interpolate it at"),
    ],
)
def test_what_cannot_be_interpolated_is_a_line(tmp_path: Path, names: list[str], wanted: str, complaint: str):
    path = write_edf(tmp_path / "a.edf", noise(names))
    with pytest.raises(UserError, match=complaint):
        staged(path, tmp_path / "x.npy", channels=("Fz", "Cz", wanted), interpolate=True)


def test_standard_positions_are_on_the_unit_sphere_and_where_the_names_say():
    found = standard_positions([*TEN_TWENTY, "EEG T3-REF", "X1"])
    assert list(found) == [*TEN_TWENTY, "EEG T3-REF"]
    assert np.allclose(np.linalg.norm(list(found.values()), axis=1), 1, atol=1e-3)
    assert found["Cz"][2] > 0.95 and found["T8"][0] > 0.9 and found["Fp1"][1] > 0.85 and found["Fp1"][0] < 0
    assert found["EEG T3-REF"] == found["T7"]


def test_synthetic_positions_are_near_the_standard_ones():
    own, standard = sphere_positions(), standard_positions(list(POSITIONS))
    assert own.keys() == standard.keys()
    angles = [np.degrees(np.arccos(np.clip(np.dot(own[name], standard[name]), -1, 1))) for name in own]
    assert max(angles) < 30
    assert np.allclose(np.linalg.norm(list(own.values()), axis=1), 1, atol=1e-3)


def test_digitised_positions_are_those_of_the_recording(tmp_path: Path):
    raw = noise(["Fz", "Cz", "Pz"])
    assert digitised_positions(("Fz", "Pz"), raw) is None
    raw.set_montage(_montage(), verbose="ERROR")
    found, standard = digitised_positions(("Fz", "Pz"), raw), standard_positions(("Fz", "Pz"))
    assert found is not None and found.keys() == standard.keys()
    assert np.allclose(list(found.values()), list(standard.values()), atol=1e-3)
    assert mean_positions([{"Cz": [0.1, 0, 1]}, {"Cz": [-0.1, 0, 1]}]) == {"Cz": [0, 0, 1]}
