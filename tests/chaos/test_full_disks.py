"""Disks that fill up while a command writes: nothing that was there is lost, and with more space it goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.chaos.conftest import COMMANDS, Made
from tests.chaos.faults import command, succeed
from tests.chaos.records import Injection, injections, line_of
from tests.chaos.trainings import INTERVAL, assert_same, steps_lost, training
from tests.data.preparing.test_prepare import contents
from tests.small_disk import mounted, remount

pytestmark = [pytest.mark.chaos, pytest.mark.processes]
FEW_AND_MANY = pytest.mark.parametrize("times", [1, pytest.param(40, marks=pytest.mark.slow)])
PAGE = 4096  # bytes


def sizes(folder: Path, times: int) -> list[int]:
    """Sizes of disks too small for what is in a folder, in bytes."""
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return [int(size) for size in np.linspace(2 * PAGE, 0.95 * whole, times)]


@FEW_AND_MANY
def test_a_run_on_a_full_disk_keeps_its_checkpoints_and_goes_on_with_the_same_bits(
    times: int, experiment_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    with injections("full disk: train") as injected:
        for number, size in enumerate(sizes(undisturbed, times)):
            with mounted(tmp_path / str(number), size) as folder:
                run = folder / "run"
                finished = command(*training(experiment_file, run))
                assert finished.exit_codes == [2], finished.output
                injected.append(Injection(line_of(finished.output, run), steps_lost(run)))
                assert injected[-1].steps_lost <= 2 * INTERVAL
                remount(folder)
                succeed(*training(experiment_file, run))
                assert_same(run, undisturbed)


@FEW_AND_MANY
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_on_a_full_disk_leaves_no_output_and_makes_the_same_bytes_later(
    name: str, times: int, made: Made, arguments: dict[str, list[object]], tmp_path: Path
) -> None:
    with injections(f"full disk: {name}") as injected:
        for number, size in enumerate(sizes(made[name][0], times)):
            with mounted(tmp_path / str(number), size) as folder:
                words = [*arguments[name], "--output", folder / "out"]
                finished = command(*words)
                assert finished.exit_codes == [2], finished.output
                injected.append(Injection(line_of(finished.output, folder)))
                assert not (folder / "out").exists()
                remount(folder)
                succeed(*words)
                assert contents(folder / "out") == contents(made[name][0])
                assert [path.name for path in folder.iterdir()] == ["out"]


@pytest.mark.slow
def test_a_latent_cache_on_a_full_disk_is_named_and_filled_later(
    experiment_file: Path, latent: tuple[str, ...], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    words = training(experiment_file, tmp_path / "run", *latent, "model.architecture.patch_size=[4, 4]")
    succeed(*words, "--set", f"data.loading.cache_dir={cache}")
    with injections("full disk: copy of a split") as injected:
        for number, size in enumerate(sizes(cache, 10)):
            shutil.rmtree(tmp_path / "run")
            with mounted(tmp_path / str(number), size) as folder:
                here = [*words, "--set", f"data.loading.cache_dir={folder}"]
                finished = command(*here)
                assert finished.exit_codes == [2], finished.output
                injected.append(Injection(line_of(finished.output, folder)))
                remount(folder)
                succeed(*here)
