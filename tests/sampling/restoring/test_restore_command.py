"""The command `restore`: its files, its lines and its one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import mne
import numpy as np
import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app, main
from signal_diffusion.pipeline import SignalDiffusionPipeline
from tests.sampling.restoring.conftest import ELECTRODES, SFREQ, recorded

FILES = {"restored_raw.fif", "restored.edf", "restored.npz", "restored.json", "restored.png"}


def invoke(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["restore", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command, which must exit with code 2, and return its one-line error."""
    monkeypatch.setattr("sys.argv", ["signal-diffusion", "restore", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds; the model does not know Oz."""
    path = tmp_path_factory.mktemp("recording") / "a_raw.fif"
    raw = recorded(names=(*ELECTRODES, "Oz"))
    raw.save(path, fmt="double", verbose="error")
    return path


@pytest.fixture(scope="module")
def output(masked_run: Path, recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("restored") / "out"
    words = ("--bad", "C3", "--gap", "4", "4.5", "--gap=7.25", "7.5", "--extend", "1", "--draws", "3")
    text = invoke(masked_run, recording, *words, "--format", "fif,edf", "--output", folder)
    assert [line.split("  ")[0] for line in text.splitlines()[:-1]] == [
        "given",
        "restored",
        "gaps",
        "continued",
        "left out",
    ]
    assert "Oz, which the model does not know" in text and "4 to 4.5 s, 7.25 to 7.5 s" in text
    return folder


def test_the_folder_has_the_recording_the_draws_a_picture_and_how_they_were_made(output: Path) -> None:
    assert {path.name for path in output.iterdir()} == FILES
    about = json.loads((output / "restored.json").read_text())
    assert (about["recording"], about["restored_electrodes"], about["left_out"]["unknown"]) == (
        "a_raw.fif",
        ["C3"],
        ["Oz"],
    )
    assert about["gaps_seconds"] == [[4.0, 4.5], [7.25, 7.5]] and about["extended_seconds"] == 1.0
    assert (about["draws"], about["seed"], about["checkpoint"]) == (3, 0, "masked/checkpoint-2")
    assert len(about["recording_sha256"]) == 64


def test_the_files_have_what_python_gives(output: Path, pipeline: SignalDiffusionPipeline, recording: Path) -> None:
    restoration = pipeline.restore(str(recording), bad=["C3"], gaps=[(7.25, 7.5), (4.0, 4.5)], extend=1.0, draws=3)
    raw = mne.io.read_raw_fif(output / "restored_raw.fif", verbose="error")
    expected = restoration.mean.get_data()
    assert (raw.get_data() == expected.astype(np.float32)).all()
    assert raw.ch_names == list(ELECTRODES) and raw.info["sfreq"] == SFREQ
    edf = mne.io.read_raw_edf(output / "restored.edf", verbose="error")
    assert edf.get_data()[:, : raw.n_times] == pytest.approx(expected, abs=2e-9)
    for each in (raw, edf):
        marks = [(mark["description"], mark["ch_names"]) for mark in each.annotations]
        assert marks[:4] == [("restored", ("C3",)), *[("restored", ())] * 3]
    with np.load(output / "restored.npz") as file:
        draws = np.stack([each.get_data() for each in restoration.draws]) * 1e6
        shown = restoration.missing
        assert np.nan_to_num(file["draws"]) == pytest.approx(np.where(shown, draws, 0), abs=1e-4)
        assert (np.isnan(file["mean"]) == ~shown).all() and (np.isnan(file["draws"]) == ~shown).all()
        inside = draws[:, shown]
        assert file["mean"][shown] == pytest.approx(inside.mean(axis=0), abs=1e-4)
        assert file["q10"][shown] == pytest.approx(np.quantile(inside, 0.1, axis=0), abs=1e-4)
        assert file["q90"][shown] == pytest.approx(np.quantile(inside, 0.9, axis=0), abs=1e-4)
        assert file["times"] == pytest.approx(np.arange(704) / SFREQ) and file["sfreq"] == SFREQ


def test_the_npz_has_only_electrodes_and_times_that_were_restored(
    masked_run: Path, recording: Path, tmp_path: Path
) -> None:
    invoke(masked_run, recording, "--bad", "C3,Pz", "--draws", "2", "--output", tmp_path / "electrodes")
    with np.load(tmp_path / "electrodes" / "restored.npz") as file:
        assert file["ch_names"].tolist() == ["C3", "Pz"] and file["draws"].shape == (2, 2, 640)
        assert np.isfinite(file["draws"]).all()
    invoke(masked_run, recording, "--gap", "2", "2.5", "--draws", "2", "--output", tmp_path / "gap")
    with np.load(tmp_path / "gap" / "restored.npz") as file:
        assert file["ch_names"].tolist() == list(ELECTRODES) and file["draws"].shape == (2, 4, 32)
        assert file["times"] == pytest.approx(2 + np.arange(32) / SFREQ)


def test_models_without_masks_say_that_they_restore_the_weaker_way(
    plain_run: Path, recording: Path, tmp_path: Path
) -> None:
    words = ("--bad", "C3", "--draws", "2", "--steps", "1", "--set", "generation.sampling.resampling_steps=1")
    result = CliRunner().invoke(
        app, ["restore", str(plain_run), str(recording), *words, "--output", str(tmp_path / "out")]
    )
    [line] = result.stderr.splitlines()
    assert line.startswith("warning: checkpoint-2 was trained without [training.masking]: it restores by replacement")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "there is nothing to restore: the recording has the model's 4 electrodes; use --bad, --gap or --extend"),
        ("--bad Oz", "--bad Oz: the model has no such electrode; it has Fz, C3, C4, Pz"),
        ("--bad C3,C3", "--bad: 'C3,C3' is empty or names a channel twice"),
        ("--add C3", "--add C3: the recording has it; use --bad to replace its signal"),
        ("--add Cz", "--add Cz: the model has no such electrode"),
        (
            "--bad Fz,C3,C4",
            "of the model's 4 electrodes (Fz, C3, C4, Pz), the recording has only Pz, whose average",
        ),
        ("--bad Fz,C3,C4,Pz", "the recording has none; its channels are Fz, C3, C4, Pz, Oz"),
        ("--gap 9 11", "--gap 9 11: ends after the recording, which lasts 10 s"),
        ("--gap 2 3", "--gap 2 3: longer than 0.75 s, the most that fits into a window of the model (1 s)"),
        ("--gap 3 2", "--gap 3 2: expected the start and the end of a gap in seconds"),
        ("--gap -1 2", "--gap -1 2: expected the start and the end"),
        ("--gap two 3", "--gap two 3: expected two numbers of seconds"),
        ("--gap 2", "--gap 2: expected two numbers of seconds"),
        ("--gap 1 1.7 --gap 1.7 2", "--gap 1 2: longer than 0.75 s"),
        ("--extend=-3", "--extend -3: expected seconds"),
        ("--extend inf", "--extend inf: expected seconds"),
        ("--bad C3 --draws 1", "--draws 1: has no spread; expected at least 2"),
        ("--bad C3 --draws 99999", "--draws: 99999; expected a whole number from 1 to 65536"),
        ("--extend 0.003", "--extend 0.003: less than half a sample of the model (0.0156 s); use more"),
        ("--bad C3 --units banana", "error: --units: 'banana'; use one of V, mV, uV, nV"),
        ("--bad C3 --format npz", "--format: unknown format 'npz'; use fif or edf"),
        ("--bad C3 --label rest", "--label: the model has no attribute label; it is unconditional"),
        ("--bad C3 --sampler eulr", "--sampler: expected one of"),
    ],
)
def test_impossible_requests_are_one_line_errors(
    masked_run: Path,
    recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    expected: str,
) -> None:
    words = [str(masked_run), str(recording), *arguments.split(), "--output", str(tmp_path / "out")]
    assert expected in refused(words, monkeypatch, capsys)
    assert not list(tmp_path.iterdir())


def test_channels_that_are_not_used_are_printed_with_the_reason(masked_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "a_raw.fif"
    recorded(names=("T3", *ELECTRODES, "C3-REF", "A1", "VEOG"), seconds=2.0).save(path, verbose="error")
    lines = invoke(masked_run, path, "--bad", "C4", "--draws", "2", "--output", tmp_path / "out").splitlines()
    assert [line for line in lines if line.startswith("left out")] == [
        "left out    T3, which the model does not know",
        "left out    C3-REF, of electrodes of which another channel is used",
        "left out    A1, VEOG, as reference or not EEG",
    ]


def short(path: Path) -> Path:
    recorded(seconds=0.7).save(path / "short_raw.fif", verbose="error")
    return path / "short_raw.fif"


def slow(path: Path) -> Path:
    recorded(sfreq=50.0).save(path / "slow_raw.fif", verbose="error")
    return path / "slow_raw.fif"


def foreign(path: Path) -> Path:
    recorded(names=("E1", "E2")).save(path / "foreign_raw.fif", verbose="error")
    return path / "foreign_raw.fif"


def epochs(path: Path) -> Path:
    data = recorded().get_data()[:, :512].reshape(4, 4, 128)
    info = mne.create_info(list(ELECTRODES), SFREQ, "eeg")
    mne.EpochsArray(data, info, verbose="error").save(path / "all-epo.fif", verbose="error")
    return path / "all-epo.fif"


def array(path: Path) -> Path:
    np.save(path / "array.npy", np.zeros((4, 100)))
    return path / "array.npy"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (short, "short_raw.fif: too little is known: 0.703 s of the recording are outside of gaps"),
        (slow, "slow_raw.fif: sampling rate 50 Hz is below the model's 64 Hz; use a recording with at least that"),
        (foreign, "the recording has none; its channels are E1, E2"),
        (epochs, "all-epo.fif: holds epochs; give the continuous recording that they were cut from"),
        (array, "array.npy: an array does not say its unit and rate; convert it to EDF or FIF"),
        (lambda path: path / "none.edf", "none.edf: no such file or folder"),
    ],
)
def test_unfit_recordings_are_one_line_errors(
    masked_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make,
    expected,
) -> None:
    words = [str(masked_run), str(make(tmp_path)), "--extend", "1", "--output", str(tmp_path / "out")]
    assert expected in refused(words, monkeypatch, capsys)
    assert not (tmp_path / "out").exists()


def test_an_existing_output_and_a_model_of_images_are_refused(
    run: Path,
    masked_run: Path,
    recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(recording), "--bad", "C3", "--output"]
    line = refused([str(masked_run), *words, str(tmp_path)], monkeypatch, capsys)
    assert line == f"error: {tmp_path} already exists; choose another --output, or remove it"
    line = refused([str(run), *words, str(tmp_path / "out")], monkeypatch, capsys)
    assert "a model of db-only, of which no values can be given" in line


def test_a_stop_leaves_nothing_behind(
    masked_run: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("signal_diffusion.sampling.restoring.job.write_restoration", stop)
    words = ["restore", str(masked_run), str(recording), "--bad", "C3", "--draws", "2"]
    result = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "out")])
    assert result.exit_code != 0 and not list(tmp_path.iterdir())
