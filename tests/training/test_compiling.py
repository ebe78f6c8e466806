"""`compile_model = "auto"` decides once, before the first step, and a run keeps what it decided."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from signal_diffusion.training import compiling, trainer
from signal_diffusion.training.compiling import Timings
from signal_diffusion.training.diffusion import train
from tests.training.runs import largest_difference

AUTO = "training.performance.compile_model=auto"
SHORT = ("training.max_steps=3", "training.validation.enabled=false")
FASTER = Timings(eager=2.0, compiled=1.0, compilation=0.1)
SLOWER = Timings(eager=1.0, compiled=2.0, compilation=0.1)


def performance_of(run: Path) -> dict[str, Any]:
    """[training.performance] of a run's, or of a checkpoint's, config.toml."""
    return tomllib.loads((run / "config.toml").read_text())["training"]["performance"]


def auto(experiment_file: Path, run: Path, *overrides: str, resume: str | None = None) -> None:
    train(experiment_file, output_dir=run, overrides=(*SHORT, *overrides, AUTO), resume=resume)


@pytest.fixture
def every_run_is_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Measure in runs of any length, with an empty cache."""
    monkeypatch.setattr(compiling, "MIN_STEPS", 1)
    monkeypatch.setattr(compiling, "MIN_SECONDS", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modes in which trainers would have compiled their networks, which tests do not do."""
    modes: list[str] = []
    monkeypatch.setattr(trainer, "compile_blocks", lambda blocks, mode, **named: modes.append(mode))
    return modes


def measure(monkeypatch: pytest.MonkeyPatch, *found: Timings | str) -> list[Timings | str]:
    """Let runs find these timings, one after the other; returns those that no run has asked for yet."""
    left = list(found)
    monkeypatch.setattr(compiling, "_measured", lambda start, job, num_batches: left.pop(0))
    return left


# What is decided ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timings", "num_batches", "pays"),
    [
        (Timings(eager=1.0, compiled=0.5, compilation=60.0), 2000, True),
        (Timings(eager=1.0, compiled=0.5, compilation=60.0), 1000, False),
        (Timings(eager=1.0, compiled=0.9, compilation=150.0), 2000, False),
        (Timings(eager=1.0, compiled=0.97, compilation=1.0), 10**6, False),
        (Timings(eager=1.0, compiled=1.2, compilation=0.0), 10**6, False),
    ],
    ids=["saves 1000 s", "run of 17 minutes", "saves less than it costs", "within chance", "slower"],
)
def test_compiling_pays_if_it_saves_more_time_than_it_takes(timings: Timings, num_batches: int, pays: bool) -> None:
    assert timings.pays(num_batches) == pays


def test_the_slowest_process_decides_for_all() -> None:
    other = Timings(eager=3.0, compiled=0.5, compilation=0.2)
    assert compiling._agreed([FASTER, other]) == Timings(eager=3.0, compiled=1.0, compilation=0.2)
    assert compiling._agreed([FASTER, "no compiler"]) == "no compiler"


def test_a_short_run_is_not_measured_and_trains_as_without_auto(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(monkeypatch)
    auto(experiment_file, tmp_path / "auto")
    assert "compile_model auto: not compiled, which would not pay in 3 steps" in capsys.readouterr().err
    train(experiment_file, output_dir=tmp_path / "eager", overrides=SHORT)
    assert largest_difference(tmp_path / "auto" / "checkpoint-3", tmp_path / "eager" / "checkpoint-3") == 0
    assert (tmp_path / "auto" / "config.toml").read_text().replace("/auto", "") == (
        tmp_path / "eager" / "config.toml"
    ).read_text().replace("/eager", "")


@pytest.mark.usefixtures("every_run_is_long")
@pytest.mark.parametrize(("timings", "expected"), [(FASTER, True), (SLOWER, False)], ids=["faster", "slower"])
def test_the_choice_is_recorded_in_the_run_and_its_checkpoints_and_kept_on_resuming(
    timings: Timings,
    expected: bool,
    experiment_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compiled: list[str],
) -> None:
    left = measure(monkeypatch, timings)
    run, mode = tmp_path / "run", "training.performance.compile_mode=max-autotune"
    auto(experiment_file, run, mode)
    assert not left and compiled == ["max-autotune"] * expected
    for folder in (run, run / "checkpoint-3"):
        assert performance_of(folder)["compile_model"] is expected
    auto(experiment_file, run, mode, "training.max_steps=4", resume="latest")  # would fail if it measured
    assert performance_of(run / "checkpoint-4")["compile_model"] is expected
    assert compiled == ["max-autotune"] * (2 * expected)
    train(run / "config.toml", output_dir=run, resume="latest")


@pytest.mark.usefixtures("every_run_is_long", "compiled")
def test_timings_are_kept_for_later_runs_of_the_same_network_and_batch(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = measure(monkeypatch, FASTER, SLOWER, FASTER)
    auto(experiment_file, tmp_path / "first")
    auto(experiment_file, tmp_path / "second", "training.optimizer.learning_rate=1e-3")
    assert len(left) == 2 and performance_of(tmp_path / "second")["compile_model"]
    assert "measured in an earlier run" in capsys.readouterr().err
    auto(experiment_file, tmp_path / "larger", "data.loading.batch_size=16")
    assert len(left) == 1 and not performance_of(tmp_path / "larger")["compile_model"]
    for path in (tmp_path / "cache").rglob("compilation/*.json"):
        path.write_text("{")
    auto(experiment_file, tmp_path / "damaged")
    assert not left


# Measuring ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("every_run_is_long")
def test_measuring_changes_no_bit_of_the_run(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "compile_blocks", lambda blocks, mode, **named: None)
    monkeypatch.setattr(Timings, "pays", lambda self, num_batches: False)

    def state_after(name: str, value: str) -> torch.Tensor:
        torch.manual_seed(3)
        overrides = (*SHORT, f"training.performance.compile_model={value}")
        train(experiment_file, output_dir=tmp_path / name, overrides=overrides)
        return torch.get_rng_state()

    assert torch.equal(state_after("auto", "auto"), state_after("eager", "false"))
    assert largest_difference(tmp_path / "auto" / "checkpoint-3", tmp_path / "eager" / "checkpoint-3") == 0


def test_a_run_of_many_fast_steps_is_not_compiled(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiling, "MIN_STEPS", 1)
    monkeypatch.setattr(compiling, "compile_blocks", lambda blocks, mode, **named: pytest.fail("compiled"))
    auto(experiment_file, tmp_path)
    assert "whose forward and backward passes take about 0 minutes" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("every_run_is_long")
def test_without_a_compiler_a_run_is_not_compiled_and_says_so(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.compiler.reset()
    with torch._inductor.config.patch({"cpp.cxx": ("/no/compiler",), "fx_graph_cache": False}):
        auto(experiment_file, tmp_path)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "compile_model auto" in line]
    assert "not compiled, because torch.compile failed" in line and "compiler" in line
    assert performance_of(tmp_path)["compile_model"] is False


@pytest.mark.slow
@pytest.mark.usefixtures("every_run_is_long")
def test_a_run_that_chose_to_compile_is_that_of_true_to_the_bit(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Timings, "pays", lambda self, num_batches: True)
    auto(experiment_file, tmp_path / "auto")
    train(experiment_file, output_dir=tmp_path / "true", overrides=(*SHORT, AUTO.replace("auto", "true")))
    assert performance_of(tmp_path / "auto")["compile_model"] is True
    assert largest_difference(tmp_path / "auto" / "checkpoint-3", tmp_path / "true" / "checkpoint-3") == 0
