"""Registry of file formats: which files are recordings, and which belong to a recording.

A format that MNE-Python reads as continuous EEG is one line of `FORMATS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "FORMATS",
    "HYPNOGRAM",
    "SUFFIXES",
    "Format",
    "files_in",
    "format_of",
    "is_recording",
    "other_kind",
    "suffix_of",
]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format of continuous recordings."""

    name: str
    suffixes: tuple[str, ...]
    reader: str
    """Function of `mne.io`."""
    companions: tuple[str, ...] = ()
    """Suffixes of the files that a recording may consist of besides its own."""
    volts_per_unit: float = 1.0
    """Factor to V of the numbers that `reader` returns as V."""
    signatures: tuple[bytes, ...] = ()
    """First bytes of the file, where other formats have the same suffix; () = the suffix is enough."""


_NIHON_KOHDEN = (b"EEG-1100", b"QI-403A", b"EEG-2100", b"DAE-2100D", b"EEG-1200A")

FORMATS = (
    Format(name="EDF", suffixes=(".edf",), reader="read_raw_edf"),
    Format(name="BDF", suffixes=(".bdf",), reader="read_raw_bdf"),
    Format(name="GDF", suffixes=(".gdf",), reader="read_raw_gdf"),
    Format(name="FIF", suffixes=(".fif", ".fif.gz"), reader="read_raw_fif"),
    Format(name="EEGLAB", suffixes=(".set",), reader="read_raw_eeglab", companions=(".fdt",)),
    Format(
        name="BrainVision",
        suffixes=(".vhdr", ".ahdr"),
        reader="read_raw_brainvision",
        companions=(".vmrk", ".amrk", ".eeg", ".dat", ".avg"),
    ),
    Format(name="Neuroscan CNT", suffixes=(".cnt",), reader="read_raw_cnt", signatures=(b"Version 3",)),
    Format(name="ANT Neuro", suffixes=(".cnt",), reader="read_raw_ant", signatures=(b"RIFF", b"RF64")),
    Format(name="Curry", suffixes=(".cdt", ".dap"), reader="read_raw_curry", companions=(".dat", ".rs3", ".cef")),
    Format(name="EGI MFF", suffixes=(".mff",), reader="read_raw_egi"),  # a folder
    Format(
        name="Nihon Kohden",
        suffixes=(".eeg",),
        reader="read_raw_nihon",
        companions=(".pnt", ".21e", ".log"),
        signatures=_NIHON_KOHDEN,
    ),
    Format(name="Persyst", suffixes=(".lay",), reader="read_raw_persyst", companions=(".dat",)),
    Format(name="StarStim NEDF", suffixes=(".nedf",), reader="read_raw_nedf"),
    Format(name="Nexstim eXimia", suffixes=(".nxe",), reader="read_raw_eximia", volts_per_unit=1e-6),
)

SUFFIXES = tuple(suffix for each in FORMATS for suffix in each.suffixes)

# By MNE's naming convention; a FIF file without one of these endings is opened to see what it is.
_OTHER_FIF = {
    "eve": "events", "cov": "a covariance", "ave": "evoked responses", "ica": "an ICA", "trans": "a transform",
    "src": "a source space", "fwd": "a forward solution", "inv": "an inverse operator", "bem": "a head model",
    "sol": "a head model", "proj": "projectors",
}  # fmt: skip
_FIF_ENDING = re.compile(rf"[-_]({'|'.join(_OTHER_FIF)})\.fif(\.gz)?$", re.IGNORECASE)
HYPNOGRAM = re.compile(r"[-_]hypnogram\.edf$", re.IGNORECASE)
"""Ending of a file of sleep stages, which has the format of a recording but only annotations."""


def suffix_of(path: Path) -> str:
    """Suffix in lower case; `.fif.gz` is one suffix."""
    return next((each for each in SUFFIXES if each.count(".") > 1 and path.name.lower().endswith(each)), None) or (
        path.suffix.lower()
    )


def format_of(path: Path) -> Format | None:
    """Format of a recording, by suffix and, where several formats share it, by the first bytes of the file."""
    suffix = suffix_of(path)
    for each in FORMATS:
        if suffix in each.suffixes and (not each.signatures or _start_of(path).startswith(each.signatures)):
            return each
    return None


def is_recording(path: Path) -> bool:
    """Whether a file (or a folder such as `.mff`) is a recording, and not part of one or of another kind."""
    return format_of(path) is not None and other_kind(path) is None


def other_kind(path: Path) -> str | None:
    """What a file is that has the suffix of a recording but by its name is none; otherwise None."""
    if HYPNOGRAM.search(path.name):
        return "a hypnogram"
    ending = _FIF_ENDING.search(path.name)
    return _OTHER_FIF[ending[1].lower()] if ending else None


def files_in(root: Path) -> list[Path]:
    """All files below a folder, sorted; a recording that is a folder (`.mff`) counts as one file."""
    found = sorted(root.rglob("*"))
    folders = {path for path in found if path.suffix.lower() in (".mff", ".mefd") and path.is_dir()}
    return [path for path in found if path in folders or (not path.is_dir() and folders.isdisjoint(path.parents))]


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError:  # reported when the file is opened
        return b""
