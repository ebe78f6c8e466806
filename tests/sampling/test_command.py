"""The command `sample`: its defaults, its output and its one-line errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from signal_diffusion.checkpoints import MANIFEST, write_manifest
from signal_diffusion.cli import app, main
from signal_diffusion.data.export.file_formats import FORMATS
from signal_diffusion.diffusion.samplers import SAMPLERS
from signal_diffusion.sampling.choosing import experiment_at
from signal_diffusion.sampling.export import export
from signal_diffusion.sampling.output_folder import default_output, unfinished_folder
from signal_diffusion.sampling.request_options import request_options
from signal_diffusion.sampling.trained import load_trained


def invoke(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["sample", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command, which must exit with code 2, and return its one-line error."""
    monkeypatch.setattr("sys.argv", ["signal-diffusion", "sample", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--label asleep", "error: --label asleep: expected one of alert, relaxed"),
        ("--attributes label=asleep", "error: --attributes label=asleep: expected one of alert, relaxed"),
        ("--attributes age=60", "error: --attributes age: the model has no attribute age; it has label"),
        ("--caption woman", "error: --caption: the model has no attribute caption; it has label"),
        ("--label=", "error: --label: is blank; leave it out for any class"),
        ("--attributes=", "error: --attributes: is blank; leave it out for any values"),
        ("--attributes=,", "error: --attributes: is blank; leave it out for any values"),
        ("--like=", "error: --like: is blank; leave it out for conditions that are not from a split"),
        ("--attributes age", "expected name=value"),
        ("--label alert --attributes label", "expected name=value"),
        ("--label alert --attributes label=alert", "--attributes sets label too; use only one of the two"),
        ("--like validation --label alert", "--like validation: takes all conditions from the split, but label"),
        ("--like night", "db-only has no such split; use one of train, validation, test"),
        ("--sampler eulr", "error: --sampler: expected one of"),
        ("--steps 0", "error: --steps: expected a number greater than or equal to 1"),
        ("--num 0", "error: --num: expected a number greater than or equal to 1"),
        ("--steps 1000000000", "error: --steps: expected a number less than or equal to 10000, found 1000000000"),
        ("--num 1000000000", "error: --num: expected a number less than or equal to 10000000, found 1000000000"),
        ("--grid 1000000000", "grid_nrow: expected a number less than or equal to 1000, found 1000000000"),
        ("--windows 1000000000", "error: --windows: 1000000000; expected a whole number from 1 to 100000"),
        ("--batch-size 1000000000", "error: --batch-size: 1000000000; expected a whole number from 1 to 65536"),
        ("--windows 0", "error: --windows: 0; expected a whole number from 1 to 100000"),
        ("--set generation.sampling.eta=0.5", "eta: has no effect with generation.sampling.sampler = 'euler'"),
        ("--set generation.sampling.steeps=3", "unknown key (did you mean 'steps'?)"),
        ("--format npz,csv", "unknown format 'csv'; use one of: npz, parquet, fif, edf, png"),
        ("--batch-size many", "--batch-size many: expected a number, or auto"),
        ("--trajectory mp4", "--trajectory mp4: expected gif"),
        ("--windows 2", "--windows: the model is not conditioned on the electrode"),
        ("--windows 2 --num 3", "--windows 2: determines the number of samples, one per electrode; leave out --num 3"),
        ("--noise shared", "--noise shared: only applies to --windows; leave it out"),
        ("--windows 2 --noise loud", "--noise loud: expected shared or independent"),
    ],
)
def test_invalid_requests_are_one_line_errors_before_the_model_is_loaded(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    expected: str,
) -> None:
    monkeypatch.setattr("signal_diffusion.sampling.trained.load_trained", None)
    assert expected in refused([str(run), *arguments.split()], monkeypatch, capsys)
    assert not (run / "generated").exists()


def test_a_blank_caption_is_left_open_and_not_an_error() -> None:
    assert request_options(caption=" ").values == request_options().values == {}


