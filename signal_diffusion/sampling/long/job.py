"""Jobs for long recordings: generated on disk, and written as files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from signal_diffusion.data.export.raw_files import check_raw_formats
from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.sampling.batch_size import BatchSize
from signal_diffusion.sampling.drawing import count_evaluations
from signal_diffusion.sampling.finite import refusal
from signal_diffusion.sampling.given_windows import check_fills_windows
from signal_diffusion.sampling.long.generating import generate_recordings
from signal_diffusion.sampling.long.recordings import Recordings, lasting_columns
from signal_diffusion.sampling.long.request import RecordingRequest
from signal_diffusion.sampling.long.writing import about_recordings, write_recordings
from signal_diffusion.sampling.output_folder import check_output
from signal_diffusion.sampling.trained import Trained

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
        Called with the recordings, while they are on disk, and the files, just before these get their place.

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
                about = about_recordings(trained, request, requested or {}, batch, evaluations) | {
                    "num_samples": len(kept),
                    "not_finite": np.flatnonzero(~finite).tolist(),
                }
                names = write_recordings(folder, recordings, kept, formats, about, trained.checkpoint.name)
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
