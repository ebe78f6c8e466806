"""The diagnostics of [debug] are correct and do not change the run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from signal_diffusion.training.diagnostics import BlockGradients
from signal_diffusion.training.diffusion import train
from tests.training.processes import two_processes
from tests.training.runs import largest_difference, metrics_of

GRADIENTS = {"gradients/block-0", "gradients/block-1", "gradients/other"}
PLAIN = ("training.checkpointing.interval=0", "training.optimizer.gradient_clip_norm=0.01", "training.max_steps=12")


@pytest.fixture(scope="module")
def plain(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "plain"
    train(experiment_file, output_dir=run, overrides=PLAIN)
    return run


@pytest.fixture(scope="module")
def diagnosed(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "diagnosed"
    overrides = ("debug.profile=true", "debug.log_gradients=true", "logging.tensorboard=true")
    train(experiment_file, output_dir=run, overrides=(*PLAIN, *overrides))
    return run


def test_diagnostics_change_neither_weights_nor_metrics(plain: Path, diagnosed: Path) -> None:
    without = [{name: row[name] for name in row.keys() - GRADIENTS} for row in metrics_of(diagnosed)]

    assert largest_difference(plain / "checkpoint-12", diagnosed / "checkpoint-12") == 0
    assert without == metrics_of(plain)


def test_block_gradient_norms_add_up_to_the_norm_before_clipping(diagnosed: Path) -> None:
    rows = [row for row in metrics_of(diagnosed) if row.keys() >= GRADIENTS]

    assert [row["step"] for row in rows] == [4, 8, 12]
    for row in rows:
        assert math.hypot(*(row[name] for name in GRADIENTS)) == pytest.approx(row["train/grad_norm"], rel=1e-5)
        assert row["train/grad_norm"] > 0.01


def test_tensorboard_has_a_histogram_of_every_gradient_value(diagnosed: Path) -> None:
    events = EventAccumulator(str(diagnosed / "tensorboard"))
    events.Reload()
    parameters = sum(value.numel() for value in load_file(diagnosed / "checkpoint-12" / "model.safetensors").values())
    last = [events.Histograms(name)[-1] for name in sorted(GRADIENTS)]

    assert {"gradients/other"} <= set(events.Tags()["scalars"])
    assert {event.step for event in last} == {12}
    assert sum(event.histogram_value.num for event in last) == parameters


def test_gradients_are_measured_only_in_logged_steps(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    monkeypatch.setattr(BlockGradients, "measure", lambda self: measured.append(1))
    overrides = (*PLAIN, "debug.log_gradients=true", "training.validation.enabled=false", "training.max_steps=5")

    train(experiment_file, output_dir=tmp_path, overrides=overrides)

    assert len(measured) == 2  # steps 4 and 5


def test_a_histogram_counts_each_value_between_its_edges() -> None:
    model = nn.Module()
    model.blocks = nn.ModuleList([nn.Linear(2, 2, bias=False)])
    model.head = nn.Linear(3, 1, bias=False)
    gradients = BlockGradients(model, model.blocks, torch.device("cpu"))
    model.blocks[0].weight.grad = torch.tensor([[0.0, 2.0], [-3.0, 1e9]])
    model.head.weight.grad = torch.tensor([[float("nan"), 0.0, 0.0]])

    gradients.measure()

    [(name, histogram)] = gradients.histograms().items()
    edges, counts = histogram.edges, histogram.counts
    filled = [(edges[i - 1], edges[i]) for i, count in enumerate(counts) if count]
    assert name == "gradients/block-0" and sum(counts) == 4
    assert all(low < value <= high for (low, high), value in zip(filled[:3], (-3.0, 0.0, 2.0), strict=True))
    assert filled[3][1] == edges[-1]
    assert math.isnan(gradients.norms()["gradients/other"])


def test_a_trace_covers_five_steps_after_warm_up_and_is_next_to_the_logs(diagnosed: Path, plain: Path) -> None:
    [trace] = (diagnosed / "tensorboard").glob("*.pt.trace.json")
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}

    assert {name for name in names if str(name).startswith("ProfilerStep")} == {
        f"ProfilerStep#{i}" for i in range(4, 9)
    }
    assert "aten::addmm" in names
    assert not list(plain.rglob("*.trace.json"))


def test_a_run_prints_the_path_of_its_trace(
    experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    overrides = (*PLAIN, "debug.profile=true", "training.validation.enabled=false", "training.max_steps=6")

    train(experiment_file, output_dir=tmp_path, overrides=overrides)  # ends during the traced steps

    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trace ")]
    [trace] = (tmp_path / "tensorboard").glob("*.pt.trace.json")
    assert len(lines) == 1 and str(trace) in lines[0]


@pytest.mark.slow
def test_only_one_of_two_processes_measures_animates_and_warns(experiment_file: Path, tmp_path: Path) -> None:
    diagnostics = ("debug.profile=true", "debug.log_gradients=true", "training.max_steps=4")
    previews = ("training.visualization.enabled=true", "training.visualization.animation=true")
    suspicious = ("training.optimizer.gradient_clip_norm=0.001", "training.validation.enabled=false")

    finished = two_processes(
        train, experiment_file, output_dir=tmp_path, overrides=(*diagnostics, *previews, *suspicious)
    )

    assert finished.exit_codes == [0, 0]
    assert len([line for line in finished.output.splitlines() if line.startswith("warning: ")]) == 2
    [row] = [row for row in metrics_of(tmp_path) if row.keys() >= GRADIENTS]
    assert math.hypot(*(row[name] for name in GRADIENTS)) == pytest.approx(row["train/grad_norm"], rel=1e-5)
    assert len(list((tmp_path / "samples").glob("*.gif"))) == 1
