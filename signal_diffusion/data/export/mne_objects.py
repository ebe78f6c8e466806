"""Signals as MNE's objects: epochs, or one recording with annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.signals import Metadata, Signals, checked_signals, electrode_names
from signal_diffusion.data.recordings.positions import head_positions
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    import mne

__all__ = ["LABEL", "event_within", "to_mne", "to_raw"]

LABEL = "label/"
"""Beginning of the annotations of labels in continuous exports."""
_VOLTS = 1e-6  # per µV


def to_mne(samples: Signals, card: DatasetCard, metadata: Metadata = None) -> mne.EpochsArray:
    """Convert signals to `mne.EpochsArray`: volts, names, positions of the 10-20 system, one epoch per window.

    A single electrode is named by `metadata["electrode"]` if that is the same in all rows, else "EEG". In windows
    around events, time 0 is the event (the card's `tmin` is the time of the first sample); in others, the first sample.
    Events are named by `metadata["label"]`, with the codes 1, 2, … in the order of the card's labels ("unlabelled" is
    last), or "sample" without labels. Raises `UserError` if examples of this card are not signals, or do not match the
    samples.
    """
    import mne

    signals, frame = checked_signals(samples, card, metadata)
    events = np.zeros((len(signals), 3), dtype=int)
    events[:, 0] = np.arange(len(signals)) * signals.shape[-1] + _event_sample(card)
    event_id = {"sample": 1}
    if "label" in frame:
        labels = ["unlabelled" if label is None else label for label in frame["label"]]
        known = card.columns.get("label", {}).get("names") or sorted({*labels} - {"unlabelled"})
        codes = {label: code for code, label in enumerate([*known, "unlabelled"], start=1)}
        if unknown := [label for label in labels if label not in codes]:
            raise UserError(f"metadata: label {unknown[0]!r} is not one of the card's: {', '.join(known)}")
        event_id = {label: codes[label] for label in codes if label in labels}
    events[:, 2] = [codes[label] for label in labels] if "label" in frame else 1
    return mne.EpochsArray(
        signals.astype(np.float64) * _VOLTS,
        _info(signals, card, frame),
        events=events,
        event_id=event_id,
        tmin=card.tmin or 0.0,
        metadata=frame if len(frame.columns) else None,
        baseline=None,
        verbose="error",
    )


def to_raw(samples: Signals, card: DatasetCard, metadata: Metadata = None) -> mne.io.RawArray:
    """Convert signals to `mne.io.RawArray`: the windows of `to_mne`, concatenated.

    An annotation "label/NAME" spans each window with a known label (with the prefix, since MNE drops data annotated
    with a word that begins with "bad"). In windows around events it is at the time of the event, with a duration of 0,
    if that is inside the window. "BAD boundary" and "EDGE boundary" mark where a window does not continue the
    previous one; generated windows never do.
    """
    import mne

    signals, frame = checked_signals(samples, card, metadata)
    info = _info(signals, card, frame)
    joined = signals.transpose(1, 0, 2).reshape(signals.shape[1], -1)  # (electrodes, N · samples)
    raw = mne.io.RawArray(joined.astype(np.float64) * _VOLTS, info, verbose="error")
    seconds = signals.shape[-1] / info["sfreq"]
    onsets = np.arange(len(signals)) * seconds
    breaks = onsets[~_continues(frame, card)]
    event, duration = event_within(card, signals.shape[-1]), seconds
    if event is not None:
        onsets, duration = onsets + event / info["sfreq"], 0.0
    labelled = [
        (onset, f"{LABEL}{label}") for onset, label in zip(onsets, frame.get("label", ()), strict=False) if label
    ]
    raw.set_annotations(
        mne.Annotations([onset for onset, _ in labelled], duration, [text for _, text in labelled])
        + mne.Annotations(breaks, 0.0, "BAD boundary")
        + mne.Annotations(breaks, 0.0, "EDGE boundary"),
        verbose="error",
    )
    return raw


def event_within(card: DatasetCard, samples: int) -> int | None:
    """Sample of the event in windows of so many; None if they are not around events, or their event is outside."""
    event = _event_sample(card)
    return event if card.tmin is not None and 0 <= event < samples else None


def _event_sample(card: DatasetCard) -> int:
    """Sample of the event relative to the first one of a window; 0 for windows that are not around events."""
    return round(-(card.tmin or 0.0) * (card.sampling_rate or 0.0))


def _info(signals: np.ndarray, card: DatasetCard, frame: pd.DataFrame) -> mne.Info:
    import mne

    info = mne.create_info(electrode_names(signals, card, frame), card.sampling_rate, "eeg", verbose="error")
    _place_electrodes(info, card)
    with info._unlock():  # MNE has no other way to record filters that it did not apply itself
        if "band" in card.preprocessing:
            info["highpass"], info["lowpass"] = map(float, card.preprocessing["band"])
        if card.preprocessing.get("reference", "none") != "none":  # also for an average, like `set_eeg_reference`
            info["custom_ref_applied"] = mne.io.constants.FIFF.FIFFV_MNE_CUSTOM_REF_ON
    return info


def _place_electrodes(info: mne.Info, card: DatasetCard) -> None:
    """Positions of the 10-20 system; those of the card if they are not standard, or for other electrodes."""
    import mne

    info.set_montage("standard_1020", match_case=False, on_missing="ignore", verbose="error")
    replaced = card.preprocessing.get("positions") in ("recordings", "given")
    unplaced = {each["ch_name"] for each in info["chs"] if not np.isfinite(each["loc"][:3]).all()}
    chosen = {name: xyz for name, xyz in card.positions.items() if name in (info.ch_names if replaced else unplaced)}
    if not chosen:
        return
    montage = info.get_montage()
    known: dict[str, Any] = montage.get_positions() if montage else {"ch_pos": {}, "coord_frame": "head"}
    known["ch_pos"] = known["ch_pos"] | head_positions(chosen)
    info.set_montage(mne.channels.make_dig_montage(**known), on_missing="ignore", verbose="error")


def _continues(frame: pd.DataFrame, card: DatasetCard) -> np.ndarray:
    """Whether each window (N,) continues the previous one of its recording; True for the first window."""
    follows = np.zeros(len(frame), dtype=bool)
    follows[:1] = True
    if card.preprocessing.get("overlap") == 0 and {"recording", "window"} <= set(frame):
        same = [name for name in ("dataset", "recording", "electrode") if name in frame]
        before = frame.shift()
        follows |= (frame[same] == before[same]).all(axis=1) & (frame["window"] == before["window"] + 1)
    return follows
