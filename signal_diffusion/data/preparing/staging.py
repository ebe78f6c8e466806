"""Stage recordings: read them into .npy files, and choose and label their windows, optionally in several processes.

Workers import only this module, so they start without PyTorch.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from signal_diffusion.data.preparing.event_windows import check_codes
from signal_diffusion.data.preparing.labelling import label_notes
from signal_diffusion.data.preparing.losses import Losses, amplitude_that_keeps
from signal_diffusion.data.preparing.same_content import SameContent
from signal_diffusion.data.preparing.staged import Progress, Staged, StagedRecordings, Staging
from signal_diffusion.data.recordings.epochs import epoch_borders, epoch_windows
from signal_diffusion.data.recordings.events import rows_without_onset
from signal_diffusion.data.recordings.reading import Reading
from signal_diffusion.data.recordings.recording import Recording, names_of
from signal_diffusion.data.recordings.windows import kept_windows, longest, window_starts, windows_in
from signal_diffusion.disks import FullDiskError
from signal_diffusion.errors import UserError, listed
from signal_diffusion.paths import without_folders

__all__ = ["stage"]

logger = logging.getLogger(__name__)


def stage(
    recordings: Sequence[Recording],
    folder: Path,
    staging: Staging,
    *,
    workers: int,
    skip_bad: bool,
    progress: Progress,
) -> StagedRecordings:
    """Read all recordings and choose their windows.

    Raises `UserError` at the first recording that cannot be used, unless `skip_bad`; and if no window is left.
    """
    done, unusable = _read_all(recordings, folder, staging, workers, skip_bad, progress)
    read = [result for result in done.values() if not result.why_empty]
    annotations = {name for each in read for name in each.annotations}
    if staging.events is not None:
        check_codes(staging.events.labels, [(each.recording, each.annotations) for each in read])
    notes = _check_annotations(staging, read) if staging.events is None and staging.labelling.by_window else []
    if lost := [row for each in read for row in each.lost_rows]:
        notes.append(f"left out {len(lost)} row{'' if len(lost) == 1 else 's'} without an onset: {listed(lost)}")
    for note in notes:
        logger.warning("%s: %s", "label" if staging.events is None else "events", note)
    extents = np.concatenate([np.zeros(0), *(result.extents for result in done.values())])
    reject_above = staging.reject_above
    if reject_above is None:
        reject_above = amplitude_that_keeps(extents)
        done = {name: _limited(result, reject_above) for name, result in done.items()}
    rejected = Counter({"flat": 0, "amplitude": 0, "annotation": 0, "unlabelled": 0})
    for result in done.values():
        rejected.update(result.rejected)
    staged = [result for result in done.values() if len(result.kept)]
    empty = [
        f"{name}: {result.why_empty or f'no window is left ({_format_counts(result.rejected)})'}"
        for name, result in done.items()
        if not len(result.kept)
    ]
    if unfiltered := sum(each.epochs for each in staged):
        logger.warning(
            "%d of %d recordings are epochs, which are resampled and referenced but not filtered (--band, --notch): "
            "a filter would reach across their edges", unfiltered, len(staged),
        )  # fmt: skip
    if dead := [f"{name} ({listed(each.mostly_flat)})" for name, each in done.items() if each.mostly_flat]:
        logger.warning(
            "%d of %d recordings have channels that are flat most of the time, so their windows are rejected: %s; "
            "leave these channels out with --channels", len(dead), len(recordings), listed(dead),
        )  # fmt: skip
    if not staged:
        has = f"; the recordings have the annotations {listed(sorted(annotations), 20)}" if annotations else ""
        raise UserError(
            f"no window is left: {len(unusable)} recordings skipped, windows rejected: {_format_counts(rejected)}; "
            f"check --reject-above, --reject-flat and --label{has}"
        )
    if empty:
        logger.warning("%d of %d recordings have no usable window: %s", len(empty), len(recordings), listed(empty))
    causes: dict[str, Counter[str]] = {recording.subject: Counter() for recording in recordings}
    for result in done.values():
        causes[result.recording.subject].update(result.rejected)
    chosen = staging.labelling.names is not None  # windows without these annotations are left out on purpose
    asked = {reason: count for reason, count in rejected.items() if reason != "unlabelled" or not chosen}
    losses = Losses(rejected=asked, extents=extents, reject_above=reject_above)
    losses.warn_of_subjects(causes, {each.recording.subject for each in staged})
    losses.warn_of_windows(sum(len(each.kept) for each in staged))
    return StagedRecordings(
        recordings=staged,
        rejected=dict(rejected),
        skipped=sorted([*unusable, *empty]),
        reject_above=reject_above,
        notes=notes,
    )


def _read_all(
    recordings: Sequence[Recording], folder: Path, staging: Staging, workers: int, skip_bad: bool, progress: Progress
) -> tuple[dict[str, Staged], list[str]]:
    """Read all recordings; returns the readable ones by name, and "name: why" of the others."""
    done: dict[str, Staged] = {}
    unusable: list[str] = []
    contents = SameContent()
    results = _results(recordings, folder, staging, workers)
    for number, (name, recording, result) in enumerate(zip(names_of(recordings), recordings, results, strict=True)):
        progress("reading", number, len(recordings))
        if isinstance(result, UserError):
            if not skip_bad:
                raise UserError(*result.lines, "nothing was written; skip such files with --skip-bad")
            logger.warning("skipped %s", result)
            unusable.append(f"{name}: {without_folders(str(result).removeprefix(f'{recording.path}: '))}")
            continue
        if len(result.kept):
            contents.add(name, recording, result.digest)
        done[name] = result
    progress("reading", len(recordings), len(recordings))
    contents.warn()
    return done, unusable


def _limited(staged: Staged, reject_above: float) -> Staged:
    """Reject the windows with a larger peak-to-peak amplitude, of a recording of which none has been so far."""
    chosen = np.flatnonzero(staged.extents <= reject_above)
    large = len(staged.kept) - len(chosen)
    if large and not len(chosen):
        staged.path.unlink()
    labels = [staged.labels[number] for number in chosen]
    return replace(staged, kept=staged.kept[chosen], labels=labels, rejected=staged.rejected | {"amplitude": large})


def _format_counts(rejected: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in rejected.items() if count) or "none"


def _check_annotations(staging: Staging, results: Sequence[Staged]) -> list[str]:
    """Refuse names of annotations that no recording has; returns notes on those that label no window."""
    found = {name for each in results for name in each.annotations}
    names = staging.labelling.names
    missing = [name for name in names or () if name not in found]
    if missing:
        raise UserError(
            f"label: no recording has an annotation {', '.join(missing)}; "
            f"found {', '.join(sorted(found)) or 'no annotations'}"
        )
    usable = names or sorted({name for each in results for name in each.lengths})
    lengths = {name: max(each.lengths.get(name, 0.0) for each in results) for name in usable}
    given = frozenset().union(*(each.given for each in results))
    instants, tied = sum(each.instants for each in results), sum(each.rejected.get("tied", 0) for each in results)
    return label_notes(lengths, given, instants, staging.window / staging.rate, tied)


def _results(
    recordings: Sequence[Recording], folder: Path, staging: Staging, workers: int
) -> Iterator[Staged | UserError]:
    paths = [folder / f"{number:06d}.npy" for number in range(len(recordings))]
    work = partial(_attempt, staging=staging)
    if workers == 1 or len(recordings) == 1:
        yield from map(work, recordings, paths)
        return
    # Forked children would inherit the locks of this process's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(recordings)), mp_context=context, initializer=_end_with_parent) as pool:
        try:
            yield from pool.map(work, recordings, paths)
        except BrokenProcessPool as error:
            raise UserError(
                "a process that read recordings was killed, perhaps for lack of memory; use --workers 1"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Make a worker exit when its parent is killed, instead of waiting for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _attempt(recording: Recording, path: Path, *, staging: Staging) -> Staged | UserError:
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
        baseline=staging.events.baseline if staging.events is not None else None,
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
