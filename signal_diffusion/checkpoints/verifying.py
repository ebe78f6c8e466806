"""Check a checkpoint against its manifest before anything of it is read."""

from __future__ import annotations

from pathlib import Path

from signal_diffusion.checkpoints.listing import PREFIX, list_checkpoints, numbered
from signal_diffusion.checkpoints.manifest import (
    FORMAT,
    MANIFEST,
    WEIGHTS,
    Manifest,
    fingerprint,
    format_of,
    read_manifest,
)
from signal_diffusion.errors import MissingError, UserError, listed
from signal_diffusion.untrusted import is_within

__all__ = ["DAMAGED", "verify"]

DAMAGED = "use another checkpoint"
"""Advice for whatever is wrong with a file of a checkpoint."""
READ_SUFFIXES = (".json", ".pt", ".safetensors", ".toml")
"""Of the files of a checkpoint that are read."""


def verify(checkpoint: Path) -> int:
    """Check that a checkpoint is complete and unchanged, and return its step.

    Raises
    ------
    UserError
        If a file is missing, truncated or changed; the error names it.
    """
    manifest = checkpoint / MANIFEST
    if not checkpoint.is_dir():
        others = _available(checkpoint.parent)
        raise (UserError if others else MissingError)(f"{checkpoint}: no such checkpoint{others}")
    if not manifest.exists() and (available := _available(checkpoint)):
        raise UserError(f"{checkpoint}: a run, not a checkpoint{available}; use one of these, or 'latest'")
    if (found := format_of(checkpoint)) != FORMAT:
        raise UserError(
            f"{manifest}: has format {found}, but this version of signal-diffusion reads {FORMAT}; use a newer version"
        )
    contents = read_manifest(checkpoint)
    if checkpoint.resolve() in numbered(checkpoint.resolve().parent):
        _check_names(checkpoint, contents)
    for name, expected in contents.files.items():
        if not is_within(name):
            raise UserError(f"{manifest}: lists {name!r}, which is outside of the checkpoint; {DAMAGED}")
        path = checkpoint / name
        if not path.is_file():
            raise UserError(f"{path}: missing from the checkpoint; {DAMAGED}")
        if path.stat().st_size != expected.size or fingerprint(path) != expected:
            raise UserError(f"{path}: truncated or changed since it was written; {DAMAGED}")
    return contents.step


def _check_names(checkpoint: Path, contents: Manifest) -> None:
    """Check that the manifest of a `checkpoint-<step>` is of that step and lists all files that are read."""
    manifest, expected = checkpoint / MANIFEST, f"{PREFIX}{contents.step}"
    if checkpoint.resolve().name != expected:
        raise UserError(f"{manifest}: is of step {contents.step}, so the folder was renamed; expected {expected}")
    present = {path.name for path in checkpoint.iterdir() if path.suffix in READ_SUFFIXES} - {MANIFEST}
    if unlisted := sorted(({WEIGHTS} | present) - contents.files.keys()):
        raise UserError(f"{manifest}: does not list {listed(unlisted)}, so nothing tells whether it is whole")


def _available(parent: Path) -> str:
    names = [path.name for path in list_checkpoints(parent)] if parent.is_dir() else []
    return f"; there are {', '.join(names)}" if names else ""
