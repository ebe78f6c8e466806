"""Signals at random moments: a run saves and loses no step, whatever asks it to stop."""

from __future__ import annotations

import random
import signal
from functools import partial
from pathlib import Path

import pytest

from signal_diffusion.errors import SIGNALS
from tests.chaos.faults import events_of, faulty, stopped_twice, succeed
from tests.chaos.records import Injection, injections, line_of
from tests.chaos.trainings import INTERVAL, assert_same, resumed, steps_lost, training

pytestmark = [pytest.mark.chaos, pytest.mark.processes]
QUICK_AND_SLOW = [
    pytest.param(number, id=number.name, marks=() if number == signal.SIGTERM else pytest.mark.slow)
    for number in SIGNALS
]


@pytest.fixture(scope="module")
def events(experiment_file: Path, undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Changes of files in the folder of an undisturbed run."""
    run = tmp_path_factory.mktemp("chaos") / "counted"
    return events_of(run, *training(experiment_file, run))


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", QUICK_AND_SLOW)
def test_a_run_saves_when_it_is_asked_to_stop_and_goes_on_with_the_same_bits(
    number: signal.Signals, times: int, events: int, experiment_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    chance = random.Random(f"{number} {times}")
    with injections(f"{number.name}: train") as injected:
        for attempt in range(times):
            run = tmp_path / str(attempt)
            event = chance.randrange(10, events // 2)  # neither before training has started nor after it
            finished = faulty(partial(signal.raise_signal, number), event, run, *training(experiment_file, run))
            assert finished.exit_codes == [0], finished.output
            injected.append(Injection(line_of(finished.output, run), steps_lost(run)))
            assert steps_lost(run) == 0 and resumed(run) > 0
            succeed(*training(experiment_file, run))
            assert_same(run, undisturbed)


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_second_signal_ends_a_run_at_once_and_the_next_one_goes_on_with_the_same_bits(
    times: int, events: int, experiment_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    chance = random.Random(times)
    with injections("SIGTERM twice: train") as injected:
        for attempt in range(times):
            run = tmp_path / str(attempt)
            fault = partial(stopped_twice, signal.SIGTERM)
            finished = faulty(fault, chance.randrange(10, events // 2), run, *training(experiment_file, run))
            assert finished.exit_codes == [-signal.SIGTERM], finished.output
            injected.append(Injection("Terminated", steps_lost(run)))
            assert injected[-1].steps_lost <= 2 * INTERVAL
            succeed(*training(experiment_file, run))
            assert_same(run, undisturbed)
