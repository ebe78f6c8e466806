"""Surroundings that change: folders that are read-only, a dataset moved away, a clock that jumps, TensorBoard."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.faults import command, events_of, faulty, succeed
from tests.chaos.records import Injection, injections, line_of
from tests.chaos.trainings import assert_same, steps_lost, training
from tests.small_disk import mounted, remount

pytestmark = [pytest.mark.chaos, pytest.mark.processes]
FEW_AND_MANY = pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])


def jump() -> None:
    """Make the clock jump by a day, forwards and backwards in turn, whenever this process reads it."""
    now, days = time.time, itertools.cycle((1, -1))
    time.time = lambda: now() + 86_400 * next(days)
    time.time_ns = lambda: int(time.time() * 1e9)


@FEW_AND_MANY
def test_a_clock_that_jumps_changes_nothing(
    times: int, experiment_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    with injections("clock jumps by a day: train") as injected:
        for number in range(times):
            run = tmp_path / str(number)
            finished = faulty(jump, 5 * number, run, *training(experiment_file, run))
            assert finished.exit_codes == [0], finished.output
            injected.append(Injection(line_of(finished.output)))
            assert_same(run, undisturbed)


@FEW_AND_MANY
def test_a_dataset_that_is_moved_away_does_not_end_a_run_and_can_come_back(
    times: int, experiment_file: Path, synthetic_dataset: Path, undisturbed: Path, tmp_path: Path
) -> None:
    root, away, chance = tmp_path / "data", tmp_path / "away", random.Random(times)
    shutil.copytree(synthetic_dataset, root)
    override = f"data.paths.root={root}"
    events = events_of(tmp_path / "counted", *training(experiment_file, tmp_path / "counted", override))
    with injections("dataset moved away: train") as injected:
        for number in range(times):
            run, event = tmp_path / str(number), chance.randrange(events)
            finished = faulty(partial(os.rename, root, away), event, run, *training(experiment_file, run, override))
            assert finished.exit_codes in ([0], [2]), finished.output
            injected.append(Injection(line_of(finished.output, tmp_path), steps_lost(run)))
            away.rename(root)
            succeed(*training(experiment_file, run, override))
            assert_same(run, undisturbed)


@FEW_AND_MANY
def test_tensorboard_on_a_full_disk_does_not_end_a_run(
    times: int, experiment_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    with injections("TensorBoard cannot write: train") as injected:
        for number in range(times):
            run = tmp_path / str(number)
            run.mkdir()
            with mounted(run / "tensorboard", 4096 * (1 + number % 4)):  # from 20 KiB on, all it writes would fit
                (run / "tensorboard" / "full").write_bytes(bytes(4096 * (number % 2)))
                finished = command(*training(experiment_file, run, "logging.tensorboard=true"))
                assert finished.exit_codes == [0], finished.output
                injected.append(Injection(line_of(finished.output, run)))
                assert injected[-1].shown.startswith("warning: TensorBoard: ")
            (run / "tensorboard").rmdir()
            assert_same(run, undisturbed)


@FEW_AND_MANY
def test_a_read_only_run_folder_is_one_line_and_what_is_in_it_stays(
    times: int, experiment_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    events = events_of(tmp_path / "counted", *training(experiment_file, tmp_path / "counted"))
    with injections("read-only run folder: train") as injected:
        for number in range(times):
            with mounted(tmp_path / str(number), 2**24) as folder:
                run = folder / "run"
                stop = partial(signal.raise_signal, signal.SIGTERM)
                faulty(stop, events * (1 + number) // (1 + times), run, *training(experiment_file, run))
                remount(folder, "ro")
                finished = command(*training(experiment_file, run))
                assert finished.exit_codes == [2], finished.output
                injected.append(Injection(line_of(finished.output, run), steps_lost(run)))
                remount(folder, "rw")
                succeed(*training(experiment_file, run))
                assert_same(run, undisturbed)


@pytest.mark.parametrize("kind", ["cache", "dataset"])
def test_a_read_only_cache_or_dataset_does_not_matter(
    kind: str, experiment_file: Path, synthetic_dataset: Path, undisturbed: Path, tmp_path: Path
) -> None:
    with injections(f"read-only {kind}: train") as injected, mounted(tmp_path / kind, 2**24) as folder:
        if kind == "dataset":
            shutil.copytree(synthetic_dataset, folder, dirs_exist_ok=True)
        remount(folder, "ro")
        override = f"data.{'paths.root' if kind == 'dataset' else 'loading.cache_dir'}={folder}"
        finished = command(*training(experiment_file, tmp_path / "run", override))
        assert finished.exit_codes == [0], finished.output
        injected.append(Injection(line_of(finished.output, tmp_path)))
        assert_same(tmp_path / "run", undisturbed)
