"""Files of annotations and events that belong to a recording: found by their names, and attached to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.recordings.formats import HYPNOGRAM, suffix_of
from signal_diffusion.errors import UserError, one_line

if TYPE_CHECKING:
    import mne

__all__ = ["attach_companions", "companions_of"]

_PSG = re.compile(r"[-_]psg\.edf$", re.IGNORECASE)


def companions_of(path: Path) -> list[Path]:
    """Find the files of annotations or events that belong to a recording.

    `SC4001E0-PSG.edf` has `SC4001E0-Hypnogram.edf`, or `SC4001EC-Hypnogram.edf` with the same first seven characters
    (the eighth is the scorer), `rest_raw.fif` has `rest_raw-eve.fif` and `rest-eve.fif`.
    """
    name = path.name.lower()
    if _PSG.search(name):
        stem = _PSG.sub("", name)
        hypnograms = [each for each in _beside(path) if HYPNOGRAM.search(each.name)]
        same = [each for each in hypnograms if HYPNOGRAM.sub("", each.name).lower() == stem]
        return same or [each for each in hypnograms if len(stem) == 8 and each.name.lower().startswith(stem[:7])]
    if suffix_of(path) in (".fif", ".fif.gz"):
        stem = re.sub(r"\.fif(\.gz)?$", "", name)
        stems = {stem, re.sub(r"[-_](raw|eeg|meg)$", "", stem)}
        wanted = {f"{each}{dash}eve.fif{gz}" for each in stems for dash in "-_" for gz in ("", ".gz")}
        return [each for each in _beside(path) if each.name.lower() in wanted]
    return []


def attach_companions(raw: mne.io.BaseRaw, path: Path) -> None:
    """Add the annotations and events of a recording's companions to it; those outside the recording are left out."""
    import mne

    for companion in companions_of(path):
        try:
            if HYPNOGRAM.search(companion.name):
                found = mne.read_annotations(companion)
                if not len(found):
                    raise ValueError("no annotation found in it")
                onset, duration, names = found.onset, found.duration, list(found.description)
            else:
                events = mne.read_events(companion, verbose="ERROR")
                onset = (events[:, 0] - raw.first_samp) / raw.info["sfreq"]
                duration, names = np.zeros(len(events)), [str(code) for code in events[:, 2]]
        except Exception as error:  # MNE's readers raise many different types
            raise UserError(
                f"its annotations in {companion.name} cannot be read ({one_line(error)[:100]}); "
                "fetch that file again or remove it"
            ) from error
        length = raw.n_times / float(raw.info["sfreq"])
        inside = np.flatnonzero((onset >= 0) & (onset < length))
        if len(inside):
            raw.annotations.append(
                raw.first_time + onset[inside],
                np.minimum(duration, length - onset)[inside],
                [names[index] for index in inside],
            )


def _beside(path: Path) -> list[Path]:
    return sorted(each for each in path.parent.iterdir() if each != path and not each.name.startswith("."))
