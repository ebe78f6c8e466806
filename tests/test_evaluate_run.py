"""`evaluate RUN` generates windows like the real ones and judges them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation import reading
from signal_diffusion.training.diffusion import train
from tests import text_encoders

pytestmark = pytest.mark.usefixtures("few_figures")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What lets the tiny experiment train on db-iq, which is converted to signals quickly."""
    root = tmp_path_factory.mktemp("data") / "db-iq"
    prepare_synthetic(root, "db-iq", SyntheticOptions(num_subjects=5, num_windows=1))
    return f"data.paths.root={root}", "data.representation=db-iq", "training.max_steps=1"


@pytest.fixture(scope="module")
def run(experiment_file: Path, dataset: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(experiment_file, overrides=dataset, output_dir=folder)
    return folder


def test_a_run_is_judged_by_its_test_split_also_if_only_a_part_of_it_is_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(reading.read_dataset.__kwdefaults__, "most", 1)
    output = tmp_path / "report"
    arguments = ["evaluate", str(run), "--num", "12", "--metrics", "lsd,inconsistency", "--output", str(output)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)

    assert result.exit_code == 0, result.output
    assert ":test, 1 of " in result.output
    report = json.loads((output / "report.json").read_text("utf-8"))
    assert report["metrics"]["lsd"]["value"] > 0
    assert report["metrics"]["inconsistency"]["value"] > 0  # its spectrograms are judged too


def judged(run: Path, output: Path, *options: str) -> tuple[dict[str, Any], str]:
    arguments = ["evaluate", str(run), "--num", "24", *options, "--output", str(output)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads((output / "report.json").read_text("utf-8")), result.output


def test_several_guidance_scales_are_compared_and_the_first_is_judged(run: Path, tmp_path: Path) -> None:
    metrics = ("--metrics", "lsd,acf,adherence-label")
    report, text = judged(run, tmp_path / "several", "--guidance-scale", "3,1", *metrics)
    alone, other = judged(run, tmp_path / "one", "--guidance-scale", "1", *metrics)

    assert "run, guidance scale 3" in text and "by guidance scale" in text and "by guidance scale" not in other
    assert list(report["guidance"]) == ["3", "1"] and alone["guidance"] == {}
    assert list(report["guidance"]["1"]) == ["lsd", "adherence-label"]
    for scale, judged_alone in (("3", report), ("1", alone)):
        for key in ("value", "floor", "ratio", "interval"):
            assert report["guidance"][scale]["lsd"][key] == judged_alone["metrics"]["lsd"][key]
    assert "lsd,guidance scale,3," in (tmp_path / "several" / "report.csv").read_text("utf-8")
    page = (tmp_path / "several" / "report.html").read_text("utf-8")
    assert '<section id="guidance">' in page and "<h3>Guidance</h3>" in page
    assert 'id="guidance"' not in (tmp_path / "one" / "report.html").read_text("utf-8")


@pytest.mark.parametrize("scales", ["two", "-1", "1,,2", "inf"])
def test_a_guidance_scale_is_a_number_of_at_least_0(run: Path, tmp_path: Path, scales: str) -> None:
    result = CliRunner().invoke(
        app, ["evaluate", str(run), f"--guidance-scale={scales}", "--output", str(tmp_path / "x")]
    )

    assert isinstance(result.exception, UserError)
    assert str(result.exception) == f"--guidance-scale {scales}: expected numbers of at least 0, such as 1,2,4"


def test_a_misspelt_metric_is_refused_before_anything_is_generated(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal_diffusion.cli.evaluated_model.windows_of_model", lambda *args, **options: pytest.fail())
    result = CliRunner().invoke(app, ["evaluate", str(run), "--metrics", "lsdd", "--output", str(tmp_path / "x")])

    assert isinstance(result.exception, UserError) and "unknown metric 'lsdd'" in str(result.exception)


def test_only_a_model_has_a_guidance_scale(synthetic_dataset: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", str(synthetic_dataset), "--real", str(synthetic_dataset), "--guidance-scale", "2"]
    result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "x")])

    assert isinstance(result.exception, UserError) and "is no run or exported model" in str(result.exception)


def test_a_model_of_captions_is_judged_by_what_its_captions_say(
    experiment_file: Path, dataset: tuple[str, ...], tmp_path: Path
) -> None:
    encoder = text_encoders.clip(tmp_path / "clip")
    overrides = (
        "model.conditioning.type=caption",
        f"model.conditioning.text_encoder={encoder}",
        *dataset,
    )
    train(experiment_file, overrides=overrides, output_dir=tmp_path / "run")
    names = [f"adherence-{name}" for name in ("label", "gender", "age")]
    report, text = judged(tmp_path / "run", tmp_path / "report", "--metrics", ",".join(names))

    missing = [report["metrics"][name].get("missing", "") for name in names]
    assert not any("known or asked for" in reason for reason in missing), text


def test_utility_generates_windows_like_the_training_split(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("braindecode")
    output = tmp_path / "use"
    arguments = ["evaluate", "utility", str(run), "--quick", "--seeds", "1", "--classifiers", "logreg", "--steps", "2"]
    result = CliRunner().invoke(app, [*arguments, "--output", str(output)], catch_exceptions=False)

    assert result.exit_code == 0, result.output
    assert "training 7 × logreg\n" in result.output
    windows = json.loads((output / "utility.json").read_text("utf-8"))["windows"]
    assert windows["synthetic"]["windows"] == 2 * windows["train"]["windows"]


@pytest.mark.parametrize("command", [[], ["utility"], ["privacy"]])
def test_a_wrong_number_of_steps_names_its_option(run: Path, tmp_path: Path, command: list[str]) -> None:
    arguments = ["evaluate", *command, str(run), "--steps", "0", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)

    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith("--steps")


@pytest.mark.parametrize("command", [[], ["utility"]])
def test_options_that_generate_are_refused_for_files(tmp_path: Path, command: list[str]) -> None:
    pytest.importorskip("braindecode")
    arguments = [
        "evaluate",
        *command,
        str(tmp_path),
        "--real",
        "data",
        "--steps",
        "9",
        "--output",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(app, arguments)

    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith(f"--steps: {tmp_path} is no run or exported model")
