"""Files of epochs: windows of their own, with their events as labels, and nothing filtered across an edge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
import scipy.io
import torch

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.preparing.prepare import prepare
from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError
from tests.data.preparing.options import UNCHANGED

OPTIONS = replace(UNCHANGED, window=125, overlap=0.0, label="annotation")


def epochs(count: int = 6, sfreq: float = 256.0, tmin: float = -0.5, seconds: float = 2.0) -> mne.EpochsArray:
    """Epochs of a slow wave, each with its own offset, so that a filter across edges would show."""
    times = tmin + np.arange(round(sfreq * seconds) + 1) / sfreq
    wave = 20 * np.sin(2 * np.pi * 3 * times)
    data = np.stack([np.stack([wave + 40 * (number % 2), wave, -wave]) for number in range(count)])
    events = np.stack([1000 * np.arange(count), np.zeros(count), 1 + np.arange(count) % 2], axis=1).astype(int)
    info = mne.create_info(["Fz", "Cz", "Pz"], sfreq, "eeg")
    return mne.EpochsArray(1e-6 * data, info, events, tmin, {"left": 1, "right": 2}, verbose="ERROR")


def write(path: Path, made: mne.BaseEpochs) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(path, overwrite=True, verbose="ERROR")
    return path


def signals_of(root: Path) -> np.ndarray:
    tensors = np.stack(open_split(root, "train").with_format("numpy")["signal"][:])
    return representation_of(DatasetCard.load(root)).to_signal(torch.from_numpy(tensors).float()).numpy()


@pytest.mark.parametrize("name", ["s-epo.fif", "s_epo.fif", "s.fif"])
def test_epochs_become_windows_with_their_events_as_labels(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "in" / name, epochs())
    card = prepare([tmp_path / "in"], tmp_path / "out", OPTIONS)
    assert {label: entry["examples"] for label, entry in card.splits["train"]["marginals"]["label"].items()} == {
        "left": 6,
        "right": 6,
    }
    assert card.rejected == {"flat": 0, "amplitude": 0, "annotation": 0, "unlabelled": 0}
    assert "1 of 1 recordings are epochs, which are resampled and referenced but not filtered" in caplog.text
    assert "band" not in card.preprocessing and card.preprocessing["unfiltered_recordings"] == 1


@pytest.mark.parametrize(("sfreq", "rate"), [(125.0, 125.0), (256.0, 125.0), (160.0, 125.0), (250.0, 128.0)])
def test_samples_of_an_epoch_depend_on_no_other_epoch(tmp_path: Path, sfreq: float, rate: float) -> None:
    made = epochs(sfreq=sfreq)
    write(tmp_path / "in" / "s-epo.fif", made)
    prepare([tmp_path / "in"], tmp_path / "out", replace(OPTIONS, rate=rate, window=int(2 * rate)))
    signals = signals_of(tmp_path / "out")
    times = np.arange(int(2 * rate)) / rate - 0.5
    wave = 20 * np.sin(2 * np.pi * 3 * times)
    assert len(signals) == 6
    inside = slice(20, -20)  # resampling needs some samples on each side
    for number, window in enumerate(signals):
        assert np.abs(window[0] - 40 * (number % 2) - wave)[inside].max() < 0.2
        assert np.abs(window[1] - wave)[inside].max() < 0.1


def test_windows_around_the_events_of_epochs_start_at_the_same_sample_of_each(tmp_path: Path) -> None:
    write(tmp_path / "in" / "s-epo.fif", epochs())
    around = replace(OPTIONS, label="task", events="l=left,r=2", tmin=-0.2, tmax=0.8, window=2048)
    card = prepare([tmp_path / "in"], tmp_path / "out", around)
    assert card.splits["train"]["windows"] == 6 and card.columns["label"]["names"] == ["l", "r"]
    signals = signals_of(tmp_path / "out")
    assert np.ptp(signals[:, 1:], axis=0).max() < 0.1
    wave = 20 * np.sin(2 * np.pi * 3 * (np.arange(125) + card.tmin * 125) / 125)
    assert np.corrcoef(signals[0, 1], wave)[0, 1] > 0.99
    card = prepare([tmp_path / "in"], tmp_path / "whole", replace(around, tmin=-0.5, tmax=1.5, window=2048))
    assert card.splits["train"]["windows"] == 6
    with pytest.raises(UserError, match=r"no window is left: .* 6 outside"):
        prepare([tmp_path / "in"], tmp_path / "none", replace(around, tmin=-0.7, tmax=0.8, window=2048))


def test_epochs_shorter_than_a_window_are_refused_with_their_length(tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "s-epo.fif", epochs())
    with pytest.raises(UserError, match=f"{path}: its epochs have 250 samples at 125 Hz and last 2 s, less"):
        prepare([tmp_path / "in"], tmp_path / "out", replace(OPTIONS, window=251))


def write_eeglab(path: Path) -> None:
    data = 1e6 * epochs(sfreq=128.0).get_data(verbose="ERROR")
    count, channels, samples = data.shape
    names = np.array([(name,) for name in ("Fz", "Cz", "Pz")], dtype=[("labels", object)])
    events = np.array(
        [("left" if number % 2 == 0 else "right", number * samples + 65, number + 1) for number in range(count)],
        dtype=[("type", object), ("latency", object), ("epoch", object)],
    )
    per_epoch = np.array(
        [(number + 1, "left" if number % 2 == 0 else "right", 0.0) for number in range(count)],
        dtype=[("event", object), ("eventtype", object), ("eventlatency", object)],
    )
    eeg = {
        "setname": "s", "nbchan": channels, "trials": count, "pnts": samples, "srate": 128.0, "xmin": -0.5, "xmax": 1.5,
        "data": data.transpose(1, 2, 0).astype(np.float32), "chanlocs": names, "event": events, "epoch": per_epoch,
        "icawinv": [], "icaweights": [], "icasphere": [], "icachansind": [],
    }  # fmt: skip
    path.parent.mkdir(parents=True)
    scipy.io.savemat(path, {"EEG": eeg}, appendmat=False)


def test_epochs_of_eeglab_are_read(tmp_path: Path) -> None:
    write_eeglab(tmp_path / "in" / "s.set")
    card = prepare([tmp_path / "in"], tmp_path / "out", OPTIONS)
    assert card.columns["label"]["names"] == ["left", "right"] and card.splits["train"]["windows"] == 12


@pytest.mark.parametrize("about", [{}, {"RecordingType": "epoched"}])
def test_epochs_of_eeglab_in_a_bids_folder_are_read_with_their_bad_channels(
    tmp_path: Path, about: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "in" / "sub-01" / "eeg"
    write_eeglab(folder / "sub-01_task-x_eeg.set")
    (folder / "sub-01_task-x_eeg.json").write_text(json.dumps({"PowerLineFrequency": 50, **about}))
    (folder / "sub-01_task-x_channels.tsv").write_text(
        "name\ttype\tunits\tstatus\nFz\tEEG\tuV\tgood\nCz\tEEG\tuV\tbad\nPz\tEEG\tuV\tgood\n"
    )
    (tmp_path / "in" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    options = replace(OPTIONS, label="task", events="l=left,r=2", tmin=-0.2, tmax=0.8, window=2048)
    card = prepare([tmp_path / "in"], tmp_path / "out", options)
    assert card.splits["train"]["windows"] == 6 and card.columns["label"]["names"] == ["l", "r"]
    assert "channels marked as bad, but used: Cz" in caplog.text
    write_eeglab(tmp_path / "plain" / "s.set")
    prepare([tmp_path / "plain"], tmp_path / "other", options)
    assert np.array_equal(signals_of(tmp_path / "out"), signals_of(tmp_path / "other"))


def test_the_parts_of_a_split_file_of_epochs_are_one_recording(tmp_path: Path) -> None:
    long = mne.concatenate_epochs([epochs(40)] * 10, verbose="ERROR")
    (tmp_path / "in").mkdir()
    long.save(tmp_path / "in" / "s-epo.fif", split_size="2MB", verbose="ERROR")
    assert len(list((tmp_path / "in").iterdir())) > 1
    assert [recording.path.name for recording in find(tmp_path / "in").recordings] == ["s-epo.fif"]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "channels", "changes", "labels"),
    [
        ("epofif", "Fp1,Cz,O2", {"window": 250}, {"1": 4}),
        (
            "eposet",
            "FP1,Fz",
            {"window": 6, "rate": 50.0, "band": (0.5, 20.0)},
            {"S  8": 1, "S255/S  8": 1, "S255/S  9": 2},
        ),
    ],
)
def test_epochs_that_could_not_be_read_are_windows_with_labels(
    cases: Path, tmp_path: Path, name: str, channels: str, changes: dict, labels: dict
) -> None:
    root = cases / name
    card = prepare([root], tmp_path / "out", replace(OPTIONS, channels=channels, **changes))
    marginals = card.splits["train"]["marginals"]["label"]
    assert {label: entry["examples"] for label, entry in marginals.items()} == labels
