"""Recordings read into files of one form, their windows chosen and labelled: by several processes where asked to.

The workers import what is here and no more, so they start without PyTorch.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from signal_diffusion.data.preparing.labelling import Labelling
from signal_diffusion.data.recordings.reading import Reading
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.windows import kept_windows, window_starts, windows_in
from signal_diffusion.errors import UserError, listed

__all__ = ["Progress", "Staged", "Staging", "reported", "stage"]

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and of how much."""


@dataclass(frozen=True, kw_only=True)
class Staging:
    """How a recording is read and which of its windows are kept; goes to the worker processes."""

    read: Callable[..., Reading]
    """`read(recording, output=path)` writes µV (channels, samples) float32 to that .npy."""
    labelling: Labelling
    rate: float
    """Hz."""
    window: int
    overlap: float
    reject_above: float
    """µV peak to peak."""


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A recording that was read: its signal is on disk, and the windows to keep are chosen."""

    recording: Recording
    path: Path
    starts: np.ndarray
    """First sample of each window (n,)."""
    kept: np.ndarray
    """Indices into `starts` (k,)."""
    labels: list[str | None]
    """Of the kept windows."""
    rejected: dict[str, int]
    """Windows left out, by reason."""
    annotations: tuple[str, ...]
    """What the recording's annotations say."""


def stage(
    recordings: Sequence[Recording],
    folder: Path,
    staging: Staging,
    *,
    workers: int,
    skip_bad: bool,
    progress: Progress,
) -> tuple[list[Staged], dict[str, int], list[str]]:
    """Read all recordings; returns those with windows, the windows rejected by reason, and of the others "name: why".

    Raises `UserError` at the first recording that cannot be used, unless `skip_bad`; and where no window is left.
    """
    staged, rejected = [], Counter({"flat": 0, "amplitude": 0, "annotation": 0, "unlabelled": 0})
    unusable: list[str] = []
    empty: list[str] = []
    annotations: set[str] = set()
    several = len({recording.dataset for recording in recordings}) > 1
    results = _results(recordings, folder, staging, workers)
    for number, (recording, result) in enumerate(zip(recordings, results, strict=True)):
        progress("reading", number, len(recordings))
        name = f"{recording.dataset}/{recording.recording}" if several else recording.recording
        if isinstance(result, UserError):
            if not skip_bad:
                raise UserError(*result.lines, "nothing was written; --skip-bad goes on without such files")
            logger.warning("skipped %s", result)
            unusable.append(f"{name}: {str(result).removeprefix(f'{recording.path}: ')}")
            continue
        rejected.update(result.rejected)
        annotations.update(result.annotations)
        if len(result.kept):
            staged.append(result)
        else:
            empty.append(f"{name}: no window is left ({_in_words(result.rejected)})")
    progress("reading", len(recordings), len(recordings))
    _check_annotations(staging.labelling, annotations)
    if not staged:
        there = f"; the recordings' annotations are: {', '.join(sorted(annotations))}" if annotations else ""
        raise UserError(
            f"no window is left: {len(unusable)} recordings skipped, windows rejected: {_in_words(rejected)}; see "
            f"--reject-above, --reject-flat and --label{there}"
        )
    if empty:
        logger.warning("%d of %d recordings give no example: %s", len(empty), len(recordings), listed(empty))
    return staged, dict(rejected), sorted([*unusable, *empty])


def _in_words(rejected: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in rejected.items() if count) or "none"


def _check_annotations(labelling: Labelling, there: Collection[str]) -> None:
    missing = [name for name in labelling.names or () if name not in there]
    if missing:
        raise UserError(
            f"label: no recording has an annotation {', '.join(missing)}; "
            f"there are {', '.join(sorted(there)) or 'none'}"
        )


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
            raise UserError("a process that read recordings was killed; was memory short? use --workers 1") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """See to it that a worker whose parent was killed does not wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _attempt(recording: Recording, path: Path, *, staging: Staging) -> Staged | UserError:
    """Stage one recording; a mistake is returned, so that it can be told in order, and others go on."""
    try:
        reading = staging.read(recording, output=path)
    except UserError as error:
        path.unlink(missing_ok=True)
        return error
    starts = window_starts(reading.num_samples, staging.window, staging.overlap)
    extents = [np.ptp(windows, axis=-1).max(axis=-1) for _, windows in windows_in(path, starts, staging.window)]
    kept, rejected = kept_windows(
        np.concatenate(extents),
        starts,
        staging.window,
        sfreq=staging.rate,
        peak_to_peak=staging.reject_above,
        flat=reading.flat,
        bad=[(span.onset, span.end) for span in reading.spans if span.bad],
    )
    labels = staging.labelling.of_windows(recording, starts[kept], staging.window, staging.rate, reading.spans)
    if staging.labelling.by_window:
        labelled = [number for number, label in enumerate(labels) if label is not None]
        rejected |= {"unlabelled": len(labels) - len(labelled)}
        kept, labels = kept[labelled], [labels[number] for number in labelled]
    if not len(kept):
        path.unlink()
    return Staged(
        recording=recording,
        path=path,
        starts=starts,
        kept=kept,
        labels=labels,
        rejected=rejected,
        annotations=tuple(sorted({span.description for span in reading.spans})),
    )


def reported(items: Sequence[Staged], what: str, progress: Progress) -> Iterable[Staged]:
    """Go through recordings and tell how far it is."""
    for number, item in enumerate(items):
        progress(what, number, len(items))
        yield item
    progress(what, len(items), len(items))
