"""Each subcommand of `benchmark`, at the smallest sizes, gives the figures that it promises. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from signal_diffusion.benchmarks import kernels, machine
from signal_diffusion.benchmarks.counterparts import counterpart_of
from signal_diffusion.benchmarks.experiments import case_of, rows_of_each
from signal_diffusion.benchmarks.measuring import Row, in_turn, peak_bytes, row_of
from signal_diffusion.cli import app
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.training.diffusion import train

CEILINGS = ["ceiling: float32 products", "ceiling: copies"]
MEASURED = {"times_first", "examples_per_second", "flops_per_second", "share_of_products", "peak_bytes"}
UNET = """
[compute]
device = "cpu"
[data]
representation = "image"
image_size = 16
[data.paths]
root = "nowhere"
[data.loading]
batch_size = 2
[model]
name = "unet"
[model.architecture]
model_channels = 8
channel_multipliers = [1, 2]
use_attention = [false, true]
layers_per_block = 1
[training]
max_steps = 3
mixed_precision = "no"
[training.visualization]
num_samples = 2
[generation.sampling]
steps = 2
"""
STAND_IN = """
import argparse
from accelerate import Accelerator
parser = argparse.ArgumentParser()
parser.add_argument("--output_dir")
parser.add_argument("--train_batch_size", type=int)
options, _ = parser.parse_known_args()
accelerator = Accelerator(log_with="tensorboard", project_dir=options.output_dir)
accelerator.init_trackers("run")
for step in range(1, 4):
    accelerator.log({"loss": 1.0}, step=step)
import numpy as np
accelerator.get_tracker("tensorboard").log_images({"samples": np.zeros((2, 4, 4, 3), "uint8")}, step=3)
accelerator.end_training()
"""
"""Logs like train_unconditional.py, which has to be downloaded and needs torchvision."""


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine.PRODUCT_SIZE, "cpu", 64)
    monkeypatch.setattr(machine, "COPIED_BYTES", 2**12)
    monkeypatch.setattr(kernels, "GRIDS", ((17, 18),))
    monkeypatch.setattr(kernels, "LENGTHS", (9,))


@pytest.fixture
def unet_file(tmp_path: Path) -> Path:
    path = tmp_path / "unet.toml"
    path.write_text(UNET)
    return path


def measured(*words: object) -> dict[str, Any]:
    """The report of a subcommand, which has measured one case once."""
    line = ["benchmark", *map(str, words), "--rounds", "1", "--json"]
    result = CliRunner().invoke(app, line, catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def figures_of(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The figures of a report by variant."""
    assert all(0 < row["fastest"] <= row["seconds"] <= row["slowest"] for row in report["rows"])
    return {row["variant"]: row["figures"] for row in report["rows"]}


@pytest.mark.parametrize("command", ["train", "sample"])
def test_a_step_and_samples_are_measured_next_to_diffusers(command: str, experiment_file: Path):
    report = measured(command, experiment_file, "--against", "diffusers")

    figures = figures_of(report)
    assert list(figures) == ["ours", "diffusers", *CEILINGS]
    assert set(figures["ours"]) == set(figures["diffusers"]) == MEASURED
    assert figures["ours"]["times_first"] == 1
    assert figures["ceiling: copies"].keys() == {"bytes_per_second"}
    assert report["machine"]["threads"] == torch.get_num_threads()
    assert report["notes"] == []


def test_samples_of_a_trained_model_are_measured(experiment_file: Path, tmp_path: Path):
    quiet = ("training.max_steps=1", "training.validation.enabled=false")
    train(experiment_file, output_dir=tmp_path / "run", overrides=quiet)

    report = measured("sample", tmp_path / "run", "--set", "generation.sampling.guidance_scale=2")

    assert report["rows"][0]["case"] == "checkpoint-1, 2 samples, euler, 2 steps, guidance 2, on cpu"
    assert set(figures_of(report)["ours"]) == MEASURED


def test_guidance_takes_twice_the_operations(experiment_file: Path):
    flops = []
    for scale in (1, 2):
        report = measured("sample", experiment_file, "--set", f"generation.sampling.guidance_scale={scale}")
        row = report["rows"][0]
        flops.append(row["figures"]["flops_per_second"] * row["seconds"])

    assert flops[1] == pytest.approx(2 * flops[0])


def test_without_a_file_each_backbone_that_downloads_nothing_is_measured():
    def rows_of(file: Path) -> list[Row]:
        experiment = load_experiment(file)
        if experiment.model.name == "unet":
            raise UserError(f"{file}: too large")
        return [row_of(experiment.model.name, "ours", [1.0], {})]

    rows, notes = rows_of_each(None, rows_of)

    assert [row.case for row in rows] == ["dit", "hourglass", "localmamba"]
    assert notes == ["unet-image: too large"]


