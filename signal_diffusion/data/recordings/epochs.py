"""Files of epochs, read as one recording in which an interruption separates each epoch from the next.

Nothing is filtered across the edges of an epoch, nor within it: most filters are longer than an epoch. Epochs are only
resampled and referenced.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.recordings.formats import suffix_of
from signal_diffusion.data.recordings.spans import Span
from signal_diffusion.data.recordings.windows import window_starts

if TYPE_CHECKING:
    import mne

__all__ = ["are_epochs", "epoch_borders", "epoch_events", "epoch_windows", "join_epochs"]

_GAP = "BAD_ACQ_SKIP between epochs"


def join_epochs(path: Path) -> mne.io.RawArray:
    """Read a file of epochs as one recording; each epoch is annotated with the name of its event.

    Zeros between the epochs make each start at an even second: a sample that any two rates share, and at which times
    are rounded alike in every epoch.
    """
    import mne

    epochs = _open(path)
    sfreq, length = float(epochs.info["sfreq"]), len(epochs.times)
    step = _step(epochs)
    data = np.zeros((len(epochs.ch_names), len(epochs) * step))
    for number, epoch in enumerate(epochs.get_data(verbose="ERROR")):
        data[:, number * step :][:, :length] = epoch
    raw = mne.io.RawArray(data, epochs.info, verbose="ERROR")
    starts = np.arange(len(epochs)) * step / sfreq
    annotations = mne.Annotations(starts, length / sfreq, _names(epochs))
    return raw.set_annotations(annotations + mne.Annotations(starts + length / sfreq, (step - length) / sfreq, _GAP))


def epoch_events(path: Path) -> list[tuple[float, str, str]]:
    """Time in the joined recording (s), name and number of the event of each epoch; it may be outside the epoch."""
    epochs = _open(path)
    sfreq, step = float(epochs.info["sfreq"]), _step(epochs)
    zero = round(-epochs.tmin * sfreq)
    codes = map(str, epochs.events[:, 2])
    return [
        ((number * step + zero) / sfreq, name, code)
        for number, (name, code) in enumerate(zip(_names(epochs), codes, strict=True))
    ]


def are_epochs(spans: Sequence[Span]) -> bool:
    """Whether these are the annotations of joined epochs."""
    return any(span.description == _GAP for span in spans)


def epoch_borders(spans: Sequence[Span], sfreq: float) -> list[tuple[int, int]]:
    """First sample and end of each epoch in the joined recording, at the rate `sfreq`."""
    inside = [span for span in spans if span.description != _GAP]
    # Tolerance for the rounding of times: samples at the border belong to the epoch.
    return [(math.ceil(span.onset * sfreq - 1e-6), math.floor(span.end * sfreq + 1e-6)) for span in inside]


def epoch_windows(spans: Sequence[Span], sfreq: float, window: int, overlap: float) -> np.ndarray:
    """First sample of each window (n,), on a grid that starts again in each epoch."""
    return np.concatenate(
        [first + window_starts(end - first, window, overlap) for first, end in epoch_borders(spans, sfreq)]
    )


def _open(path: Path) -> mne.BaseEpochs:
    import mne

    if suffix_of(path) == ".set":
        return mne.io.read_epochs_eeglab(path, verbose="ERROR")
    return mne.read_epochs(path, proj=False, preload=False, verbose="ERROR")


def _step(epochs: mne.BaseEpochs) -> int:
    """Samples from the start of one epoch to the next, at least one more than an epoch has."""
    sfreq = float(epochs.info["sfreq"])
    return round(2 * math.ceil((len(epochs.times) + 1) / (2 * sfreq)) * sfreq)


def _names(epochs: mne.BaseEpochs) -> list[str]:
    name_of = {code: name for name, code in epochs.event_id.items()}
    return [name_of.get(code, str(code)) for code in epochs.events[:, 2]]
