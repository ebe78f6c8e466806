"""The same training on 1, 2 and 4 processes, each with the whole model (DDP) or with a part of it (FSDP2).

A step has 4 batches of 8 examples, on one process after the other or on several at once.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.models.sharding import local
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.autoencoder import train as train_autoencoder
from signal_diffusion.training.device import Sharding
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.trainer import Trainer
from tests.training.processes import FSDP, Finished, several_processes
from tests.training.runs import largest_difference, metrics_of, tensors_of

pytestmark = pytest.mark.processes
AUTOENCODER = Path(__file__).parents[2] / "config" / "autoencoder" / "eeg-db-only.toml"
BATCHES = 4
COMMON = (
    "training.max_steps=4",
    "training.checkpointing.interval=2",
    "training.ema.post_hoc=true",
    "training.visualization.enabled=true",
    "training.visualization.num_samples=3",
    "training.validation.num_generated=8",
    "debug.log_gradients=true",
)
ZERO2 = FSDP | {"FSDP_RESHARD_AFTER_FORWARD": "false"}
DDP: dict[str, str] = {}
LARGEST = 1e-5
"""Difference of a loss, weight or average after 4 steps: sums are taken in another order, in fp32."""


def sharing(count: int) -> tuple[str, ...]:
    """What lets so many processes take the same steps."""
    return *COMMON, f"training.gradient_accumulation_steps={BATCHES // count}"


def in_processes(count: int, launched: dict[str, str], file: Path, run: Path, *sets: str, **named: Any) -> Finished:
    overrides = (*sharing(count), *sets)
    return several_processes(count, launched, train, file, output_dir=run, overrides=overrides, **named)


@pytest.fixture(scope="module")
def by_one(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "one"
    train(experiment_file, output_dir=run, overrides=sharing(1))
    return run


@pytest.fixture(scope="module")
def sharded(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "sharded"
    finished = in_processes(2, FSDP, experiment_file, run)
    assert finished.exit_codes == [0, 0] and "; 2 × cpu, FSDP2, no" in finished.output, finished.output
    return run


def assert_same(run: Path, by_one: Path) -> None:
    """Losses, gradient norms, weights, averages and the optimizer's state are those of one process."""
    for own, one in zip(metrics_of(run), metrics_of(by_one), strict=True):
        names = [name for name in one if "loss" in name or "grad" in name]
        assert len(names) > 3 and own.keys() == one.keys()
        assert {name: own[name] for name in names} == pytest.approx({name: one[name] for name in names}, rel=LARGEST)
    a, b = (tensors_of(each / "checkpoint-4") for each in (run, by_one))
    a |= load_file(run / "checkpoint-4" / "post_hoc_ema.safetensors")
    b |= load_file(by_one / "checkpoint-4" / "post_hoc_ema.safetensors")
    assert a.keys() == b.keys()
    worst = {name: (a[name] - b[name]).abs().max().item() for name in a if name != "losses"}
    assert max(worst.values()) < LARGEST, max(worst, key=lambda name: worst[name])


@pytest.mark.parametrize(
    ("count", "launched"),
    [
        (2, DDP),
        pytest.param(4, FSDP, marks=pytest.mark.slow),
        pytest.param(2, ZERO2, marks=pytest.mark.slow),
        pytest.param(4, DDP, marks=pytest.mark.slow),
    ],
    ids=["2-DDP", "4-FSDP2", "2-ZeRO-2", "4-DDP"],
)
def test_several_processes_train_as_one_with_the_same_batches(
    count: int, launched: dict[str, str], by_one: Path, experiment_file: Path, tmp_path: Path
) -> None:
    finished = in_processes(count, launched, experiment_file, tmp_path / "run")
    assert finished.exit_codes == [0] * count, finished.output
    assert_same(tmp_path / "run", by_one)


def test_two_sharded_processes_train_as_one(sharded: Path, by_one: Path) -> None:
    assert_same(sharded, by_one)


def test_a_sharded_run_writes_the_checkpoint_that_one_process_writes(sharded: Path, by_one: Path) -> None:
    own, one = (run / "checkpoint-4" for run in (sharded, by_one))
    assert sorted(path.name for path in own.iterdir()) == sorted(path.name for path in one.iterdir())
    sizes = [{path.name: path.stat().st_size for path in each.glob("*.safetensors")} for each in (own, one)]
    assert sizes[0] == sizes[1] and len(sizes[0]) == 3
    weights, like = (load_trained(run).model.state_dict() for run in (sharded, by_one))
    torch.testing.assert_close(weights, like, rtol=0, atol=LARGEST)


