"""The folder that a sampling job writes: its default name, and the unfinished one that only one command may use."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
from accelerate.state import PartialState
from accelerate.utils import broadcast_object_list

from signal_diffusion.config import schema
from signal_diffusion.errors import UserError, raise_on_all_processes
from signal_diffusion.experiment.loading import RunPaths
from signal_diffusion.paths import last_part
from signal_diffusion.sampling.choosing import is_exported
from signal_diffusion.sampling.partial import kept_settings

__all__ = ["check_output", "default_output", "job_folder", "unfinished_folder"]

MAX_NAME = 180
"""Bytes of a folder's name: file systems allow 255, and temporary names add prefixes and suffixes."""


def default_output(checkpoint: Path, experiment: schema.Experiment, requested: Mapping[str, str]) -> Path:
    """The default output, named after the settings that determine the samples.

    It is in the run's generated/, or for an exported model in generated/ of the working directory.
    """
    sampling, subdirs = experiment.generation.sampling, experiment.output.subdirs
    # an exported model may be in the Hub's cache, where nothing should be written
    base = Path() if is_exported(checkpoint) else RunPaths.around(checkpoint, subdirs).base
    num = [] if "windows" in requested else [f"{sampling.num_samples}-samples"]
    words = [checkpoint.name, *num, sampling.sampler, f"{sampling.steps}-steps", f"seed-{sampling.seed}"]
    if sampling.guidance_scale != 1:
        words.append(f"guidance-{sampling.guidance_scale:g}")
    named = {"num_samples", "sampler", "steps", "seed", "guidance_scale"}
    defaults = dataclasses.asdict(schema.Sampling())
    others = {name: value for name, value in dataclasses.asdict(sampling).items() if value != defaults[name]}
    if "guidance_checkpoint" in others:  # in full it says where the model is on this machine
        others["guidance_checkpoint"] = last_part(others["guidance_checkpoint"])
    words += [
        f"{name.replace('_', '-')}-{_as_file_name(str(value))}" for name, value in others.items() if name not in named
    ]
    words += [f"{name}-{_as_file_name(value)}" for name, value in sorted(requested.items()) if value]
    return base / subdirs.generated / _shortened("_".join(words))


def check_output(output: Path) -> None:
    """Raise a `UserError` if `output` already exists."""
    if output.exists():
        raise UserError(f"{output} already exists; choose another --output, or remove it")


def unfinished_folder(output: Path) -> Path:
    """The folder that keeps samples until all are generated."""
    return output.with_name(f".unfinished-{output.name}")


@contextmanager
def job_folder(
    output: Path,
    settings: Mapping[str, Any],
    adopted: Collection[str],
    check_formats: Callable[[], None],
    state: PartialState,
) -> Iterator[tuple[Path, int]]:
    """The locked folder of this job's finished batches, and its batch size; fails on all processes or on none."""
    folder, sizes = unfinished_folder(output), [0]
    lock = filelock.FileLock(folder / "lock", timeout=0)
    try:
        with raise_on_all_processes():
            check_formats()
            check_output(output)
            if state.is_main_process:
                folder.mkdir(parents=True, exist_ok=True)
                _acquire(lock, output)
                check_output(output)  # again: the command that had the lock may have finished
                sizes = [kept_settings(folder, settings, adopted=adopted)["batch_size"]]
        [size] = broadcast_object_list(sizes)
        yield folder, size
    finally:
        lock.release()


def _acquire(lock: filelock.BaseFileLock, output: Path) -> None:
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"{output}: another process is writing it; wait for it, or choose another --output") from None


def _as_file_name(value: str) -> str:
    """The value, or its beginning and a hash if it is long or has characters with a meaning in paths."""
    short = re.sub(r"[^\w.+-]+", "-", value)[:40]
    return short if short == value else f"{short}-{_digest(value)}"


def _shortened(name: str) -> str:
    """A folder's name, or its beginning and a hash of the whole if it is too long for file systems."""
    encoded = name.encode()
    if len(encoded) <= MAX_NAME:
        return name
    end = f"-{_digest(name)}"
    return encoded[: MAX_NAME - len(end)].decode(errors="ignore") + end


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
