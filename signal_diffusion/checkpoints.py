"""Checkpoints on disk: written beside, flushed, renamed into place; whole or not there.

A checkpoint is the folder `checkpoint-<step>` with a manifest of the sizes and SHA-256 sums of its files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from signal_diffusion.errors import UserError
from signal_diffusion.models.lora import frozen_state, is_change

__all__ = [
    "EMA_WEIGHTS",
    "MANIFEST",
    "WEIGHTS",
    "Writer",
    "find_checkpoint",
    "leave_later",
    "list_checkpoints",
    "load_weights",
    "prune",
    "remove_unfinished",
    "step_of",
    "verify",
    "write_checkpoint",
    "write_manifest",
]

Writer = Callable[[Path], object]
MANIFEST = "manifest.json"
FORMAT = 1
"""Of a checkpoint's files; another number for what an older version would misread."""
WEIGHTS = "model.safetensors"
EMA_WEIGHTS = "ema.safetensors"
PREFIX = "checkpoint-"
UNFINISHED = ".unfinished-"
LONGEST_REASON = 200  # characters of torch's list of tensors


def write_checkpoint(parent: Path, step: int, writers: Mapping[str, Writer]) -> Path:
    """Write `parent/checkpoint-<step>` with the files of `writers`, each of which is given the path to write to.

    Raises
    ------
    UserError
        Where the disk refuses; what was there before is untouched.
    """
    final = parent / f"{PREFIX}{step}"
    unfinished = parent / f"{UNFINISHED}{PREFIX}{step}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for name, write in writers.items():
            write(unfinished / name)
        write_manifest(unfinished, step, writers)
        for name in (*writers, MANIFEST):
            _flush(unfinished / name)
        _flush(unfinished)
        _retire(final)  # of an earlier run that got further than the checkpoint this one went on from
        unfinished.rename(final)
        _flush(parent)
        remove_unfinished(parent)
    except (OSError, RuntimeError, SafetensorError) as error:  # RuntimeError is what torch.save makes of a full disk
        shutil.rmtree(unfinished, ignore_errors=True)
        raise UserError(f"{final}: cannot write the checkpoint: {error}; earlier ones are untouched") from error
    return final


