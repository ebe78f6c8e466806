import logging
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest
import scipy.io

from signal_diffusion.data.recordings import source as sources
from signal_diffusion.data.recordings.blocks import blocks, stretches_of
from signal_diffusion.data.recordings.channels import TEN_TWENTY
from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.recordings.reading import eeg_channels, read_recording
from signal_diffusion.errors import UserError
from tests.data.recordings.files import OPTIONS, noise, staged, the_recording, write_edf, write_fif


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "signal.npy"


def sine(frequency: float, amplitude: float, sfreq: float, seconds: float = 20.0) -> mne.io.Raw:
    raw = noise(["Fz", "Cz", "Pz"], sfreq, seconds)
    wave = np.sin(2 * np.pi * frequency * raw.times)
    raw.apply_function(lambda _: amplitude * 1e-6 * wave, channel_wise=True)
    return raw


def test_edf_and_fif_of_one_recording_give_the_same_microvolts(tmp_path: Path, output: Path):
    raw = noise(["Fz", "Cz", "Pz"])
    from_fif, _ = staged(write_fif(tmp_path / "a_raw.fif", raw), output)
    from_edf, made = staged(write_edf(tmp_path / "a.edf", raw), output)
    assert from_fif.shape == (3, 1000) == (3, made.num_samples)
    assert from_fif.dtype == np.float32
    assert 10 < from_fif.std() < 20
    assert np.abs(from_fif - from_edf).max() < 0.05  # one step of 16 bits


@pytest.mark.parametrize(("sfreq", "notch"), [(500.0, (50.0,)), (128.0, ()), (125.0, ()), (300.7, ())])
def test_reading_in_blocks_equals_reading_whole_despite_offset_and_drift(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch, sfreq: float, notch: tuple[float, ...]
):
    raw = noise(["Fz", "Cz", "Pz"], sfreq, seconds=150.3)
    raw._data += 1e-2 + 1e-5 * raw.times  # offset of 10 mV, drift of 10 µV/s
    raw._data[1, 10_000 : 10_000 + round(3 * sfreq)] = raw._data[1, 10_000]
    path = write_fif(tmp_path / "a_raw.fif", raw)
    whole, expected = staged(path, output, notch=notch)
    monkeypatch.setattr(sources, "_BLOCK_VALUES", 3)
    in_blocks, made = staged(path, output, notch=notch)
    assert num_blocks(path, notch) >= 3
    assert np.abs(whole).max() < 200
    assert np.abs(in_blocks - whole).max() < 1e-4  # µV; float32 has steps of 8e-6 there
    assert made.num_samples == expected.num_samples == in_blocks.shape[1] == np.ceil(raw.n_times * 125 / sfreq)
    assert made.flat.tolist() == expected.flat.tolist()
    assert len(made.flat) == 150
    assert made.flat.sum() in (2, 3)


def num_blocks(path: Path, notch: tuple[float, ...]) -> int:
    options = replace(OPTIONS, notch=notch)
    source = sources.open_source(the_recording(path), options)
    stretches = stretches_of(source, ())
    return len(list(blocks(the_recording(path), source, stretches, options.kernel(), options)))


def test_filtering_equals_mne(tmp_path: Path, output: Path):
    raw = noise(["Fz", "Cz", "Pz"], 125.0, seconds=40)
    signal, _ = staged(write_fif(tmp_path / "a_raw.fif", raw), output, band=(1.0, 40.0), notch=(30.0,))
    expected = raw.copy().filter(1.0, 40.0, verbose="ERROR").notch_filter([30.0], verbose="ERROR").get_data() * 1e6
    assert np.abs(signal - expected)[:, 1000:-1000].max() < 1e-3


def interrupted(raw: mne.io.Raw, time: float, description: str) -> mne.io.Raw:
    """Add 300 µV from a time on, and annotate that time."""
    raw._data[:, round(time * raw.info["sfreq"]) :] += 300e-6
    return raw.set_annotations(mne.Annotations([time], [0.0], [description]))


def test_filtering_around_an_interruption_equals_mne(tmp_path: Path, output: Path):
    raw = interrupted(noise(["Fz", "Cz", "Pz"], 125.0, seconds=40), 17.0, "EDGE boundary")
    signal, _ = staged(write_fif(tmp_path / "a_raw.fif", raw), output, band=(1.0, 40.0))
    expected = raw.copy().filter(1.0, 40.0, verbose="ERROR").get_data() * 1e6
    assert np.abs(signal - expected).max() < 1e-3
    assert np.abs(signal).max() < 100


