"""Recordings at another rate than the model: given values come back to the bit, restored ones are resampled."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import mne
import numpy as np
import pytest
import scipy.signal
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.recordings.reading import read_recording
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.sampling.restoring.draws import Draws
from signal_diffusion.sampling.restoring.given import as_recording
from signal_diffusion.sampling.restoring.resampled import Resampled
from signal_diffusion.sampling.restoring.result import Restoration
from signal_diffusion.sampling.restoring.writing import write_restoration
from tests.sampling.restoring.conftest import ELECTRODES, SFREQ, recorded
from tests.sampling.restoring.test_restoring import READ, microvolts

RATE = 500.0
GAP = (4.0003, 4.5)  # s; starts between two samples
GAP_SAMPLES = slice(2000, 2250)
RATIOS = [Fraction(4), Fraction(5, 2), Fraction(256, 125), Fraction(125, 16)]


def waves(rate: float, seconds: float = 10.0, electrodes: int = 3) -> np.ndarray:
    """Sines of 3, 11 and 24 Hz, in each electrode with other phases, µV."""
    times = np.arange(round(seconds * rate)) / rate
    phases = np.arange(electrodes)[:, None]
    return sum(10 * np.sin(2 * np.pi * each * times + each * phases) for each in (3.0, 11.0, 24.0)).astype(np.float32)


@pytest.fixture(scope="module")
def recording() -> mne.io.RawArray:
    """Ten seconds of sines and noise at 500 Hz, of which the first two were cropped; C4 is dead."""
    raw = recorded(seconds=12.0, sfreq=RATE)
    raw._data[:] = raw._data / 5 + waves(RATE, 12.0, 4) * 1e-6
    raw._data[2] = 0
    raw.set_annotations(mne.Annotations([5.0], [1.5], ["task"]))
    return raw.crop(2.0)


@pytest.fixture(scope="module")
def restoration(pipeline: SignalDiffusionPipeline, recording: mne.io.RawArray) -> Restoration:
    return pipeline.restore(recording, bad=["C4"], gaps=[GAP], extend=1.01, draws=3)


@pytest.fixture(scope="module")
def output(masked_run: Path, recording: mne.io.RawArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rates")
    recording.save(folder / "a_raw.fif", fmt="double", verbose="error")
    options = f"--bad C4 --gap {GAP[0]} {GAP[1]} --extend 1.01 --draws 3 --format fif,edf --output {folder / 'out'}"
    words = ["restore", str(masked_run), str(folder / "a_raw.fif"), *options.split()]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0 and "rate        500 Hz; what is generated at 64 Hz is resampled" in result.output
    return folder / "out"


def test_given_values_are_those_of_the_recording_prepared_at_its_own_rate_to_the_bit(
    restoration: Restoration, recording: mne.io.RawArray, tmp_path: Path
) -> None:
    options = replace(READ, channels=("Fz", "C3", "Pz"), sampling_rate=RATE, gaps=(GAP,))
    with as_recording(recording) as found:
        read_recording(found, options, tmp_path / "own.npy")
    expected = np.load(tmp_path / "own.npy")
    assert expected.shape == (3, 5000)
    known = np.ones(5505, bool)
    known[GAP_SAMPLES] = known[5000:] = False
    for each in (restoration.mean, *restoration.draws):
        assert each.info["sfreq"] == RATE and each.n_times == 5505 and each.ch_names == list(ELECTRODES)
        assert (microvolts(each)[[0, 1, 3]][:, known] == expected[:, known[:5000]]).all()
    std = restoration.std.get_data()
    assert (std[[0, 1, 3]][:, known] == 0).all() and (std[:, ~known] > 0).all() and (std[2] > 0).all()


def test_restored_values_are_those_at_the_models_rate_resampled(restoration: Restoration) -> None:
    own, model = microvolts(restoration.mean), microvolts(restoration.at_model_rate.mean)
    assert model.shape == (4, 640 + 65)
    lowpass = scipy.signal.firwin(2 * 20 * 125 + 1, 1 / 125, window=("kaiser", 5.0))
    expected = scipy.signal.resample_poly(model.astype(float), 125, 16, axis=-1, window=lowpass)
    inside = slice(160, 5340)  # beyond the ends, `resample_poly` has zeros
    assert own[2, inside] == pytest.approx(expected[2, inside], abs=1e-4)
    gap = slice(GAP_SAMPLES.start + 8, GAP_SAMPLES.stop - 8)  # a sample of the model from its ends
    assert own[:, gap] == pytest.approx(expected[:, gap], abs=1e-4)


def test_draws_and_their_spread_are_resampled_too(restoration: Restoration) -> None:
    draws = np.stack([each.get_data() for each in restoration.draws])
    assert restoration.mean.get_data() == pytest.approx(draws.mean(axis=0), abs=1e-11)
    assert restoration.std.get_data() == pytest.approx(draws.std(axis=0, ddof=1), abs=1e-11)


def test_files_are_at_the_recordings_rate_with_annotations_at_its_samples_and_draws_at_the_models(
    output: Path, restoration: Restoration
) -> None:
    fif = mne.io.read_raw_fif(output / "restored_raw.fif", verbose="error")
    edf = mne.io.read_raw_edf(output / "restored.edf", verbose="error")
    expected = restoration.mean.get_data()
    assert (fif.get_data() == expected.astype(np.float32)).all()
    assert edf.n_times == 6000 and edf.get_data()[:, :5505] == pytest.approx(expected, abs=2e-9)
    for each in (fif, edf):
        assert each.info["sfreq"] == RATE
        marks = {
            (round(mark["onset"] * RATE), round(mark["duration"] * RATE), mark["description"], mark["ch_names"])
            for mark in each.annotations
        }
        assert marks - {(5505, 495, "BAD_ACQ_SKIP", ())} == {
            (0, 5505, "restored", ("C4",)),
            (1500, 750, "task", ()),
            (2000, 250, "restored", ()),
            (5000, 505, "restored", ()),
        }
    about = json.loads((output / "restored.json").read_text())
    assert about["sampling_rate"] == SFREQ and about["written_sampling_rate"] == RATE
    with np.load(output / "restored.npz") as file:
        assert file["sfreq"] == SFREQ and file["draws"].shape == (3, 4, 705)
        mean = microvolts(restoration.at_model_rate.mean)
        assert file["mean"][2] == pytest.approx(mean[2], abs=1e-4)


@pytest.mark.parametrize("ratio", RATIOS, ids=str)
def test_a_perfectly_restored_gap_has_the_signals_values_and_no_jump(ratio: Fraction) -> None:
    truth, draws, gap = resampled(ratio)
    values = draws[:, :, 0 : truth.shape[1]]
    assert np.abs(values - truth).max() < 0.02  # of 52 µV
    edges = [gap.start - 1, gap.stop - 1]
    assert np.diff(values[0])[:, edges] == pytest.approx(np.diff(truth)[:, edges], abs=0.02)


@pytest.mark.parametrize("ratio", RATIOS, ids=str)
def test_any_part_has_the_values_of_the_whole(ratio: Fraction) -> None:
    truth, draws, _ = resampled(ratio, off=20.0)
    total = truth.shape[1]
    parts = [draws[0:1, :, start : start + 101] for start in range(0, total, 101)]
    assert (np.concatenate(parts, axis=-1) == draws[0:1, :, 0:total]).all()


def test_a_gap_that_does_not_fit_is_bent_to_meet_the_last_given_value_which_the_model_did_not_see() -> None:
    truth, draws, gap = resampled(Fraction(4), off=20.0)
    steps = np.abs(np.diff(draws[:, :, 0 : truth.shape[1]][0]))[:, [gap.start - 1, gap.stop - 1]]
    assert steps.max() < 20 / 2  # spread over four samples; all of it if what is given were only set in
    inside = slice(gap.start + 4, gap.stop - 4)
    exact = Resampled(draws.at_model, Fraction(4), np.zeros_like(truth), np.zeros(truth.shape, bool))
    assert (draws[:, :, inside] == exact[:, :, inside]).all()


def test_a_recording_at_the_models_rate_is_not_resampled(pipeline: SignalDiffusionPipeline) -> None:
    for sfreq in (SFREQ, SFREQ * 1.00001):
        restoration = pipeline.restore(recorded(sfreq=sfreq), bad=["C4"], draws=2)
        assert restoration.at_model_rate is restoration and restoration.mean.info["sfreq"] == SFREQ
        assert "written_sampling_rate" not in restoration.about


def test_doubts_are_printed_once_although_the_recording_is_read_twice(
    pipeline: SignalDiffusionPipeline, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    raw = recorded(sfreq=200.0).set_annotations(mne.Annotations([6.0], [0.5], ["BAD_blink"]))
    raw._data[:] *= 1000
    pipeline.restore(raw, bad=["Pz"], draws=2)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert caplog.text.count("the median amplitude is") == 1


def test_edf_is_refused_for_a_rate_that_it_cannot_store_before_anything_is_generated(
    masked_run: Path, tmp_path: Path
) -> None:
    recorded(sfreq=102.4).save(tmp_path / "a_raw.fif", verbose="error")
    words = [str(masked_run), str(tmp_path / "a_raw.fif"), "--bad", "C4", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["restore", *words, "--format", "edf"])
    assert str(result.exception) == "--format edf: EDF needs a whole number of Hz, found 102.4 Hz; use fif"
    assert not (tmp_path / "out").exists()


def test_files_are_written_without_the_signals_in_memory(
    pipeline: SignalDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal_diffusion.sampling.restoring.result.CHUNK", 2**14)
    monkeypatch.setattr("signal_diffusion.sampling.restoring.writing.draw_restoration", lambda *_, **__: None)
    restoration = pipeline.restore(recorded(seconds=30.0, sfreq=4000.0), gaps=[(4.0, 4.5)], draws=2)
    write_restoration(tmp_path, restoration, ["fif"], title="imports everything")
    (tmp_path / "restored_raw.fif").unlink()
    tracemalloc.start()
    write_restoration(tmp_path, restoration, ["fif"], title="")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 120_000 * 8  # bytes of the signals in double precision, as MNE has them
    assert {path.name for path in tmp_path.iterdir()} == {"restored_raw.fif", "restored.npz", "restored.json"}


class _Draws(Draws):
    at_model: Draws


def resampled(ratio: Fraction, *, off: float = 0.0) -> tuple[np.ndarray, _Draws, slice]:
    """Waves at the higher rate; one draw whose gap has the same, plus so many µV; and the gap's samples."""
    rate, start, stop = 125.0, 400, 480
    own, low = waves(rate * float(ratio)), waves(rate)
    gap = slice(int(start * ratio), int(stop * ratio))
    known, known_low = np.ones(own.shape, bool), np.ones(low.shape, bool)
    known[:, gap] = known_low[:, start:stop] = False
    stored = low[None].copy()
    stored[:, :, start:stop] += off
    model = Draws(np.where(known_low, low, 0), known_low, stored)
    given = np.where(known, own, 0)
    draws = _Draws(given, known, Resampled(model, ratio, given, known))
    draws.at_model = model
    return own, draws, gap
