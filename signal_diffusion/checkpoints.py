"""Checkpoints on disk, complete or absent: written to a temporary folder, flushed and renamed into place.

A checkpoint is the folder `checkpoint-<step>` with a manifest of the sizes and SHA-256 sums of its files.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import stat
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field
from safetensors import SafetensorError
from torch import nn

from signal_diffusion.disks import size_of, writing
from signal_diffusion.errors import MissingError, UserError, listed
from signal_diffusion.models.lora import frozen_state, is_lora_weight
from signal_diffusion.untrusted import is_within, read_json, read_tensors, weights_file_problem

__all__ = [
    "DAMAGED",
    "EMA_WEIGHTS",
    "MANIFEST",
    "WEIGHTS",
    "Writer",
    "digests",
    "find_checkpoint",
    "list_checkpoints",
    "load_weights",
    "prune",
    "remove_later",
    "remove_unfinished",
    "set_aside",
    "step_of",
    "verify",
    "write_checkpoint",
    "write_manifest",
]

Writer = Callable[[Path], object]
MANIFEST = "manifest.json"
FORMAT = 1
"""Format number of a checkpoint; increased when an older version would misread the files."""
WEIGHTS = "model.safetensors"
EMA_WEIGHTS = "ema.safetensors"
PREFIX = "checkpoint-"
UNFINISHED, RETIRED = ".unfinished-", "retired-"
INCOMPLETE = "the checkpoint is incomplete, so use another one"
DAMAGED = "use another checkpoint"
"""Advice for whatever is wrong with a file of a checkpoint."""
READ_SUFFIXES = (".json", ".pt", ".safetensors", ".toml")
"""Of the files of a checkpoint that are read."""
MAX_REASON = 200  # characters of torch's list of mismatched tensors


@dataclass(frozen=True)
class _Format:
    """What a manifest of any version has."""

    format: int


@dataclass(frozen=True)
class _File:
    size: int
    sha256: str


@dataclass(frozen=True)
class _Manifest:
    step: Annotated[int, Field(ge=0)]
    files: Annotated[dict[str, _File], Field(min_length=1)]


def write_checkpoint(parent: Path, step: int, writers: Mapping[str, Writer]) -> Path:
    """Write `parent/checkpoint-<step>`; `writers` maps each file name to a function that writes to a given path.

    Raises
    ------
    UserError
        If writing fails; existing checkpoints are untouched.
    """
    final = parent / f"{PREFIX}{step}"
    unfinished = parent / f"{UNFINISHED}{PREFIX}{step}"
    kept = "earlier ones are untouched"
    advice = f"{kept}; free some space and resume"
    try:
        with writing(final, "the checkpoint", needs=size_of(writers), advice=advice), ExitStack() as stack:
            stack.callback(shutil.rmtree, unfinished, ignore_errors=True)
            parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            for name, write in writers.items():
                write(unfinished / name)
            write_manifest(unfinished, step, writers)
            for name in (*writers, MANIFEST):
                _flush(unfinished / name)
            _flush(unfinished)
            _make_way(final)  # left over if the run resumed from an earlier step
            unfinished.rename(final)
            _flush(parent)
            remove_unfinished(parent)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{final}: cannot write the checkpoint: {error}; {kept}") from error
    return final


def write_manifest(folder: Path, step: int, names: Iterable[str]) -> None:
    """Write the sizes and SHA-256 sums of the files `names` in a folder, which `verify` checks.

    The files get the permissions of any new file; safetensors makes them readable by their owner only.
    """
    files = {name: asdict(_fingerprint(folder / name)) for name in names}
    manifest = {"format": FORMAT, "step": step, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    mode = stat.S_IMODE((folder / MANIFEST).stat().st_mode)  # the umask itself can only be read by changing it
    for name in files:
        (folder / name).chmod(mode)


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's manifest; a `UserError` if there is no readable manifest."""
    return read_json(checkpoint / MANIFEST, _Manifest, INCOMPLETE).step


