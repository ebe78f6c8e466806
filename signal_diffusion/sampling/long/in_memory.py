"""Long recordings in memory, for Python."""

from __future__ import annotations

import numpy as np

from signal_diffusion.sampling.finite import NotFiniteError, refusal
from signal_diffusion.sampling.long.generating import generate_recordings
from signal_diffusion.sampling.long.job import empty_recordings, recording_batch
from signal_diffusion.sampling.long.recordings import Recordings
from signal_diffusion.sampling.long.request import RecordingRequest
from signal_diffusion.sampling.trained import Trained

__all__ = ["recordings_in_memory"]


def recordings_in_memory(trained: Trained, request: RecordingRequest, *, batch_size: int | None = None) -> Recordings:
    """Generate recordings; `batch_size` recordings per batch, None = as many as fit.

    Raises
    ------
    NotFiniteError
        If some recordings have values that are not finite; its `recordings` are the others.
    """
    signals = np.zeros((len(request.request), len(trained.card.channels), request.samples), np.float32)
    finite = generate_recordings(trained, request, signals, recording_batch(trained, request, batch_size))
    recordings = empty_recordings(trained, request, signals)
    if finite.all():
        return recordings
    error: NotFiniteError = refusal(
        trained, int((~finite).sum()), len(finite), of="recordings", kept="the error's attribute recordings"
    )
    error.recordings = recordings.take(np.flatnonzero(finite).tolist())
    raise error