def write_manifest(folder: Path, step: int, names: Iterable[str]) -> None:
    """Write sizes and SHA-256 sums of the files `names` below a folder, which `verify` checks.

    The files become as open to others as any new one; safetensors writes them for their owner alone.
    """
    files = {name: _fingerprint(folder / name) for name in names}
    manifest = {"format": FORMAT, "step": step, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    mode = stat.S_IMODE((folder / MANIFEST).stat().st_mode)  # asking for the umask itself would set it meanwhile
    for name in files:
        (folder / name).chmod(mode)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint says it is of; a `UserError` where it has gone."""
    try:
        return int(json.loads((checkpoint / MANIFEST).read_text())["step"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{checkpoint / MANIFEST}: missing or unreadable, so this is not a whole checkpoint") from None


def verify(checkpoint: Path) -> int:
    """Check that a checkpoint is whole, and return its step.

    Raises
    ------
    UserError
        Naming the file that is missing, cut short or changed.
    """
    manifest = checkpoint / MANIFEST
    if not checkpoint.is_dir():
        raise UserError(f"{checkpoint}: no such checkpoint{_available(checkpoint.parent)}")
    if not manifest.exists() and (held := _available(checkpoint)):
        raise UserError(f"{checkpoint}: a run's folder, and no checkpoint{held}, of which 'latest' is the newest")
    try:
        contents = json.loads(manifest.read_text())
        if contents["format"] != FORMAT:
            raise UserError(
                f"{manifest}: of format {contents['format']!r}, and this version of signal-diffusion reads {FORMAT}; "
                "expected a newer version"
            )
        files, step = dict(contents["files"]), int(contents["step"])
        if not files:
            raise ValueError("no files")
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{manifest}: missing or unreadable, so this is not a whole checkpoint") from None
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            raise UserError(f"{path}: missing from the checkpoint")
        if _fingerprint(path) != expected:
            raise UserError(f"{path}: cut short or changed since it was written; use another checkpoint")
    return step


def load_weights(model: nn.Module, checkpoint: Path, *, use_ema: bool) -> bool:
    """Load the weights of a verified checkpoint, the averaged ones where asked for and there; strictly.

    Returns whether it were those.

    A model with LoRA takes what is trained of it, and keeps its pretrained weights.

    Raises
    ------
    UserError
        Where the names or sizes are those of another architecture, or LoRA is in one and not in the other.
    """
    weights = load_file(checkpoint / WEIGHTS)
    if averaged := use_ema and (checkpoint / EMA_WEIGHTS).is_file():
        weights |= load_file(checkpoint / EMA_WEIGHTS)
    frozen = frozen_state(model)
    if any(map(is_change, weights)) != bool(frozen):
        raise UserError(
            f"{checkpoint / WEIGHTS}: of a run {'without' if frozen else 'with'} LoRA, and the model is one "
            f"{'with' if frozen else 'without'}; expected the model.lora of that run, or a new run from whole weights"
        )
    try:
        if surplus := sorted(weights.keys() & frozen.keys()):
            raise RuntimeError(f"there should be no {surplus[0]} beside the changes of LoRA")
        model.load_state_dict(weights | frozen)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(
            f"{checkpoint / WEIGHTS}: weights of another architecture: {textwrap.shorten(first, LONGEST_REASON)}"
        ) from None
    return averaged


def list_checkpoints(parent: Path) -> list[Path]:
    """The published checkpoints below `parent`, by step."""
    found = [path for path in parent.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=_step)


def find_checkpoint(parent: Path, name: str, warn: Callable[[str], None]) -> Path:
    """The checkpoint that `name` means: "latest" is the newest whole one below `parent`, else a folder, or one there.

    Raises
    ------
    UserError
        Where there is none, or the one that was named is not whole.
    """
    if name != "latest":
        folder = Path(name)
        if len(folder.parts) == 1 and not folder.is_dir():
            folder = parent / name
        verify(folder)
        return folder
    for checkpoint in reversed(list_checkpoints(parent)):
        try:
            verify(checkpoint)
        except UserError as error:
            warn(f"{error}; looking for an earlier one")
        else:
            return checkpoint
    raise UserError(f"{parent}: there is no whole checkpoint to resume from; start without resuming")


def prune(parent: Path, limit: int | None, *, newest: int, keep: int | None) -> None:
    """Remove all but the `limit` checkpoints up to step `newest`, just written, and the one of step `keep`.

    Those of later steps go too: they are of a run that was left when this one went on from an earlier step.
    """
    leave_later(parent, newest)
    for checkpoint in list_checkpoints(parent)[: -limit if limit else 0]:
        if _step(checkpoint) != keep:
            _retire(checkpoint)
    remove_unfinished(parent)


def leave_later(parent: Path, step: int) -> list[str]:
    """Remove the checkpoints after `step`, from which a run goes on, and what is half-written; the names of the former.

    Were they there until the first checkpoint is written, a run that was killed before it would go on from them.
    """
    later = [checkpoint for checkpoint in list_checkpoints(parent) if _step(checkpoint) > step]
    for checkpoint in later:
        _retire(checkpoint)
    remove_unfinished(parent)
    return [checkpoint.name for checkpoint in later]


def remove_unfinished(parent: Path) -> None:
    """Remove what a killed run left half-written or half-removed."""
    for path in parent.glob(f"{UNFINISHED}{PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def _retire(checkpoint: Path) -> None:
    """Take a checkpoint's name away before its files, so that a kill leaves no half of one."""
    retired = checkpoint.with_name(f"{UNFINISHED}{PREFIX}retired-{checkpoint.name.removeprefix(PREFIX)}")
    if checkpoint.exists():
        shutil.rmtree(retired, ignore_errors=True)
        checkpoint.rename(retired)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def _available(parent: Path) -> str:
    names = [path.name for path in list_checkpoints(parent)] if parent.is_dir() else []
    return f"; there are {', '.join(names)}" if names else ""


def _fingerprint(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
