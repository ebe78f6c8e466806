"""Events of a recording: from events.tsv, annotations and stim channels."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest

from signal_diffusion.data.preparing.event_windows import samples_of
from signal_diffusion.data.recordings.events import events_of
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.spans import spans_of
from signal_diffusion.errors import UserError
from tests.data.recordings.files import noise


def found(path: Path, wanted: set[str], raw: mne.io.BaseRaw) -> list[tuple[float, tuple[str, ...]]]:
    recording = Recording(path=path, recording=path.name, subject="sub-1", dataset="in")
    return [(event.onset, event.codes) for event in events_of(recording, raw, spans_of(raw, 1000), wanted, 1000)]


def with_all_sources(folder: Path) -> tuple[Path, mne.io.BaseRaw]:
    (folder / "sub-1_task-x_events.tsv").write_text(
        "onset\tduration\ttrial_type\tvalue\n1.5\t0\tleft\t1.0\n4\t0\tn/a\t2\n"
    )
    raw = noise(["Fz", "STI"], 100.0, seconds=20.0, types=["eeg", "stim"])
    raw._data[1] = 0
    raw._data[1, [150, 400, 800]] = 1, 2, 7
    raw.set_annotations(mne.Annotations([1.5, 9, 10], [0, 1, 1], ["left", "Stimulus/S  9", "BAD_jump"]))
    return folder / "sub-1_task-x_eeg.fif", raw


def test_each_code_is_from_the_first_source_that_has_it(tmp_path: Path) -> None:
    path, raw = with_all_sources(tmp_path)
    table = [(1.5, ("left", "1")), (4.0, ("2",))]
    assert found(path, {"left", "2"}, raw) == table
    annotated = (9.0, ("Stimulus/S  9", "Stimulus", "S  9"))
    assert found(path, {"1", "S  9"}, raw) == [*table, annotated]
    assert found(path, {"7"}, raw) == [*table, (8.0, ("7",)), annotated]


def test_onsets_that_are_no_numbers_name_the_table(tmp_path: Path) -> None:
    path, raw = with_all_sources(tmp_path)
    (tmp_path / "sub-1_task-x_events.tsv").write_text("onset\tduration\ttrial_type\nsoon\t0\tleft\n")
    with pytest.raises(UserError, match=r"sub-1_task-x_events\.tsv: expected a table with onsets in seconds .*soon"):
        found(path, {"left"}, raw)


def test_rows_without_an_onset_are_no_events(tmp_path: Path) -> None:
    path, raw = with_all_sources(tmp_path)
    rows = "1\t0\tleft\nn/a\t0\tleft\nNaN\t0\tleft\n\t0\tleft\n2\t0\tleft\n"
    (tmp_path / "sub-1_task-x_events.tsv").write_text(f"onset\tduration\ttrial_type\n{rows}")
    assert found(path, {"left"}, raw) == [(1.0, ("left",)), (2.0, ("left",))]


def test_events_in_a_stim_channel_are_at_the_sample_where_it_rises() -> None:
    raw = noise(["Fz", "STI"], 160.0, seconds=10.0, types=["eeg", "stim"])
    raw._data[1] = np.repeat([0, 3, 0, 4], 400)
    assert found(Path("a.fif"), {"3", "4"}, raw) == [(2.5, ("3",)), (7.5, ("4",))]


def test_events_of_a_table_are_at_the_dataset_sample_nearest_to_their_time(tmp_path: Path) -> None:
    onsets = np.random.default_rng(0).uniform(1, 59, 500).round(6)
    rows = "".join(f"{onset}\t0\tgo\n" for onset in onsets)
    (tmp_path / "sub-1_task-x_events.tsv").write_text(f"onset\tduration\ttrial_type\n{rows}")
    raw = noise(["Fz"], 256.0, seconds=60.0)
    events = found(tmp_path / "sub-1_task-x_eeg.fif", {"go"}, raw)
    assert [samples_of(onset, 125.0) for onset, _ in events] == np.round(125 * np.sort(onsets)).tolist()


def test_annotations_in_single_precision_are_at_their_sample_and_others_at_their_time() -> None:
    raw = noise(["Fz"], 250.0, seconds=60.0)
    raw.set_annotations(mne.Annotations(np.float32([29.036, 40.0021]).astype(float), 0, ["go", "go"]))
    (on_sample, _), (between, _) = found(Path("a.fif"), {"go"}, raw)
    assert on_sample == 29.036 and between == pytest.approx(40.0021, abs=1e-5)