@pytest.mark.parametrize("mark", ["boundary", "New Segment/", "BAD_ACQ_SKIP"])
@pytest.mark.parametrize("sfreq", [125.0, 300.7])
def test_filters_do_not_carry_an_offset_across_an_interruption(
    tmp_path: Path, output: Path, mark: str, sfreq: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sources, "_BLOCK_VALUES", 3)
    time = 3000 / sfreq
    raw = noise(["Fz", "Cz", "Pz"], sfreq, seconds=90)
    before, after = raw.copy().crop(0, time, include_tmax=False), raw.copy().crop(time)
    path = write_fif(tmp_path / "a_raw.fif", interrupted(raw, time, mark))
    signal, made = staged(path, output)
    assert made.num_samples == signal.shape[1] and len(made.flat) == 90 and not made.flat.any()
    separate, _ = staged(write_fif(tmp_path / "before_raw.fif", before), output)
    assert np.abs(signal[:, : separate.shape[1]] - separate).max() < 1e-3
    if sfreq == 125.0:  # at another rate, the separate second part is resampled at other times
        separate, _ = staged(write_fif(tmp_path / "after_raw.fif", after), output)
        assert np.abs(signal[:, -separate.shape[1] :] - separate).max() < 1e-3
    assert np.abs(signal).max() < 120


def test_adjacent_marks_are_one_interruption(tmp_path: Path, output: Path):
    raw = noise(["Fz", "Cz", "Pz"], 500.0, seconds=20)
    one, _ = staged(write_fif(tmp_path / "one_raw.fif", interrupted(raw.copy(), 10.0, "boundary")), output)
    marks = [0.0, 10.0, 10.0 + 1e-6, 10.002, 20.0]
    raw = interrupted(raw, 10.0, "boundary").set_annotations(mne.Annotations(marks, [0.0] * 5, ["boundary"] * 5))
    several, made = staged(write_fif(tmp_path / "several_raw.fif", raw), output)
    assert np.isfinite(several).all() and len(made.flat) == 20
    assert np.abs(several - one)[:, :1000].max() < 1e-3 and np.abs(several).max() < 120


def test_a_second_with_an_interruption_is_not_flat(tmp_path: Path, output: Path):
    raw = noise(["Fz", "Cz", "Pz"], 125.0, seconds=20)
    raw._data[:, 500:1062] = 0  # from second 4 to the middle of second 8
    raw.set_annotations(mne.Annotations([4.0], [4.496], ["BAD_ACQ_SKIP"]))
    _, made = staged(write_fif(tmp_path / "a_raw.fif", raw), output)
    assert np.flatnonzero(made.flat).tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("sfreq", [125.0, 500.0])
def test_what_is_in_a_gap_does_not_change_the_rest(tmp_path: Path, output: Path, sfreq: float):
    raw = noise(["Fz", "Cz", "Pz"], sfreq, seconds=20)
    clean, _ = staged(write_fif(tmp_path / "clean_raw.fif", raw), output, gaps=((8.0, 9.5),))
    raw._data[:, round(8 * sfreq) : round(9.5 * sfreq)] += 0.02
    artefact, made = staged(write_fif(tmp_path / "artefact_raw.fif", raw), output, gaps=((8.0, 9.5),))
    kept = np.r_[:1000, 1188:2500]  # samples at 125 Hz
    assert (artefact[:, kept] == clean[:, kept]).all() and made.spans == ()


def test_samples_that_are_not_finite_may_be_in_a_gap(tmp_path: Path, output: Path):
    raw = noise(["Fz", "Cz", "Pz"], 125.0, seconds=20)
    raw._data[:, 1000:1100] = np.nan
    signals, _ = staged(write_fif(tmp_path / "a_raw.fif", raw), output, gaps=((8.0, 8.8),))
    assert np.isfinite(signals).all()


def test_a_gap_of_a_sample_hardly_changes_the_rest(tmp_path: Path, output: Path):
    path = write_fif(tmp_path / "a_raw.fif", slow_waves(500.0, seconds=20))
    whole, _ = staged(path, output)
    around, _ = staged(path, output, gaps=((8.0, 8.002),))
    assert np.abs(whole - around).max() < 0.02 * whole.std()


