"""The manifest of a checkpoint: its step, and the sizes and SHA-256 sums of its files."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from signal_diffusion.untrusted import read_json

__all__ = [
    "EMA_WEIGHTS",
    "FORMAT",
    "MANIFEST",
    "POST_HOC_EMA",
    "WEIGHTS",
    "Manifest",
    "digests",
    "fingerprint",
    "format_of",
    "read_manifest",
    "step_of",
    "write_manifest",
]

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
EMA_WEIGHTS = "ema.safetensors"
POST_HOC_EMA = "post_hoc_ema.safetensors"
FORMAT = 1
"""Format number of a checkpoint; increased when an older version would misread the files."""
INCOMPLETE = "the checkpoint is incomplete, so use another one"


@dataclass(frozen=True)
class _Format:
    """What a manifest of any version has."""

    format: int


@dataclass(frozen=True)
class _File:
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a manifest of today's format has."""

    step: Annotated[int, Field(ge=0)]
    files: Annotated[dict[str, _File], Field(min_length=1)]


def write_manifest(folder: Path, step: int, names: Iterable[str]) -> None:
    """Write the sizes and SHA-256 sums of the files `names` in a folder, which `verify` checks.

    The files get the permissions of any new file; safetensors makes them readable by their owner only.
    """
    files = {name: asdict(fingerprint(folder / name)) for name in names}
    manifest = {"format": FORMAT, "step": step, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    mode = stat.S_IMODE((folder / MANIFEST).stat().st_mode)  # the umask itself can only be read by changing it
    for name in files:
        (folder / name).chmod(mode)


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's manifest; a `UserError` if there is no readable manifest."""
    return read_manifest(checkpoint).step


def digests(checkpoint: Path) -> dict[str, str]:
    """The SHA-256 of each file in a checkpoint's manifest; a `UserError` if there is no readable manifest."""
    return {name: each.sha256 for name, each in read_manifest(checkpoint).files.items()}


def read_manifest(checkpoint: Path) -> Manifest:
    """The manifest of a checkpoint; a `UserError` if there is no readable one."""
    return read_json(checkpoint / MANIFEST, Manifest, INCOMPLETE)


def format_of(checkpoint: Path) -> int:
    """The format of a checkpoint, of any version; a `UserError` if there is no readable manifest."""
    return read_json(checkpoint / MANIFEST, _Format, INCOMPLETE).format


def fingerprint(path: Path) -> _File:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _File(path.stat().st_size, digest)
