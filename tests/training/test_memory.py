"""A run that cannot fit into memory is refused before it allocates, unless it is forced."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from signal_diffusion.config.sources import expectations, written_keys
from signal_diffusion.errors import UserError
from signal_diffusion.experiment import memory
from signal_diffusion.experiment.assumed import Assumptions
from signal_diffusion.experiment.dataset import dataset_of
from signal_diffusion.experiment.inspection import inspect
from signal_diffusion.experiment.loading import load_autoencoder_experiment, load_experiment
from signal_diffusion.experiment.measuring import kept_bytes
from signal_diffusion.experiment.memory import Memory, check_memory
from signal_diffusion.experiment.resolving import resolve
from signal_diffusion.training import autoencoder, diffusion

GIB = 2**30
SD35 = Path(__file__).parents[2] / "config" / "diffusion" / "sd35-db-only.toml"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run in a container of less memory."""
    monkeypatch.setattr(memory, "memory_limit", lambda: None)


def test_a_run_of_more_memory_than_the_machine_has_is_refused_before_it_writes_unless_forced(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2**10, available=2**30))
    run, overrides = tmp_path / "run", ("training.max_steps=1", "training.visualization.enabled=false")
    with pytest.raises(UserError) as caught:
        diffusion.train(experiment_file, output_dir=run, overrides=overrides)
    [line] = caught.value.lines
    assert line.startswith(f"{experiment_file}: [data.loading] batch_size: training takes about 0.00 GiB per process: ")
    assert ", but the machine has 0.00 GiB; use a smaller one " in line and line.endswith(", or --force")
    assert not (run / "config.toml").exists()
    assert diffusion.train(experiment_file, output_dir=run, overrides=overrides, force=True)


@pytest.mark.parametrize(
    ("state", "activations", "checkpoints", "advice"),
    [
        (90, 20, False, "; use a smaller network, or --force"),
        (20, 90, True, "; use a smaller one with more training.gradient_accumulation_steps, or"),
        (20, 90, False, ", or training.gradient_checkpointing = true, or --force"),
    ],
)
def test_the_advice_is_about_what_takes_the_memory(
    state: int, activations: int, checkpoints: bool, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=100 * GIB))
    needed = Memory(state=state * GIB, activations=activations * GIB)
    with pytest.raises(UserError, match=r"about 110\.00 GiB per process.* but the machine has 100\.00 GiB;") as caught:
        check_memory(needed, CPU, checkpoints_gradients=checkpoints)
    assert advice in str(caught.value)


def test_the_limit_of_a_job_counts_if_the_machine_has_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=100 * GIB))
    needed = Memory(state=4 * GIB, activations=2 * GIB)
    monkeypatch.setattr(memory, "memory_limit", lambda: 6 * GIB)
    check_memory(needed, CPU, checkpoints_gradients=False)
    monkeypatch.setattr(memory, "memory_limit", lambda: 5 * GIB)
    with pytest.raises(UserError, match=r"but this job or container \(its cgroup\) has 5\.00 GiB; use a smaller"):
        check_memory(needed, CPU, checkpoints_gradients=False)
    monkeypatch.setattr(memory, "memory_limit", lambda: 2**63 - 4096)  # of v1 without a limit
    check_memory(needed, CPU, checkpoints_gradients=False)


def test_processes_on_one_cpu_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=100 * GIB))
    needed = Memory(state=40 * GIB, activations=20 * GIB)
    check_memory(needed, CPU, checkpoints_gradients=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"but the machine has 100\.00 GiB for 2 processes"):
        check_memory(needed, CPU, checkpoints_gradients=False)


def test_the_memory_of_an_autoencoder_is_that_of_a_pass_of_the_whole_batch(synthetic_dataset: Path) -> None:
    file = Path(__file__).parents[2] / "config" / "autoencoder" / "eeg-db-only-x4.toml"
    overrides = [f"data.paths.root={synthetic_dataset}", "data.loading.batch_size=3", "training.mixed_precision=no"]
    experiment = load_autoencoder_experiment(file, overrides)
    card = dataset_of(experiment.data).card
    needed, network = autoencoder.memory_of(experiment, card), autoencoder.network_of(experiment, card)
    assert needed.activations == kept_bytes(network, torch.zeros(3, *card.shape), bf16=False)
    assert needed.state == 4 * 5 * sum(parameter.numel() for parameter in network.parameters())


def test_an_autoencoder_that_does_not_fit_is_refused(
    synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2**10, available=2**30))
    file = Path(__file__).parents[2] / "config" / "autoencoder" / "eeg-db-only-x4.toml"
    overrides = (f"data.paths.root={synthetic_dataset}", "data.loading.batch_size=1")
    with pytest.raises(UserError, match=r"training takes about .* but the machine has 0\.00 GiB"):
        autoencoder.train(file, output_dir=tmp_path / "run", overrides=overrides)


def test_fsdp2_divides_all_but_what_is_whole_and_what_is_gathered() -> None:
    needed = Memory(state=90, activations=7, whole=10, gathered=5)
    assert needed.sharded(4) == Memory(state=20 + 10 + 5, activations=7, whole=10, gathered=5)


@pytest.mark.slow
def test_a_full_fine_tuning_of_sd35_needs_more_than_a_gpu_of_40_gib_and_fits_into_four_of_24() -> None:
    """2.25 billion weights: 4 bytes each for weight, gradient, average and two moments."""
    experiment = load_experiment(SD35, ["training.gradient_checkpointing=true"])
    resolved = resolve(experiment, written_keys(SD35, ()), expectations(SD35), assumptions=Assumptions())
    found = inspect(dataclasses.replace(resolved, pretrained=None))
    one, four = found.memory, found.memory.sharded(4)
    assert one.state == 4 * 5 * found.parameters + one.whole > 40 * GIB
    assert four.state + four.activations < 16 * GIB
    assert four.gathered < 0.2 * one.state  # a block of 24 at a time, and what is outside blocks
