"""A job: samples drawn by all processes, kept part by part, and written into a new folder when they are all there."""

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
from accelerate.state import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor

from signal_diffusion.checkpoints import MANIFEST
from signal_diffusion.config import schema
from signal_diffusion.data import export
from signal_diffusion.data.publishing import published
from signal_diffusion.errors import UserError, raised_by_all
from signal_diffusion.experiment.loading import RunPaths
from signal_diffusion.sampling.drawing import BatchSize, columns_of, counted, draw, rounded_up, trajectory
from signal_diffusion.sampling.guide import guide_folder
from signal_diffusion.sampling.partial import KeptBatches, kept_settings
from signal_diffusion.sampling.requests import Request
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.trained import Trained, device_of, is_exported
from signal_diffusion.sampling.writing import SampleFiles, write_samples

__all__ = ["agreed", "check_output", "default_output", "sample", "unfinished_folder"]

ANIMATED = 8
"""First samples whose trajectories are drawn."""
PATIENCE = timedelta(days=7)
"""With which a process that has done its share waits for the others; one that fails tells them at once."""
LONGEST_NAME = 180
"""Bytes of a folder's name: file systems take 255, and there are prefixes and suffixes while it is made."""
PACKAGES = ("signal-diffusion", "torch", "diffusers", "numpy")


def agreed(checkpoint: Path, compute: schema.Compute) -> Path:
    """The checkpoint that the first process found: a run that goes on writes others while they look."""
    _state(compute)
    [first] = broadcast_object_list([checkpoint])
    return first


def default_output(checkpoint: Path, experiment: schema.Experiment, asked: Mapping[str, str]) -> Path:
    """A folder in the run's generated/, or here in that of an exported model, named after what decides the samples."""
    sampling, subdirs = experiment.generation.sampling, experiment.output.subdirs
    # an exported model may be in the Hub's cache
    base = Path() if is_exported(checkpoint) else RunPaths.around(checkpoint, subdirs).base
    num = [] if "windows" in asked else [f"{sampling.num_samples}-samples"]
    words = [checkpoint.name, *num, sampling.sampler, f"{sampling.steps}-steps", f"seed-{sampling.seed}"]
    if sampling.guidance_scale != 1:
        words.append(f"guidance-{sampling.guidance_scale:g}")
    named = {"num_samples", "sampler", "steps", "seed", "guidance_scale"}
    defaults = dataclasses.asdict(schema.Sampling())
    others = {name: value for name, value in dataclasses.asdict(sampling).items() if value != defaults[name]}
    words += [
        f"{name.replace('_', '-')}-{_as_file_name(str(value))}" for name, value in others.items() if name not in named
    ]
    words += [f"{name}-{_as_file_name(value)}" for name, value in sorted(asked.items()) if value]
    return base / subdirs.generated / _cut("_".join(words))


def check_output(output: Path) -> None:
    """Raise a `UserError` where there is something already."""
    if output.exists():
        raise UserError(f"{output} is there already; choose another --output, or remove it")


def unfinished_folder(output: Path) -> Path:
    """Where samples are kept until all are drawn."""
    return output.with_name(f".unfinished-{output.name}")


