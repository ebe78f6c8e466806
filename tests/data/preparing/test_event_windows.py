"""Windows around events: where they start, what they hold, and which events have none."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.export.file_formats import write_file
from signal_diffusion.data.export.mne_objects import to_mne, to_raw
from signal_diffusion.data.preparing.event_windows import parse_events, read_events_table, samples_of
from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError
from tests.data.preparing.options import UNCHANGED
from tests.data.recordings.files import noise, write_edf

OPTIONS = replace(UNCHANGED, events="left=T1,right=T2", tmin=-0.5, tmax=1.5)


def recording(
    path: Path, samples: list[int], codes: list[str], response: np.ndarray, *, sfreq: float = 250.0, noise: float = 2.0
) -> Path:
    """Write noise (µV) with a response (samples,) around each event, and the events as annotations."""
    path.parent.mkdir(parents=True, exist_ok=True)
    signal = noise * np.random.default_rng(0).standard_normal((3, samples[-1] + round(4 * sfreq)))
    for sample in samples:
        signal[:, sample - len(response) // 2 :][:, : len(response)] += response
    raw = mne.io.RawArray(1e-6 * signal, mne.create_info(["Fz", "Cz", "Pz"], sfreq, "eeg"), verbose="ERROR")
    raw.set_annotations(mne.Annotations(np.array(samples) / sfreq, 0.0, codes))
    raw.save(path, verbose="ERROR")
    return path


def epochs_of(root: Path) -> mne.EpochsArray:
    card, split = DatasetCard.load(root), open_split(root, "train")
    tensors = torch.from_numpy(np.stack(split.with_format("numpy")["signal"][:])).float()
    signals = representation_of(card).to_signal(tensors)
    return to_mne(signals, card, split.remove_columns("signal").to_pandas())


def pulse(sfreq: float) -> np.ndarray:
    """A smooth peak of 100 µV at the event."""
    times = np.arange(-round(0.2 * sfreq), round(0.2 * sfreq) + 1) / sfreq
    return 100 * np.exp(-0.5 * (times / 0.03) ** 2)


@pytest.mark.parametrize(
    ("sfreq", "rate"),
    [(100, 100), (128, 125), (128, 128), (160, 125), (250, 125), (250, 128), (256, 125), (512, 128), (1000, 125)],
)
def test_the_time_from_start_to_cue_is_tmin_to_the_sample(tmp_path: Path, sfreq: float, rate: float) -> None:
    samples = [round(seconds * sfreq) + index for index, seconds in enumerate(range(2, 40, 3))]
    recording(tmp_path / "p1" / "a_raw.fif", samples, ["T1"] * len(samples), pulse(sfreq), sfreq=sfreq, noise=0.2)
    options = replace(OPTIONS, rate=float(rate), events="left=T1", reject_flat=0.0, tmin=-0.5, tmax=1.5, window=2048)
    card = prepare([tmp_path / "p1"], tmp_path / "out", options)
    epochs = epochs_of(tmp_path / "out")
    assert card.window == 2 * rate and len(epochs) == len(samples)
    assert card.tmin == samples_of(-0.5, rate) / rate == epochs.tmin
    peaks = epochs.get_data()[:, 0].argmax(axis=1)
    values = np.stack([epochs.get_data()[row, 0, peak - 1 : peak + 2] for row, peak in enumerate(peaks)])
    vertex = 0.5 * (values[:, 0] - values[:, 2]) / (values[:, 0] - 2 * values[:, 1] + values[:, 2])
    cues = (peaks + vertex) / rate + card.tmin  # time of the peak in the epoch
    exact = np.array(samples) / sfreq  # time of the cue in the file
    on_grid = np.array([samples_of(time, rate) for time in exact]) / rate
    assert np.abs(cues - (exact - on_grid)).max() < 0.1 / rate
    assert np.abs(cues).max() < 0.6 / rate


def test_an_evoked_response_comes_back_from_exported_epochs(tmp_path: Path) -> None:
    times = np.arange(-100, 101) / 250
    response = 30 * np.exp(-0.5 * (times / 0.08) ** 2) * np.cos(2 * np.pi * 6 * times)
    samples = np.cumsum(np.random.default_rng(1).integers(250, 350, 300)) + 500
    codes = ["T1", "T2"] * 150
    signed = recording(tmp_path / "p1" / "a_raw.fif", samples.tolist(), codes, response, noise=4.0)
    prepare([signed.parent], tmp_path / "out", replace(OPTIONS, tmin=-0.4, tmax=0.408, window=2048))
    epochs = epochs_of(tmp_path / "out")
    path = write_file(
        tmp_path / "generated", 1e6 * epochs.get_data(), DatasetCard.load(tmp_path / "out"), epochs.metadata, "fif"
    )
    read = mne.read_epochs(path, verbose="ERROR")
    assert read.tmin == -0.4 and set(read.event_id) == {"left", "right"} and len(read["left"]) == 150
    assert np.corrcoef(read.average().data[1], response[::2])[0, 1] > 0.999
    raw = to_raw(1e6 * read.get_data(), DatasetCard.load(tmp_path / "out"), read.metadata)
    events, codes_of = mne.events_from_annotations(raw, regexp="label/.*", verbose="ERROR")
    again = mne.Epochs(raw, events, codes_of, -0.4, 0.4, baseline=None, reject_by_annotation=False, verbose="ERROR")
    assert np.corrcoef(again.average().data[1], response[::2])[0, 1] > 0.999


def test_the_baseline_is_subtracted_from_each_electrode(tmp_path: Path) -> None:
    recording(tmp_path / "p1" / "a_raw.fif", [1001, 2002, 3003], ["T1", "T2", "T1"], np.full(101, 50.0))
    prepare([tmp_path / "p1"], tmp_path / "none", OPTIONS)
    prepare([tmp_path / "p1"], tmp_path / "some", replace(OPTIONS, baseline=(-0.1, 0.0)))
    plain, epochs = epochs_of(tmp_path / "none"), epochs_of(tmp_path / "some")
    plain.apply_baseline((-0.1, 0.0), verbose="ERROR")
    assert np.abs(plain.get_data() - epochs.get_data()).max() < 5e-8  # rounding to float16
    with pytest.raises(UserError, match=r"baseline: -0.7 to 0 s is not an interval of the window, .* -0.496 to 1.504"):
        prepare([tmp_path / "p1"], tmp_path / "out", replace(OPTIONS, baseline=(-0.7, 0.0)))


def test_windows_outside_across_interruptions_and_in_bad_spans_are_counted(tmp_path: Path) -> None:
    path = recording(tmp_path / "p1" / "a_raw.fif", [100, 1000, 2000, 3000, 3400], ["T1"] * 5, pulse(250))
    raw = mne.io.read_raw(path, preload=True, verbose="ERROR")
    raw.annotations.append([4.2, 9.3], [0.0, 0.1], ["BAD boundary", "BAD_blink"])
    raw.crop(0, 14.0).save(path, overwrite=True, verbose="ERROR")
    card = prepare([path.parent], tmp_path / "out", replace(OPTIONS, events="left=T1"))
    assert card.rejected == {"flat": 0, "amplitude": 0, "annotation": 2, "unlabelled": 0, "outside": 2}
    assert card.splits["train"]["windows"] == 1


def test_codes_that_never_occur_are_refused_with_what_was_found(tmp_path: Path) -> None:
    recording(tmp_path / "p1" / "a_raw.fif", [1000, 2000], ["T0", "T1"], pulse(250))
    with pytest.raises(UserError, match=r"^events: no recording has an event T2; found T0, T1$"):
        prepare([tmp_path / "p1"], tmp_path / "out", OPTIONS)


def test_a_table_gives_a_code_another_label_in_another_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for run in (1, 3, 4):
        recording(tmp_path / "in" / "S001" / f"S001R{run:02d}_raw.fif", [1000, 2000], ["T1", "T2"], pulse(250))
    table = tmp_path / "runs.csv"
    table.write_text("run,event,label\n3,T1,left\n3,T2,right\nR04,T1,both fists\n14,T1,left\n")
    options = replace(OPTIONS, events=None, events_table=table)
    card = prepare([tmp_path / "in"], tmp_path / "out", options)
    labels = epochs_of(tmp_path / "out").metadata["label"]
    assert sorted(labels) == ["both fists", "left", "right"]
    assert card.skipped == ["S001/S001R01_raw.fif: run 1 is not in --events-table"]
    assert "1 of 3 runs have no recording: 14" in caplog.text
    table.write_text("run,event,label\n3,T1,left\n4,T5,right\n")
    with pytest.raises(UserError, match=r"events_table: run 4: no recording has an event T5; found T1, T2"):
        prepare([tmp_path / "in"], tmp_path / "other", options)


@pytest.mark.parametrize("codes", ["left=go,right=stop", "left=11,right=12", "left=go,right=12"])
def test_events_of_a_bids_folder_are_known_by_type_and_by_value(tmp_path: Path, codes: str) -> None:
    eeg = tmp_path / "in" / "sub-01" / "eeg"
    eeg.mkdir(parents=True)
    raw = noise(["Fz", "Cz", "Pz"], 125.0, 20.0)
    write_edf(eeg / "sub-01_task-x_eeg.edf", raw)
    (tmp_path / "in" / "dataset_description.json").write_text('{"Name": "in", "BIDSVersion": "1.9.0"}')
    rows = "4\t0\tgo\t11\n8\t0\tstop\t12\n12\t0\tgo\t11\n19\t0\tgo\t11\n"
    (eeg / "sub-01_task-x_events.tsv").write_text("onset\tduration\ttrial_type\tvalue\n" + rows)
    card = prepare([tmp_path / "in"], tmp_path / "out", replace(OPTIONS, events=codes))
    labels = card.splits["train"]["marginals"]["label"]
    assert {label: entry["examples"] for label, entry in labels.items()} == {"left": 2, "right": 1}
    assert card.rejected["outside"] == 1


@pytest.mark.parametrize("missing", ["n/a", "", "nan"])
@pytest.mark.parametrize("by_event", [True, False])
def test_a_row_without_an_onset_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, missing: str, by_event: bool
) -> None:
    eeg = tmp_path / "in" / "sub-01" / "eeg"
    eeg.mkdir(parents=True)
    write_edf(eeg / "sub-01_task-x_eeg.edf", noise(["Fz", "Cz", "Pz"], 125.0, 20.0))
    (tmp_path / "in" / "dataset_description.json").write_text('{"Name": "in", "BIDSVersion": "1.9.0"}')
    rows = f"4\t4\tgo\n{missing}\t4\tstop\n12\t4\tgo\n"
    (eeg / "sub-01_task-x_events.tsv").write_text("onset\tduration\ttrial_type\n" + rows)
    annotation = replace(UNCHANGED, label="annotation", window=250)
    card = prepare([tmp_path / "in"], tmp_path / "out", replace(OPTIONS, events="left=go") if by_event else annotation)
    note = "left out 1 row without an onset: sub-01_task-x_events.tsv line 3"
    assert f"{'events' if by_event else 'label'}: {note}" in caplog.text
    assert note in card.preprocessing["labels"]
    assert card.columns["label"]["names"] == (["left"] if by_event else ["go"])


def test_a_length_that_a_representation_cannot_hold_is_refused_with_one_that_it_can(tmp_path: Path) -> None:
    recording(tmp_path / "p1" / "a_raw.fif", [1000, 2000], ["T1", "T2"], pulse(250))
    options = replace(OPTIONS, representation="db-only")
    with pytest.raises(UserError, match=r"window: 250 samples are not .*; --tmax 1\.548 makes it 256$"):
        prepare([tmp_path / "p1"], tmp_path / "out", options)
    prepare([tmp_path / "p1"], tmp_path / "out", replace(options, tmax=1.548, window=2048))


def test_labels_may_combine_the_event_with_the_recording(tmp_path: Path) -> None:
    for task in ("real", "imagined"):
        recording(tmp_path / "in" / f"sub-1_task-{task}_raw.fif", [1000, 2000], ["T1", "T2"], pulse(250))
    card = prepare([tmp_path / "in"], tmp_path / "out", replace(OPTIONS, label="{task}/{annotation}"))
    assert card.columns["label"]["names"] == ["imagined/left", "imagined/right", "real/left", "real/right"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tmin": None}, "tmin, tmax: windows around events need both"),
        ({"tmax": -1.0}, "tmin, tmax: -0.5 to -1 s"),
        ({"window": 500}, r"window: 500 samples, but --tmin and --tmax make it 250"),
        ({"events_table": Path("runs.csv")}, "events, events_table: both"),
        ({"events": None}, "tmin: is for windows around events"),
        ({"label": "folder"}, r"combine them as \{folder\}/\{annotation\}"),
    ],
)
def test_options_that_contradict_each_other_are_refused(changes: dict, complaint: str) -> None:
    options = {"events": "left=T1", "tmin": -0.5, "tmax": 1.5} | changes
    with pytest.raises(UserError, match=complaint):
        PrepareOptions(**options)


@pytest.mark.parametrize(
    ("text", "complaint"), [("T1", "'T1' is not LABEL=CODE"), ("a=T1,b=T1", "T1 is both a and b"), ("", "not LABEL")]
)
def test_a_mapping_that_is_not_label_and_code_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        parse_events(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("run,event\n1,T1\n", "has columns run, event; expected run, event, label"),
        ("run,event,label\n1,T1,\n", "line 2 has an empty cell"),
        ("run,event,label\n1,T1,a\n01,T1,b\n", "run 01: T1 is both a and b"),
        ("run,event,label\n", "has no rows"),
    ],
)
def test_a_table_that_does_not_give_labels_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_events_table(tmp_path / "runs.csv")


def test_the_command_of_the_card_cuts_the_same_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the command names inputs without the folders that contain them
    recording(tmp_path / "p1" / "a_raw.fif", [1000, 2000], ["T1", "T2"], pulse(250))
    card = prepare([tmp_path / "p1"], tmp_path / "out", replace(OPTIONS, baseline=(-0.5, 0.0)))
    assert "--tmin -0.5 --tmax 1.5 --baseline -0.5 0.0" in card.command
    words = ["again" if word == "DIR" else word for word in shlex.split(card.command)[1:]]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    assert DatasetCard.load(tmp_path / "again") == DatasetCard.load(tmp_path / "out")
    for extra in (["--window", "2048"], ["--overlap", "0.5"], ["--label", "task"]):
        with pytest.raises(UserError, match=f"prepare: {extra[0]} has no effect with"):
            CliRunner().invoke(app, [*words, *extra], catch_exceptions=False)


def test_an_event_after_the_window_is_before_the_first_sample() -> None:
    card = DatasetCard.from_json(
        DatasetCard(
            representation={"name": "timeseries", "layout": "", "inverse": "exact", "column": "x", "parameters": {}},
            shape=(1, 1, 100), sampling_rate=100.0, window=100, tmin=0.5, channels=("Cz",), columns={},
            splits={"train": {"examples": 1, "windows": 1, "subjects": [], "marginals": {}}},
            preprocessing={}, sources=[], command="", made_from="",
        ).to_json()
    )  # fmt: skip
    metadata = pd.DataFrame({"label": ["a", "b"]})
    signals = np.random.default_rng(0).standard_normal((2, 1, 100))
    assert to_mne(signals, card, metadata).times[0] == 0.5
    raw = to_raw(signals, card, metadata)
    spans = [(each["onset"], each["duration"]) for each in raw.annotations if each["description"].startswith("label")]
    assert spans == [(0.0, 1.0), (1.0, 1.0)]  # the event is outside, so the whole window has the label
