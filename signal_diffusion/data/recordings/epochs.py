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

__all__ = ["epoch_borders", "epoch_events", "epoch_windows", "epochs_among", "join_epochs", "open_epochs"]

_GAP = "BAD_ACQ_SKIP between epochs"
_TIME, _CODE = "time of the epoch's event", "code of the epoch's event"  # entries that no events.tsv has as columns


def open_epochs(path: Path) -> mne.BaseEpochs:
    """Open a file of epochs: FIF or EEGLAB."""
    import mne

    if suffix_of(path) == ".set":
        return mne.io.read_epochs_eeglab(path, verbose="ERROR")
    return mne.read_epochs(path, proj=False, preload=False, verbose="ERROR")


def join_epochs(epochs: mne.BaseEpochs) -> mne.io.RawArray:
    """Make one recording of epochs; each epoch is annotated with the name of its event.

    Zeros between the epochs make each start at an even second: a sample that any two rates share, and at which times
    are rounded alike in every epoch.
    """
    import mne

    sfreq, length = float(epochs.info["sfreq"]), len(epochs.times)
    # Samples from the start of one epoch to the next, at least one more than an epoch has.
    step = round(2 * math.ceil((length + 1) / (2 * sfreq)) * sfreq)
    data = np.zeros((len(epochs.ch_names), len(epochs) * step))
    for number, epoch in enumerate(epochs.get_data(verbose="ERROR")):
        data[:, number * step :][:, :length] = epoch
    raw = mne.io.RawArray(data, epochs.info, verbose="ERROR")
    starts = np.arange(len(epochs)) * step / sfreq
    events = starts + round(-epochs.tmin * sfreq) / sfreq
    name_of, codes = {code: name for name, code in epochs.event_id.items()}, epochs.events[:, 2].tolist()
    annotations = mne.Annotations(
        starts,
        length / sfreq,
        [name_of.get(code, str(code)) for code in codes],
        extras=[{_TIME: float(time), _CODE: str(code)} for time, code in zip(events, codes, strict=True)],
    )
    return raw.set_annotations(annotations + mne.Annotations(starts + length / sfreq, (step - length) / sfreq, _GAP))


def epoch_events(raw: mne.io.BaseRaw) -> list[tuple[float, str, str]]:
    """Time (s), name and number of the event of each joined epoch; it may be outside the epoch."""
    marks = raw.annotations
    return [
        (float(about[_TIME]), str(name), str(about[_CODE]))
        for name, about in zip(marks.description, marks.extras, strict=True)
        if _TIME in about
    ]


def epochs_among(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Spans of the joined epochs; () if the recording is continuous."""
    inside = tuple(span for span in spans if span.description != _GAP)
    return inside if len(inside) < len(spans) else ()


def epoch_borders(epochs: Sequence[Span], sfreq: float) -> list[tuple[int, int]]:
    """First sample and end of each epoch in the joined recording, at the rate `sfreq`."""
    # Tolerance for the rounding of times: samples at the border belong to the epoch.
    return [(math.ceil(span.onset * sfreq - 1e-6), math.floor(span.end * sfreq + 1e-6)) for span in epochs]


def epoch_windows(epochs: Sequence[Span], sfreq: float, window: int, overlap: float) -> np.ndarray:
    """First sample of each window (n,), on a grid that starts again in each epoch."""
    return np.concatenate(
        [first + window_starts(end - first, window, overlap) for first, end in epoch_borders(epochs, sfreq)]
    )
