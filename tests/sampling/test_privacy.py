"""`evaluate privacy` says in words what a run's samples and loss give away, and refuses data that cannot show it."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.errors import UserError, report_user_errors
from signal_diffusion.evaluation.comparison import compare_windows
from signal_diffusion.evaluation.windows import Windows
from signal_diffusion.sampling.membership import Membership
from signal_diffusion.sampling.privacy_report import METRICS, PrivacyReport, Verdict
from signal_diffusion.sampling.separation import Separation
from signal_diffusion.training.diffusion import train
from tests import text_encoders
from tests.evaluation.invented import people
from tests.latent_spaces import small_vae
from tests.training.processes import two_processes
from tests.training.test_foreign_runs import folder_of_pictures

TRAIN, REAL = people(0, 8), people(10, 8)


def of_loss(auc: float, interval: tuple[float, float] | None) -> Membership:
    found = Separation(auc=auc, interval=interval)
    return Membership(total=found, times={0.5: found}, members=40, others=40, member_people=8, other_people=8)


def reported(synthetic: Windows, loss: Membership | None = None) -> PrivacyReport:
    report = compare_windows(REAL, synthetic, train=TRAIN, metrics=METRICS)
    return PrivacyReport(about={"samples": len(synthetic)}, membership=loss or of_loss(0.5, (0.4, 0.6)), report=report)


def verdict(report: PrivacyReport, question: str) -> Verdict:
    return report.verdicts()[question][0]


def test_copies_are_found_in_words() -> None:
    found = reported(TRAIN)

    assert verdict(found, "copies") == "found"
    assert found.verdicts()["copies"][1].startswith("samples repeat training windows, or nearly so (100.0 % against")
    assert verdict(found, "re-identification") != "no sign"


def test_windows_of_one_training_person_are_not_taken_for_new_people() -> None:
    one = TRAIN.take(np.flatnonzero(TRAIN.subjects == "sub-0"))

    assert verdict(reported(one), "re-identification") != "no sign"


def test_new_people_are_no_sign_of_anything() -> None:
    found = reported(REAL)

    assert {name: each for name, (each, _) in found.verdicts().items()} == {
        "copies": "no sign",
        "membership": "no sign",
        "re-identification": "no sign",
    }
    assert "no sign of copying in 96 samples" in found.to_text()


@pytest.mark.parametrize(
    ("auc", "interval", "expected"),
    [
        (0.93, (0.85, 1.0), "found"),
        (0.60, (0.40, 0.80), "unclear"),
        (0.52, (0.45, 0.59), "no sign"),
        (0.99, None, "unclear"),
    ],
)
def test_membership_is_judged_by_its_interval(
    auc: float, interval: tuple[float, float] | None, expected: Verdict
) -> None:
    assert verdict(reported(REAL, of_loss(auc, interval)), "membership") == expected


def privacy(run: Path, output: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["evaluate", "privacy", str(run), "--num", "2", "--output", str(output), *options])
    if result.exception:
        raise result.exception
    return result.output


def test_a_run_is_judged_from_its_samples_and_its_loss(electrodes_run: Path, tmp_path: Path) -> None:
    output = privacy(electrodes_run, tmp_path / "report")

    written = json.loads((tmp_path / "report" / "privacy.json").read_text())
    assert set(written["verdicts"]) == {"copies", "membership", "re-identification"}
    assert written["about"]["samples"] == 2 and written["about"]["like"] == "train"
    assert set(written["metrics"]) == set(METRICS)
    assert str(electrodes_run.parent) not in (tmp_path / "report" / "privacy.json").read_text()
    assert "Do samples repeat training windows?" in output and "privacy.json" in output


def test_another_dataset_is_refused(electrodes_run: Path, tmp_path: Path) -> None:
    prepare_synthetic(tmp_path / "other", "db-iq", SyntheticOptions(num_subjects=4, num_windows=1))

    with pytest.raises(UserError, match="is not what the model was trained on"):
        privacy(electrodes_run, tmp_path / "report", "--real", str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("split", "message"),
    [("train", "are in the training split too"), ("tset", "has no split tset, only train, validation, test")],
)
def test_a_split_without_new_people_is_refused(electrodes_run: Path, tmp_path: Path, split: str, message: str) -> None:
    root = _root_of(electrodes_run)

    with pytest.raises(UserError, match=message):
        privacy(electrodes_run, tmp_path / "report", "--real", f"{root}:{split}")


def test_a_dataset_that_was_moved_is_given_with_real(electrodes_run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(_root_of(electrodes_run), tmp_path / "moved")

    privacy(electrodes_run, tmp_path / "report", "--real", f"{moved}:validation")

    written = json.loads((tmp_path / "report" / "privacy.json").read_text())
    assert written["about"]["real"] == "moved:validation"


def _root_of(run: Path) -> Path:
    return Path(tomllib.loads((run / "config.toml").read_text())["data"]["paths"]["root"])


def _train(experiment_file: Path, work: Path, *overrides: str) -> Path:
    quiet = ("training.max_steps=2", "training.validation.enabled=false")
    train(experiment_file, output_dir=work / "run", overrides=(*quiet, *overrides))
    return work / "run"


@pytest.mark.slow
def test_a_latent_model_is_judged(experiment_file: Path, tmp_path: Path) -> None:
    small_vae().save_pretrained(tmp_path / "vae")
    vae = ("model.autoencoder.enabled=true", f"model.autoencoder.path={tmp_path / 'vae'}")
    run = _train(experiment_file, tmp_path, *vae, "model.architecture.patch_size=[4, 4]")

    text = privacy(run, tmp_path / "report")
    assert "Membership, AUC, t = 0.9" in text
    assert "Do samples repeat training windows? unknown: 2 synthetic windows; at least 10 are needed" in text


@pytest.mark.slow
def test_a_caption_model_is_judged(experiment_file: Path, tmp_path: Path) -> None:
    encoder = text_encoders.clip(tmp_path / "encoder")
    captions = ("model.conditioning.type=caption", f"model.conditioning.text_encoder={encoder}")
    run = _train(experiment_file, tmp_path, *captions)

    assert "Membership, AUC, t = 0.9" in privacy(run, tmp_path / "report")


@pytest.mark.slow
def test_a_model_of_pictures_is_judged_by_its_loss_only(experiment_file: Path, tmp_path: Path) -> None:
    root = tmp_path / "discs"
    folder_of_pictures(root)
    run = _train(experiment_file, tmp_path, f"data.paths.root={root}", "data.representation=image")

    output = privacy(run, tmp_path / "report", "--real", f"{root}:validation")

    assert "Do samples repeat training windows? unknown: samples cannot be turned into microvolts" in output
    assert "no sign of membership" in output or "may differ" in output or "apart" in output


@pytest.mark.slow
def test_an_unconditional_model_of_time_series_is_judged(
    experiment_file: Path, datasets: dict[str, Path], tmp_path: Path
) -> None:
    data = (f"data.paths.root={datasets['timeseries']}", "data.representation=timeseries", "data.loading.batch_size=1")
    run = _train(
        experiment_file, tmp_path, *data, "model.conditioning.type=none", "model.architecture.patch_size=[1,64]"
    )

    privacy(run, tmp_path / "report")

    assert json.loads((tmp_path / "report" / "privacy.json").read_text())["about"]["like"] == ""


def test_a_missing_dataset_is_named(electrodes_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing does not exist; give the folder of the run's dataset with --real$"):
        privacy(electrodes_run, tmp_path / "report", "--real", str(tmp_path / "missing"))


@pytest.mark.slow
@pytest.mark.processes
def test_two_processes_find_the_same_as_one(electrodes_run: Path, tmp_path: Path) -> None:
    words = ["evaluate", "privacy", str(electrodes_run), "--num", "70", "--output"]  # batches of 35

    together = two_processes(app, [*words, str(tmp_path / "two")], standalone_mode=False)

    assert together.exit_codes == [0, 0], together.output
    assert together.output.count("Do samples repeat training windows?") == 1
    privacy(electrodes_run, tmp_path / "one", "--num", "70")
    assert (tmp_path / "two" / "privacy.json").read_bytes() == (tmp_path / "one" / "privacy.json").read_bytes()


def comparing_fails(run: Path, output: Path) -> None:
    with patch("signal_diffusion.sampling.privacy.compare", side_effect=ZeroDivisionError("of the first")):
        words = ["evaluate", "privacy", str(run), "--num", "2", "--output", str(output)]
        with report_user_errors():
            app(words, standalone_mode=False)


@pytest.mark.slow
@pytest.mark.processes
def test_a_failing_first_process_stops_the_others(electrodes_run: Path, tmp_path: Path) -> None:
    finished = two_processes(comparing_fails, electrodes_run, tmp_path / "report")

    assert finished.exit_codes == [2, 2], finished.output
    assert "error: process 0: ZeroDivisionError: of the first" in finished.output
