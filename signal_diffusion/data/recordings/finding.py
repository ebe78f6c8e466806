"""Find EEG recordings in folders, and what is known about them before they are read.

Formats: `formats.FORMATS` in plain folders, and those of BIDS, through MNE-BIDS, in BIDS folders.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from signal_diffusion.data.recordings.arrays import has_array_suffix, is_array
from signal_diffusion.data.recordings.bids_folders import ignored_by_bids, with_bids_paths, with_participants
from signal_diffusion.data.recordings.formats import SUFFIXES, files_in, is_recording
from signal_diffusion.data.recordings.identity import SubjectRule, entities_of, subjects_of
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.unread import refuse_unread, unread_in, warning_about
from signal_diffusion.errors import UserError, listed
from signal_diffusion.paths import is_broken_link
from signal_diffusion.untrusted import read_json

__all__ = ["Found", "find", "source_of"]

logger = logging.getLogger(__name__)

_BIDS_SUFFIXES = (".edf", ".bdf", ".fif", ".fif.gz", ".set", ".vhdr")

DEFAULT_RULE = SubjectRule()
_BESIDE_SUBJECTS = ("derivatives", "sourcedata", "code", "stimuli", "phenotype")  # folders of BIDS without recordings


@dataclass(frozen=True, kw_only=True)
class Found:
    """The recordings of an input, and what is in it but is not read."""

    recordings: list[Recording]
    left_out: list[str] = field(default_factory=list)
    """"name: why" of files that are not read; the card lists them."""


def find(
    root: Path, *, files: Sequence[Path] = (), rule: SubjectRule = DEFAULT_RULE, folder_is_label: bool = False
) -> Found:
    """Find the recordings of a BIDS folder, a plain folder (searched recursively) or one file; reads no signals.

    With `files`, only these files of the folder `root`, as in a plain folder. Subjects of a plain folder are those of
    `identity.subjects_of`. A folder of `sub-…/…_eeg.…` without dataset_description.json or participants.tsv is read
    with its events.tsv and channels.tsv. With `folder_is_label`, the folder directly under `root` is the label; the
    same name under two labels is the same subject. Hidden files, derivatives and the continuation files of a split FIF
    are left out.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder; give a recording, a folder of recordings or a BIDS folder")
    if root.is_dir() and not files and _is_bids(root):
        if folder_is_label:
            raise UserError(f"{root}: in a BIDS folder, folders are subjects, not labels; use --label task")
        found = _find_bids(root)
    else:
        base = root if root.is_dir() else root.parent
        found = _find_plain(base, list(files) or [root], rule, folder_is_label)
        if not files and root.is_dir() and not folder_is_label and rule == DEFAULT_RULE:
            found = replace(found, recordings=with_participants(root, with_bids_paths(root, found.recordings)))
    if not found.recordings:
        left = f"; left out: {listed(found.left_out)}" if found.left_out else ""
        raise UserError(
            f"{root}: no recordings found; supported formats are {', '.join(dict.fromkeys(SUFFIXES))}, and arrays{left}"
        )
    return found


def source_of(root: Path) -> dict[str, Any]:
    """Describe an input: `name`, `license` and `description`, None if not stated."""
    path = root / "dataset_description.json"
    description = read_json(path, dict[str, Any], "fix it or remove it") if path.exists() else {}
    if not isinstance(description.get("License"), str | None):
        raise UserError(f"{path}: expected a JSON object in which License is text; fix it or remove it")
    return {
        "name": _dataset_name(root),
        "license": description.get("License"),
        "description": description.get("Name"),
    }


def _is_bids(root: Path) -> bool:
    if (root / "dataset_description.json").exists():
        return True
    return (root / "participants.tsv").exists() and any(root.glob("sub-*/"))


