"""Signals that ask a command to end do so with cleanup."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.errors import SIGNALS, exit_on_signals


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", sorted({*SIGNALS} - {signal.SIGINT}))
def test_a_signal_removes_what_is_unfinished_and_sets_the_shells_exit_code(
    number: signal.Signals, tmp_path: Path
) -> None:
    exit_on_signals()
    with pytest.raises(SystemExit) as ended, atomic_folder(tmp_path / "out") as folder:
        (folder / "file").touch()
        signal.raise_signal(number)
    assert ended.value.code == 128 + number and not list(tmp_path.iterdir())


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    exit_on_signals()
    signal.raise_signal(signal.SIGHUP)
