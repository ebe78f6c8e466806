"""Runs with Muon: resumed to the bit, with a state in float32, by several processes; and where it is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from signal_diffusion.errors import UserError
from signal_diffusion.experiment.inspection import inspect
from signal_diffusion.experiment.loading import load_autoencoder_experiment, load_experiment
from signal_diffusion.experiment.resolving import resolve
from signal_diffusion.training.diffusion import train
from tests.training.processes import two_processes
from tests.training.runs import largest_difference, metrics_of, tensors_of

MUON = ("training.optimizer.type=muon", "training.max_steps=6", "training.mixed_precision=bf16")
LAST = "checkpoint-6"


@pytest.fixture(scope="module")
def uninterrupted(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "uninterrupted"
    assert train(experiment_file, output_dir=run, overrides=MUON)
    return run


def killed_after(step: int, uninterrupted: Path, run: Path) -> Path:
    run.mkdir()
    shutil.copytree(uninterrupted / f"checkpoint-{step}", run / f"checkpoint-{step}")
    shutil.copy(uninterrupted / "metrics.jsonl", run)
    return run


@pytest.mark.parametrize("step", [1, 5])
def test_a_killed_and_resumed_run_is_bit_identical(
    step: int, uninterrupted: Path, experiment_file: Path, tmp_path: Path
) -> None:
    run = killed_after(step, uninterrupted, tmp_path / "run")
    train(experiment_file, output_dir=run, resume="latest", overrides=MUON)
    assert largest_difference(run / LAST, uninterrupted / LAST) == 0
    assert metrics_of(run) == metrics_of(uninterrupted)


def test_the_state_under_autocast_is_float32_and_has_one_moment_per_hidden_matrix(uninterrupted: Path) -> None:
    state = {name: each for name, each in tensors_of(uninterrupted / LAST).items() if name.startswith("optimizer.")}
    assert {each.dtype for each in state.values()} == {torch.float32}
    momenta = [name for name in state if name.endswith("momentum_buffer")]
    assert len(momenta) == 2 * 4  # layers × qkv, projection, mlp.0, mlp.2
    assert all(state[name].any() for name in momenta)


def test_a_run_with_adamw_goes_on_with_muon_only_with_a_fresh_state(
    uninterrupted: Path, experiment_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"\[training\.optimizer\] type: 'adamw', but .* was trained with 'muon'"):
        train(experiment_file, output_dir=tmp_path / "a", resume=str(uninterrupted / LAST))
    fresh = ("training.resume.reset_optimizer=true", "training.max_steps=8")
    assert train(experiment_file, output_dir=tmp_path / "b", resume=str(uninterrupted / LAST), overrides=fresh)


@pytest.mark.slow
@pytest.mark.processes
def test_two_processes_take_the_same_steps_and_resume_to_the_bit(experiment_file: Path, tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    finished = two_processes(train, experiment_file, output_dir=whole, overrides=MUON)
    assert finished.exit_codes == [0, 0], finished.output
    killed_after(4, whole, run)
    finished = two_processes(train, experiment_file, output_dir=run, resume="latest", overrides=MUON)
    assert finished.exit_codes == [0, 0], finished.output
    assert largest_difference(run / LAST, whole / LAST) == 0


def test_lora_and_autoencoders_are_refused_in_one_line(experiment_file: Path) -> None:
    lora = ("model.lora.enabled=true", "model.pretrained=elsewhere", "training.optimizer.type=muon")
    with pytest.raises(UserError, match=r"\[training\.optimizer\] type: 'muon' .* LoRA .*; use 'adamw'$") as caught:
        load_experiment(experiment_file, lora)
    assert len(caught.value.lines) == 1
    convolutions = Path(__file__).parents[2] / "config" / "autoencoder" / "eeg-db-iq.toml"
    with pytest.raises(UserError, match=r"type: 'muon' .*, but an autoencoder has only convolutions; use 'adamw'$"):
        load_autoencoder_experiment(convolutions, ("training.optimizer.type=muon",))


def test_another_value_is_one_line_that_names_the_choices(experiment_file: Path) -> None:
    with pytest.raises(UserError, match=r"type: .*'adamw', 'adam', 'sgd' or 'muon'.*'muom'") as caught:
        load_experiment(experiment_file, ("training.optimizer.type=muom",))
    assert len(caught.value.lines) == 1


def test_the_estimate_of_memory_has_one_moment_per_hidden_value_and_two_per_other(experiment_file: Path) -> None:
    with_muon, with_adamw = (
        inspect(resolve(load_experiment(experiment_file, (f"training.optimizer.type={kind}",)))).memory
        for kind in ("muon", "adamw")
    )
    width, layers = 2 * 8, 2
    assert with_adamw.state - with_muon.state == 4 * layers * (3 + 1 + 4 + 4) * width**2
    assert with_adamw.activations == with_muon.activations
