"""Two processes, one of which is killed or finds its disk full: both end, and go on with the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from signal_diffusion.training.trainer import Trainer
from tests.chaos import faults
from tests.chaos.records import Injection, injections, line_of
from tests.chaos.test_full_disks import sizes
from tests.chaos.trainings import INTERVAL, assert_same, steps_lost, training
from tests.small_disk import mounted, remount
from tests.training.processes import Finished, two_processes

pytestmark = [pytest.mark.chaos, pytest.mark.processes, pytest.mark.slow]


def train_with_a_kill(rank: int, step: int, words: list[str]) -> None:
    """Train; the process `rank` is killed before a step."""
    original = Trainer.take_step

    def killed(self: Trainer, now: int, *arguments: object) -> object:
        if now == step and self.accelerator.process_index == rank:
            faults.KILL()
        return original(self, now, *arguments)  # type: ignore[arg-type]

    Trainer.take_step = killed  # type: ignore[method-assign,assignment]
    faults.run(words)


def by_two(experiment_file: Path, run: Path) -> Finished:
    return two_processes(faults.run, list(map(str, training(experiment_file, run))))


@pytest.fixture(scope="module")
def undisturbed_by_two(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("chaos") / "two"
    finished = by_two(experiment_file, run)
    assert finished.exit_codes == [0, 0], finished.output
    return run


@pytest.mark.parametrize("step", range(1, 8))
@pytest.mark.parametrize("rank", [0, 1])
def test_if_one_of_two_processes_is_killed_the_other_ends_and_both_go_on_with_the_same_bits(
    rank: int, step: int, experiment_file: Path, undisturbed_by_two: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with injections("one of two processes killed: train") as injected:
        words = [str(word) for word in training(experiment_file, run)]
        finished = two_processes(train_with_a_kill, rank, step, words)
        assert finished.exit_codes[rank] == -9 and finished.exit_codes[1 - rank] not in (0, None), finished.output
        injected.append(Injection(line_of(finished.output, run), steps_lost(run)))
        assert injected[-1].steps_lost <= 2 * INTERVAL
        assert by_two(experiment_file, run).exit_codes == [0, 0]
        assert_same(run, undisturbed_by_two)


def test_if_the_disk_of_two_processes_is_full_both_end_and_go_on_with_the_same_bits(
    experiment_file: Path, undisturbed_by_two: Path, tmp_path: Path
) -> None:
    with injections("full disk: train, two processes") as injected:
        for number, size in enumerate(sizes(undisturbed_by_two, 10)):
            with mounted(tmp_path / str(number), size) as folder:
                finished = by_two(experiment_file, folder / "run")
                assert finished.exit_codes == [2, 2], finished.output
                injected.append(Injection(line_of(finished.output, folder / "run"), steps_lost(folder / "run")))
                remount(folder)
                assert by_two(experiment_file, folder / "run").exit_codes == [0, 0]
                assert_same(folder / "run", undisturbed_by_two)
