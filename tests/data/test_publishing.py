"""A folder is written completely or not at all, and an existing one is never lost."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.errors import UserError


def write(root: Path, text: str) -> None:
    with atomic_folder(root) as partial:
        (partial / "file").write_text(text)


def test_a_new_folder_replaces_the_old_one(tmp_path: Path):
    write(tmp_path / "out", "old")
    write(tmp_path / "out", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "file").read_text() == "new"


def test_the_old_folder_stays_if_the_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
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


def test_the_old_folder_is_restored_after_a_kill_between_the_renames(tmp_path: Path):
    write(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / ".out.old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "out"):
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "file").read_text() == "old"


def test_an_output_that_appears_meanwhile_is_kept_without_replaces(tmp_path: Path):
    with (
        pytest.raises(UserError, match="out: was created by something else in the meantime"),
        atomic_folder(tmp_path / "out", replaces=False),
    ):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "file").write_text("theirs")
    assert (tmp_path / "out" / "file").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_writers_at_the_same_time_are_an_error(tmp_path: Path):
    with atomic_folder(tmp_path / "out"), pytest.raises(UserError, match="another process is writing it"):
        write(tmp_path / "out", "second")
    write(tmp_path / "out", "third")


@pytest.mark.slow
def test_workers_exit_when_their_parent_is_killed(tmp_path: Path):
    code = f"""
from pathlib import Path
from signal_diffusion.benchmarks.preparation import write_recordings
from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare
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
