"""metrics.jsonl: a row {"step": …, name: value} per line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from signal_diffusion.disks import writing
from signal_diffusion.untrusted import parse_json

__all__ = ["METRICS_NAME", "MetricsFile", "read_rows"]

METRICS_NAME = "metrics.jsonl"


class MetricsFile:
    """Appends rows, without a buffer, so that a kill loses none and a full disk leaves no half of one."""

    def __init__(self, path: Path, *, last_step: int) -> None:
        """Drop the rows after `last_step`, which a killed run wrote after its checkpoint: they are written again."""
        self._path = path
        with self._on_disk():
            if path.exists() and not path.is_dir():  # to open a folder is an error, which names it
                kept = [row for row in read_rows(path) if row["step"] <= last_step]
                replacement = path.with_suffix(".partial")
                replacement.write_text("".join(f"{json.dumps(row)}\n" for row in kept), encoding="utf-8")
                replacement.replace(path)
            self._file = path.open("ab", buffering=0)

    def write(self, row: Mapping[str, float]) -> None:
        """Append a row; a `UserError` if the disk is full."""
        content = f"{json.dumps(row)}\n".encode()
        end = self._file.seek(0, 2)
        with self._on_disk(len(content)):
            try:
                while content:  # the system may write only a part
                    content = content[self._file.write(content) :]
            except OSError:
                self._file.truncate(end)
                raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _on_disk(self, needs: int = 0) -> Any:
        return writing(self._path, "metrics", needs=needs, advice="free some space and resume")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; [] if there is no file. Warns about rows damaged by a kill or a full disk."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        row: dict[str, Any] = {}
        with suppress(ValueError):
            row = parse_json(line, dict[str, int | float])
        if isinstance(row.get("step"), int):
            rows.append(row)
        else:
            print(f"warning: dropped a damaged row of {METRICS_NAME}", file=sys.stderr)
    return rows
