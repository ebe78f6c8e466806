"""Labels from annotations on a grid of windows: what is never given is named, and sources can be combined."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest

from signal_diffusion.data.preparing.labelling import Labelling, label_notes
from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.errors import UserError
from tests.data.recordings.files import noise, write_edf

OPTIONS = PrepareOptions(
    representation="timeseries", channels="Fz,Cz,Pz", rate=125.0, window=250, overlap=0.0, label="annotation"
)
SUBJECT = Recording(path=Path("a.edf"), recording="a.edf", subject="1", dataset="in", task="rest", folder="day 1")


def annotated(path: Path, annotations: mne.Annotations, seconds: float = 120.0) -> Path:
    return write_edf(path, noise(["Fz", "Cz", "Pz"], 125.0, seconds).set_annotations(annotations))


def test_an_event_without_a_duration_owns_neither_the_rest_nor_more_than_it_is_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    annotated(tmp_path / "p1" / "a.edf", mne.Annotations([5, 10, 15], 0, ["left", "right", "left"]))
    card = prepare([tmp_path / "p1"], tmp_path / "out", OPTIONS)
    assert card.splits["train"]["windows"] == 7
    assert card.rejected["unlabelled"] == 52 and card.rejected["tied"] == 1  # from 14 to 16 s
    assert "3 annotations have no duration; each lasts until the next one" in caplog.text
    caplog.clear()
    card = prepare([tmp_path / "p1"], tmp_path / "bounded", replace(OPTIONS, event_duration=2.0))
    assert card.splits["train"]["windows"] == 5 and "--event-duration 2.0" in card.command
    assert "label:" not in caplog.text


@pytest.mark.real_data
def test_the_last_event_of_a_real_file_labels_no_more_than_its_own_time(cases: Path, tmp_path: Path) -> None:
    root = cases / "lastev"
    card = prepare([root], tmp_path / "out", replace(OPTIONS, event_duration=2.0))
    assert card.splits["train"]["windows"] == 5 and card.rejected["unlabelled"] == 55


def test_labels_that_no_window_has_are_named_with_their_lengths(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    annotated(tmp_path / "p1" / "a.edf", mne.Annotations([0, 10, 20.5, 21], [10, 0.5, 0.5, 0.4], ["rest", *"aab"]))
    card = prepare([tmp_path / "p1"], tmp_path / "out", OPTIONS)
    assert "2 of 3 annotations are the label of no window: a (at most 0.5 s), b (at most 0.4 s); a wi" in caplog.text
    labels = [record.message for record in caplog.records if record.message.startswith("label: ")]
    assert labels == ["label: " + note for note in card.preprocessing["labels"]] and len(labels) == 1
    caplog.clear()
    prepare([tmp_path / "p1"], tmp_path / "chosen", replace(OPTIONS, label="annotation:rest", splits=(1, 0, 0)))
    assert caplog.text == ""
    prepare([tmp_path / "p1"], tmp_path / "long", replace(OPTIONS, window=1500, label="annotation:rest"))
    assert "no annotation is as long as a window (the longest has 10 s)" in caplog.text


def test_windows_that_two_annotations_share_half_and_half_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    annotated(tmp_path / "p1" / "a.edf", mne.Annotations([0, 3, 7, 11], [3, 4, 4, 3], [*"abab"]), seconds=14.0)
    card = prepare([tmp_path / "p1"], tmp_path / "out", OPTIONS)
    assert card.splits["train"]["windows"] == 4 and card.rejected["tied"] == 3
    assert "3 of 7 windows (43 %) are rejected as tied; two annotations cover them equally" in caplog.text


@pytest.mark.parametrize(
    ("lengths", "tied", "remedy"),
    [
        ({"A": 1.0}, 0, "no annotation is as long as a window .*; use a shorter --window, or --events for wi"),
        ({"rest": 24.0, "A": 1.0}, 0, "cover the time of rest; for A use a shorter --window, or --events"),
        ({"open": 24.0, "rest": 24.0}, 9, "9 windows equally: use one of open, rest, as in --label 'annotation:open'$"),
        ({"open": 24.0, "rest": 24.0, "A": 1.0}, 9, "'annotation:open'; for A use a shorter --window, or --events"),
    ],
)
def test_a_shorter_window_is_advised_only_where_it_helps(lengths: dict, tied: int, remedy: str) -> None:
    (note,) = label_notes(lengths, (), 0, 2.0, tied)
    assert re.search(remedy, note)


def test_a_template_combines_what_is_known_about_the_recording_with_the_annotation() -> None:
    labelling = Labelling.parse("{task}, {folder}: {annotation:open,closed}", [SUBJECT])
    assert labelling.by_window and labelling.names == ("open", "closed")
    assert labelling.of_windows(SUBJECT, ["open", None]) == ["rest, day 1: open", None]
    assert Labelling.parse("{task}!", [SUBJECT]).of_windows(SUBJECT, [None]) == ["rest!"]


@pytest.mark.parametrize(
    ("label", "complaint"),
    [
        ("{task}/{grup}", "no column 'grup'"),
        ("{task", "not a template"),
        ("{session}/{annotation}", "no recording has a session, which"),
        ("annotation:", "no annotation named"),
        ("{task}/{}", "no column ''"),
    ],
)
def test_a_label_that_is_not_known_is_refused(label: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Labelling.parse(label, [SUBJECT])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"event_duration": 0.0}, "above 0"), ({"event_duration": 1.0, "label": "task"}, "is for a grid of windows with")],
)
def test_a_duration_of_events_that_has_no_meaning_is_refused(changes: dict, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        replace(OPTIONS, **changes)


def test_sleep_stages_label_windows_of_30_seconds_in_one_command(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stages = ["Sleep stage W", "Sleep stage 2", "Movement time", "Sleep stage R", "Sleep stage ?"]
    onsets, durations = np.array([0, 60, 150, 180, 240]), np.array([60, 90, 30, 60, 60])
    for number in range(3):
        name = f"SC4{number:02d}1E"
        write_edf(tmp_path / "sleep" / f"{name}0-PSG.edf", noise(["Fpz-Cz", "Pz-Oz"], 100.0, 300.0, seed=number))
        scored = noise(["Fpz-Cz"], 1.0, 300.0).set_annotations(mne.Annotations(onsets, durations, stages))
        write_edf(tmp_path / "sleep" / f"{name}C-Hypnogram.edf", scored)
    options = replace(
        OPTIONS,
        channels="Fpz-Cz,Pz-Oz",
        reference="none",
        rate=100.0,
        band=(0.5, 35.0),
        window=3000,
        label="annotation:Sleep stage W,Sleep stage 1,Sleep stage 2,Sleep stage R",
    )
    with pytest.raises(UserError, match="no recording has an annotation Sleep stage 1; found Movement time, Sleep st"):
        prepare([tmp_path / "sleep"], tmp_path / "none", options)
    chosen = "annotation:Sleep stage W,Sleep stage 2,Sleep stage R"
    caplog.clear()
    card = prepare([tmp_path / "sleep"], tmp_path / "out", replace(options, label=chosen))
    marginals = [split["marginals"]["label"] for split in card.splits.values()]
    assert sum(sum(entry["examples"] for entry in labels.values()) for labels in marginals) == 3 * 7
    assert card.rejected["unlabelled"] == 3 * 3
    assert not any("label:" in record.message for record in caplog.records)
    card = prepare([tmp_path / "sleep"], tmp_path / "all", replace(options, label="annotation"))
    assert card.columns["label"]["names"] == sorted(stages) and card.rejected["unlabelled"] == 0
