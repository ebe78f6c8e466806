"""`--batch-size auto`: the largest batch that fits is found, recorded, and kept."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signal_diffusion.errors import UserError
from signal_diffusion.training import diffusion, peak_memory
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.largest_batch import MOST_TRIED, largest_batch
from signal_diffusion.training.peak_memory import bytes_used, measure_peak
from tests.training.processes import FSDP, several_processes
from tests.training.runs import largest_difference

MIB = 2**20
CPU = torch.device("cpu")
FEW = ("data.loading.max_train_examples=32",)
LARGE = (  # a batch of 16 takes tens of MiB
    "model.architecture.patch_size=[4, 4]",
    *("training.max_steps=2", "training.gradient_accumulation_steps=1", "training.validation.enabled=false"),
    "data.loading.max_train_examples=1000",
)


def batch_size_of(run: Path) -> int:
    """The batch size in a run's config.toml."""
    return tomllib.loads((run / "config.toml").read_text())["data"]["loading"]["batch_size"]


def limited(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let a step take `size` bytes."""
    monkeypatch.setattr(peak_memory, "_bytes_free", lambda device, used: int(size / peak_memory.SHARE["cpu"]))


# The search ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    resident=st.floats(0, 0.9),
    gradients=st.floats(0, 0.25),
    example=st.floats(1e-5, 0.05),
    optimizer=st.floats(0, 0.25),
    most=st.integers(1, 2000),
)
def test_no_step_exceeds_the_limit_and_the_largest_batch_is_found_to_an_eighth(
    resident: float, gradients: float, example: float, optimizer: float, most: int
) -> None:
    """Memory is linear in the batch, but for the optimizer's step, which may take more than a small batch.

    Gradients, or copies in the optimizer's step, are at most a fourth of weights, moments and average together.
    """
    gradients, optimizer, tried = gradients * resident, optimizer * resident, list[int]()

    def share_of(size: int) -> float:
        tried.append(size)
        return resident + max(gradients + size * example, optimizer)

    if share_of(1) > 1:
        return
    found, share = largest_batch(share_of, resident, most)
    assert max(map(share_of, set(tried))) < MOST_TRIED + 1e-6 and share == share_of(found) <= 1
    assert found in tried and len(set(tried)) < 60
    larger = found + 2 ** max(0, found.bit_length() - 4)  # the next one to four significant bits
    assert larger > most or share_of(larger) > 1 or resident > 0.4


def test_a_batch_that_runs_out_of_memory_is_replaced_by_a_smaller_one() -> None:
    found, _ = largest_batch(lambda size: math.inf if size > 21 else 0.01 * size, 0.0, 1000)
    assert found in (20, 21)


def test_an_example_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(UserError, match="a step of one example takes more memory than is free"):
        largest_batch(lambda size: 1.01, 0.5, 1000)


# Runs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_batch_that_is_found_fits_into_a_small_memory_and_twice_as_much_does_not(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = 48 * MIB
    limited(monkeypatch, limit)
    train(experiment_file, output_dir=tmp_path / "auto", overrides=LARGE, fit_batch_size=True)
    found = batch_size_of(tmp_path / "auto")
    assert f"batch size {found} per process, the largest that fits" in capsys.readouterr().err

    def taken(size: int) -> int:
        overrides = (*LARGE, f"data.loading.batch_size={size}")
        before = bytes_used(CPU)
        return (
            measure_peak(CPU, lambda: train(experiment_file, output_dir=tmp_path / f"{size}", overrides=overrides))
            - before
        )

    assert taken(found) <= 1.1 * limit < taken(2 * found)  # a run has more than its steps


def test_a_run_is_that_of_the_batch_size_that_was_found_to_the_bit(experiment_file: Path, tmp_path: Path) -> None:
    train(experiment_file, output_dir=tmp_path / "auto", overrides=(*FEW, "training.max_steps=3"), fit_batch_size=True)
    found = batch_size_of(tmp_path / "auto")
    assert found == batch_size_of(tmp_path / "auto" / "checkpoint-3")
    overrides = (*FEW, "training.max_steps=3", f"data.loading.batch_size={found}")
    train(experiment_file, output_dir=tmp_path / "explicit", overrides=overrides)
    assert largest_difference(tmp_path / "auto" / "checkpoint-3", tmp_path / "explicit" / "checkpoint-3") == 0


def test_measuring_leaves_the_random_state_untouched_and_does_not_warn_twice(
    experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def state_after(name: str, *overrides: str, fit_batch_size: bool = False) -> torch.Tensor:
        overrides = (*FEW, "training.max_steps=1", *overrides)
        train(experiment_file, output_dir=tmp_path / name, overrides=overrides, fit_batch_size=fit_batch_size)
        return torch.get_rng_state()

    assert torch.equal(state_after("auto", fit_batch_size=True), state_after("16", "data.loading.batch_size=16"))
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 4 and warnings[:2] == warnings[2:]


def test_a_run_has_at_least_one_step_per_epoch_and_a_resumed_one_keeps_its_batch_size(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=(*FEW, "training.max_steps=1"), fit_batch_size=True)
    assert batch_size_of(tmp_path) == 16  # 32 examples, two batches per step
    assert "the largest with a whole step per epoch" in capsys.readouterr().err

    limited(monkeypatch, 1)
    overrides = (*FEW, "training.max_steps=2")
    train(experiment_file, output_dir=tmp_path, overrides=overrides, resume="latest", fit_batch_size=True)
    assert batch_size_of(tmp_path) == 16
    assert f"batch size 16 per process, as in {tmp_path / 'checkpoint-1'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "free", "message"),
    [
        (("data.loading.batch_size=4",), 2**30, "--set data.loading.batch_size sets it, too"),
        ((), 1, "a step of one example takes more memory than is free"),
    ],
    ids=["two sizes", "too little memory"],
)
def test_what_cannot_be_found_is_one_line_and_writes_nothing(
    overrides: tuple[str, ...],
    free: int,
    message: str,
    experiment_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limited(monkeypatch, free)
    with pytest.raises(UserError, match=message):
        train(experiment_file, output_dir=tmp_path / "run", overrides=overrides, fit_batch_size=True)
    assert not (tmp_path / "run" / "config.toml").exists()


def test_a_number_is_not_another_way_to_set_the_batch_size(
    experiment_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train", str(experiment_file), "--batch-size", "64"])
    with pytest.raises(SystemExit) as ended:
        diffusion.main()
    assert ended.value.code == 2
    expected = "error: --batch-size 64: expected auto; a number is set by --set data.loading.batch_size=64\n"
    assert capsys.readouterr().err == expected


def fitted(experiment_file: Path, run: Path, sizes: list[int]) -> None:
    """Train with as much memory as `sizes` has for this process."""
    size: Callable[..., int] = lambda device, used: sizes[int(os.environ["RANK"])]  # noqa: E731
    peak_memory._bytes_free = size  # type: ignore[assignment]
    larger = ("model.architecture.patch_size=[2, 2]", "model.architecture.num_layers=1", "training.max_steps=1")
    train(experiment_file, output_dir=run, overrides=(*LARGE, *larger), fit_batch_size=True)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("variables", [{}, FSDP], ids=["DDP", "FSDP2"])
@pytest.mark.parametrize("sizes", [(300, 10_000), (10_000, 300)], ids=["first", "second"])
def test_processes_agree_on_the_smallest_of_their_batches(
    sizes: tuple[int, int], variables: dict[str, str], experiment_file: Path, tmp_path: Path
) -> None:
    finished = several_processes(2, variables, fitted, experiment_file, tmp_path, [size * MIB for size in sizes])
    assert finished.exit_codes == [0, 0], finished.output
    assert 8 <= batch_size_of(tmp_path) < 112  # which a whole step per epoch allows, and 10 GB
