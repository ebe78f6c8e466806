"""Write long recordings to files, and how they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signal_diffusion.data.export.edf_files import edf_step
from signal_diffusion.data.export.file_formats import write_file
from signal_diffusion.data.export.raw_files import RAW_ENDINGS, write_raw
from signal_diffusion.figures.recordings import draw_recordings
from signal_diffusion.sampling.batch_size import BatchSize
from signal_diffusion.sampling.drawing import Evaluations, rounded_up
from signal_diffusion.sampling.long.recordings import Recordings
from signal_diffusion.sampling.long.request import RecordingRequest
from signal_diffusion.sampling.provenance import provenance_of, settings_of
from signal_diffusion.sampling.trained import Trained
from signal_diffusion.sampling.writing import write_about

__all__ = ["about_recordings", "write_recordings"]


def write_recordings(
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


def about_recordings(
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
