"""Long recordings from a trained model: the command, the files, the pipeline, and what is refused."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from torch import Tensor
from typer.testing import CliRunner, Result

from signal_diffusion.cli import app
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.data.stored_signals import open_signals
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.reading import read_windows
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.sampling.finite import NotFiniteError
from signal_diffusion.training.diffusion import train

SFREQ, WINDOW = 64.0, 128
GENERATE = SampleGenerator.generate


def trained_run(experiment_file: Path, folder: Path, masked: float, *more: str) -> Path:
    """A run of windows of 2 s of the classes alert and relaxed, of which a share is masked in training."""
    prepare_synthetic(
        folder / "data", "timeseries", SyntheticOptions(num_subjects=5, num_windows=3, rate=SFREQ, window=WINDOW)
    )
    data = (f"data.paths.root={folder / 'data'}", "data.representation=timeseries")
    quiet = ("training.max_steps=2", "training.validation.enabled=false", "model.architecture.patch_size=[1,64]")
    masks = f"training.masking.probability={masked}"
    train(experiment_file, output_dir=folder / "run", overrides=(*data, *quiet, masks, *more))
    return folder / "run"


@pytest.fixture(scope="module")
def signals_run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(experiment_file, tmp_path_factory.mktemp("signals"), 0.8)


@pytest.fixture(scope="module")
def pipeline(signals_run: Path) -> SignalDiffusionPipeline:
    return SignalDiffusionPipeline.from_pretrained(signals_run)


@pytest.fixture
def timeline(tmp_path: Path) -> Path:
    path = tmp_path / "stages.tsv"
    path.write_text("onset\tduration\ttrial_type\n0\t3\trelaxed\n3\t1.5\talert\n6\t2\trelaxed\n")
    return path


def sample(run: Path, *words: object) -> Result:
    return CliRunner().invoke(app, ["sample", str(run), *map(str, words)])


def test_recordings_are_written_with_their_conditions(signals_run: Path, timeline: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--timeline", timeline, "--duration", 10, "--num", 2, "--format", "npz,fif,edf", "--output", out]
    result = sample(signals_run, *words)
    assert result.exit_code == 0, result.output
    assert "2 recordings of 10 s" in result.stdout and "finite      2 of 2" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        "recording-0000.edf",
        "recording-0000_raw.fif",
        "recording-0001.edf",
        "recording-0001_raw.fif",
        "samples.json",
        "samples.npz",
        "samples.png",
    ]
    with np.load(out / "samples.npz") as file:
        signals = file["signals"]
        assert signals.shape == (2, 19, 640) and file["sampling_rate"] == SFREQ
    for name, tolerance in (("_raw.fif", 1e-6), (".edf", 0.01)):
        raw = mne.io.read_raw(out / f"recording-0001{name}", verbose="error")
        assert raw.get_data() * 1e6 == pytest.approx(signals[1], abs=tolerance * float(np.abs(signals).max()))
        found = [(each["onset"], each["duration"], each["description"]) for each in raw.annotations]
        assert found == [
            (0, 3, "label/relaxed"),
            (3, 1.5, "label/alert"),
            (6, 2, "label/relaxed"),
        ]
        assert raw.get_montage() is not None or name == ".edf"
    assert [len(frame) for _, frame in open_signals(out).recordings()] == [1, 1]  # no condition lasts
    about = json.loads((out / "samples.json").read_text())
    assert about["timeline"][1] == {"onset": 3.0, "duration": 1.5, "label": "alert"}
    assert about["duration"] == 10 and about["continued_by"] == "masks" and about["asked"]["timeline"] == "stages.tsv"
    assert {192, 288, 384, 512} <= {*about["borders"]}  # no window has two conditions
    assert not list(tmp_path.glob(".out*"))


def test_evaluate_reads_recordings_as_windows(signals_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert sample(signals_run, "--duration", 7, "--num", 2, "--output", out).exit_code == 0
    windows = read_windows(out)
    assert windows.signals.shape == (6, 19, WINDOW)
    assert windows.columns["label"].tolist() == ["alert"] * 3 + ["relaxed"] * 3
    with np.load(out / "samples.npz") as file:
        assert np.array_equal(windows.signals[4], file["signals"][1, :, WINDOW : 2 * WINDOW])


def test_the_pipeline_and_the_command_generate_the_same_recordings(
    signals_run: Path, pipeline: SignalDiffusionPipeline, timeline: Path, tmp_path: Path
) -> None:
    assert sample(signals_run, "--timeline", timeline, "--num", 2, "--output", tmp_path / "out").exit_code == 0
    for given in (timeline, str(timeline), pd.read_csv(timeline, sep="\t")):
        recordings = pipeline(timeline=given, num=2)
        with np.load(tmp_path / "out" / "samples.npz") as file:
            assert np.array_equal(file["signals"], recordings.signals)
    assert recordings.signals.shape == (2, 19, round(8 * SFREQ))  # as long as the timeline
    assert [raw.annotations.description.tolist() for raw in recordings.to_raws()] == [
        ["label/relaxed", "label/alert", "label/relaxed"]
    ] * 2


def test_a_recording_does_not_depend_on_how_many_there_are(pipeline: SignalDiffusionPipeline) -> None:
    many = pipeline(duration=6, num=5, label="alert", batch_size=2)
    few = pipeline(duration=6, num=3, label="alert", batch_size=2)
    assert np.array_equal(many.signals[:3], few.signals)
    together = pipeline(duration=6, num=5, label="alert")
    assert np.abs(together.signals - many.signals).max() < 1e-3 * np.abs(many.signals).max()
    assert len({signals.tobytes() for signals in many.signals}) == 5


def test_a_longer_recording_begins_with_a_shorter_one(pipeline: SignalDiffusionPipeline) -> None:
    short, long = (pipeline(duration=seconds, label="alert", num=2).signals for seconds in (5.3, 9))
    assert np.array_equal(short, long[:, :, : short.shape[-1]])


def test_the_first_window_is_the_sample_of_the_same_number(pipeline: SignalDiffusionPipeline) -> None:
    recordings, samples = pipeline(duration=4, label="alert", num=2), pipeline(label="alert", num=2)
    assert samples.signals is not None
    end = WINDOW - 2  # the last fiftieth is left to the next window
    assert np.array_equal(recordings.signals[:, :, :end], samples.signals.numpy()[:, :, :end])


def test_each_window_is_given_the_end_of_the_last_and_its_own_condition(
    pipeline: SignalDiffusionPipeline, timeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def generate(self: SampleGenerator, model: object, cond: object, indices: Sequence[int], **named: object) -> Tensor:
        samples = GENERATE(self, model, cond, indices, **named)  # type: ignore[arg-type]
        seen.append((cond, samples))
        return samples

    monkeypatch.setattr(SampleGenerator, "generate", generate)
    pipeline(timeline=timeline, duration=9)
    names = ("alert", "relaxed", "")  # −1 is left open
    labels = [names[code] for cond, _ in seen for code in cond.attributes["label"].tolist()]  # type: ignore[attr-defined]
    # 126 samples, then up to 94 more for each window: 3 s, 1.5 s, 1.5 s, 2 s and 1 s of 64 samples
    assert labels == [*["relaxed"] * 2, *["alert"] * 2, *[""] * 2, *["relaxed"] * 2, ""]
    assert seen[0][0].known is None  # type: ignore[attr-defined]
    known = seen[1][0].known  # type: ignore[attr-defined]
    assert known.mask[..., :22].all() and not known.mask[..., 22:].any()  # the last 10 samples are generated again
    assert np.allclose(known.values[..., :22], seen[0][1][..., 94:116], atol=1e-6)


def test_conditions_that_last_are_annotated_too(pipeline: SignalDiffusionPipeline) -> None:
    recordings = pipeline(duration=4, num=2)
    assert [recordings.annotations(row) for row in range(2)] == [
        [(0.0, 4.0, "label/alert")],
        [(0.0, 4.0, "label/relaxed")],
    ]


def test_a_model_without_masks_is_continued_by_replacement_with_one_warning(
    experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = SignalDiffusionPipeline.from_pretrained(trained_run(experiment_file, tmp_path, 0.0))
    capsys.readouterr()
    recordings = pipeline(duration=5, label="alert", steps=2, resampling_steps=2)
    assert np.isfinite(recordings.signals).all()
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "was trained without masks, so windows continue each other by replacement, 2 times per step" in err


def test_recordings_have_the_requested_electrodes(experiment_file: Path, tmp_path: Path) -> None:
    run = trained_run(experiment_file, tmp_path, 0.8, "model.conditioning.electrodes=position")
    words = ["--duration", 5, "--electrodes", "Pz,FC1", "--format", "npz,fif", "--output", tmp_path / "out"]
    result = sample(run, *words)
    assert result.exit_code == 0, result.output
    raw = mne.io.read_raw(tmp_path / "out" / "recording-0000_raw.fif", verbose="error")
    assert raw.ch_names == ["Pz", "FC1"] and raw.n_times == 5 * SFREQ
    recordings = SignalDiffusionPipeline.from_pretrained(run)(duration=5, electrodes="Pz,FC1")
    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert np.array_equal(file["signals"], recordings.signals)


def test_recordings_that_are_not_finite_are_left_out(
    signals_run: Path, pipeline: SignalDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(self: SampleGenerator, model: object, cond: object, indices: Sequence[int], **named: object) -> Tensor:
        samples = GENERATE(self, model, cond, indices, **named)  # type: ignore[arg-type]
        for row, number in enumerate(indices):
            if number == 2**16 + 1:  # second window of recording 1
                samples[row] = math.nan
        return samples

    monkeypatch.setattr(SampleGenerator, "generate", generate)
    words = ["--duration", 4, "--num", 3, "--label", "alert", "--format", "npz,fif", "--output", tmp_path / "out"]
    result = sample(signals_run, *words)
    assert isinstance(result.exception, NotFiniteError)
    assert "1 of 3 recordings is not finite" in str(result.exception)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.fif")) == [
        "recording-0000_raw.fif",
        "recording-0002_raw.fif",
    ]
    with pytest.raises(NotFiniteError) as caught:
        pipeline(duration=4, num=3, label="alert")
    assert caught.value.recordings is not None and len(caught.value.recordings) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--duration", "1.9"], "--duration 1.9; expected at least a window of the model, 2 s"),
        (["--duration", "90000"], "--duration 90000; expected at most a day, 86400 s"),
        (["--duration", "nan"], "--duration nan: expected seconds"),
        (["--duration", "6", "--timeline"], "stages.tsv line 4: ends at 8 s, after --duration 6; use a longer"),
        (["--label", "alert", "--timeline"], "stages.tsv: sets label, and so does another option; use only one"),
        (["--duration", "6", "--windows", "2"], "--windows 2: is for single windows, not for --duration"),
        (["--duration", "6", "--grid", "2"], "--grid 2: is for single windows"),
        (["--duration", "6", "--trajectory", "gif"], "--trajectory gif: is for single windows"),
        (["--duration", "6", "--format", "parquet"], "--format parquet: stores windows; for recordings, use npz, fif"),
        (["--duration", "6", "--format", "png"], "--format png: stores windows"),
        (["--duration", "6", "--num", "100000"], "--num 100000: expected at most 65536 recordings"),
    ],
)  # fmt: skip
def test_requests_that_are_refused(
    signals_run: Path, timeline: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    result = sample(
        signals_run, "--output", tmp_path / "out", *words, *([timeline] if words[-1] == "--timeline" else [])
    )
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception) and len(result.exception.lines) == 1
    assert not (tmp_path / "out").exists()


def test_unknown_labels_name_the_line_and_what_is_known(signals_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("onset\tduration\tlabel\n0\t5\tasleep\n")
    result = sample(signals_run, "--timeline", path)
    assert str(result.exception) == "a.tsv line 2: label = asleep: expected one of alert, relaxed"


def test_rows_shorter_than_a_sample_are_refused(signals_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("onset\tduration\tlabel\n0\t5\talert\n5\t0.001\trelaxed\n")
    assert "a.tsv line 3: duration = 0.001: less than a sample of 1/64 s" in str(
        sample(signals_run, "--timeline", path).exception
    )


def test_models_without_signals_are_refused(run: Path) -> None:
    assert "a model of db-only, of which no values can be given" in str(sample(run, "--duration", 30).exception)
    with pytest.raises(UserError, match="a model of db-only"):
        SignalDiffusionPipeline.from_pretrained(run)(duration=30)


def test_errors_of_the_pipeline_name_arguments(pipeline: SignalDiffusionPipeline) -> None:
    with pytest.raises(UserError, match=r"^duration 1; expected at least a window of the model, 2 s$"):
        pipeline(duration=1)
    with pytest.raises(UserError, match=r"^windows 2: is for single windows, not for duration or timeline; leave it"):
        pipeline(duration=4, windows=2)
    with pytest.raises(UserError, match=r"^duration '4': expected seconds$"):
        pipeline(duration="4")  # type: ignore[call-overload]


@pytest.mark.slow
def test_a_kill_leaves_nothing_half_written_and_the_command_starts_again(signals_run: Path, tmp_path: Path) -> None:
    words = ["--duration", "4000", "--label", "alert", "--output", str(tmp_path / "out")]
    command = [sys.executable, "-m", "signal_diffusion.cli", "sample", str(signals_run), *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (tmp_path / ".out.partial" / "scratch").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert f"stopped; nothing was written to {tmp_path / 'out'}, and the same command starts again" in err
    assert not list(tmp_path.glob("*out*"))
    assert process.returncode == 143
