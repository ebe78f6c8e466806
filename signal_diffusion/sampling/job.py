"""Sampling jobs: all processes generate batches, which are kept on disk until all are complete and written as files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from accelerate.state import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor

from signal_diffusion.checkpoints import MANIFEST
from signal_diffusion.config import schema
from signal_diffusion.data.export.file_formats import check_formats
from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.errors import UserError, raise_on_all_processes
from signal_diffusion.experiment.loading import RunPaths
from signal_diffusion.paths import without_paths
from signal_diffusion.sampling.drawing import (
    BatchSize,
    count_evaluations,
    generate_samples,
    requested_columns,
    rounded_up,
    trajectory_frames,
)
from signal_diffusion.sampling.finite import refusal
from signal_diffusion.sampling.guide import guide_folder
from signal_diffusion.sampling.partial import KeptBatches, kept_settings
from signal_diffusion.sampling.requests import Request
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.trained import Trained, device_of, is_exported
from signal_diffusion.sampling.writing import SampleFiles, write_samples

__all__ = ["agreed_checkpoint", "check_output", "default_output", "sample", "unfinished_folder", "weight_hashes"]

ANIMATED = 8
"""Number of samples in an animation, the first ones."""
TIMEOUT = timedelta(days=7)
"""How long a finished process waits for the others; a process that fails stops all of them at once."""
MAX_NAME = 180
"""Bytes of a folder's name: file systems allow 255, and temporary names add prefixes and suffixes."""
PACKAGES = ("signal-diffusion", "torch", "diffusers", "numpy")


def agreed_checkpoint(checkpoint: Path, compute: schema.Compute) -> Path:
    """The checkpoint that the first process found, for all processes: a run in progress may write a newer one."""
    _state(compute)
    [first] = broadcast_object_list([checkpoint])
    return first


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


def sample(
    trained: Trained,
    request: Request,
    output: Path,
    *,
    files: SampleFiles | None = None,
    batch_size: int | None = None,
    requested: Mapping[str, str] | None = None,
    on_batch: Callable[[int], None] = lambda done: None,
    on_written: Callable[[Samples, list[Path]], None] = lambda samples, files: None,
) -> list[Path]:
    """Generate samples and write them to the new folder `output`; returns its files, those with samples first.

    `samples.npz` has `tensors` (N, C, H, W) in [-1, 1], `signals` (N, …) in µV, `sampling_rate` in Hz, `ch_names` and
    an array per attribute, with "" or NaN if left open; no signals if the representation has none. The other formats
    are those of `file_formats.write_file`. For whole windows, signals are (N, electrodes, samples), and tensors
    (N, electrodes, C, H, W). `samples.json` records how the samples were made, `samples.png` shows some of them, and
    `latents.png` the latents of a latent model. The folder is written completely or not at all.

    Until then, batches are kept in a folder next to it, and the next call with the same settings generates the missing
    ones. All processes share the batches; the first one writes, and the others return []. All samples are in memory
    once, plus what a format needs: fif and edf a copy of the signals in float64.

    Parameters
    ----------
    files
        Which files to write; None = `samples.npz`.
    batch_size
        Samples per batch; None = as many as fit.
    requested
        The requested conditions as text, for `samples.json`.
    on_batch
        Called with the number of finished samples before each batch and after the last; may raise.
    on_written
        Called by the first process with the samples or whole windows that were written, and their files.

    Raises
    ------
    UserError
        If the folder already exists, an unfinished job has other settings, or a format needs signals and the
        representation has none.
    NotFiniteError
        On all processes, if some samples have values that are not finite; the others are written.
    """
    files, state = files or SampleFiles(), _state(trained.experiment.compute)
    batch = _batch_size(trained, request, batch_size, state.num_processes)
    settings = _settings(trained, request) | {"batch_size": batch.size}
    adopted = () if batch_size else ("batch_size",)
    columns = requested_columns(trained.attributes, request.cond)
    check = partial(
        check_formats,
        files.formats,
        trained.card,
        labels=[str(label) for label in np.unique(columns.get("label", [])) if label],
        num=len(request) // max(1, request.electrodes),
    )
    with _job_folder(output, settings, adopted, check, state) as (folder, size):
        batch.size = size
        parts = KeptBatches(folder, len(request), size)
        _generate_missing(trained, request, parts, batch, state, on_batch)
        with raise_on_all_processes():  # a barrier: the first process removes the parts only after all have read this
            not_finite = parts.not_finite()
        kept, written = _kept(request, not_finite), []
        if state.is_main_process:
            if kept:
                samples, evaluations = _assembled(trained, request, parts)
                samples = samples.take(kept) if not_finite else samples
                about = _about(trained, settings, requested or {}) | {
                    "num_samples": len(samples),
                    "not_finite": not_finite,
                    "batch_size": batch.size,
                    "evaluations_per_sample": evaluations / len(request),
                    "num_processes": state.num_processes,
                }
                first = partial(_first_frames, trained, request.take(kept))
                with atomic_folder(output, replaces=False) as new:
                    names = write_samples(
                        new,
                        samples,
                        files=files,
                        about=about,
                        title=trained.checkpoint.name,
                        electrodes=request.electrodes,
                        frames=batch.fit(first) if files.animation else (),
                    )
                written = [output / name for name in names]
                on_written(samples.as_windows(request.electrodes), written)
            shutil.rmtree(folder, ignore_errors=True)  # still locked, so that no other command uses it
    if not_finite:
        size = max(1, request.electrodes)
        count, total = (len(request) - len(kept)) // size, len(request) // size
        raise refusal(trained, count, total, of="windows" if request.electrodes else "samples", kept=str(output))
    return written