def _find_bids(root: Path) -> Found:
    import mne_bids

    for path in root.glob("sub-*/**/eeg/sub-*_eeg.*"):  # MNE-BIDS would look for it in the folder of the name
        name, folder = f"sub-{entities_of(Path(path.name)).get('sub')}", path.relative_to(root).parts[0]
        if name != folder and path.name.lower().endswith(_BIDS_SUFFIXES):
            raise UserError(
                f"{root}: {path.relative_to(root)}: the folder says {folder}, but the name says {name}; "
                "rename the one that is wrong"
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that are not BIDS; these files are left out
        paths = mne_bids.find_matching_paths(root, datatypes="eeg", suffixes="eeg", extensions=list(_BIDS_SUFFIXES))
    recordings = []
    for path in paths:
        inside = path.fpath.relative_to(root)
        # MNE-BIDS also searches derivatives, and lists every part of a split file; the first part opens all of them.
        if not inside.parts[0].startswith("sub-") or _is_hidden(inside) or (path.split or "1").lstrip("0") != "1":
            continue
        recordings.append(replace(_recording(root, path.fpath, f"sub-{path.subject}"), bids=path))
    recordings = sorted([*recordings, *_broken_links(root)], key=lambda recording: recording.path)
    ignored, reasons = ignored_by_bids(root, [each.recording for each in recordings])
    recordings = [each for each in recordings if each.recording not in ignored]
    nameless = _without_bids_name(root, {each.path for each in recordings}, ignored)
    recordings = with_participants(root, recordings)
    return Found(recordings=recordings, left_out=sorted([*reasons, *nameless]))


def _recording(root: Path, path: Path, subject: str, **about: Any) -> Recording:
    inside = path.relative_to(root)
    entities = entities_of(inside)
    return Recording(
        path=path,
        recording=inside.as_posix(),
        subject=subject,
        dataset=_dataset_name(root),
        task=entities.get("task"),
        session=entities.get("ses"),
        run=entities.get("run"),
        acquisition=entities.get("acq"),
        **about,
    )


def _broken_links(root: Path) -> list[Recording]:
    """Recordings that are broken links, which MNE-BIDS omits silently; opening them reports the error."""
    return [
        _recording(root, path, f"sub-{entities_of(Path(path.name))['sub']}")
        for path in root.glob("sub-*/**/eeg/sub-*_eeg.*")
        if path.name.lower().endswith(_BIDS_SUFFIXES)
        and is_broken_link(path)
        and not _is_hidden(path.relative_to(root))
    ]


def _without_bids_name(root: Path, known: set[Path], ignored: Collection[str]) -> list[str]:
    """Warn about files without a BIDS name, outside of subject folders or not read, and list them for the card."""
    folders = [path for path in sorted(root.iterdir()) if path.name not in _BESIDE_SUBJECTS]
    files = [path for folder in folders for path in (files_in(folder) if folder.is_dir() else [folder])]
    files = [path for path in files if not _is_hidden(path.relative_to(root))]
    nameless = [
        path.relative_to(root).as_posix()
        for path in files
        if is_recording(path)
        and path not in known
        and path.relative_to(root).as_posix() not in ignored
        and "_split-" not in path.name
    ]
    if nameless:
        logger.warning(
            "%s: ignored %d recordings without a BIDS name for EEG (sub-…/eeg/sub-…_task-…_eeg.edf): %s",
            root, len(nameless), listed(nameless),
        )  # fmt: skip
    return [*[f"{name}: no BIDS name for EEG" for name in nameless], *_left_out(root, unread_in(files))]


def _left_out(root: Path, unread: Mapping[Path, str]) -> list[str]:
    """Warn about files that are not read, and list them for the card."""
    if unread:
        logger.warning("%s: %s", root, warning_about(dict(unread), root))
    return [f"{path.relative_to(root).as_posix()}: {kind}, not read" for path, kind in unread.items()]


def _find_plain(base: Path, roots: Sequence[Path], rule: SubjectRule, folder_is_label: bool) -> Found:
    files = list(roots)
    if base in roots:
        files = [path for path in files_in(base) if not _is_hidden(path.relative_to(base))]
    unread = unread_in(files)
    # Broken links are included: opening them reports the error.
    arrays = [path for path in files if (is_array(path) if base in roots else has_array_suffix(path))]
    files = [path for path in files if is_recording(path)]
    if files:
        unread |= dict.fromkeys(arrays, "an array; give arrays in a command of their own, with --units")
    else:
        files = arrays
    if unread and not files:
        refuse_unread(unread)
    left_out = _left_out(base, unread)
    _refuse_nested(base, files)
    continuations = _continuation_files(files)
    files = [path for path in files if path not in continuations]
    inside = [path.relative_to(base) for path in files]
    subjects = subjects_of(base, inside, rule, folder_is_label=folder_is_label)
    recordings = [
        _recording(base, path, subject, folder=within.parts[0] if len(within.parts) > 1 else None)
        for path, within, subject in zip(files, inside, subjects, strict=True)
    ]
    return Found(recordings=recordings, left_out=left_out)


def _refuse_nested(base: Path, files: list[Path]) -> None:
    """Raise a `UserError` for a BIDS folder inside a plain one: it would become a single subject."""
    folders = {folder for path in files for folder in path.relative_to(base).parents}
    nested = sorted(str(base / folder) for folder in folders if folder != Path() and _is_bids(base / folder))
    if nested:
        raise UserError(f"{base}: contains the BIDS folder {nested[0]}; give BIDS folders as separate inputs")


def _continuation_files(files: list[Path]) -> set[Path]:
    """Files that continue a split FIF, as listed by its first file: `rest-1.fif` may also be just a name."""
    import mne

    existing, continuations = set(files), set()
    for path in files:
        first = path.with_name(re.sub(r"-\d+(\.fif(\.gz)?)$", r"\1", path.name))
        first = first.with_name(re.sub(r"_split-\d+_", "_split-01_", first.name))
        if first == path or first not in existing or path in continuations:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                raw = mne.io.read_raw(first, verbose="ERROR")
        except Exception:  # reported when the file is read
            if re.search(r"[-_]epo\.fif(\.gz)?$", first.name):
                continuations.add(path)
            continue
        continuations |= {first.with_name(Path(part).name) for part in raw.filenames[1:]}
    return continuations


def _is_hidden(inside: Path) -> bool:
    """Whether a path has a hidden part, such as the `._*` files of macOS."""
    return any(part.startswith(".") for part in inside.parts)


def _dataset_name(root: Path) -> str:
    return root.resolve().name if root.is_dir() else root.resolve().parent.name