def test_a_measured_step_writes_nothing(experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    measured("train", experiment_file, "--batch-size", 1)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["attention", "scan"])
def test_every_backend_of_a_kernel_is_measured(command: str):
    figures = figures_of(measured(command, "--batch-size", 1, "--precision", "fp32"))

    backends = {"attention": {"tiles", "dense"}, "scan": {"torch", "loop"}}[command]
    assert backends < set(figures)
    assert set(figures["tiles" if command == "attention" else "torch"]) == MEASURED


def test_the_loop_is_the_selective_scan():
    generator = torch.Generator().manual_seed(0)
    u, delta = torch.randn(2, 2, 5, 7, generator=generator)
    b, c = torch.randn(2, 2, 1, 3, 7, generator=generator)
    a, d, bias = -torch.rand(5, 3, generator=generator), *torch.randn(2, 5, generator=generator)

    expected = kernels.selective_scan(u, delta, a, b, c, d, bias, backend="torch")

    torch.testing.assert_close(kernels._loop(u, delta, a, b, c, d, bias), expected)


def test_the_unet_of_diffusers_is_ours(unet_file: Path):
    case = case_of(unet_file, ())
    counterpart, (model, _) = counterpart_of(case), case.network()

    assert counterpart.flops == case.inspection.flops
    counterpart.network.load_state_dict(model.network.state_dict(), strict=True)


def test_calls_take_turns_and_the_first_round_is_not_counted():
    calls: list[str] = []
    seconds = in_turn(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, device=torch.device("cpu"), rounds=2
    )

    assert calls == ["a", "b"] * 3
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_the_peak_of_a_call_counts_what_is_freed_again():
    peak = peak_bytes(lambda: torch.ones(2**24), torch.device("cpu"))
    if peak is None:
        pytest.skip("this system does not report peak memory")

    assert peak > 0.9 * 4 * 2**24


@pytest.mark.slow
def test_whole_commands_are_measured_by_their_logs(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(STAND_IN)
    smallest = {
        "training.max_steps": 3,
        "data.loading.batch_size": 2,
        "data.image_size": 16,
        "model.architecture.model_channels": 8,
        "training.visualization.num_samples": 2,
        "generation.sampling.steps": 2,
    }
    sets = [word for key, value in smallest.items() for word in ("--set", f"{key}={value}")]

    report = measured("train", "--against", "diffusers", "--script", script, *sets)

    expected = {"examples_per_second", "first_step_seconds", "preview_seconds", "cpu_seconds"}
    assert {name: set(figures) for name, figures in figures_of(report).items()} == dict.fromkeys(
        ("ours", "diffusers"), expected
    )
    assert report["rows"][0]["case"] == "whole command, unet, 3 × 16 × 16, 3 steps of 2, on cpu"


@pytest.mark.slow
def test_a_command_that_fails_is_one_line(unet_file: Path, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text("import no_such_package")

    with pytest.raises(UserError, match="No module named 'no_such_package'") as error:
        measured("train", unet_file, "--against", "diffusers", "--script", script)

    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nowhere.toml"], "nowhere.toml"),
        (["sample", "nowhere"], "nowhere: no such folder"),
        (["train", "UNET", "--script", "UNET"], "--script goes with --against diffusers"),
        (["train", "UNET", "--against", "diffusers", "--script", "nowhere.py"], "--script nowhere.py: no such file"),
        (["train", "TINY", "--against", "diffusers", "--script", "UNET"], "--script compares"),
        (["train", "TINY", "--against", "diffusers", "--set", "model.architecture.patch_size=[8,16]"], "square"),
        (["train", "TINY", "--set", "model.architecture.depth=3"], "model.architecture"),
        (["sample", "UNET", "--against", "diffusers", "--set", "generation.sampling.guidance_scale=2"], "guid"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line(words: list[str], message: str, unet_file: Path, experiment_file: Path):
    places = {"UNET": str(unet_file), "TINY": str(experiment_file)}

    with pytest.raises(UserError) as error:
        measured(*[places.get(word, word) for word in words])

    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_backbone_that_diffusers_lacks_is_one_line(experiment_file: Path, tmp_path: Path):
    path = tmp_path / "hourglass.toml"
    path.write_text('[data.paths]\nroot = "nowhere"\n[model]\nname = "hourglass"\n[training]\nmixed_precision = "no"\n')

    with pytest.raises(UserError, match="it has no hourglass; compare one of dit, unet"):
        measured("train", path, "--against", "diffusers", "--batch-size", 1)
