"""Sampling jobs: all processes generate batches, which are kept on disk until all are complete and written as files."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.state import PartialState
from torch import Tensor

from signal_diffusion.data.export.file_formats import check_formats
from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.disks import size_of
from signal_diffusion.errors import raise_on_all_processes
from signal_diffusion.sampling.batch_size import BatchSize
from signal_diffusion.sampling.drawing import (
    count_evaluations,
    generate_samples,
    requested_columns,
    rounded_up,
    trajectory_frames,
)
from signal_diffusion.sampling.finite import refusal
from signal_diffusion.sampling.output_folder import job_folder
from signal_diffusion.sampling.partial import KeptBatches
from signal_diffusion.sampling.processes import failing_together, processes_of
from signal_diffusion.sampling.provenance import provenance_of, settings_of
from signal_diffusion.sampling.requests import Request
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.trained import Trained
from signal_diffusion.sampling.writing import SampleFiles, write_samples

__all__ = ["sample"]

ANIMATED = 8
"""Number of samples in an animation, the first ones."""


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
    files, state = files or SampleFiles(), processes_of(trained.experiment.compute)
    batch = _batch_size(trained, request, batch_size, state.num_processes)
    settings = settings_of(trained, request) | {"batch_size": batch.size}
    adopted = () if batch_size else ("batch_size",)
    columns = requested_columns(trained.attributes, request.cond)
    check = partial(
        check_formats,
        files.formats,
        trained.card,
        labels=[str(label) for label in np.unique(columns.get("label", [])) if label],
        num=len(request) // max(1, request.electrodes),
    )
    with job_folder(output, settings, adopted, check, state) as (folder, size):
        batch.size = size
        parts = KeptBatches(folder, len(request), size)
        _generate_missing(trained, request, parts, batch, state, on_batch)
        with raise_on_all_processes():  # a barrier: the first process removes the parts only after all have read this
            not_finite = parts.not_finite()
        kept, written = _kept(request, not_finite), []
        if state.is_main_process:
            if kept:
                about = provenance_of(trained, settings, requested or {}) | {
                    "not_finite": not_finite,
                    "batch_size": batch.size,
                    "num_processes": state.num_processes,
                }
                samples, names = _write(trained, request, kept, parts, batch, output, files, about)
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


def _write(
    trained: Trained,
    request: Request,
    kept: Sequence[int],
    parts: KeptBatches,
    batch: BatchSize,
    output: Path,
    files: SampleFiles,
    about: Mapping[str, Any],
) -> tuple[Samples, list[str]]:
    """Write the rows to keep; returns them and the names of their files."""
    samples, evaluations = _assembled(trained, request, parts)
    samples = samples.take(kept) if len(kept) < len(request) else samples
    first = partial(_first_frames, trained, request.take(kept))
    with atomic_folder(output, "the samples", needs=size_of([samples.tensors, samples.signals]), replaces=False) as new:
        names = write_samples(
            new,
            samples,
            files=files,
            about={**about, "num_samples": len(samples), "evaluations_per_sample": evaluations / len(request)},
            title=trained.checkpoint.name,
            electrodes=request.electrodes,
            frames=batch.fit(first) if files.animation else (),
        )
    return samples, names


def _batch_size(trained: Trained, request: Request, requested: int | None, num_processes: int) -> BatchSize:
    generator, most = trained.generator, math.ceil(len(request) / num_processes)
    return BatchSize(requested, shape=generator.shape, device=generator.device, most=most)


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
    with failing_together(state):
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
