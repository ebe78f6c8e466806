"""Small disks that are full or read-only, for real."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["disk", "remount"]

ENOUGH = 64 * 2**20  # bytes


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a new disk of `size` bytes at a new folder; skips the test if this user cannot."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.name != "posix" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, option: str = f"size={ENOUGH}") -> None:
    """Change a mounted disk: enough space, by default."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)
