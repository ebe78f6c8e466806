"""A unit of work of `prepare`: one recording is read into an .npy file, and its windows are chosen and labelled.

Its result is two files, which are renamed into place: the signals, and then a JSON document of everything else. So a
unit that was killed leaves nothing that counts, and one that is there is not done again. Workers import only this
module, so they start without PyTorch.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.data.preparing.staged import Staged, Staging
from signal_diffusion.data.recordings.epochs import epoch_borders, epoch_windows
from signal_diffusion.data.recordings.events import rows_without_onset
from signal_diffusion.data.recordings.reading import Reading
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.windows import kept_windows, longest, window_starts, windows_in
from signal_diffusion.disks import FullDiskError, writing
from signal_diffusion.errors import UserError
from signal_diffusion.untrusted import read_json

__all__ = ["DAMAGED", "read_unit", "result_path", "run_unit"]

DAMAGED = "remove the folder of the shards, and read them again"
"""What to do if the result of a unit cannot be read."""

_ELSEWHERE = ("recording", "path", "baseline")
"""Fields of `Staged` that are known without its document."""


def run_unit(recording: Recording, path: Path, staging: Staging, note: dict[str, Any] | None = None) -> None:
    """Stage one recording in `path` (.npy) and in the document next to it, unless both are there.

    The document also says why a recording cannot be used, so that errors are reported in order. With a `note`, which is
    stored in it, the files are flushed to the disk, because they outlive the command.
    """
    if result_path(path).exists():
        return
    # A unique name: a worker that is thought to be dead may still write while another does its unit again.
    partial = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.npy")
    try:
        found = _staged(recording, partial, staging)
        if isinstance(found, UserError):
            document: dict[str, Any] = {"error": found.lines}
        else:
            own = [entry.name for entry in fields(found) if entry.name not in _ELSEWHERE]
            document = {name: getattr(found, name) for name in own}
        if partial.exists():
            if note is not None:
                _flush(partial)
            partial.replace(path)
        text = json.dumps(document | {"note": note}, default=_plain)
        with writing(path, "a unit of work", needs=len(text)):
            partial.write_text(text, encoding="utf-8")
            if note is not None:
                _flush(partial)
            partial.replace(result_path(path))
    finally:
        partial.unlink(missing_ok=True)


def read_unit(recording: Recording, path: Path, staging: Staging) -> Staged | UserError:
    """The result of `run_unit`: the recording with its windows, or why it cannot be used."""
    document = read_json(result_path(path), dict, DAMAGED)
    if "error" in document:
        return UserError(*document["error"])
    del document["note"]
    kinds: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("starts", "kept"), partial(np.array, dtype=int)),
        **dict.fromkeys(("annotations", "mostly_flat", "absent", "lost_rows"), tuple),
        "extents": partial(np.array, dtype=float),
        "given": frozenset,
    }
    own = {name: kinds[name](value) if name in kinds else value for name, value in document.items()}
    baseline = staging.events.baseline if staging.events is not None else None
    return Staged(recording=recording, path=path, baseline=baseline, **own)


def result_path(path: Path) -> Path:
    """The document of a unit, by the path of its signals; it exists if the unit is done."""
    return path.with_suffix(".json")


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else value.tolist()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _staged(recording: Recording, path: Path, staging: Staging) -> Staged | UserError:
    """Stage one recording; returns an error instead of raising it, so that errors are reported in order."""
    if staging.events is not None and (why := staging.events.why_not(recording)):
        return Staged(recording=recording, path=path, starts=np.zeros(0, dtype=int), why_empty=why)
    try:
        reading = staging.read(recording, output=path)
        starts, named, rejected = _candidates(recording, reading, staging)
        uses_table = staging.events is not None or (staging.labelling.by_window and recording.bids is not None)
        lost_rows = rows_without_onset(recording) if uses_table else ()
    except FullDiskError:
        raise  # unlike a recording that cannot be read, it must not be skipped
    except UserError as error:
        path.unlink(missing_ok=True)
        return error
    parts = [np.nanmax(np.ptp(windows, axis=-1), axis=-1) for _, windows in windows_in(path, starts, staging.window)]
    extents = np.concatenate([np.zeros(0), *parts])
    usable, bad = kept_windows(
        extents,
        starts,
        staging.window,
        sfreq=staging.rate,
        peak_to_peak=np.inf,
        flat=reading.flat,
        bad=[(span.onset, span.end) for span in reading.spans if span.bad],
    )
    labels = staging.labelling.of_windows(recording, [named[number] for number in usable])
    small = extents[usable] <= (np.inf if staging.reject_above is None else staging.reject_above)
    labelled = np.array([label is not None or not staging.labelling.by_window for label in labels], dtype=bool)
    rejected |= bad | {"amplitude": int((~small).sum()), "unlabelled": int((small & ~labelled).sum())}
    chosen = np.flatnonzero(small & labelled)
    kept = usable[chosen]
    if not len(kept):
        path.unlink()
    codes = {span.description for span in reading.spans} if staging.events is None else _codes(reading)
    names = staging.labelling.names
    return Staged(
        digest=reading.digest,
        recording=recording,
        path=path,
        starts=starts,
        kept=kept,
        labels=[labels[number] for number in chosen],
        rejected=rejected,
        extents=extents[usable[labelled]],
        annotations=tuple(sorted(codes)),
        lengths=longest(reading.spans),
        given=frozenset(name for number in kept if (name := named[number]) is not None),
        instants=sum(span.instant and (names is None or span.description in names) for span in reading.spans),
        epochs=bool(reading.epochs),
        mostly_flat=reading.mostly_flat,
        absent=reading.absent,
        lost_rows=lost_rows,
    )


def _candidates(
    recording: Recording, reading: Reading, staging: Staging
) -> tuple[np.ndarray, Sequence[str | None], dict[str, int]]:
    """First sample of each possible window (n,), its annotation or event, and the number of windows left out."""
    if staging.events is not None:
        borders = epoch_borders(reading.epochs, staging.rate) or [(0, reading.num_samples)]
        starts, codes, outside = staging.events.windows(recording, reading.events, borders)
        return starts, codes, {"outside": outside}
    if reading.epochs:
        starts = epoch_windows(reading.epochs, staging.rate, staging.window, staging.overlap)
    else:
        starts = window_starts(reading.num_samples, staging.window, staging.overlap)
    named, tied = staging.labelling.annotations_of(starts, staging.window, staging.rate, reading.spans)
    if not tied.any():
        return starts, named, {}
    whole = np.flatnonzero(~tied)
    return starts[whole], [named[number] for number in whole], {"tied": int(tied.sum())}


def _codes(reading: Reading) -> set[str]:
    return {code for event in reading.events for code in event.codes}
