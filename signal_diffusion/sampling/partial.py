"""What is drawn so far, on the disk: a file per batch, so that a killed run goes on where it stopped.

A folder of the settings that made them, and `part-<first row>.safetensors`, each written beside, flushed and renamed
into place. Which one is whole, its own header tells: one that is cut short, or of other sizes, is drawn again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from signal_diffusion.errors import UserError

__all__ = ["KeptBatches", "kept_settings"]

SETTINGS = "settings.json"


def kept_settings(folder: Path, settings: Mapping[str, Any], *, left_open: Collection[str] = ()) -> dict[str, Any]:
    """Settings of the parts in a folder, which is made with these where it is not there.

    Those `left_open` are taken over from parts that were made with others.

    Raises
    ------
    UserError
        Where the parts there were made with others.
    """
    wanted = json.loads(json.dumps(settings))  # as they read back: lists for tuples
    path = folder / SETTINGS
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _replace(path, json.dumps(wanted, indent=2).encode())
        return wanted
    there = json.loads(path.read_text(encoding="utf-8"))
    for name in sorted((there.keys() | wanted.keys()) - set(left_open)):
        then, now = there.get(name), wanted.get(name)
        if then != now:
            raise UserError(
                f"{folder}: unfinished samples of other settings ({name}: {then} then, {now} now); repeat the command "
                "that made them, choose another --output, or remove the folder"
            )
    return there


class KeptBatches:
    """Rows of named tensors, `size` at a time."""

    def __init__(self, folder: Path, num_rows: int, size: int) -> None:
        self._folder, self._num_rows = folder, num_rows
        self.ranges = [range(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]

    def missing(self) -> list[range]:
        """The rows that are not there whole."""
        return [rows for rows in self.ranges if not self._is_whole(rows)]

    def num_done(self) -> int:
        """Rows whose files are there."""
        return sum(len(rows) for rows in self.ranges if self._path(rows).is_file())

    def write(self, rows: range, tensors: Mapping[str, Tensor], evaluations: int) -> None:
        """Write the tensors of some rows, (n, …) each, and how many evaluations of the network they took."""
        contiguous = {name: values.contiguous() for name, values in tensors.items()}
        _replace(self._path(rows), safetensors.torch.save(contiguous, {"evaluations": str(evaluations)}))

    def assembled(self) -> tuple[dict[str, Tensor], int]:
        """All rows of every tensor, and all evaluations; in memory once, and one part beside."""
        whole: dict[str, Tensor] = {}
        evaluations = 0
        for rows in self.ranges:
            with safetensors.safe_open(self._path(rows), framework="pt") as file:
                evaluations += int(file.metadata()["evaluations"])
                for name in file.keys():  # noqa: SIM118  # it is no dictionary
                    values = file.get_tensor(name)
                    if name not in whole:
                        whole[name] = torch.empty(self._num_rows, *values.shape[1:], dtype=values.dtype)
                    whole[name][rows.start : rows.stop] = values
        return whole, evaluations

    def _is_whole(self, rows: range) -> bool:
        try:
            with safetensors.safe_open(self._path(rows), framework="pt") as file:
                shapes: Sequence[list[int]] = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
                return bool(shapes) and all(shape[0] == len(rows) for shape in shapes)
        except (OSError, safetensors.SafetensorError):
            return False

    def _path(self, rows: range) -> Path:
        return self._folder / f"part-{rows.start:08d}.safetensors"


def _replace(path: Path, content: bytes) -> None:
    """Write a file that is whole or not there, whatever is killed or loses its power."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
