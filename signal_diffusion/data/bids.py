"""Write signals as a BIDS derivative, which mne-bids and other programs read.

    DIR/dataset_description.json, README.md
    DIR/participants.tsv, .json    a row per subject; each generated window is a subject
    DIR/sub-synth0001/eeg/         the files of `bids_recordings`: EDF, events, channels, positions

Generated windows are `desc-synth`, those of a prepared dataset `desc-windows`. The specification is at
https://bids-specification.readthedocs.io.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from signal_diffusion.data.bids_names import GeneratedNames, RecordingNames
from signal_diffusion.data.bids_recordings import write_json, write_recording, write_tsv
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.edf_files import check_edf
from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.data.stored_signals import StoredSignals, open_signals
from signal_diffusion.errors import UserError

__all__ = ["BidsSummary", "export_bids"]

_BIDS_VERSION = "1.10.0"
_NOT_OF_PEOPLE = ("subject", "recording", "window", "electrode", "caption")
_RENAMED = {"subject": "source_name", "label": "window_label"}  # in BIDS, a column `label` has numbers
_SEX = {"female": "F", "male": "M", "other": "O"}
_DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "age": {"Description": "Age of the subject", "Units": "year"},
    "sex": {"Description": "Sex of the subject", "Levels": {"F": "female", "M": "male", "O": "other"}},
    "window_label": {"Description": "Label of all windows of the subject"},
    "split": {"Description": "Split of the dataset that the subject is in"},
    "source_name": {"Description": "Name of the subject in the dataset that this folder was made from"},
}


@dataclass(kw_only=True)
class BidsSummary:
    """What an export wrote."""

    recordings: int = 0
    windows: int = 0
    seconds: float = 0.0
    """Duration of all windows."""
    people: dict[str, list[pd.DataFrame]] = field(default_factory=dict)
    """By name, such as sub-synth0001: the attributes that occur in each recording."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the folder should know; also in its README."""


def export_bids(
    source: Path, output: Path, progress: Callable[[str, int, int], None] = lambda what, done, total: None
) -> BidsSummary:
    """Write the samples or the dataset in `source` as a BIDS derivative to the new folder `output`.

    EDF stores 16 bits, so the error of a signal is at most half an `edf_files.edf_step` of its recording. `progress`
    gets "writing", the number of windows that are written, and their total. Raises `UserError` if `output` exists,
    `source` has no signals, or two names are the same in BIDS, which allows letters and digits only.
    """
    if output.exists():
        raise UserError(f"{output} already exists; choose another --output, or remove it")
    signals = open_signals(source)
    check_edf(signals.card, where=str(source), advice="BIDS stores EEG as EDF")
    with atomic_folder(output, "the BIDS dataset", replaces=False) as root:
        summary = _write_recordings(root, signals, progress)
        write_json(root / "dataset_description.json", _dataset_description(signals))
        _write_participants(root, summary, signals.card)
        (root / "README.md").write_text(_readme(signals, summary), encoding="utf-8")
    return summary


def _write_recordings(root: Path, source: StoredSignals, progress: Callable[[str, int, int], None]) -> BidsSummary:
    card, summary, padded = source.card, BidsSummary(), 0
    names = GeneratedNames(source.num_windows) if source.generated else RecordingNames()
    rate = float(card.sampling_rate or 0)
    for windows, frame in source.recordings():
        name = names.next(frame)
        write_recording(root, name, windows, frame, card)
        seconds = len(windows) * windows.shape[-1] / rate
        padded += not seconds.is_integer()
        summary.recordings += 1
        summary.windows += len(windows)
        summary.seconds += seconds
        people = frame.rename(columns=_RENAMED)
        people = people.drop(columns=[column for column in _NOT_OF_PEOPLE if column in people])
        summary.people.setdefault(name.person, []).append(people.drop_duplicates())
        progress("writing", summary.windows, max(source.num_windows, summary.windows))
    if card.representation["inverse"] == "approximate":
        kind = card.representation["name"]
        summary.notes.append(f"{kind} stores no phase: it is estimated, so the signals are approximate")
    if padded:
        summary.notes.append(
            f"EDF stores whole seconds: the last second of {padded} recordings is filled up with the last value, and "
            "annotated BAD_ACQ_SKIP"
        )
    summary.notes += names.notes()
    return summary


def _dataset_description(source: StoredSignals) -> dict[str, Any]:
    what = "generated EEG" if source.generated else "windows of EEG"
    licenses = {each["license"] for each in source.card.sources}
    stated = {"License": licenses.pop()} if len(licenses) == 1 and None not in licenses else {}
    keys = {"name": "Name", "description": "Description", "license": "License"}
    return {
        "Name": f"{source.root.resolve().name}: {what}",
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        **stated,
        "GeneratedBy": [
            {
                "Name": "signal-diffusion",
                "Version": version("signal-diffusion"),
                "Description": f"{what}, {source.card.representation['name']} turned into microvolts",
            }
        ],
        "SourceDatasets": [
            {key: each[name] for name, key in keys.items() if each.get(name)} for each in source.card.sources
        ],
    }


def _write_participants(root: Path, summary: BidsSummary, card: DatasetCard) -> None:
    """Write the columns that have one value per subject."""
    people = {person: pd.concat(parts) for person, parts in summary.people.items()}
    columns = [str(name) for name in next(iter(people.values()))]
    constant = [name for name in columns if all(rows[name].nunique(dropna=False) == 1 for rows in people.values())]
    table = pd.concat([rows[constant].iloc[:1] for rows in people.values()], ignore_index=True)
    table.insert(0, "participant_id", list(people))
    if "gender" in table and {*table["gender"].dropna()} <= _SEX.keys():
        table = table.assign(gender=table["gender"].map(_SEX)).rename(columns={"gender": "sex"})
    if "source_name" in table and (table["source_name"] == table["participant_id"]).all():
        table = table.drop(columns="source_name")
    table = table.sort_values("participant_id")
    write_tsv(root / "participants.tsv", table, digits=6)
    others = [str(name) for name in table if name != "participant_id"]
    write_json(root / "participants.json", {name: _description(name, card) for name in others})


def _description(name: str, card: DatasetCard) -> dict[str, Any]:
    levels = card.columns.get(name, {}).get("names")
    described = _DESCRIPTIONS.get(name, {"Description": f"Column {name} of the dataset"})
    return described | ({"Levels": {each: each for each in levels}} if levels else {})


def _readme(source: StoredSignals, summary: BidsSummary) -> str:
    made = (
        "The windows were generated by a diffusion model: nobody was recorded. Each is a subject of its own, with the "
        "attributes that were asked for."
        if source.generated
        else "The recordings were filtered and cut into windows, one after the other. Where a window does not continue "
        "the previous one, events.tsv has BAD boundary and EDGE boundary."
    )
    notes = "".join(f"- {note}\n" for note in summary.notes)
    return f"""# {source.root.resolve().name} as BIDS

{summary.windows} windows of {len(summary.people)} subjects, {summary.seconds:.0f} s, exported by signal-diffusion.
{made}
events.tsv has a row per window, with its label.

{notes}"""
