"""Runs with post-hoc EMA: their snapshots outlive checkpoints, and resuming continues the averages exactly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from signal_diffusion import checkpoints
from signal_diffusion.errors import UserError
from signal_diffusion.training.diffusion import train
from tests.training.processes import two_processes
from tests.training.runs import largest_difference, metrics_of

POST_HOC = (
    "training.ema.post_hoc=true",
    "training.max_steps=8",
    "training.checkpointing.interval=2",
    "training.checkpointing.total_limit=2",
    "training.validation.enabled=false",
)
ACCUMULATED = "training.gradient_accumulation_steps=4"  # of one process, as many examples per step as of two


@pytest.fixture(scope="module")
def run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 8 steps with 4 snapshots, of which 2 checkpoints are left."""
    folder = tmp_path_factory.mktemp("runs") / "post-hoc"
    train(experiment_file, output_dir=folder, overrides=POST_HOC)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def snapshots_of(run: Path) -> dict[int, dict[str, torch.Tensor]]:
    return {each.step: load_file(each.path) for each in checkpoints.list_snapshots(run)}


def test_snapshots_outlive_their_checkpoints_and_are_as_large_as_the_weights(run: Path) -> None:
    assert [each.name for each in checkpoints.list_checkpoints(run)] == ["checkpoint-6", "checkpoint-8"]
    assert list(snapshots_of(run)) == [2, 4, 6, 8]
    sizes = {each.path.stat().st_size for each in checkpoints.list_snapshots(run)}
    assert max(sizes) < 1.2 * (run / "checkpoint-8" / "model.safetensors").stat().st_size


def test_a_snapshot_is_the_averages_of_its_checkpoint_in_fp16(run: Path) -> None:
    exact = load_file(run / "checkpoint-8" / "post_hoc_ema.safetensors")
    halved = snapshots_of(run)[8]
    assert exact.keys() == halved.keys() and all(value.dtype == torch.float32 for value in exact.values())
    assert all(torch.equal(halved[name], value.half()) for name, value in exact.items())


def test_the_first_average_is_of_the_weights_after_the_first_step(experiment_file: Path, tmp_path: Path) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=(*POST_HOC, "training.max_steps=1"))
    weights = load_file(tmp_path / "checkpoint-1" / "model.safetensors")
    averages = load_file(tmp_path / "checkpoint-1" / "post_hoc_ema.safetensors")
    assert all(torch.equal(value, weights[name.partition("/")[2]]) for name, value in averages.items())


def test_training_is_the_same_with_and_without(run: Path, experiment_file: Path, tmp_path: Path) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=(*POST_HOC, "training.ema.post_hoc=false"))
    assert largest_difference(run / "checkpoint-8", tmp_path / "checkpoint-8") == 0
    assert metrics_of(run) == metrics_of(tmp_path)
    assert not (tmp_path / "ema-snapshots").exists()


def test_resuming_continues_the_averages_bit_for_bit(run: Path, copy: Path, experiment_file: Path) -> None:
    name = str(copy / "checkpoint-6")
    train(experiment_file, output_dir=copy, resume=name, overrides=POST_HOC)
    then, now = snapshots_of(run), snapshots_of(copy)
    assert then.keys() == now.keys()
    assert all(torch.equal(then[step][name], now[step][name]) for step in then for name in then[step])
    states = [load_file(each / "checkpoint-8" / "post_hoc_ema.safetensors") for each in (run, copy)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_going_back_removes_later_snapshots_before_the_first_step(copy: Path, experiment_file: Path) -> None:
    stop = (*POST_HOC, "training.max_steps=6")  # the checkpoint's own step
    train(experiment_file, output_dir=copy, resume=str(copy / "checkpoint-6"), overrides=stop)
    assert list(snapshots_of(copy)) == [2, 4, 6]


def test_a_snapshot_without_a_checkpoint_is_from_a_kill_and_is_removed(copy: Path, experiment_file: Path) -> None:
    late = copy / "ema-snapshots" / "step-10-since-0.safetensors"
    half = copy / "ema-snapshots" / ".unfinished-step-12-since-0.safetensors"
    for path in (late, half):
        path.write_bytes(b"half")
    train(experiment_file, output_dir=copy, resume="latest", overrides=POST_HOC)
    assert not late.exists() and not half.exists()


def test_a_run_that_turns_it_on_later_averages_from_there(experiment_file: Path, tmp_path: Path) -> None:
    without = (*POST_HOC, "training.ema.post_hoc=false", "training.max_steps=4")
    train(experiment_file, output_dir=tmp_path, overrides=without)
    train(experiment_file, output_dir=tmp_path, resume="latest", overrides=POST_HOC)
    assert [(each.step, each.origin) for each in checkpoints.list_snapshots(tmp_path)] == [(6, 4), (8, 4)]
    assert json.loads((tmp_path / "checkpoint-8" / "progress.json").read_text())["post_hoc_updates"] == 4


def test_averages_that_are_not_finite_are_refused(copy: Path, experiment_file: Path) -> None:
    path = copy / "checkpoint-8" / "post_hoc_ema.safetensors"
    damaged = load_file(path)
    next(iter(damaged.values())).fill_(torch.nan)
    save_file(damaged, path)
    names = [each.name for each in path.parent.iterdir() if each.name != "manifest.json"]
    checkpoints.write_manifest(path.parent, 8, names)
    with pytest.raises(UserError, match="weights are not finite") as caught:
        train(experiment_file, output_dir=copy, resume="latest", overrides=(*POST_HOC, "training.max_steps=9"))
    assert len(caught.value.lines) == 1


def test_it_needs_the_average(experiment_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\[training.ema\] post_hoc: has no effect with training.ema.enabled = False"):
        train(experiment_file, output_dir=tmp_path, overrides=(*POST_HOC, "training.ema.enabled=false"))


@pytest.mark.processes
def test_two_processes_write_the_snapshots_of_one(experiment_file: Path, tmp_path: Path) -> None:
    two, one = (*POST_HOC, "training.max_steps=4"), (*POST_HOC, "training.max_steps=4", ACCUMULATED)
    finished = two_processes(train, experiment_file, output_dir=tmp_path / "two", overrides=two)
    assert finished.exit_codes == [0, 0], finished.output
    train(experiment_file, output_dir=tmp_path / "one", overrides=one)
    found, expected = snapshots_of(tmp_path / "two"), snapshots_of(tmp_path / "one")
    assert list(found) == list(expected) == [2, 4]
    assert all(value.shape == expected[4][name].shape and value.isfinite().all() for name, value in found[4].items())


def test_a_full_disk_names_the_snapshot_and_keeps_what_there_is(small_disk: Path, experiment_file: Path) -> None:
    with pytest.raises(UserError, match=r"step-2-since-0.*the disk is full .*free some space and resume") as caught:
        train(experiment_file, output_dir=small_disk / "run", overrides=POST_HOC)
    assert len(caught.value.lines) == 1
    assert not checkpoints.list_snapshots(small_disk / "run")
