import numpy as np

from signal_diffusion.data.windows import cut, flat_seconds, kept_windows, window_starts


def test_windows_overlap_as_asked_and_none_is_short():
    assert window_starts(1000, 400, 0.5).tolist() == [0, 200, 400, 600]
    assert window_starts(1000, 400, 0.0).tolist() == [0, 400]
    assert window_starts(399, 400, 0.5).tolist() == []


def test_cut_windows_are_the_samples_from_their_start():
    signal = np.arange(20.0).reshape(2, 10)
    assert cut(signal, [0, 4], 3).tolist() == [[[0, 1, 2], [10, 11, 12]], [[4, 5, 6], [14, 15, 16]]]


def test_a_second_is_flat_where_one_channel_stands_still():
    signal = np.random.default_rng(0).standard_normal((3, 500))
    signal[1, 200:300] = 7.0
    assert flat_seconds(signal, 100.0, 0.1).tolist() == [False, False, True, False, False]


def test_flat_and_large_windows_are_left_out_and_counted():
    signal = np.random.default_rng(0).standard_normal((2, 500))
    signal[0, 450] = 1000.0
    flat = np.array([False, True, False, False, False])
    starts = window_starts(500, 100, 0.0)
    kept, rejected = kept_windows(signal, starts, 100, sfreq=100.0, peak_to_peak=500.0, flat=flat)
    assert kept.tolist() == [0, 2, 3]
    assert rejected == {"flat": 1, "amplitude": 1}
