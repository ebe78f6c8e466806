"""A run that cannot fit into memory is refused before it allocates, unless it is forced."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from signal_diffusion.errors import UserError
from signal_diffusion.experiment.memory import Memory, check_memory
from signal_diffusion.training import diffusion

GIB = 2**30
CPU = torch.device("cpu")


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


def test_processes_on_one_cpu_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=100 * GIB))
    needed = Memory(state=40 * GIB, activations=20 * GIB)
    check_memory(needed, CPU, checkpoints_gradients=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"but the machine has 100\.00 GiB for 2 processes"):
        check_memory(needed, CPU, checkpoints_gradients=False)
