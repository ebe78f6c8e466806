from pathlib import Path

import numpy as np
import pytest

from signal_diffusion.data.recordings.spans import Span
from signal_diffusion.data.recordings.windows import (
    cut,
    flat_stretches,
    kept_windows,
    label_windows,
    window_starts,
    windows_in,
)


def test_windows_overlap_as_requested_and_are_complete():
    assert window_starts(1000, 400, 0.5).tolist() == [0, 200, 400, 600]
    assert window_starts(1000, 400, 0.0).tolist() == [0, 400]
    assert window_starts(399, 400, 0.5).tolist() == []


def test_cut_copies_samples_from_each_start():
    signal = np.arange(20.0).reshape(2, 10)
    assert cut(signal, [0, 4], 3).tolist() == [[[0, 1, 2], [10, 11, 12]], [[4, 5, 6], [14, 15, 16]]]


def test_a_stretch_is_flat_if_one_channel_is_constant():
    signal = np.random.default_rng(0).standard_normal((3, 500))
    signal[1, 200:300] = 7.0
    flat = flat_stretches(signal, np.arange(0, 501, 100), 0.1)
    assert flat.any(axis=0).tolist() == [False, False, True, False, False]
    flat = flat_stretches(signal, np.array([50, 199, 240, 300]), 0.1)
    assert flat.any(axis=0).tolist() == [False, False, True]
    assert flat_stretches(signal, np.array([50]), 0.1).shape == (len(signal), 0)


def test_flat_and_large_windows_are_rejected_and_counted():
    signal = np.random.default_rng(0).standard_normal((2, 500))
    signal[0, 450] = 1000.0
    flat = np.array([False, True, False, False, False])
    starts = window_starts(500, 100, 0.0)
    extents = np.ptp(cut(signal, starts, 100), axis=-1).max(axis=-1)
    kept, rejected = kept_windows(extents, starts, 100, sfreq=100.0, peak_to_peak=500.0, flat=flat)
    assert kept.tolist() == [0, 2, 3]
    assert rejected == {"flat": 1, "annotation": 0, "amplitude": 1}


@pytest.mark.parametrize(
    ("bad", "kept"),
    [
        ((1.5, 1.6), [0, 2, 3, 4]),
        ((1.5, 3.01), [0, 4]),
        ((1.0, 2.0), [0, 2, 3, 4]),  # the end belongs to the next window
        ((2.5, 2.5), [0, 1, 3, 4]),
        ((2.0, 2.0), [0, 1, 2, 3, 4]),  # a boundary between two windows is in neither
        ((-3.0, 9.0), []),
    ],
)
def test_windows_that_touch_a_bad_span_are_rejected(bad: tuple[float, float], kept: list[int]):
    chosen, rejected = kept_windows(
        np.zeros(5),
        window_starts(500, 100, 0.0),
        100,
        sfreq=100.0,
        peak_to_peak=500.0,
        flat=np.zeros(5, bool),
        bad=[bad],
    )
    assert chosen.tolist() == kept
    assert rejected == {"flat": 0, "annotation": 5 - len(kept), "amplitude": 0}


def test_a_rejected_window_is_counted_for_one_reason():
    kept, rejected = kept_windows(
        np.array([1000.0, 0.0]),
        np.array([0, 100]),
        100,
        sfreq=100.0,
        peak_to_peak=500.0,
        flat=np.array([True, False]),
        bad=[(0.0, 2.0)],
    )
    assert kept.tolist() == []
    assert rejected == {"flat": 1, "annotation": 1, "amplitude": 0}


def test_windows_of_a_file_equal_windows_of_its_signal(tmp_path: Path):
    signal = np.random.default_rng(0).standard_normal((2, 5000)).astype(np.float32)
    np.save(tmp_path / "signal.npy", signal)
    starts = window_starts(5000, 100, 0.0)
    parts = list(windows_in(tmp_path / "signal.npy", starts, 100))
    assert len(parts) > 2
    assert np.array_equal(np.concatenate([windows for _, windows in parts]), cut(signal, starts, 100))
    assert np.array_equal(np.concatenate([starts[part] for part, _ in parts]), starts)


def spans(*triples: tuple[float, float, str]) -> list[Span]:
    return [Span(onset=onset, end=end, description=description) for onset, end, description in triples]


def test_a_window_gets_the_label_that_covers_most_of_it():
    annotations = spans((0, 10, "rest"), (10, 16, "work"), (16, 30, "rest"))
    starts = np.array([0, 400, 700, 900, 1250])
    assert label_windows(starts, 800, 100.0, annotations)[0] == ["rest", "rest", "work", "work", "rest"]


def test_a_label_must_cover_half_a_window():
    annotations = spans((4, 10, "rest"))
    assert label_windows(np.array([0, 1, 600, 601]), 800, 100.0, annotations)[0] == ["rest", "rest", "rest", None]
    assert label_windows(np.array([0, 500]), 800, 100.0, [])[0] == [None, None]


def test_a_window_that_two_annotations_cover_equally_has_no_label():
    annotations = spans((0, 8, "rest"), (8, 16, "work"), (16, 24, "rest"), (16, 24, "closed"))
    starts = np.array([0, 399, 400, 401, 1600])
    labels, tied = label_windows(starts, 800, 100.0, annotations)
    assert labels == ["rest", "rest", None, "work", None] and tied.tolist() == [False, False, True, False, True]
    labels, tied = label_windows(starts, 800, 100.0, annotations, ["rest", "work"])
    assert labels == ["rest", "rest", None, "work", "rest"] and tied.sum() == 1


def test_only_named_annotations_that_are_not_bad_are_labels():
    annotations = spans((0, 8, "rest"), (0, 5, "work"), (0, 8, "BAD blink"))
    assert label_windows(np.array([0]), 800, 100.0, annotations)[0] == ["rest"]
    assert label_windows(np.array([0]), 800, 100.0, annotations, ["work"])[0] == ["work"]
    assert label_windows(np.array([0]), 800, 100.0, annotations, ["play"])[0] == [None]


def test_overlapping_annotations_count_once():
    annotations = spans((0, 3, "rest"), (1, 3.9, "rest"), (5, 5, "rest"), (3.9, 8, "work"))
    assert label_windows(np.array([0]), 800, 100.0, annotations)[0] == ["work"]
    assert label_windows(np.array([0]), 800, 100.0, annotations, ["rest"])[0] == [None]
