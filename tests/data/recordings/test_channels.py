import pytest

from signal_diffusion.data.recordings.channels import TEN_TWENTY, channel_names, eeg_names, find_channels
from signal_diffusion.errors import UserError
from tests.data.recordings.files import noise


@pytest.mark.parametrize("in_file", ["T3", "t7", "EEG T3-REF", "EEG T7", "T7.", "T3-A1", "EEG T3-LE"])
@pytest.mark.parametrize("wanted", ["T3", "T7"])
def test_an_electrode_is_found_by_any_of_its_names(in_file: str, wanted: str):
    raw = noise(["Fz", in_file, "Cz"])
    assert find_channels(["Cz", wanted], raw) == [2, 1]


@pytest.mark.parametrize("in_file", ["T3-F7", "A2-A1", "ECG", "T7x"])
def test_a_bipolar_pair_or_another_channel_is_not_an_electrode(in_file: str):
    with pytest.raises(UserError, match=f"no channel T7, A2; the file has Fz, {in_file}"):
        find_channels(["Fz", "T7", "A2"], noise(["Fz", in_file]))


def test_a_channel_that_is_not_eeg_is_found_only_by_its_exact_name():
    raw = noise(["EEG Cz", "Cz trigger", "EEG Pz"], types=["eeg", "stim", "eog"])
    assert find_channels(["Cz", "Cz trigger"], raw) == [0, 1]
    with pytest.raises(UserError, match="no channel Pz"):
        find_channels(["Pz"], raw)


def test_10_20_means_its_19_scalp_electrodes():
    assert channel_names("10-20") == TEN_TWENTY
    assert len(set(TEN_TWENTY)) == 19
    assert channel_names("Fz, A1") == ("Fz", "A1")
    with pytest.raises(UserError, match="twice"):
        channel_names("T3,T7")


def test_eeg_channels_are_named_by_electrode_and_others_are_left_out():
    eeg = ["EEG FP1-REF", "Fc5.", "EEG T3", "CPz", "TTP7h", "Fp1-F7", "E17", "EEG A1-REF", "A2-A1", "M2"]
    other = ["EOG1", "HEOG", "ECG ECG", "EEG EKG-REF", "EMGright", "EXG3", "Resp", "GSR1", "Photic", "ROC", "DC2"]
    assert eeg_names(noise([*other, *eeg])) == ("Fp1", "FC5", "T7", "CPz", "TTP7h", "Fp1-F7", "E17")


def test_channel_types_of_the_file_are_respected():
    raw = noise(["Fz", "Cz", "Pz"], types=["eeg", "stim", "misc"])
    assert eeg_names(raw) == ("Fz",)
    with pytest.raises(UserError, match="no EEG channel; the file has Cz; choose from these with --channels"):
        eeg_names(raw.pick(["Cz"]))


def test_biosemi_electrodes_named_like_mastoids_are_kept():
    assert eeg_names(noise(["A1", "A2", "A3", "B14"])) == ("A1", "A2", "A3", "B14")
    assert eeg_names(noise(["A1", "A2", "Fz"])) == ("Fz",)


def test_each_name_is_found_again_as_its_channel():
    raw = noise(["EEG T3", "T7", "EEG FZ", "Fz", "Cz"], types=["eeg", "misc", "eeg", "stim", "eeg"])
    assert eeg_names(raw) == ("EEG T3", "EEG FZ", "Cz")
    assert find_channels(eeg_names(raw), raw) == [0, 2, 4]


def test_an_electrode_with_two_channels_uses_the_first():
    assert eeg_names(noise(["EEG T3", "T7", "Cz"])) == ("EEG T3", "Cz")
