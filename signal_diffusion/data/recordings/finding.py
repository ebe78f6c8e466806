"""Recordings of EEG found in folders, and what is known of them before they are read.

EDF, BDF, FIF, EEGLAB (.set) and BrainVision (.vhdr), in plain folders and, through MNE-BIDS, in BIDS folders.
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from signal_diffusion.data.recordings.subjects import described, read_subjects, row_of
from signal_diffusion.errors import UserError

__all__ = ["Recording", "find_recordings", "source_of"]

FORMATS = (".edf", ".bdf", ".fif", ".fif.gz", ".set", ".vhdr")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file of EEG, what is known about it before it is read."""

    path: Path
    recording: str
    """The file's path within its input: unique in a dataset."""
    subject: str
    dataset: str
    folder: str | None = None
    """In a plain folder, the folder directly under the input that the file lies in, if any."""
    task: str | None = None
    gender: str | None = None
    """`female` or `male` where the source says so in any usual way, else as it stands there."""
    health: str | None = None
    age: float | None = None
    """Years."""
    caption: str | None = None
    participant: dict[str, str] = field(default_factory=dict)
    """The person's row of the table of subjects, missing values left out."""
    bids: Any = None
    """The file's `mne_bids.BIDSPath`, where it lies in a BIDS folder."""


def find_recordings(root: Path, *, folder_is_label: bool = False) -> list[Recording]:
    """List the recordings of a BIDS folder, a plain folder (searched in depth) or one file; reads no signals.

    In a plain folder the subject is the folder directly under `root`, or the file's own name where there is
    none: the files of one person belong in one folder. Where `folder_is_label`, that folder is the label and the
    subject is the one below, LABEL/SUBJECT/file, or the file's name, LABEL/file; the same name under two labels
    is the same person. Hidden files, derivatives in BIDS folders and the further parts of a split FIF are left out.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder; give a recording, a folder of recordings or a BIDS folder")
    if root.is_dir() and _is_bids(root):
        if folder_is_label:
            raise UserError(f"{root}: a BIDS folder, whose folders are people and no labels; use --label task")
        found = _find_bids(root)
    else:
        found = _find_plain(root, folder_is_label)
    if not found:
        raise UserError(f"{root}: no recordings here; known formats are {', '.join(FORMATS)}")
    return found


def source_of(root: Path) -> dict[str, Any]:
    """Give `name`, `license` and `description` of an input, null where it does not say."""
    path = root / "dataset_description.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig")) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); put it right or remove it") from error
    if not isinstance(description, dict) or not isinstance(description.get("License"), str | None):
        raise UserError(f"{path}: expected an object whose License is text; put it right or remove it")
    return {
        "name": _dataset_name(root),
        "license": description.get("License"),
        "description": description.get("Name"),
    }


def _is_bids(root: Path) -> bool:
    return (root / "participants.tsv").exists() or (root / "dataset_description.json").exists()


def _find_bids(root: Path) -> list[Recording]:
    import mne_bids

    table = root / "participants.tsv"
    people = read_subjects(table) if table.exists() else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are not BIDS, which are left out
        paths = mne_bids.find_matching_paths(root, datatypes="eeg", suffixes="eeg", extensions=list(FORMATS))
    recordings = []
    for path in sorted(paths, key=lambda path: path.fpath):
        inside = path.fpath.relative_to(root)
        # MNE-BIDS looks into derivatives too, and only the first part of a split file leads to the others.
        if not inside.parts[0].startswith("sub-") or _is_hidden(inside) or (path.split or "1").lstrip("0") != "1":
            continue
        recording = Recording(
            path=path.fpath,
            recording=inside.as_posix(),
            subject=f"sub-{path.subject}",
            dataset=_dataset_name(root),
            task=path.task,
            bids=path,
        )
        recordings.append(described(recording, row_of(people, recording.subject) or {}))
    return recordings


def _find_plain(root: Path, folder_is_label: bool) -> list[Recording]:
    base = root if root.is_dir() else root.parent
    files = [root]
    if root.is_dir():
        files = [path for path in sorted(root.rglob("*")) if not _is_hidden(path.relative_to(root))]
    files = [path for path in files if path.name.lower().endswith(FORMATS) and path.is_file()]
    further = _further_parts(files)
    recordings = []
    for path in files:
        inside = path.relative_to(base)
        if path in further or _is_derivative(base, inside):
            continue
        *folders, _ = inside.parts
        of_subject = folders[1:] if folder_is_label else folders
        recordings.append(
            Recording(
                path=path,
                recording=inside.as_posix(),
                subject=of_subject[0] if of_subject else inside.stem,
                dataset=_dataset_name(root),
                folder=folders[0] if folders else None,
            )
        )
    return recordings


def _further_parts(files: list[Path]) -> set[Path]:
    """Tell which files are a FIF's parts after the first, by asking the first: `rest-1.fif` may be just a name."""
    import mne

    there, further = set(files), set()
    for path in files:
        first = path.with_name(re.sub(r"-\d+(\.fif(\.gz)?)$", r"\1", path.name))
        first = first.with_name(re.sub(r"_split-\d+_", "_split-01_", first.name))
        if first == path or first not in there or path in further:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                raw = mne.io.read_raw(first, verbose="ERROR")
        except Exception:  # it will be told when the file is read
            continue
        further |= {first.with_name(Path(part).name) for part in raw.filenames[1:]}
    return further


def _is_hidden(inside: Path) -> bool:
    """Tell whether a path has a hidden part, such as the `._*` that macOS leaves beside files."""
    return any(part.startswith(".") for part in inside.parts)


def _is_derivative(base: Path, inside: Path) -> bool:
    """Tell whether a file is a derivative in a BIDS folder somewhere below a plain one."""
    places = [place for place, part in enumerate(inside.parts) if part == "derivatives"]
    return any(_is_bids(base.joinpath(*inside.parts[:place])) for place in places)


def _dataset_name(root: Path) -> str:
    return root.resolve().name if root.is_dir() else root.resolve().parent.name
