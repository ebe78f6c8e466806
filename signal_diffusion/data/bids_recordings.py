"""Write one recording in BIDS: an EDF file, and what BIDS says about it in files next to it.

…_eeg.edf, …_eeg.json      signals, rate, reference, filters
…_channels.tsv             names and units
…_events.tsv, .json        a row per window with its label, and where windows do not continue each other
…_electrodes.tsv, …_coordsystem.json    positions
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from signal_diffusion.data.bids_names import RecordingName
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.edf_files import check_edf_values, save_edf
from signal_diffusion.data.export.mne_objects import event_within, to_raw

if TYPE_CHECKING:
    import mne

__all__ = ["write_json", "write_recording", "write_tsv"]

_SPACE = "CapTrak"  # the head coordinates that mne-bids reads as those of MNE
_BREAKS = ("BAD boundary", "EDGE boundary")


def write_recording(
    root: Path, name: RecordingName, windows: np.ndarray, frame: pd.DataFrame, card: DatasetCard
) -> None:
    """Write windows (N, electrodes, samples) or (N, samples), µV, one after the other, with N rows of metadata.

    Raises `UserError` if EDF cannot store a value.
    """
    check_edf_values(windows, name.stem, advice="make the samples or the dataset again")
    folder = root / name.folder
    folder.mkdir(parents=True, exist_ok=True)
    raw = to_raw(windows, card, frame)
    save_edf(folder / f"{name.stem}_eeg.edf", raw, windows)
    events = _events(raw, frame, card)
    write_json(folder / f"{name.stem}_eeg.json", _about(raw, name, frame, card))
    write_tsv(folder / f"{name.stem}_channels.tsv", _channels(raw, card))
    write_tsv(folder / f"{name.stem}_events.tsv", events)
    write_json(folder / f"{name.stem}_events.json", _about_events(events, card))
    _write_positions(folder / name.visit, raw)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write readable JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tsv(path: Path, table: pd.DataFrame, *, digits: int = 12) -> None:
    """Write a table as BIDS has it: tabs, n/a for unknown values, numbers of at most so many digits."""
    plain = table.replace(r"[\t\r\n]+", " ", regex=True)
    plain.to_csv(path, sep="\t", index=False, na_rep="n/a", float_format=f"%.{digits}g", lineterminator="\n")


def _about(raw: mne.io.BaseRaw, name: RecordingName, frame: pd.DataFrame, card: DatasetCard) -> dict[str, Any]:
    done = card.preprocessing
    filters = {
        "Band-pass, zero phase": {"edges in Hz": done["band"]} if "band" in done else None,
        "Notch, zero phase": {"frequencies in Hz": done["notch"]} if done.get("notch") else None,
    }
    is_one = len(frame) == 1 or not any(text in _BREAKS for text in raw.annotations.description)
    return {
        "TaskName": name.task,
        "EEGReference": str(done.get("reference", "n/a")),
        "SamplingFrequency": raw.info["sfreq"],
        "PowerLineFrequency": "n/a",
        "SoftwareFilters": {key: value for key, value in filters.items() if value} or "n/a",
        "EEGChannelCount": len(raw.ch_names),
        "RecordingDuration": math.ceil(raw.n_times / raw.info["sfreq"]),  # EDF stores whole seconds
        "RecordingType": "continuous" if is_one else "discontinuous",
        **({"SourceRecording": frame["recording"].iloc[0]} if "recording" in frame else {}),
    }


def _channels(raw: mne.io.BaseRaw, card: DatasetCard) -> pd.DataFrame:
    low, high = card.preprocessing.get("band", (None, None))
    return pd.DataFrame(
        {
            "name": raw.ch_names,
            "type": "EEG",
            "units": "µV",
            "sampling_frequency": raw.info["sfreq"],
            "low_cutoff": low,  # of the high-pass filter
            "high_cutoff": high,
            "status": "good",
        }
    )


def _events(raw: mne.io.BaseRaw, frame: pd.DataFrame, card: DatasetCard) -> pd.DataFrame:
    """A row per window, at the event that it was cut around or at its first sample, and a row per boundary."""
    sfreq, samples = raw.info["sfreq"], raw.n_times // len(frame)
    event = event_within(card, samples)
    start = np.arange(len(frame)) * samples + (event or 0)
    unlabelled = "unlabelled" if "label" in frame else "window"
    windows = {
        "onset": start / sfreq,
        "duration": samples / sfreq if event is None else 0.0,
        "trial_type": [_event_name(label) for label in frame.get("label", [None] * len(frame))],
        "sample": start,
    }
    breaks = [each for each in raw.annotations if each["description"] in _BREAKS]
    boundaries = {
        "onset": [each["onset"] for each in breaks],
        "duration": 0.0,
        "trial_type": [each["description"] for each in breaks],
        "sample": [round(each["onset"] * sfreq) for each in breaks],
    }
    table = pd.DataFrame(windows).fillna({"trial_type": unlabelled})
    # No more columns: mne-bids attaches them to the annotations, which MNE then cannot make epochs of.
    return pd.concat([table, pd.DataFrame(boundaries)]).sort_values("onset", kind="stable") if breaks else table


def _event_name(label: str | None) -> str | None:
    """The label; with a prefix if MNE would drop data that is annotated with it."""
    return f"label/{label}" if label and re.match("bad|edge", label, re.IGNORECASE) else label


def _about_events(events: pd.DataFrame, card: DatasetCard) -> dict[str, Any]:
    levels = {name: f"window with the label {name}" for name in events["trial_type"].unique()}
    levels |= {"window": "window without a label", "unlabelled": "window whose label is not known"}
    levels |= dict.fromkeys(_BREAKS, "this window does not continue the previous one")
    found = {name: levels[name] for name in events["trial_type"].unique()}
    what = "Label of a window" + ("" if card.tmin is None else f", which begins {card.tmin:g} s from its event")
    return {
        "trial_type": {"Description": f"{what}, or a boundary", "Levels": found},
        "sample": {"Description": "Onset in samples, from 0"},
    }


def _write_positions(stem: Path, raw: mne.io.BaseRaw) -> None:
    """Write electrodes.tsv and coordsystem.json, if positions are known; recordings of a folder share them."""
    montage, electrodes = raw.get_montage(), stem.with_name(f"{stem.name}_electrodes.tsv")
    if montage is None or electrodes.exists():
        return
    found = montage.get_positions()
    xyz = np.array([found["ch_pos"].get(name, [np.nan] * 3) for name in raw.ch_names])  # m
    if np.isnan(xyz).all():
        return
    table = pd.DataFrame({"name": raw.ch_names, "x": xyz[:, 0], "y": xyz[:, 1], "z": xyz[:, 2]})
    write_tsv(electrodes, table, digits=6)
    landmarks = {"NAS": found["nasion"], "LPA": found["lpa"], "RPA": found["rpa"]}
    known = {key: [round(float(each), 6) for each in value] for key, value in landmarks.items() if value is not None}
    system: dict[str, Any] = {
        "EEGCoordinateSystem": _SPACE,
        "EEGCoordinateUnits": "m",
        "EEGCoordinateSystemDescription": "Nominal positions of the electrodes, not measured ones: x to the right ear, "
        "y to the nose, z up; the origin is between the ears.",
    }
    if known:
        system |= {
            "AnatomicalLandmarkCoordinates": known,
            "AnatomicalLandmarkCoordinateSystem": _SPACE,
            "AnatomicalLandmarkCoordinateUnits": "m",
        }
    write_json(stem.with_name(f"{stem.name}_coordsystem.json"), system)
