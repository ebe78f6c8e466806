"""Jobs for long recordings: generated on disk, and written as files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.data.export.edf_files import edf_step
from signal_diffusion.data.export.file_formats import write_file
from signal_diffusion.data.export.raw_files import RAW_ENDINGS, check_raw_formats, write_raw
from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.figures.recordings import draw_recordings
from signal_diffusion.sampling.batch_size import BatchSize
from signal_diffusion.sampling.drawing import Evaluations, count_evaluations, rounded_up
from signal_diffusion.sampling.finite import refusal
from signal_diffusion.sampling.given_windows import check_fills_windows
from signal_diffusion.sampling.long.generating import generate_recordings
from signal_diffusion.sampling.long.recordings import Recordings, lasting_columns
from signal_diffusion.sampling.long.request import RecordingRequest
from signal_diffusion.sampling.output_folder import check_output
from signal_diffusion.sampling.provenance import provenance_of, settings_of
from signal_diffusion.sampling.trained import Trained
from signal_diffusion.sampling.writing import write_about

__all__ = ["empty_recordings", "recording_batch", "sample_recordings"]

SCRATCH = "scratch"
CHUNK = 2**24
"""Bytes of zeros that are written at once."""


def sample_recordings(
    trained: Trained,
    request: RecordingRequest,
    output: Path,
    *,
    formats: Sequence[str] = ("npz",),
    batch_size: int | None = None,
    requested: Mapping[str, str] | None = None,
    on_window: Callable[[int, int], None] = lambda done, total: None,
    on_written: Callable[[Recordings, list[Path]], None] = lambda recordings, files: None,
) -> list[Path]:
    """Generate recordings and write them to the new folder `output`, completely or not at all; returns its files.

    `samples.npz` has `signals` (N, electrodes, samples) in µV, `sampling_rate` in Hz, `ch_names` and the conditions
    that do not change over time. The other formats have a file per recording, `recording-0000_raw.fif`.
    `samples.json` also has the timeline and the borders of windows, `samples.png` shows the first seconds.

    Recordings are generated in a file next to the others, and fif and edf need one recording in memory, in float64.

    Parameters
    ----------
    formats
        npz, fif or edf.
    batch_size
        Recordings per batch; None = as many as fit.
    requested
        The requested conditions as text, for `samples.json`.
    on_window
        Called as `on_window(done, total)` with windows of all recordings; may raise.
    on_written
        Called with the recordings, while they are on disk, and the files.

    Raises
    ------
    UserError
        If the folder exists, the model does not generate windows of signals, or a format cannot store the recordings.
    NotFiniteError
        If some recordings have values that are not finite; the others are written.
    """
    check_fills_windows(trained)
    check_output(output)
    recordings = empty_recordings(trained, request, np.empty((len(request.request), 0, 0), np.float32))
    texts = [text for row in range(len(recordings)) for _, _, text in recordings.annotations(row)]
    check_raw_formats(formats, trained.card, texts)
    shape = (len(request.request), len(trained.card.channels), request.samples)
    with atomic_folder(output, "the recordings", needs=4 * int(np.prod(shape)), replaces=False) as folder:
        with scratch_array(folder / SCRATCH, shape) as signals, count_evaluations(trained) as evaluations:
            batch = recording_batch(trained, request, batch_size)
            finite = generate_recordings(trained, request, signals, batch, on_window=on_window)
            kept = np.flatnonzero(finite).tolist()
            if kept:
                recordings = empty_recordings(trained, request, signals)
                recordings = recordings if finite.all() else recordings.take(kept)
                about = _about(trained, request, requested or {}, batch, evaluations) | {
                    "num_samples": len(kept),
                    "not_finite": np.flatnonzero(~finite).tolist(),
                }
                names = _write(folder, recordings, kept, formats, about, trained.checkpoint.name)
                on_written(recordings, [output / name for name in names])
            del recordings
        if not kept:
            raise refusal(trained, len(finite), len(finite), of="recordings", kept=str(output))
    if not finite.all():
        raise refusal(trained, int((~finite).sum()), len(finite), of="recordings", kept=str(output))
    return [output / name for name in names]


def recording_batch(trained: Trained, request: RecordingRequest, requested: int | None) -> BatchSize:
    """The number of recordings that are generated at a time."""
    generator = trained.generator
    return BatchSize(requested, shape=generator.shape, device=generator.device, most=len(request.request))


def empty_recordings(trained: Trained, request: RecordingRequest, signals: np.ndarray) -> Recordings:
    """Recordings with the conditions of a request, of signals that may still have to be generated."""
    columns = lasting_columns(trained.attributes, request)
    return Recordings(signals=signals, columns=columns, request=request, card=trained.card)


@contextmanager
def scratch_array(folder: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """An array of float32 zeros in a file of the new folder, which is removed at the end.

    The zeros are written: where a memory map of a sparse file finds the disk full, the process is killed.
    """
    folder.mkdir()
    path, size = folder / "signals", 4 * int(np.prod(shape))
    try:
        with path.open("wb") as file:
            for start in range(0, size, CHUNK):
                file.write(bytes(min(CHUNK, size - start)))
        yield np.memmap(path, np.float32, "r+", shape=shape)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _about(
    trained: Trained,
    request: RecordingRequest,
    requested: Mapping[str, str],
    batch: BatchSize,
    evaluations: Evaluations,
) -> dict[str, Any]:
    """Content of `samples.json`; the times of the timeline are those of the recordings, rounded to samples."""
    sfreq = trained.card.sampling_rate or 1.0
    timeline = [
        {"onset": block.start / sfreq, "duration": (block.stop - block.start) / sfreq, **block.values}
        for block in request.blocks
        if any(block.values.values())
    ]
    settings = settings_of(trained, request.request) | {
        "batch_size": batch.size,
        "duration": request.samples / sfreq,
        "timeline": timeline,
        "continued_by": "masks" if trained.model.takes_known else "replacement",
    }
    return provenance_of(trained, settings, requested) | {
        "borders": [window.first for window in request.windows[1:]],
        "evaluations_per_sample": evaluations.count / rounded_up(len(request.request), batch.size),
    }


def _write(
    folder: Path,
    recordings: Recordings,
    numbers: Sequence[int],
    formats: Sequence[str],
    about: Mapping[str, Any],
    title: str,
) -> list[str]:
    """Write recordings, which have these numbers, in each format, samples.json and samples.png; the names of files."""
    written, signals, card = [], recordings.signals, recordings.card
    if "npz" in formats:
        written.append(write_file(folder / "samples", signals, card, recordings.columns, "npz").name)
    for name in [each for each in RAW_ENDINGS if each in formats]:
        for row, number in enumerate(numbers):
            stem = folder / f"recording-{number:04d}"
            written.append(write_raw(stem, recordings.to_raw(row), signals[row], name).name)
    steps = {"edf_step_microvolts": [edf_step(each) for each in signals]} if "edf" in formats else {}
    write_about(folder, {**about, **steps}, card)
    draw_recordings(
        folder / "samples.png",
        signals,
        card,
        borders=recordings.borders,
        notes=[recordings.annotations(row) for row in range(len(recordings))],
        title=title,
    )
    return [*written, "samples.json", "samples.png"]
