"""Windows of recordings, of any generator: epochs as they are, and continuous recordings cut into windows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.export.mne_objects import LABEL
from signal_diffusion.data.recordings.channels import electrode_of
from signal_diffusion.data.recordings.epochs import open_epochs
from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.recordings.opening import errors_naming, open_recording
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.windows import SUBJECT, Windows

if TYPE_CHECKING:
    import mne

    from signal_diffusion.data.recordings.recording import Recording

__all__ = ["read_recordings"]

LEFT_OUT = "BAD_ACQ_SKIP"
"""Annotation of the padding that fills the last record of an EDF."""


def read_recordings(root: Path, seconds: float | None) -> Windows:
    """Windows of all recordings in a folder, or of one; each file is a person unless the names say otherwise.

    Raises
    ------
    UserError
        If there are none, they differ in electrodes or rate, or continuous ones have no length of window.
    """
    parts = []
    for recording in find(root).recordings:
        with errors_naming(recording.path):
            part = _windows_of(recording, seconds)
        parts.append(part)
    first = parts[0]
    for part in parts[1:]:
        for what in ("sfreq", "ch_names"):
            if getattr(part, what) != getattr(first, what):
                raise UserError(
                    f"{part.name}: {what} is {getattr(part, what)}, but {getattr(first, what)} in {first.name}; judge "
                    "recordings with the same electrodes and rate"
                )
        if part.signals.shape[-1] != first.signals.shape[-1]:
            raise UserError(f"{part.name}: windows of {part.seconds:g} s, but {first.seconds:g} s in {first.name}")
    columns = sorted(set.intersection(*(set(part.columns) for part in parts)))
    return Windows(
        signals=np.concatenate([part.signals for part in parts]),
        sfreq=first.sfreq,
        ch_names=first.ch_names,
        columns={name: np.concatenate([part.columns[name] for part in parts]) for name in columns},
        name=root.resolve().name,
    )


def _windows_of(recording: Recording, seconds: float | None) -> Windows:
    import mne

    path, subject = recording.path, recording.subject
    if path.suffix == ".fif" and mne.what(path) == "epochs":
        epochs = open_epochs(path)
        known = epochs.metadata is not None and SUBJECT in epochs.metadata
        people = {} if known else {SUBJECT: np.full(len(epochs), subject)}
        return Windows.from_epochs(epochs, name=path.name, **people)
    raw = open_recording(recording).copy().pick("eeg")
    if seconds is None:
        raise UserError("is continuous; the length of windows is unknown")
    sfreq = float(raw.info["sfreq"])
    length = round(seconds * sfreq)
    starts, labels = _starts(raw, length)
    if not len(starts):
        raise UserError(f"is shorter than a window of {seconds:g} s")
    signals = raw.get_data(units="µV")
    columns = {SUBJECT: np.full(len(starts), subject)} | ({"label": np.array(labels)} if any(labels) else {})
    return Windows(
        signals=np.stack([signals[:, start : start + length] for start in starts]),
        sfreq=sfreq,
        ch_names=tuple(electrode_of(name) or name for name in raw.ch_names),
        columns=columns,
        name=path.name,
    )


def _starts(raw: mne.io.BaseRaw, length: int) -> tuple[np.ndarray, list[str]]:
    """First samples of the windows, and their labels ("" = none)."""
    sfreq = float(raw.info["sfreq"])
    starts = np.arange(0, raw.n_times - length + 1, length)
    notes = [(each["onset"] * sfreq, each["duration"] * sfreq, each["description"]) for each in raw.annotations]
    filled = [(onset, onset + duration) for onset, duration, text in notes if text == LEFT_OUT]
    starts = starts[[not any(begin < start + length and end > start for begin, end in filled) for start in starts]]
    labelled = [(round(onset), text.removeprefix(LABEL)) for onset, _, text in notes if text.startswith(LABEL)]
    labels = [next((text for onset, text in labelled if s <= onset < s + length), "") for s in starts]
    return starts, labels