def sample(
    trained: Trained,
    request: Request,
    output: Path,
    *,
    files: SampleFiles | None = None,
    batch_size: int | None = None,
    asked: Mapping[str, str] | None = None,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Draw samples, and write them into the new folder `output`: the files there, the samples' first.

    `samples.npz` has `tensors` (N, C, H, W) in [-1, 1], `signals` (N, …) in µV, `sampling_rate` in Hz, `ch_names` and
    an array per attribute, with "" or NaN for the null; no signals where the representation does not hold them. The
    other `formats` are those of `export.write`. Of whole windows, signals are (N, electrodes, samples), and tensors
    (N, electrodes, C, H, W). `samples.json` says how the samples were made, and `samples.png` shows some; `latents.png`
    what those of a latent space were decoded from. The folder appears whole or not at all.

    Until then, batches are kept beside it, and the next call with equal settings draws those that are missing. All
    processes share the batches; the first one writes, and the others return []. It holds all samples in memory once,
    and what a format needs to write them: fif and edf a copy of the signals in float64.

    Parameters
    ----------
    files
        Which files to write; None = `samples.npz`.
    batch_size
        Samples at a time; None = as many as fit.
    asked
        What the conditions follow from, in words, for `samples.json`.
    on_batch
        Called with the number of samples drawn, before each batch and after the last; may raise.

    Raises
    ------
    UserError
        Where the folder is there already, other settings were left unfinished, or a format needs signals that there
        are none of.
    """
    files, state = files or SampleFiles(), _state(trained.experiment.compute)
    batch = _batch_size(trained, request, batch_size, state.num_processes)
    settings = _settings(trained, request) | {"batch_size": batch.size}
    left_open = () if batch_size else ("batch_size",)
    with _kept(output, settings, left_open, files.formats, trained, state) as (folder, size):
        batch.size = size
        parts = KeptBatches(folder, len(request), size)
        _draw_missing(trained, request, parts, batch, state, on_batch)
        if not state.is_main_process:
            return []
        samples, evaluations = _assembled(trained, request, parts)
        about = settings | {
            "batch_size": batch.size,
            "checkpoint": str(trained.checkpoint),
            "asked": dict(asked or {}),
            "evaluations_per_sample": evaluations / len(request),
            "num_processes": state.num_processes,
            "versions": {name: version(name) for name in PACKAGES},
        }
        with published(output, replaces=False) as new:
            names = write_samples(
                new,
                samples,
                files=files,
                about=about,
                title=trained.checkpoint.name,
                electrodes=request.electrodes,
                frames=batch.fit(partial(_first_frames, trained, request)) if files.animation else (),
            )
        shutil.rmtree(folder, ignore_errors=True)  # while it is locked, lest it is another command's by then
    return [output / name for name in names]


def _as_file_name(value: str) -> str:
    """The value, or its beginning and a hash where it is long or has signs that mean something in a path."""
    short = re.sub(r"[^\w.+-]+", "-", value)[:40]
    return short if short == value else f"{short}-{_digest(value)}"


def _cut(name: str) -> str:
    """A folder's name, or its beginning and a hash of the whole where file systems may refuse it."""
    encoded = name.encode()
    if len(encoded) <= LONGEST_NAME:
        return name
    end = f"-{_digest(name)}"
    return encoded[: LONGEST_NAME - len(end)].decode(errors="ignore") + end


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _state(compute: schema.Compute) -> PartialState:
    """This process among those that a launcher started."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return PartialState(cpu=device_of(compute) == "cpu", **({"timeout": PATIENCE} if several else {}))


def _batch_size(trained: Trained, request: Request, asked: int | None, num_processes: int) -> BatchSize:
    generator, most = trained.generator, math.ceil(len(request) / num_processes)
    return BatchSize(asked, shape=generator.shape, device=generator.device, most=most)


def _settings(trained: Trained, request: Request) -> dict[str, Any]:
    """All that samples follow from, but for the batch size, which rounds them."""
    # By names and texts: an index means another caption in every command.
    columns = {name: values.tolist() for name, values in sorted(columns_of(trained.attributes, request.cond).items())}
    rows = hashlib.sha256(repr((request.noise, request.phase, columns)).encode())
    guide = guide_folder(trained.sampling, trained.checkpoint) if trained.guide else None
    return dataclasses.asdict(trained.sampling) | {
        "num_samples": len(request),
        "electrodes": request.electrodes,
        "conditions_sha256": rows.hexdigest(),
        "weights_sha256": _hashes(trained.checkpoint),
        "guide_weights_sha256": _hashes(guide) if guide else {},
        "device": trained.generator.device,
    }


def _hashes(checkpoint: Path) -> dict[str, str]:
    """Of all weights of a checkpoint, by file."""
    manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
    return {name: each["sha256"] for name, each in manifest.items() if name.endswith(".safetensors")}


@contextmanager
def _kept(
    output: Path,
    settings: Mapping[str, Any],
    left_open: Collection[str],
    formats: Sequence[str],
    trained: Trained,
    state: PartialState,
) -> Iterator[tuple[Path, int]]:
    """The folder of what is drawn so far and its batch size, for this command alone; all processes come in, or none."""
    folder, sizes = unfinished_folder(output), [0]
    lock = filelock.FileLock(folder / "lock", timeout=0)
    try:
        with raised_by_all():
            export.check_formats(formats, trained.card)
            check_output(output)
            if state.is_main_process:
                folder.mkdir(parents=True, exist_ok=True)
                _acquire(lock, output)
                check_output(output)  # again: the command that held it may have finished
                sizes = [kept_settings(folder, settings, left_open=left_open)["batch_size"]]
        [size] = broadcast_object_list(sizes)
        yield folder, size
    finally:
        lock.release()


def _acquire(lock: filelock.BaseFileLock, output: Path) -> None:
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"{output}: another process is making it; wait for it, or choose another --output") from None


def _draw_missing(
    trained: Trained,
    request: Request,
    parts: KeptBatches,
    batch: BatchSize,
    state: PartialState,
    on_batch: Callable[[int], None],
) -> None:
    """Draw the batches that are not there, of which this process has its share."""
    with raised_by_all():  # nobody writes before everybody has looked
        missing = parts.missing()
    with _failing_together(state):
        for rows in missing[state.process_index :: state.num_processes]:
            on_batch(parts.num_done())
            drawn, evaluations = batch.fit(partial(_counted_draw, trained, request[rows.start : rows.stop]))
            tensors = {"tensors": drawn.tensors, "latents": drawn.latents, "signals": drawn.signals}
            there = {name: values for name, values in tensors.items() if values is not None}
            parts.write(rows, there, evaluations)
        on_batch(parts.num_done())


def _counted_draw(trained: Trained, request: Request, *, batch_size: int) -> tuple[Samples, int]:
    """Samples and the evaluations that they took, without those of what fills a batch up."""
    with counted(trained) as evaluations:
        samples = draw(trained, request, batch_size=batch_size)
    return samples, evaluations.count * len(request) // rounded_up(len(request), batch_size)


def _first_frames(trained: Trained, request: Request, *, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """The frames of as many samples as are animated, or as fit."""
    return trajectory(trained, request[: min(ANIMATED, batch_size)])


@contextmanager
def _failing_together(state: PartialState) -> Iterator[None]:
    """What fails on one process fails on all: none waits for one that has left."""
    with raised_by_all():
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
    """All samples from their parts, and the evaluations that they took."""
    tensors, evaluations = parts.assembled()
    samples = Samples(
        tensors=tensors["tensors"],
        latents=tensors.get("latents"),
        signals=tensors.get("signals"),
        columns=columns_of(trained.attributes, request.cond),
        card=trained.card,
        representation=trained.representation,
    )
    return samples, evaluations