def digests(checkpoint: Path) -> dict[str, str]:
    """The SHA-256 of each file in a checkpoint's manifest; a `UserError` if there is no readable manifest."""
    return {name: each.sha256 for name, each in read_json(checkpoint / MANIFEST, _Manifest, INCOMPLETE).files.items()}


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
    if (found := read_json(manifest, _Format, INCOMPLETE).format) != FORMAT:
        raise UserError(
            f"{manifest}: has format {found}, but this version of signal-diffusion reads {FORMAT}; use a newer version"
        )
    contents = read_json(manifest, _Manifest, INCOMPLETE)
    if checkpoint.resolve() in _numbered(checkpoint.resolve().parent):
        _check_names(checkpoint, contents)
    for name, expected in contents.files.items():
        if not is_within(name):
            raise UserError(f"{manifest}: lists {name!r}, which is outside of the checkpoint; {DAMAGED}")
        path = checkpoint / name
        if not path.is_file():
            raise UserError(f"{path}: missing from the checkpoint; {DAMAGED}")
        if path.stat().st_size != expected.size or _fingerprint(path) != expected:
            raise UserError(f"{path}: truncated or changed since it was written; {DAMAGED}")
    return contents.step


def _check_names(checkpoint: Path, contents: _Manifest) -> None:
    """Check that the manifest of a `checkpoint-<step>` is of that step and lists all files that are read."""
    manifest, expected = checkpoint / MANIFEST, f"{PREFIX}{contents.step}"
    if checkpoint.resolve().name != expected:
        raise UserError(f"{manifest}: is of step {contents.step}, so the folder was renamed; expected {expected}")
    present = {path.name for path in checkpoint.iterdir() if path.suffix in READ_SUFFIXES} - {MANIFEST}
    if unlisted := sorted(({WEIGHTS} | present) - contents.files.keys()):
        raise UserError(f"{manifest}: does not list {listed(unlisted)}, so nothing tells whether it is whole")


def load_weights(model: nn.Module, checkpoint: Path, *, use_ema: bool) -> bool:
    """Load the weights of a verified checkpoint strictly: the averaged ones if `use_ema` and the checkpoint has them.

    Returns whether the averaged weights were loaded. A model with LoRA loads its trained weights, and keeps the
    pretrained ones.

    Raises
    ------
    UserError
        If names or sizes are of another architecture, or only one of checkpoint and model has LoRA.
    """
    weights = read_tensors(checkpoint / WEIGHTS, DAMAGED)
    if averaged := use_ema and (checkpoint / EMA_WEIGHTS).is_file():
        averages = read_tensors(checkpoint / EMA_WEIGHTS, DAMAGED)
        trained = {name for name, weight in model.named_parameters() if weight.requires_grad and name in weights}
        if lacking := sorted(trained - averages.keys()):
            raise UserError(f"{checkpoint / EMA_WEIGHTS}: lacks the average of {lacking[0]}; {DAMAGED}")
        weights |= averages
    frozen = frozen_state(model)
    if any(map(is_lora_weight, weights)) != bool(frozen):
        raise UserError(
            f"{checkpoint / WEIGHTS}: trained {'without' if frozen else 'with'} LoRA, but the model is "
            f"{'with' if frozen else 'without'} LoRA; set model.lora as in that run, or start a new run"
        )
    try:
        if surplus := sorted(weights.keys() & frozen.keys()):
            raise RuntimeError(f"{surplus[0]} is a pretrained weight, which a run with LoRA does not save")
        model.load_state_dict(weights | frozen)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(
            f"{checkpoint / WEIGHTS}: weights of another architecture: {textwrap.shorten(first, MAX_REASON)}"
        ) from None
    return averaged


def list_checkpoints(parent: Path) -> list[Path]:
    """The checkpoints that runs wrote into `parent`, complete or damaged, sorted by step.

    Left out is what a user made: links, and folders without a manifest or with the manifest of another step.
    """
    return [checkpoint for checkpoint in _numbered(parent) if _is_own(checkpoint)]


def find_checkpoint(
    parent: Path, name: str, warn: Callable[[str], None], check: Callable[[Path], None] = lambda checkpoint: None
) -> Path:
    """The checkpoint that `name` means: "latest" (the newest good one in `parent`), one there, or a folder.

    `check` raises a `UserError` for a complete checkpoint of another run; "latest" then means an earlier one, or, if
    all are of other runs, the newest.

    Raises
    ------
    UserError
        If there is no such checkpoint, or it is incomplete.
    """
    if name != "latest":
        folder = Path(name)
        if not folder.is_dir() and (problem := weights_file_problem(name)):
            raise UserError(f"{name}: {problem}")
        if len(folder.parts) == 1 and not folder.is_dir():
            folder = parent / name
        verify(folder)
        return folder
    for path in sorted({*parent.glob(f"{PREFIX}*")} - {*_numbered(parent)}):
        reason = "is a link" if path.is_symlink() else f"is not named {PREFIX}<step>"
        warn(f"{path}: {reason}, so it is left alone")
    others: dict[Path, str] = {}
    for checkpoint in reversed(_numbered(parent)):
        try:
            verify(checkpoint)
        except UserError as error:
            warn(f"{error}; trying an earlier one")
            continue
        try:
            check(checkpoint)
        except UserError as error:
            others[checkpoint] = error.lines[0]
            continue
        for line in others.values():
            warn(f"{line}; trying an earlier one")
        return checkpoint
    if others:
        return next(iter(others))
    raise UserError(f"{parent}: no complete checkpoint to resume from; start without resuming")


