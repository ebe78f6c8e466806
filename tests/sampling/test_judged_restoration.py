"""`evaluate restoration` gives a model only what is not missing, and compares what it restores with the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.reading import read_dataset
from signal_diffusion.experiment.dataset import dataset_of
from signal_diffusion.sampling import judged_restoration
from signal_diffusion.sampling.judged_restoration import assess_restoration
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train


@pytest.fixture(scope="session")
def masked_run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model of signals that was trained with masks, on five people of whom one is for the test."""
    root, folder = tmp_path_factory.mktemp("data") / "signals", tmp_path_factory.mktemp("runs") / "masked"
    prepare_synthetic(root, "timeseries", SyntheticOptions(num_subjects=5, num_windows=2, window=256))
    train(
        experiment_file,
        output_dir=folder,
        overrides=(
            *(f"data.paths.root={root}", "data.representation=timeseries", "data.loading.batch_size=1"),
            *("model.architecture.patch_size=[1,64]", "training.masking.probability=0.8"),
            *("training.max_steps=2", "training.validation.enabled=false"),
        ),
    )
    return folder


def judge(run: Path, output: Path, *options: str) -> str:
    words = ["evaluate", "restoration", str(run), "--output", str(output), "--quick", "--windows", "2", *options]
    result = CliRunner().invoke(app, words)
    if result.exception:
        raise result.exception
    return result.output


def test_a_run_is_judged_next_to_the_baselines(masked_run: Path, tmp_path: Path) -> None:
    output = judge(masked_run, tmp_path / "report", "--draws", "9")

    written = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [(row["scenario"], row["method"]) for row in written["rows"]] == [
        *(("30 % of electrodes", name) for name in ("splines", "ridge", "model")),
        *(("70 % of electrodes", name) for name in ("splines", "ridge", "model")),
        *(("gap of 0.25 s", name) for name in ("linear", "AR(32)", "model")),
        *((written["rows"][-1]["scenario"], name) for name in ("AR(32)", "model")),
    ]
    assert written["windows"] == 2 and written["people"] == 1 and written["given"] == "trained with masks"
    assert 0 <= written["rows"][2]["coverage"]["value"] <= 1
    assert "worse than" in output  # after two steps of training
    assert str(masked_run.parent) not in (tmp_path / "report" / "report.json").read_text()