@pytest.mark.parametrize(
    ("saved_by", "count", "launched"),
    [
        ("sharded", 1, DDP),
        pytest.param("sharded", 2, DDP, marks=pytest.mark.slow),
        pytest.param("by_one", 2, FSDP, marks=pytest.mark.slow),
    ],
    ids=["FSDP2-to-one", "FSDP2-to-DDP", "one-to-FSDP2"],
)
def test_a_run_goes_on_with_other_processes_and_another_sharding(
    saved_by: str, count: int, launched: dict[str, str], by_one: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    before, run = request.getfixturevalue(saved_by), tmp_path / "run"
    shutil.copytree(before / "checkpoint-2", run / "checkpoint-2")
    shutil.copytree(before / "ema-snapshots", run / "ema-snapshots")
    shutil.copy(before / "metrics.jsonl", run)
    file: Path = request.getfixturevalue("experiment_file")
    if count == 1:
        train(file, output_dir=run, overrides=sharing(1), resume="latest")
    else:
        finished = in_processes(count, launched, file, run, resume="latest")
        assert finished.exit_codes == [0] * count, finished.output
    assert_same(run, by_one)


def test_a_sharded_run_resumes_bit_for_bit(sharded: Path, experiment_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(sharded / "checkpoint-2", run / "checkpoint-2")
    shutil.copy(sharded / "metrics.jsonl", run)
    finished = in_processes(2, FSDP, experiment_file, run, resume="latest")
    assert finished.exit_codes == [0, 0], finished.output
    assert largest_difference(run / "checkpoint-4", sharded / "checkpoint-4") == 0
    assert metrics_of(run) == metrics_of(sharded)


def counting(folder: Path, file: Path, run: Path, overrides: tuple[str, ...]) -> None:
    """Train, and write how many values this process holds of each kind, and of how many."""
    original = Trainer._due_after_step

    def counted(self: Trainer, *arguments: Any) -> None:
        assert self.ema
        moments = [each for state in self.optimizer.optimizer.state.values() for each in state.values() if each.ndim]
        kinds = {"weights": list(self.model.parameters()), "averages": list(self.ema.state_dict().values())}
        kinds["moments"] = moments
        sizes = {
            kind: [sum(each.numel() for each in part) for part in (local(tensors), tensors)]
            for kind, tensors in kinds.items()
        }
        if self.progress.step:
            (folder / f"{self.accelerator.process_index}.json").write_text(json.dumps(sizes))
        original(self, *arguments)

    Trainer._due_after_step = counted  # type: ignore[method-assign,assignment]
    train(file, output_dir=run, overrides=overrides)


@pytest.mark.parametrize(
    "sets",
    [
        pytest.param("training.optimizer.type='adamw'", marks=pytest.mark.slow),  # Muon leaves some weights to AdamW
        "training.optimizer.type='muon'",
    ],
)
def test_each_process_holds_its_part_of_weights_averages_and_moments(
    sets: str, experiment_file: Path, tmp_path: Path
) -> None:
    few = ("training.max_steps=2", "training.validation.enabled=false", sets)
    finished = several_processes(2, FSDP, counting, tmp_path, experiment_file, tmp_path / "run", few)
    assert finished.exit_codes == [0, 0], finished.output
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for kind, (_, total) in found[0].items():
        parts = [each[kind][0] for each in found]
        assert sum(parts) == total > 20_000 and max(parts) < 0.55 * total


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "fsdp_version: 1; expected 2"),
        (FSDP | {"FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params: true; expected false"),
        (FSDP | {"FSDP_ACTIVATION_CHECKPOINTING": "True"}, "training.gradient_checkpointing = true"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "use config/accelerate/zero2.yaml"),
    ],
    ids=["FSDP1", "offloading", "checkpointing", "DeepSpeed"],
)
def test_what_accelerate_may_ask_for_but_training_cannot_is_one_line(
    variables: dict[str, str], message: str, experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        train(experiment_file, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_process_of_an_fsdp_launch_trains_without_sharding(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FSDP.items():
        monkeypatch.setenv(name, value)
    assert Sharding.wanted(load_experiment(experiment_file)) == Sharding(reshard_after_forward=True)
    assert train(experiment_file, output_dir=tmp_path / "run", overrides=("training.max_steps=1",))


def test_what_cannot_be_sharded_is_one_line(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FSDP.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"\[training.optimizer\] type: 'sgd' cannot be sharded"):
        train(experiment_file, output_dir=tmp_path / "run", overrides=("training.optimizer.type='sgd'",))
    with pytest.raises(UserError, match="autoencoders are only trained whole on each process"):
        train_autoencoder(AUTOENCODER, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