def test_a_truncated_checkpoint_is_a_one_line_error(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = shutil.copytree(run / "checkpoint-4", tmp_path / "checkpoint-4")
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    line = refused([str(checkpoint)], monkeypatch, capsys)
    assert line.startswith(f"error: {weights}: truncated or changed since it was written")


def test_a_checkpoint_of_another_architecture_is_a_one_line_error(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = shutil.copytree(run / "checkpoint-4", tmp_path / "checkpoint-4")
    config = checkpoint / "config.toml"
    config.write_text(config.read_text().replace("attention_head_dim = 8", "attention_head_dim = 16"))
    write_manifest(checkpoint, 4, json.loads((checkpoint / MANIFEST).read_text())["files"])
    assert "weights of another architecture: size mismatch" in refused([str(checkpoint)], monkeypatch, capsys)


def test_an_existing_output_folder_is_a_one_line_error_and_unchanged(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    line = refused([str(run), "--output", str(tmp_path / "out")], monkeypatch, capsys)
    assert line == f"error: {tmp_path / 'out'} already exists; choose another --output, or remove it"
    assert not list((tmp_path / "out").iterdir())


def test_the_help_lists_all_samplers_and_formats() -> None:
    text = " ".join(invoke("--help").replace("│", " ").split())
    assert "of a checkpoint or of an exported model; or owner/name on the Hub." in text
    assert f"One of {', '.join(SAMPLERS)}." in text and f"File formats: {', '.join(FORMATS)}." in text


def test_the_experiment_has_the_defaults_of_options(electrodes_run: Path, tmp_path: Path) -> None:
    keys = ["generation.sampling.num_samples=3", "generation.output.formats=['parquet']"]
    sets = [word for key in (*keys, "generation.output.save_grid=true") for word in ("--set", key)]
    invoke(electrodes_run, "--output", tmp_path / "defaults", *sets)
    assert {path.name for path in (tmp_path / "defaults").iterdir()} == {
        "samples.parquet",
        "samples.json",
        "samples.png",
        "grid.png",
    }
    invoke(electrodes_run, "--output", tmp_path / "options", *sets, "--num", "2", "--format", "png")
    assert not (tmp_path / "options" / "samples.parquet").exists()
    assert len(list((tmp_path / "options" / "samples").glob("*.png"))) == 2


def test_requested_conditions_are_in_the_name_of_the_folder_and_in_samples_json(electrodes_run: Path) -> None:
    output = invoke(electrodes_run, "--windows", "1", "--attributes", "gender=female", "--sampler", "ddim")
    name = "checkpoint-2_ddim_2-steps_seed-0_gender-female_noise-shared_windows-1"
    settings = json.loads((electrodes_run / "generated" / name / "samples.json").read_text())
    assert f"{name}: 1 windows from" in output
    assert settings["asked"] == {"gender": "female", "windows": "1", "noise": "shared"}
    assert (settings["sampler"], settings["num_samples"], settings["evaluations_per_sample"]) == ("ddim", 19, 2.0)
    assert settings["versions"].keys() >= {"signal-diffusion", "torch"}
    assert settings["weights_sha256"].keys() == {"model.safetensors", "ema.safetensors"}


def test_different_numbers_of_samples_have_different_folders(electrodes_run: Path) -> None:
    experiments = [
        experiment_at(electrodes_run / "checkpoint-2", [f"generation.sampling.num_samples={n}"]) for n in (8, 9)
    ]
    names = [default_output(electrodes_run / "checkpoint-2", each, {}).name for each in experiments]
    assert names == [f"checkpoint-2_{n}-samples_euler_2-steps_seed-0" for n in (8, 9)]


def test_the_name_of_a_folder_with_many_settings_fits_file_systems(electrodes_run: Path) -> None:
    table = {
        "guidance_type": "autoguidance",
        "guidance_checkpoint": f"{electrodes_run}/checkpoint-1",
        "guidance_scale": 2.5,
        "guidance_interval": [0.25, 0.75],
        "guidance_rescale": 0.7,
        "use_ema": "false",
        "time_grid": "karras",
    }
    overrides = [f"generation.sampling.{key}={value}" for key, value in table.items()]
    experiment = experiment_at(electrodes_run / "checkpoint-2", overrides)

    folders = [default_output(electrodes_run / "checkpoint-2", experiment, {"label": each}) for each in "éè"]

    names = {folder.name for folder in folders}

    assert len(names) == 2
    for name in names:
        assert name.startswith("checkpoint-2_64-samples_euler_2-steps_seed-0_guidance-2.5_")
        assert len(unfinished_folder(Path(name)).name.encode()) <= 200


def test_all_processes_sample_from_the_checkpoint_that_the_first_one_found(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_the_first_process(objects: list[object]) -> list[object]:
        return [run / "checkpoint-2" if each == run / "checkpoint-4" else each for each in objects]

    monkeypatch.setattr("signal_diffusion.sampling.processes.broadcast_object_list", of_the_first_process)
    assert f"1 samples from {run / 'checkpoint-2'}: " in invoke(run, "--num", "1", "--output", tmp_path / "out")


def test_evaluations_per_sample_include_those_of_guidance(electrodes_run: Path, tmp_path: Path) -> None:
    invoke(electrodes_run, "--output", tmp_path / "out", "--num", "3", "--guidance-scale", "2.5", "--batch-size", "2")
    assert json.loads((tmp_path / "out" / "samples.json").read_text())["evaluations_per_sample"] == 4.0


def test_npz_png_grid_and_animation_are_written_to_one_folder(electrodes_run: Path, tmp_path: Path) -> None:
    words = ("--num", "3", "--format", "npz,png", "--grid", "2", "--trajectory", "gif")
    invoke(electrodes_run, "--output", tmp_path / "out", *words)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "samples.npz",
        "samples",
        "samples.json",
        "samples.png",
        "grid.png",
        "trajectory.gif",
    }
    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert file["tensors"].shape == (3, 3, 64, 64)


def test_samples_of_an_exported_model_are_written_to_the_working_directory(
    electrodes_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export(load_trained(electrodes_run), tmp_path / "exported")
    monkeypatch.chdir(tmp_path)
    output = invoke(exported, "--num", "1", "--attributes", "gender=female")
    [folder] = (tmp_path / "generated").iterdir()
    assert (
        folder.name == "exported_1-samples_euler_2-steps_seed-0_gender-female"
        and f"generated/{folder.name}: 1 samples" in output
    )
