"""Runs that are killed at random moments, again and again, end as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

import pytest

from signal_diffusion.checkpoints import list_checkpoints, list_snapshots
from tests.chaos.faults import KILL, events_of, faulty, succeed
from tests.chaos.records import Injection, injections
from tests.chaos.trainings import INTERVAL, assert_same, steps_lost, training

pytestmark = [pytest.mark.chaos, pytest.mark.processes]


def kill_again_and_again(fault: str, times: int, file: Path, folder: Path, expected: Path, *overrides: str) -> None:
    """Train, kill and resume so many times; each run that reaches its end is compared, and another one started."""
    run, chance = folder / "run", random.Random(times)
    events = events_of(folder, *training(file, run, *overrides))
    assert_same(run, expected)
    with injections(fault) as injected:
        while len(injected) < times or run.exists():
            event = chance.randrange(events) if len(injected) < times else events * 10
            finished = faulty(KILL, event, folder, *training(file, run, *overrides))
            if finished.exit_codes == [0]:
                assert_same(run, expected)
                shutil.rmtree(folder)
                folder.mkdir()
                continue
            assert finished.exit_codes == [-signal.SIGKILL], finished.output
            injected.append(Injection("Killed", steps_lost(run)))
            assert injected[-1].steps_lost <= 2 * INTERVAL


def test_a_run_that_is_killed_while_it_trains_ends_with_the_same_bits(
    experiment_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    kill_again_and_again("SIGKILL: train", 6, experiment_file, folder, undisturbed)


@pytest.mark.slow
def test_a_run_with_previews_that_is_killed_many_times_ends_with_the_same_bits(
    experiment_file: Path, tmp_path: Path
) -> None:
    folder, expected, previews = tmp_path / "folder", tmp_path / "expected", "training.visualization.enabled=true"
    folder.mkdir()
    succeed(*training(experiment_file, expected, previews))
    kill_again_and_again("SIGKILL: train", 150, experiment_file, folder, expected, previews)


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_fills_the_latent_cache_ends_with_the_same_bits(
    experiment_file: Path, latent: tuple[str, ...], tmp_path: Path
) -> None:
    folder, expected = tmp_path / "folder", tmp_path / "expected"
    folder.mkdir()
    overrides = (*latent, f"data.loading.cache_dir={folder / 'cache'}", "model.architecture.patch_size=[4, 4]")
    succeed(*training(experiment_file, expected, *overrides))
    shutil.rmtree(folder / "cache")
    kill_again_and_again("SIGKILL: latent cache", 50, experiment_file, folder, expected, *overrides)


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_writes_ema_snapshots_has_the_same_snapshots_in_the_end(
    experiment_file: Path, tmp_path: Path
) -> None:
    folder, expected, post_hoc = tmp_path / "folder", tmp_path / "expected", "training.ema.post_hoc=true"
    folder.mkdir()
    succeed(*training(experiment_file, expected, post_hoc))
    assert len(list_snapshots(expected)) > len(list_checkpoints(expected))
    kill_again_and_again("SIGKILL: train", 50, experiment_file, folder, expected, post_hoc)