def slow_waves(sfreq: float, seconds: float) -> mne.io.RawArray:
    """Random waves below 20 Hz, 20 µV."""
    raw = noise(["Fz", "Cz", "Pz"], sfreq, seconds=seconds)
    return raw.filter(None, 20.0, verbose="error")


def test_resampling_keeps_low_frequencies_and_removes_aliases(tmp_path: Path, output: Path):
    kept, _ = staged(write_edf(tmp_path / "10.edf", sine(10.0, 50.0, 500.0)), output)
    assert kept[:, 500:-500].std() * np.sqrt(2) == pytest.approx(50.0, rel=0.01)
    # 72 Hz would alias to 53 Hz.
    aliased, _ = staged(write_edf(tmp_path / "72.edf", sine(72.0, 50.0, 500.0)), output)
    assert aliased[:, 500:-500].std() < 0.2


def test_band_pass_and_notch_remove_frequencies_without_delay(tmp_path: Path, output: Path):
    path = write_edf(tmp_path / "50.edf", sine(50.0, 50.0, 250.0))
    assert staged(path, output, notch=(50.0,))[0][:, 500:-500].std() < 1
    assert staged(path, output, band=(0.5, 40.0))[0][:, 500:-500].std() < 1
    ten = sine(10.0, 50.0, 250.0)
    filtered, _ = staged(write_edf(tmp_path / "10.edf", ten), output)
    assert np.abs(filtered - 1e6 * ten.get_data()[:, ::2])[:, 500:-500].max() < 1


def test_references_are_subtracted(tmp_path: Path, output: Path):
    path = write_edf(tmp_path / "a.edf", noise(["Fz", "Cz", "Pz", "A1", "A2"]))
    plain, _ = staged(path, output, channels=("Fz", "Cz", "Pz", "A1", "A2"))
    average, _ = staged(path, output, reference="average")
    assert np.allclose(average, plain[:3] - plain[:3].mean(axis=0), atol=1e-3)
    mastoids, _ = staged(path, output, reference="A1,A2")
    assert np.allclose(mastoids, plain[:3] - plain[3:].mean(axis=0), atol=1e-3)


def test_bad_channels_are_excluded_from_the_average_as_in_mne(
    tmp_path: Path, output: Path, caplog: pytest.LogCaptureFixture
):
    raw = noise(["Fz", "Cz", "Pz"], 125.0, seconds=20)
    raw._data[1] *= 30
    raw.info["bads"] = ["Cz"]
    average, _ = staged(write_fif(tmp_path / "a_raw.fif", raw), output, reference="average")
    expected = raw.copy().filter(0.5, 60.0, verbose="ERROR").set_eeg_reference("average", verbose="ERROR").get_data()
    assert np.abs(average - 1e6 * expected)[[0, 2]].max() < 1e-3
    assert "a_raw.fif: channels marked as bad, but used, except for the average: Cz; exclude them" in caplog.text
    raw.info["bads"] = ["Fz", "Cz", "Pz"]
    with pytest.raises(UserError, match="all channels are marked as bad, so there is no average reference; use"):
        staged(write_fif(tmp_path / "b_raw.fif", raw), output, reference="average")


def test_a_dead_reference_is_flat(tmp_path: Path, output: Path):
    raw = noise(["Fz", "Cz", "Pz", "A1", "A2"])
    raw._data[4, 500:1250] = 0  # seconds 2 to 5
    path = write_edf(tmp_path / "a.edf", raw)
    assert np.flatnonzero(staged(path, output, reference="A1,A2")[1].flat).tolist() == [2, 3, 4]
    assert not staged(path, output, reference="A1")[1].flat.any()


def test_a_missing_reference_channel_is_an_error_that_names_the_option(tmp_path: Path, output: Path):
    path = write_edf(tmp_path / "a.edf", noise(["Fz", "Cz", "Pz"]))
    with pytest.raises(UserError, match=r"no channel A1; the file has Fz, Cz, Pz; choose from these with --reference$"):
        staged(path, output, reference="A1")


def test_a_dead_channel_is_flat_despite_the_average_reference(tmp_path: Path, output: Path):
    raw = noise(["Fz", "Cz", "Pz"])
    raw._data[1, 500:1250] = 0  # seconds 2 to 5
    _, made = staged(write_edf(tmp_path / "a.edf", raw), output, reference="average")
    assert np.flatnonzero(made.flat).tolist() == [2, 3, 4]


