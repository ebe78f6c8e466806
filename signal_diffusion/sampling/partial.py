"""Finished batches of an unfinished job on disk, one file each, so that a killed job continues where it stopped.

The folder contains the job's settings and `part-<first row>.safetensors`, each written to a temporary file, flushed and
renamed into place. A part's header shows whether it is complete: truncated parts, or parts of other sizes, are
generated again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from signal_diffusion.disks import writing
from signal_diffusion.errors import UserError
from signal_diffusion.untrusted import read_json

__all__ = ["KeptBatches", "kept_settings"]

SETTINGS = "settings.json"
NOT_FINITE = "not_finite"


def kept_settings(folder: Path, settings: Mapping[str, Any], *, adopted: Collection[str] = ()) -> dict[str, Any]:
    """The settings of the parts in a folder; a new folder gets `settings`.

    The `adopted` settings may differ; they are returned as the folder has them.

    Raises
    ------
    UserError
        If the folder has other settings.
    """
    wanted = json.loads(json.dumps(settings))  # as read back from JSON: lists for tuples
    path = folder / SETTINGS
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _replace(path, json.dumps(wanted, indent=2).encode(), "the settings of unfinished samples")
        return wanted
    there = read_json(path, dict[str, Any], "remove the folder, or choose another --output")
    for name in sorted((there.keys() | wanted.keys()) - set(adopted)):
        then, now = there.get(name), wanted.get(name)
        if then != now:
            raise UserError(
                f"{folder}: unfinished samples of other settings ({name}: {then} then, {now} now); repeat the command "
                "that made them, choose another --output, or remove the folder"
            )
    return there


class KeptBatches:
    """Batches of `size` rows of named tensors, each in a file."""

    def __init__(self, folder: Path, num_rows: int, size: int) -> None:
        self._folder, self._num_rows = folder, num_rows
        self.ranges = [range(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]

    def missing(self) -> list[range]:
        """The batches without a complete file, as ranges of rows."""
        return [rows for rows in self.ranges if self._layout(rows) is None]

    def num_done(self) -> int:
        """Number of rows with a file."""
        return sum(len(rows) for rows in self.ranges if self._path(rows).is_file())

    def write(
        self, rows: range, tensors: Mapping[str, Tensor], evaluations: int, *, not_finite: Sequence[int] = ()
    ) -> None:
        """Write the tensors of some rows, (n, …) each.

        Also the number of network evaluations that they took, and which rows have values that are `not_finite`.
        """
        contiguous = {name: values.contiguous() for name, values in tensors.items()}
        header = {"evaluations": str(evaluations), NOT_FINITE: " ".join(map(str, not_finite))}
        _replace(self._path(rows), safetensors.torch.save(contiguous, header), "samples")

    def not_finite(self) -> list[int]:
        """The rows of all batches that have values that are not finite."""
        found: list[int] = []
        for rows in self.ranges:
            with safetensors.safe_open(self._path(rows), framework="pt") as file:
                found += map(int, file.metadata()[NOT_FINITE].split())
        return found

    def assembled(self) -> tuple[dict[str, Tensor], int]:
        """All rows of every tensor, and all evaluations; needs memory for all rows and one part."""
        layouts = [self._layout(rows) for rows in self.ranges]
        if None in layouts or any(layout != layouts[0] for layout in layouts):
            raise UserError(f"{self._folder}: its parts have different tensors; remove the folder, and sample again")
        whole: dict[str, Tensor] = {}
        evaluations = 0
        for rows in self.ranges:
            with safetensors.safe_open(self._path(rows), framework="pt") as file:
                evaluations += int(file.metadata()["evaluations"])
                for name in file.keys():  # noqa: SIM118  # not a dict
                    values = file.get_tensor(name)
                    if name not in whole:
                        whole[name] = torch.empty(self._num_rows, *values.shape[1:], dtype=values.dtype)
                    whole[name][rows.start : rows.stop] = values
        return whole, evaluations

    def _layout(self, rows: range) -> dict[str, tuple[str, list[int]]] | None:
        """Type and shape (without rows) of each tensor of a part; None if it is missing or not complete."""
        path = self._path(rows)
        if not path.is_file():
            return None
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # not a dict
                shapes = {name: each.get_shape() for name, each in slices.items()}
                metadata = file.metadata() or {}
                _ = [int(number) for number in (metadata["evaluations"], *metadata[NOT_FINITE].split())]
        except (OSError, safetensors.SafetensorError, KeyError, ValueError):  # older versions lack NOT_FINITE
            return None
        if not shapes or any(shape[:1] != [len(rows)] for shape in shapes.values()):
            return None
        return {name: (str(slices[name].get_dtype()), shape[1:]) for name, shape in shapes.items()}

    def _path(self, rows: range) -> Path:
        return self._folder / f"part-{rows.start:08d}.safetensors"


def _replace(path: Path, content: bytes, what: str) -> None:
    """Write a file so that it is complete or absent, even after a kill or a power failure; `what` is for errors."""
    partial = path.with_name(f".{path.name}.partial")
    advice = "free some space and repeat the command, which keeps the samples before"
    with writing(path, what, needs=len(content), advice=advice), ExitStack() as stack:
        stack.callback(partial.unlink, missing_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
