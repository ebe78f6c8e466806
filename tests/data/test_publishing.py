"""A folder appears whole or not at all, whatever happens, and what it replaces is not lost."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from signal_diffusion.data.publishing import published
from signal_diffusion.errors import UserError


def write(root: Path, text: str) -> None:
    with published(root) as partial:
        (partial / "file").write_text(text)


def test_the_new_takes_the_place_of_the_old(tmp_path: Path):
    write(tmp_path / "out", "old")
    write(tmp_path / "out", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "file").read_text() == "new"


def test_where_the_new_cannot_be_put_in_place_the_old_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "out", "old")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == ".out.partial":
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"):
        write(tmp_path / "out", "new")
    assert (tmp_path / "out" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_kill_between_the_two_renames_is_made_good(tmp_path: Path):
    write(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / ".out.old")
    with pytest.raises(KeyboardInterrupt), published(tmp_path / "out"):
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "file").read_text() == "old"


def test_what_appears_meanwhile_stays_where_nothing_is_to_be_replaced(tmp_path: Path):
    with (
        pytest.raises(UserError, match="out: has appeared while it was being made"),
        published(tmp_path / "out", replaces=False),
    ):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "file").write_text("theirs")
    assert (tmp_path / "out" / "file").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_at_a_time_are_refused(tmp_path: Path):
    with published(tmp_path / "out"), pytest.raises(UserError, match="another process is writing it"):
        write(tmp_path / "out", "second")
    write(tmp_path / "out", "third")


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path):
    code = f"""
from pathlib import Path
from signal_diffusion.data.benchmark import write_recordings
from signal_diffusion.data.prepare import PrepareOptions, prepare
if __name__ == "__main__":
    write_recordings(Path({str(tmp_path / "in")!r}), 8, 3)
    print("written", flush=True)
    prepare([Path({str(tmp_path / "in")!r})], Path({str(tmp_path / "out")!r}), PrepareOptions(workers=2))
"""
    (tmp_path / "script.py").write_text(code)
    with subprocess.Popen([sys.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        parent = psutil.Process(process.pid)
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob(".out.partial/staging-*/*.npy"))) < 1 and time.monotonic() < deadline:
            time.sleep(0.1)
        workers = parent.children(recursive=True)
        assert len(workers) >= 2
        process.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    assert not (tmp_path / "out").exists()