def test_preloaded_formats_are_not_scaled_twice_where_blocks_overlap(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
):
    raw = noise(["Fz", "Cz", "Pz"], 250.0, seconds=150.0)
    locations = np.array([(name,) for name in raw.ch_names], dtype=[("labels", object)])
    scipy.io.savemat(
        tmp_path / "a.set",
        {
            "EEG": {
                "nbchan": 3.0,
                "srate": 250.0,
                "trials": 1.0,
                "pnts": float(raw.n_times),
                "xmin": 0.0,
                "xmax": raw.times[-1],
                "data": raw.get_data() * 1e6,
                "chanlocs": locations,
                "event": [],
                "ref": "common",
            }
        },
    )
    monkeypatch.setattr(sources, "_BLOCK_VALUES", 3)
    signal, _ = staged(tmp_path / "a.set", output)
    expected, _ = staged(write_fif(tmp_path / "a_raw.fif", raw), output)
    assert np.allclose(signal, expected, atol=1e-3)


def test_a_recording_shorter_than_the_filters_can_be_read(tmp_path: Path, output: Path):
    signal, made = staged(
        write_fif(tmp_path / "a_raw.fif", noise(["Fz", "Cz", "Pz"], 500.0, 0.4)), output, min_samples=50
    )
    assert signal.shape == (3, 50)
    assert np.isfinite(signal).all()
    assert made.flat.tolist() == []


def test_arguments_and_results_of_workers_can_be_pickled(tmp_path: Path, output: Path):
    recording = the_recording(write_edf(tmp_path / "a.edf", noise(["Fz", "Cz", "Pz"])))
    recording, options = pickle.loads(pickle.dumps((recording, OPTIONS)))
    made = pickle.loads(pickle.dumps(read_recording(recording, options, output)))
    assert made.num_samples == 1000


def write_two_rates(path: Path) -> Path:
    rng = np.random.default_rng(0)
    rates = {"Fz": 250, "EMG": 500, "Cz": 250, "Pz": 250, "slow": 10}
    signals = [
        edfio.EdfSignal(
            rng.uniform(-100, 100, 20 * rate), rate, label=name, physical_dimension="uV", physical_range=(-100, 100)
        )
        for name, rate in rates.items()
    ]
    edfio.Edf(signals, data_record_duration=1).write(path)
    return path


def test_an_edf_with_several_rates_is_read_at_the_rate_of_the_chosen_channels(tmp_path: Path, output: Path):
    path = write_two_rates(tmp_path / "a.edf")
    assert eeg_channels(the_recording(path)) == ("Fz", "Cz", "Pz")
    signal, _ = staged(path, output)
    chosen = mne.io.read_raw(path, include=["Fz", "Cz", "Pz"], verbose="ERROR")
    assert chosen.info["sfreq"] == 250
    assert np.allclose(signal, staged(write_fif(tmp_path / "a_raw.fif", chosen), output)[0], atol=1e-3)
    with pytest.raises(UserError, match="have different rates, 10, 250 Hz; choose channels of one rate"):
        staged(path, output, channels=("Fz", "slow"))
    with pytest.raises(UserError, match="sampling rate 10 Hz is below the dataset's 125 Hz"):
        staged(path, output, channels=("slow",))


def test_a_wrong_unit_is_warned_about(tmp_path: Path, output: Path, caplog: pytest.LogCaptureFixture):
    raw = noise(["Fz", "Cz", "Pz"])
    raw._data *= 1e3
    with caplog.at_level(logging.WARNING):
        staged(write_fif(tmp_path / "a_raw.fif", raw), output)
    assert "a_raw.fif: the median amplitude is" in caplog.text


def test_an_impossible_filter_is_a_one_line_error(tmp_path: Path, output: Path):
    path = write_edf(tmp_path / "a.edf", noise(["Fz", "Cz", "Pz"]))
    with pytest.raises(UserError, match=r"notch: no filter for .* at a rate of 125 Hz"):
        staged(path, output, notch=(62.4,))


@pytest.mark.real_data
def test_a_copy_outside_bids_is_read_like_the_original(real_data: Path, tmp_path: Path, output: Path):
    inside = find(real_data / "eegmat").recordings[0]
    shutil.copy(inside.path, tmp_path / "copy.edf")
    copied, _ = staged(tmp_path / "copy.edf", output, channels=TEN_TWENTY)
    read_recording(inside, replace(OPTIONS, channels=TEN_TWENTY), output)
    assert np.array_equal(np.load(output), copied)
