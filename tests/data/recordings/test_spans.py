from datetime import UTC, datetime
from pathlib import Path

import mne
import numpy as np
import pytest

from signal_diffusion.data.recordings.spans import Span, spans_of
from tests.data.recordings.files import noise


def annotated(onsets: list[float], durations: list[float], names: list[str], **kwargs: object) -> mne.io.BaseRaw:
    raw = noise(["Fz"], 100.0, seconds=20.0)
    return raw.set_annotations(mne.Annotations(onsets, durations, names, **kwargs))


def spans_as_tuples(raw: mne.io.BaseRaw) -> list[tuple[float, float, str]]:
    return [(round(span.onset, 6), round(span.end, 6), span.description) for span in spans_of(raw, 700)]


def test_annotations_keep_their_length_and_events_last_until_the_next():
    raw = annotated([2, 5, 5, 6, 9], [0, 0, 0, 1.5, 0.01], ["a", "b", "c", "rest", "d"])
    assert spans_as_tuples(raw) == [(2, 5, "a"), (5, 9, "b"), (5, 9, "c"), (6, 7.5, "rest"), (9, 12.5, "d")]


def test_the_last_event_does_not_own_the_rest_of_the_recording():
    raw = annotated([5, 10, 12, 15], [0, 0, 0, 0], ["left", "right", "left", "right"])
    ends = [(span.end, span.instant) for span in spans_of(raw, 700)]
    assert ends == [(10, True), (12, True), (15, True), (18, True)]
    assert [(span.end, span.instant) for span in spans_of(raw, 700, 2.5)] == [
        (7.5, False),
        (12, False),
        (14.5, False),
        (17.5, False),
    ]


def test_a_single_event_has_no_duration_unless_one_is_given():
    raw = annotated([5], [0], ["left"])
    assert [span.end for span in spans_of(raw, 700)] == [5]
    assert [span.end for span in spans_of(raw, 700, 100)] == [20]


def test_bad_annotations_are_not_events():
    raw = annotated([1, 3, 4, 8], [0, 0, 2, 0], ["a", "BAD jump", "bad blink", "b"])
    assert spans_as_tuples(raw) == [(1, 8, "a"), (3, 3, "BAD jump"), (4, 6, "bad blink"), (8, 15, "b")]


@pytest.mark.parametrize("mark", ["boundary", "BAD boundary", "EDGE boundary", "New Segment/", "BAD_ACQ_SKIP"])
def test_an_event_ends_where_the_recording_was_interrupted(mark: str):
    raw = annotated([1, 3, 8, 12], [0, 0, 0, 3], ["a", mark, "b", "c"])
    assert spans_as_tuples(raw) == [(1, 3, "a"), (3, 3, mark), (8, 15, "b"), (12, 15, "c")]


@pytest.mark.parametrize("duration", [5.0, float("nan")])
def test_a_boundary_has_no_duration(duration: float):
    assert spans_as_tuples(annotated([3], [duration], ["boundary"])) == [(3, 3, "boundary")]


@pytest.mark.parametrize("acquired", [None, datetime(2020, 1, 1, tzinfo=UTC)])
def test_onsets_count_from_the_first_sample_after_cropping(acquired: datetime | None, tmp_path: Path):
    raw = annotated([3, 8], [1, 2], ["a", "b"])
    raw.set_meas_date(acquired)
    cropped = raw.copy().crop(2.5)
    cropped.save(tmp_path / "a_raw.fif", verbose="ERROR")
    read = mne.io.read_raw_fif(tmp_path / "a_raw.fif", verbose="ERROR")
    assert read.first_samp == 250
    assert spans_as_tuples(read) == [(0.5, 1.5, "a"), (5.5, 7.5, "b")]


def test_triggers_are_used_if_there_are_no_annotations():
    raw = noise(["Fz", "Status"], 100.0, seconds=20.0, types=["eeg", "stim"])
    rng = np.random.default_rng(0)
    raw._data[1] = np.repeat(rng.integers(0, 4, 100), 20)
    expected = mne.find_events(raw, shortest_event=1, initial_event=False, verbose="ERROR")
    spans = spans_of(raw, 70)
    # MNE drops the last trigger if the channel does not return to 0 before the end.
    assert [(round(100 * span.onset), span.description) for span in spans][: len(expected)] == [
        (sample, str(value)) for sample, _, value in expected
    ]
    assert len(spans) - len(expected) in (0, 1)
    assert spans[0].end == spans[1].onset
    assert spans[-1].end == 20  # it has less than the median interval left
    raw.set_annotations(mne.Annotations([1], [2], ["rest"]))
    assert spans_as_tuples(raw) == [(1, 3, "rest")]
    raw.set_annotations(mne.Annotations([1], [2], ["BAD blink"]))
    assert len(spans_of(raw, 70)) == len(spans) + 1 and (1, 3, "BAD blink") in spans_as_tuples(raw)


def test_a_recording_without_annotations_has_no_spans():
    assert spans_of(noise(["Fz"]), 100) == ()


@pytest.mark.parametrize(
    ("description", "bad"),
    [
        ("BAD_blink", True),
        ("bad", True),
        ("boundary", True),
        ("EDGE boundary", True),
        ("edge", True),
        ("New Segment/", True),
        ("rest", False),
        ("edge detection", False),
        ("boundary_task", False),
        ("not bad", False),
    ],
)
def test_bad_annotations_are_recognised(description: str, bad: bool):
    assert Span(onset=0, end=1, description=description).bad is bad