def _kept(request: Request, not_finite: Sequence[int]) -> list[int]:
    """The rows to write: those that are finite, of whole windows if all of their electrodes are."""
    size = max(1, request.electrodes)
    bad = {row // size for row in not_finite}
    return [row for row in range(len(request)) if row // size not in bad]


def _about(trained: Trained, settings: Mapping[str, Any], requested: Mapping[str, str]) -> dict[str, Any]:
    """What `samples.json` says about how samples were made."""
    return without_paths(dict(settings)) | {
        "checkpoint": _checkpoint_name(trained),
        "asked": {name: without_paths(text) if name == "like" else text for name, text in requested.items()},
        "versions": {name: version(name) for name in PACKAGES},
    }


def _checkpoint_name(trained: Trained) -> str:
    """The checkpoint below its run's folder, such as `my-run/checkpoint-500`; of an exported model only the folder."""
    checkpoint = trained.checkpoint.absolute()
    if is_exported(checkpoint):
        return checkpoint.name
    base = RunPaths.around(checkpoint, trained.experiment.output.subdirs).base
    return checkpoint.relative_to(base.parent).as_posix()


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


def _state(compute: schema.Compute) -> PartialState:
    """The state of this process among those that a launcher started."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return PartialState(cpu=device_of(compute) == "cpu", **({"timeout": TIMEOUT} if several else {}))


def _batch_size(trained: Trained, request: Request, requested: int | None, num_processes: int) -> BatchSize:
    generator, most = trained.generator, math.ceil(len(request) / num_processes)
    return BatchSize(requested, shape=generator.shape, device=generator.device, most=most)


def _settings(trained: Trained, request: Request) -> dict[str, Any]:
    """Everything that determines the samples, except the batch size, which only rounds them."""
    # Names and texts, because the index of a caption differs from command to command.
    columns = {
        name: values.tolist() for name, values in sorted(requested_columns(trained.attributes, request.cond).items())
    }
    rows = hashlib.sha256(repr((request.noise, request.phase, columns)).encode())
    guide = guide_folder(trained.sampling, trained.checkpoint) if trained.guide else None
    return dataclasses.asdict(trained.sampling) | {
        "num_samples": len(request),
        "electrodes": request.electrodes,
        "conditions_sha256": rows.hexdigest(),
        "weights_sha256": weight_hashes(trained.checkpoint),
        "guide_weights_sha256": weight_hashes(guide) if guide else {},
        "device": trained.generator.device,
    }


def weight_hashes(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of the weight files of a checkpoint, by name."""
    manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
    return {name: each["sha256"] for name, each in manifest.items() if name.endswith(".safetensors")}


@contextmanager
def _job_folder(
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


def _generate_missing(
    trained: Trained,
    request: Request,
    parts: KeptBatches,
    batch: BatchSize,
    state: PartialState,
    on_batch: Callable[[int], None],
) -> None:
    """Generate this process's share of the missing batches."""
    with raise_on_all_processes():  # a barrier: no process writes before all have listed the missing batches
        missing = parts.missing()
    with _failing_together(state):
        for rows in missing[state.process_index :: state.num_processes]:
            on_batch(parts.num_done())
            samples, evaluations = batch.fit(partial(_generate_counted, trained, request[rows.start : rows.stop]))
            tensors = {"tensors": samples.tensors, "latents": samples.latents, "signals": samples.signals}
            available = {name: values for name, values in tensors.items() if values is not None}
            bad = (~samples.finite()).nonzero().flatten() + rows.start
            parts.write(rows, available, evaluations, not_finite=bad.tolist())
        on_batch(parts.num_done())


def _generate_counted(trained: Trained, request: Request, *, batch_size: int) -> tuple[Samples, int]:
    """Samples and their number of network evaluations, without those of the copies that fill up a batch."""
    with count_evaluations(trained) as evaluations:
        samples = generate_samples(trained, request, batch_size=batch_size)
    return samples, evaluations.count * len(request) // rounded_up(len(request), batch_size)


def _first_frames(trained: Trained, request: Request, *, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """The animation's frames, of at most `batch_size` samples."""
    return trajectory_frames(trained, request[: min(ANIMATED, batch_size)])


@contextmanager
def _failing_together(state: PartialState) -> Iterator[None]:
    """Raise an error of one process on all processes, so that none waits for a process that has failed."""
    with raise_on_all_processes():
        try:
            yield
        except (UserError, OSError):
            raise
        except Exception as error:
            if state.num_processes == 1:
                raise
            traceback.print_exc()
            raise UserError(f"process {state.process_index}: {type(error).__name__}: {error}") from error


def _assembled(trained: Trained, request: Request, parts: KeptBatches) -> tuple[Samples, int]:
    """All samples from their parts, and their number of network evaluations."""
    tensors, evaluations = parts.assembled()
    samples = Samples(
        tensors=tensors["tensors"],
        latents=tensors.get("latents"),
        signals=tensors.get("signals"),
        columns=requested_columns(trained.attributes, request.cond),
        card=trained.card,
        representation=trained.representation,
    )
    return samples, evaluations