def prune(parent: Path, limit: int | None, *, newest: int, keep: Collection[int | None]) -> None:
    """Remove all of `list_checkpoints` except the last `limit` (None = keep all) and those of the steps `keep`.

    Those after step `newest`, which was just written, are removed too: they are from before the run resumed from an
    earlier step. Those of a newer version stay.
    """
    remove_later(parent, newest)
    for checkpoint in _removable(parent)[: -limit if limit else 0]:
        if _step(checkpoint) not in keep:
            _retire(checkpoint)
    remove_unfinished(parent)


def remove_later(parent: Path, step: int) -> list[str]:
    """Remove incomplete checkpoints and those after `step`, from which a run resumes; returns the names of the latter.

    If they stayed until the run writes its first checkpoint, and the run were killed before, it would resume from them.
    """
    later = [checkpoint for checkpoint in _removable(parent) if _step(checkpoint) > step]
    for checkpoint in later:
        _retire(checkpoint)
    remove_unfinished(parent)
    return [checkpoint.name for checkpoint in later]


def set_aside(parent: Path, check: Callable[[Path], None]) -> list[str]:
    """Rename the checkpoints in `parent` for which `check` raises a `UserError`; returns a line for each."""
    lines = []
    for checkpoint in list_checkpoints(parent):
        try:
            check(checkpoint)
        except UserError as error:
            lines.append(f"{error.lines[0]}; kept as {_keep(checkpoint).name}")
    return lines


def remove_unfinished(parent: Path) -> None:
    """Remove what a killed run left partly written or partly removed."""
    for path in parent.glob(f"{UNFINISHED}{PREFIX}*"):
        if _is_step(path.name.removeprefix(f"{UNFINISHED}{PREFIX}").removeprefix(RETIRED)):
            shutil.rmtree(path, ignore_errors=True)


def _retire(checkpoint: Path) -> None:
    """Rename a checkpoint before its files are deleted, so that a kill cannot leave half a checkpoint."""
    retired = checkpoint.with_name(f"{UNFINISHED}{PREFIX}{RETIRED}{checkpoint.name.removeprefix(PREFIX)}")
    shutil.rmtree(retired, ignore_errors=True)
    checkpoint.rename(retired)


def _make_way(path: Path) -> None:
    """Remove an own checkpoint at `path`; give anything else another name."""
    if _is_own(path) and _has_our_format(path):
        _retire(path)
    elif os.path.lexists(path):
        _keep(path)


def _keep(path: Path) -> Path:
    """Give what a user put here a name that is free and not that of a checkpoint."""
    names = (path.with_name(f"kept-{path.name}{'-' * bool(number)}{number or ''}") for number in itertools.count())
    return path.rename(next(name for name in names if not os.path.lexists(name)))


def _numbered(parent: Path) -> list[Path]:
    """What is named like a checkpoint in `parent`, sorted by step, without links: they may lead to another run."""
    named = [path for path in parent.glob(f"{PREFIX}*") if _is_step(path.name.removeprefix(PREFIX))]
    return sorted((path for path in named if not path.is_symlink()), key=_step)


def _is_step(text: str) -> bool:
    return text.isascii() and text.isdigit() and str(int(text)) == text


def _is_own(path: Path) -> bool:
    """Whether a folder is a checkpoint as it was written here, whatever the state of its other files."""
    if path.is_symlink():
        return False
    try:
        return step_of(path) == _step(path)
    except UserError:
        return False


def _removable(parent: Path) -> list[Path]:
    """`list_checkpoints` without those of another format: this version cannot tell whether a newer one is damaged."""
    return [checkpoint for checkpoint in list_checkpoints(parent) if _has_our_format(checkpoint)]


def _has_our_format(checkpoint: Path) -> bool:
    return read_json(checkpoint / MANIFEST, _Format, INCOMPLETE).format == FORMAT


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def _available(parent: Path) -> str:
    names = [path.name for path in list_checkpoints(parent)] if parent.is_dir() else []
    return f"; there are {', '.join(names)}" if names else ""


def _fingerprint(path: Path) -> _File:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _File(path.stat().st_size, digest)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
