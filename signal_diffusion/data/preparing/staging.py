"""Stage recordings: read each into an .npy file and choose its windows (`units`), and check them together."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from signal_diffusion.data.preparing.event_windows import check_codes
from signal_diffusion.data.preparing.labelling import label_notes
from signal_diffusion.data.preparing.losses import Losses, amplitude_that_keeps
from signal_diffusion.data.preparing.same_content import SameContent
from signal_diffusion.data.preparing.staged import Progress, Staged, StagedRecordings, Staging
from signal_diffusion.data.preparing.units import read_unit, run_unit
from signal_diffusion.data.recordings.recording import Recording, names_of
from signal_diffusion.errors import UserError, listed
from signal_diffusion.executing.engine import Engine
from signal_diffusion.paths import without_folders

__all__ = ["stage"]

logger = logging.getLogger(__name__)


def stage(
    recordings: Sequence[Recording],
    paths: Sequence[Path],
    staging: Staging,
    *,
    engine: Engine,
    skip_bad: bool,
    progress: Progress,
) -> StagedRecordings:
    """Read all recordings into `paths` (.npy), as far as they are not there, and choose their windows.

    Raises `UserError` at the first recording that cannot be used, unless `skip_bad`; and if no window is left.
    """
    done, unusable = _read_all(recordings, paths, staging, engine, skip_bad, progress)
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
    recordings: Sequence[Recording],
    paths: Sequence[Path],
    staging: Staging,
    engine: Engine,
    skip_bad: bool,
    progress: Progress,
) -> tuple[dict[str, Staged], list[str]]:
    """Read all recordings; returns the readable ones by name, and "name: why" of the others."""
    done: dict[str, Staged] = {}
    unusable: list[str] = []
    contents = SameContent()
    units = engine.in_order(partial(run_unit, staging=staging), zip(recordings, paths, strict=True))
    each = zip(names_of(recordings), recordings, paths, units, strict=True)
    for number, (name, recording, path, _) in enumerate(each):
        progress("reading", number, len(recordings))
        result = read_unit(recording, path, staging)
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