def test_a_model_that_knows_the_truth_is_without_error_and_is_given_nothing_of_it(
    masked_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = load_trained(masked_run)
    dataset = dataset_of(trained.experiment.data)
    truth = read_dataset(dataset.root, "test").signals
    seen = []

    def knowing(trained: Any, conditions: Callable[[int], Any], draws: range) -> Any:
        def fill(values: np.ndarray, known: np.ndarray, *, number: int, start: int) -> np.ndarray:
            seen.append((values, known, len(conditions(start))))
            return np.broadcast_to(_of(values, known, truth), values.shape)

        return fill

    monkeypatch.setattr(judged_restoration, "window_filler", knowing)
    report = assess_restoration(
        trained, dataset, split="test", windows=4, draws=10, shares=[0.5], gaps=[0.25], on_progress=lambda *_: None
    )

    for row in report.rows:
        if row.method == "model":
            assert row.estimates["nmse"][0] == pytest.approx(0, abs=1e-6)
    assert all(not values[:, ~known].any() and count == 10 for values, known, count in seen)


def _of(values: np.ndarray, known: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The window of `truth` that fits to the given values, in their reference."""
    electrodes = known.any(axis=1)
    candidates = [truth, truth - truth[:, electrodes].mean(1, keepdims=True)]
    everything = np.concatenate(candidates)
    errors = [np.abs(each - values[0])[known].sum() for each in everything]
    return everything[int(np.argmin(errors))]


def test_a_model_of_spectrograms_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a model of db-only, of which no values can be given"):
        judge(run, tmp_path / "report")


@pytest.mark.parametrize(
    ("option", "text"), [("--missing", "1.5"), ("--missing", "half"), ("--gaps", "0"), ("--gaps", "0.5,-1")]
)
def test_numbers_that_make_no_sense_are_refused(option: str, text: str, masked_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{option} {text}: expected numbers between 0 and"):
        judge(masked_run, tmp_path / "report", option, text)


def test_people_who_were_trained_on_are_refused(masked_run: Path, tmp_path: Path) -> None:
    root = dataset_of(load_trained(masked_run).experiment.data).root

    with pytest.raises(UserError, match="are in the training split too"):
        judge(masked_run, tmp_path / "report", "--real", f"{root}:train")


@pytest.fixture(scope="module")
def few_and_more(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Datasets of the same five people, with four electrodes and with six."""
    folder = tmp_path_factory.mktemp("montages")
    names = ["Fp1", "Fp2", "C3", "C4", "O1", "O2"]
    for person in range(5):
        (folder / "eeg" / f"sub-{person}").mkdir(parents=True)
        signals = 10 * np.random.default_rng(person).standard_normal((6, 1200))
        np.save(folder / "eeg" / f"sub-{person}" / "rest.npy", signals)
    for name, channels in {"few": names[:4], "more": names, "filtered": names}.items():
        words = ["prepare", str(folder / "eeg"), "--output", str(folder / name), "--representation", "timeseries"]
        words += ["--sfreq", "125", "--ch-names", ",".join(names), "--units", "uV", "--window", "256"]
        words += ["--channels", ",".join(channels), *(["--notch", "50"] if name == "filtered" else [])]
        result = CliRunner().invoke(app, words)
        assert not result.exit_code, result.output
    return folder / "few", folder / "more"


@pytest.fixture(scope="module")
def run_by_position(
    experiment_file: Path, few_and_more: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "position"
    train(
        experiment_file,
        output_dir=folder,
        overrides=(
            *(f"data.paths.root={few_and_more[0]}", "data.representation=timeseries", "data.loading.batch_size=1"),
            *("model.architecture.patch_size=[1,64]", "training.masking.probability=0.8"),
            *("model.conditioning.electrodes=position", "model.conditioning.type=none"),
            *("training.max_steps=1", "training.validation.enabled=false"),
        ),
    )
    return folder


def test_electrodes_that_were_not_trained_on_are_restored_and_judged(
    run_by_position: Path, few_and_more: tuple[Path, Path], tmp_path: Path
) -> None:
    judge(run_by_position, tmp_path / "report", "--real", str(few_and_more[1]), "--draws", "9")

    rows = json.loads((tmp_path / "report" / "report.json").read_text())["rows"]
    assert [(row["scenario"], row["method"]) for row in rows[:3]] == [
        ("not trained on: O1, O2", name) for name in ("splines", "ridge", "model")
    ]


def test_people_who_were_trained_on_are_refused_with_more_electrodes_too(
    run_by_position: Path, few_and_more: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="are in the training split too"):
        judge(run_by_position, tmp_path / "report", "--real", f"{few_and_more[1]}:train")


def test_more_electrodes_with_another_filter_are_refused_in_one_line(
    run_by_position: Path, few_and_more: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"more than electrodes \(notch is \[50.0\], not None\); prepare it") as error:
        judge(run_by_position, tmp_path / "report", "--real", str(few_and_more[1].with_name("filtered")))
    assert len(error.value.lines) == 1


def test_a_model_by_name_is_refused_more_electrodes(
    experiment_file: Path, few_and_more: tuple[Path, Path], tmp_path: Path
) -> None:
    few, more = few_and_more
    overrides = [f"data.paths.root={few}", "data.representation=timeseries", "model.architecture.patch_size=[1,64]"]
    overrides += ["data.loading.batch_size=1", "training.max_steps=1", "training.validation.enabled=false"]
    train(experiment_file, output_dir=tmp_path / "run", overrides=(*overrides, "model.conditioning.type=none"))

    with pytest.raises(UserError, match="the model knows electrodes by name"):
        judge(tmp_path / "run", tmp_path / "report", "--real", str(more))
