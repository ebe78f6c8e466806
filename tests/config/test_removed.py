"""Keys that earlier versions had are dropped from a file, with one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from signal_diffusion.config.removed import REMOVED
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment

TEXT = '[data]\nsource = "synthetic"\n[data.loading]\npages = 3'


@pytest.fixture(autouse=True)
def _removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REMOVED, "data.loading.pages", "now half of what is free")


def test_a_removed_key_is_dropped_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mine.toml").write_text(TEXT)

    load_experiment(tmp_path / "mine.toml")
    load_experiment(tmp_path / "mine.toml")

    assert caplog.messages == [
        f"{tmp_path / 'mine.toml'}: [data.loading] pages: was removed: now half of what is free; leave the key out"
    ]


def test_a_removed_key_in_the_file_that_a_run_wrote_needs_no_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.toml").write_text(TEXT)

    load_experiment(tmp_path / "config.toml")

    assert caplog.messages == []


def test_a_removed_key_cannot_be_set(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[data]\nsource = "synthetic"')

    with pytest.raises(UserError, match=r"--set data.loading.pages=3: was removed: now half of what is free"):
        load_experiment(tmp_path / "mine.toml", ["data.loading.pages=3"])
