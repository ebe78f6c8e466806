"""`prepare`, `sample` and `export` that are killed or stopped are started again and make the same bytes."""

from __future__ import annotations

import random
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.conftest import COMMANDS, Made
from tests.chaos.faults import KILL, faulty, succeed
from tests.chaos.records import Injection, injections, line_of
from tests.data.preparing.test_prepare import contents

pytestmark = [pytest.mark.chaos, pytest.mark.processes]


@pytest.mark.parametrize("times", [1, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_leaves_no_output_and_makes_the_same_bytes_later(
    name: str, times: int, made: Made, arguments: dict[str, list[object]], tmp_path: Path
) -> None:
    (expected, events), folder, chance = made[name], tmp_path / "folder", random.Random(times)
    words = [*arguments[name], "--output", folder / "out"]
    with injections(f"SIGKILL: {name}") as injected:
        while len(injected) < times or folder.exists():
            folder.mkdir(exist_ok=True)
            event = chance.randrange(events) if len(injected) < times else events * 10
            finished = faulty(KILL, event, folder, *words)
            if finished.exit_codes == [0]:
                assert [path.name for path in folder.iterdir()] == ["out"]
            else:
                assert finished.exit_codes == [-signal.SIGKILL], finished.output
                injected.append(Injection("Killed"))
            if (folder / "out").exists():
                assert contents(folder / "out") == contents(expected)
                shutil.rmtree(folder)


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_stopped_cleans_up_and_makes_the_same_bytes_later(
    name: str, times: int, made: Made, arguments: dict[str, list[object]], tmp_path: Path
) -> None:
    (expected, events), chance = made[name], random.Random(times)
    with injections("SIGTERM: export, prepare and sample") as injected:
        for attempt in range(times):
            folder = tmp_path / str(attempt)
            folder.mkdir()
            words = [*arguments[name], "--output", folder / "out"]
            fault, event = partial(signal.raise_signal, signal.SIGTERM), chance.randrange(events // 2)
            finished = faulty(fault, event, folder, *words)
            assert finished.exit_codes == [128 + signal.SIGTERM], finished.output
            injected.append(Injection(line_of(finished.output, folder)))
            assert not (folder / "out").exists()
            succeed(*words)
            assert contents(folder / "out") == contents(expected)
            assert [path.name for path in folder.iterdir()] == ["out"]
