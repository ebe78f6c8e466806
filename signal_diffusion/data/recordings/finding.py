"""Find EEG recordings in folders, and what is known about them before they are read.

Formats: `formats.FORMATS` in plain folders, and those of BIDS, through MNE-BIDS, in BIDS folders.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from pathlib import Path
from typing import Any

from signal_diffusion.data.recordings.formats import SUFFIXES, files_in, is_recording, suffix_of
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.subjects import read_subjects, row_of, with_attributes
from signal_diffusion.data.recordings.unread import refuse_unread, unread_in, warning_about
from signal_diffusion.errors import UserError
from signal_diffusion.paths import is_broken_link

__all__ = ["find_recordings", "source_of"]

logger = logging.getLogger(__name__)

_BIDS_SUFFIXES = (".edf", ".bdf", ".fif", ".fif.gz", ".set", ".vhdr")

_ENTITY = re.compile(r"(?<![^_])(sub|task)-([A-Za-z0-9]+)")  # entities in BIDS names: sub-01_task-rest_eeg.edf


def find_recordings(root: Path, *, folder_is_label: bool = False) -> list[Recording]:
    """List the recordings of a BIDS folder, a plain folder (searched recursively) or one file; reads no signals.

    In a plain folder, the subject is the folder directly under `root`. For files without such a folder it is the
    `sub-` entity of a BIDS-like file name, or else the whole name: the files of one subject belong in one folder. With
    `folder_is_label`, that folder is the label, and the subject is the folder below (LABEL/SUBJECT/file) or follows
    from the file name (LABEL/file); the same name under two labels is the same subject. Hidden files, derivatives and
    the continuation files of a split FIF are left out.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder; give a recording, a folder of recordings or a BIDS folder")
    if root.is_dir() and _is_bids(root):
        if folder_is_label:
            raise UserError(f"{root}: in a BIDS folder, folders are subjects, not labels; use --label task")
        found = _find_bids(root)
    else:
        found = _find_plain(root, folder_is_label)
    if not found:
        raise UserError(f"{root}: no recordings found; supported formats are {', '.join(SUFFIXES)}")
    return found


def source_of(root: Path) -> dict[str, Any]:
    """Describe an input: `name`, `license` and `description`, None if not stated."""
    path = root / "dataset_description.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig")) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); fix it or remove it") from error
    if not isinstance(description, dict) or not isinstance(description.get("License"), str | None):
        raise UserError(f"{path}: expected a JSON object in which License is text; fix it or remove it")
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
    subjects = read_subjects(table) if table.exists() else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that are not BIDS; these files are left out
        paths = mne_bids.find_matching_paths(root, datatypes="eeg", suffixes="eeg", extensions=list(_BIDS_SUFFIXES))
    recordings = []
    for path in sorted(paths, key=lambda path: path.fpath):
        inside = path.fpath.relative_to(root)
        # MNE-BIDS also searches derivatives, and lists every part of a split file; the first part opens all of them.
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
        recordings.append(recording)
    recordings = sorted([*recordings, *_broken_links(root)], key=lambda recording: recording.path)
    _warn_about_ignored(root, {recording.path for recording in recordings})
    return [with_attributes(each, row_of(subjects, each.subject) or {}) for each in recordings]


def _broken_links(root: Path) -> list[Recording]:
    """Recordings that are broken links, which MNE-BIDS omits silently; opening them reports the error."""
    return [
        Recording(
            path=path,
            recording=path.relative_to(root).as_posix(),
            subject=_subject_in(path.name),
            dataset=_dataset_name(root),
            task=dict(_ENTITY.findall(path.name)).get("task"),
        )
        for path in root.glob("sub-*/**/eeg/sub-*_eeg.*")
        if path.name.lower().endswith(_BIDS_SUFFIXES)
        and is_broken_link(path)
        and not _is_hidden(path.relative_to(root))
    ]


def _warn_about_ignored(root: Path, known: set[Path]) -> None:
    """Warn about files in subject folders without a BIDS name, such as `sub-01_rest.EDF`."""
    files = [path for folder in sorted(root.glob("sub-*")) for path in files_in(folder)]
    files = [path for path in files if not _is_hidden(path.relative_to(root))]
    if unread := unread_in(files):
        logger.warning("%s: %s", root, warning_about(unread, root))
    ignored = [path for path in files if is_recording(path) and path not in known and "_split-" not in path.name]
    if ignored:
        logger.warning(
            "%s: ignored %d recordings without a BIDS name for EEG (sub-…_task-…_eeg.edf); "
            "the first is %s", root, len(ignored), ignored[0].relative_to(root),
        )  # fmt: skip


def _find_plain(root: Path, folder_is_label: bool) -> list[Recording]:
    base = root if root.is_dir() else root.parent
    files = [root]
    if root.is_dir():
        files = [path for path in files_in(root) if not _is_hidden(path.relative_to(root))]
    unread = unread_in(files)
    # Broken links are included: opening them reports the error.
    files = [path for path in files if is_recording(path)]
    if unread and not files:
        refuse_unread(unread)
    if unread:
        logger.warning("%s: %s", root, warning_about(unread, base))
    _refuse_nested(base, files)
    continuations = _continuation_files(files)
    recordings = []
    for path in files:
        inside = path.relative_to(base)
        if path in continuations:
            continue
        *folders, name = inside.parts
        of_subject = folders[1:] if folder_is_label else folders
        recordings.append(
            Recording(
                path=path,
                recording=inside.as_posix(),
                subject=of_subject[0] if of_subject else _subject_in(name),
                dataset=_dataset_name(root),
                task=dict(_ENTITY.findall(name)).get("task"),
                folder=folders[0] if folders else None,
            )
        )
    loose = [each for each in recordings if each.folder is None and not each.subject.startswith("sub-")]
    if len(loose) > 1:
        logger.warning(
            "%s: treating each of %d files as a separate subject, such as %s; put the files of one subject into one "
            "folder", base, len(loose), loose[0].subject,
        )  # fmt: skip
    return recordings


def _refuse_nested(base: Path, files: list[Path]) -> None:
    """Raise a `UserError` for a BIDS folder inside a plain one: it would become a single subject."""
    folders = {folder for path in files for folder in path.relative_to(base).parents}
    nested = sorted(str(base / folder) for folder in folders if folder != Path() and _is_bids(base / folder))
    if nested:
        raise UserError(f"{base}: contains the BIDS folder {nested[0]}; give BIDS folders as separate inputs")


def _subject_in(name: str) -> str:
    entities = dict(_ENTITY.findall(name))
    if "sub" in entities:
        return f"sub-{entities['sub']}"
    return name[: -len(suffix_of(Path(name)))]


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
            continue
        continuations |= {first.with_name(Path(part).name) for part in raw.filenames[1:]}
    return continuations


def _is_hidden(inside: Path) -> bool:
    """Whether a path has a hidden part, such as the `._*` files of macOS."""
    return any(part.startswith(".") for part in inside.parts)


def _dataset_name(root: Path) -> str:
    return root.resolve().name if root.is_dir() else root.resolve().parent.name
