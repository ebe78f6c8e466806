"""Make a dataset from recordings or from synthetic EEG.

Both are described here as a `Source`; `building.build` does the work.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.data import synthetic
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.preparing.building import Source, build, check_replaceable, no_progress
from signal_diffusion.data.preparing.commands import command_of, made_from, without_parents
from signal_diffusion.data.preparing.event_windows import (
    EventWindows,
    baseline_samples,
    parse_events,
    read_events_table,
    samples_of,
)
from signal_diffusion.data.preparing.inputs import collect_recordings, describe_sources, extra_columns
from signal_diffusion.data.preparing.labelling import Labelling
from signal_diffusion.data.preparing.options import PrepareOptions, SyntheticOptions
from signal_diffusion.data.preparing.shards import remove_shards, stage_shard, units_of_shards
from signal_diffusion.data.preparing.staged import Progress, Staging
from signal_diffusion.data.recordings.arrays import volts_per_unit, with_array_options
from signal_diffusion.data.recordings.channels import channel_names, is_bipolar
from signal_diffusion.data.recordings.headers import check_missing, read_headers, without_constant
from signal_diffusion.data.recordings.personal import with_ages_and_sexes
from signal_diffusion.data.recordings.read_options import ReadOptions
from signal_diffusion.data.recordings.reading import Reading, eeg_and_other_columns, read_recording
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.representations.registry import representation_named
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.disks import writing
from signal_diffusion.errors import UserError, listed
from signal_diffusion.executing.shard import Shard

__all__ = [
    "PrepareOptions",
    "Shard",
    "SyntheticOptions",
    "merge_shards",
    "prepare",
    "prepare_shard",
    "prepare_synthetic",
]

logger = logging.getLogger(__name__)


def prepare(
    inputs: Sequence[Path], output: Path, options: PrepareOptions, progress: Progress = no_progress
) -> DatasetCard:
    """Make a dataset from recordings in files, folders and BIDS folders; returns its card.

    Raises `UserError` if an input, an option or the output cannot be used.
    """
    source = _source(inputs, options, progress)
    return build(source, output, representation_named(options.representation), options, progress)


def prepare_shard(
    inputs: Sequence[Path], output: Path, options: PrepareOptions, shard: Shard, progress: Progress = no_progress
) -> tuple[int, int]:
    """Read only the recordings of one shard, for `merge_shards`; returns how many those are, and how many in all.

    Their units stay next to `output` until they are merged; those that are there are not read again. Raises `UserError`
    as `prepare` does, as far as it concerns these recordings.
    """
    source = _source(inputs, options, progress, shard)
    check_replaceable(output, source.made_from)
    return stage_shard(source, output, shard, progress), len(source.recordings)


def merge_shards(
    inputs: Sequence[Path], output: Path, options: PrepareOptions, progress: Progress = no_progress
) -> DatasetCard:
    """Make the dataset of which `prepare_shard` has read every shard; its bytes are those that `prepare` writes.

    Raises `UserError` also if a shard is missing.
    """
    source = _source(inputs, options, progress)
    units = units_of_shards(source, output)
    card = build(source, output, representation_named(options.representation), options, progress, units)
    remove_shards(output)
    return card


def _source(inputs: Sequence[Path], options: PrepareOptions, progress: Progress, shard: Shard | None = None) -> Source:
    """Find the recordings and check them together; for one shard, only as far as its recordings depend on others."""
    found = collect_recordings(
        inputs,
        subjects=options.subjects,
        folder_is_label=options.label == "folder",
        rule=options.subject_rule,
    )
    recordings, notes = with_ages_and_sexes(found.recordings, skip_bad=options.skip_bad)
    recordings = with_array_options(recordings, sfreq=options.sfreq, units=options.units, ch_names=options.ch_names)
    kind = representation_named(options.representation)
    events = _event_windows(options)
    from_file = options.channels == "file"
    wanted, other_columns = (
        _channels_of_first_recording(recordings, options) if from_file else (channel_names(options.channels), [])
    )
    interpolate, absent = options.missing == "interpolate", options.missing == "absent"
    headers = read_headers(recordings if shard is None or from_file else [], wanted, progress)
    channels = without_constant(wanted, headers, recordings) if from_file else wanted
    _check_reference(channels, options)
    if shard is None:
        check_missing(headers, recordings, missing=options.missing, skip_bad=options.skip_bad)
    if absent and shard is None and (unknown := [name for name in channels if name not in headers.positions]):
        raise UserError(
            f"missing: absent electrodes are for models that know electrodes by position, and {listed(unknown)} has "
            "none; remove it from --channels"
        )
    if events is not None:
        _check_window_of_events(kind, options, len(channels))
    read = ReadOptions(
        channels=channels,
        interpolate=interpolate,
        absent=absent,
        reference=options.reference,
        band=options.band,
        notch=options.notch,
        sampling_rate=options.rate,
        min_samples=options.window,
        flat_below=options.reject_flat,
        events=events.codes if events is not None else frozenset(),
        event_duration=options.event_duration,
        volts_per_unit=volts_per_unit(options.units),
    )
    read.check()
    label = "annotation" if events is not None and options.label == "task" else options.label
    return Source(
        recordings=recordings,
        staging=Staging(
            read=partial(read_recording, options=read),
            labelling=Labelling.parse(label, recordings),
            rate=options.rate,
            window=options.window,
            overlap=options.overlap,
            reject_above=None if options.reject_above == "auto" else options.reject_above,
            events=events,
        ),
        channels=channels,
        positions={name: where for name, where in headers.positions.items() if name in channels},
        sources=describe_sources(inputs),
        preprocessing={
            **({"units": options.units} if options.units else {}),
            **({"interpolated": headers.missing} if interpolate else {}),
            **({"positions": headers.positions_from} if headers.positions_from else {}),
            **({"other_columns": other_columns} if other_columns else {}),
            **({"constant": constant} if (constant := [name for name in wanted if name not in channels]) else {}),
            "resampling": "polyphase",
            "band": list(options.band),
            "notch": list(options.notch),
            "reference": options.reference,
            **_how_cut(options, events),
            "reject_above": options.reject_above,
            "reject_flat": options.reject_flat,
            **({"participants": notes} if notes else {}),
        },
        command=command_of([without_parents(root) for root in inputs], options, path=without_parents),
        made_from=made_from([str(root.resolve()) for root in inputs], options),
        extras=extra_columns(recordings),
        split_by=_split_by(options.split_by, recordings),
        workers=options.workers,
        cluster=options.cluster,
        skip_bad=options.skip_bad,
        left_out=found.left_out,
    )


def prepare_synthetic(
    output: Path,
    representation: str,
    options: SyntheticOptions | None = None,
    progress: Progress = no_progress,
) -> DatasetCard:
    """Make a dataset of synthetic EEG with two labels, relaxed and alert; returns its card."""
    options = options or SyntheticOptions()
    step = round(options.window * (1 - options.overlap))
    num_samples = options.window + (options.num_windows - 1) * step
    jobs = {}
    for subject in range(options.num_subjects):
        who = synthetic.person(options.seed, subject)
        for number, label in enumerate(synthetic.CLASSES):
            name = f"sub-{subject:03d}_task-{label}"
            recording = Recording(
                path=Path(name),
                recording=name,
                subject=f"sub-{subject:03d}",
                dataset="synthetic",
                task=label,
                gender=who.gender,
                health=who.health,
                age=who.age,
            )
            jobs[name] = (recording, label, who, number)

    def read(recording: Recording, output: Path) -> Reading:
        _, label, who, number = jobs[recording.recording]
        signal, _ = synthetic.simulate(label, who, num_samples, options.rate, seed=options.seed, recording=number)
        with writing(output, f"the signals of {recording.recording}", needs=signal.nbytes):
            np.save(output, signal)
        return Reading(num_samples=num_samples, flat=np.zeros(0, dtype=bool), spans=())

    kind = representation_named(representation)
    source = Source(
        recordings=[recording for recording, *_ in jobs.values()],
        staging=Staging(
            read=read,
            labelling=Labelling(parts=(("", "task"),)),
            rate=options.rate,
            window=options.window,
            overlap=options.overlap,
            reject_above=float("inf"),
        ),
        channels=tuple(synthetic.POSITIONS),
        positions=synthetic.sphere_positions(),
        sources=[{"name": "synthetic", "license": None, "description": "generated by signal-diffusion"}],
        preprocessing={"overlap": options.overlap, "positions": "synthetic"},
        command=command_of(["--synthetic", "--representation", representation], options, path=without_parents),
        made_from=made_from(["--synthetic", "--representation", representation], options),
    )
    return build(source, output, kind, options, progress)


def _event_windows(options: PrepareOptions) -> EventWindows | None:
    if options.tmin is None:
        return None
    if options.events_table is not None:
        labels = read_events_table(options.events_table)
    else:
        labels = parse_events(options.events or "")
    first, baseline = samples_of(options.tmin, options.rate), None
    if options.baseline is not None:
        baseline = baseline_samples(options.baseline, options.rate, first, options.window)
    return EventWindows(labels=labels, rate=options.rate, first=first, window=options.window, baseline=baseline)


def _check_window_of_events(kind: type[Representation], options: PrepareOptions, electrodes: int) -> None:
    """Raise a `UserError` that names the next `tmax` if the representation cannot hold windows of this length."""

    def problem(window: int) -> UserError | None:
        try:
            kind.check(options.pictures, sampling_rate=options.rate, window=window, electrodes=electrodes)
        except UserError as error:
            return error
        return None

    error = problem(options.window)
    if error is None:
        return
    longer = next((each for each in range(options.window + 1, options.window + 1025) if problem(each) is None), None)
    if longer is None or options.tmin is None:
        raise error
    raise UserError(f"{error}; --tmax {options.tmin + longer / options.rate:g} makes it {longer}")


def _how_cut(options: PrepareOptions, events: EventWindows | None) -> dict[str, Any]:
    """Describe for the card how recordings are cut into windows."""
    if events is None:
        return {"overlap": options.overlap}
    return {
        "events": events.labels.get("", events.labels),
        "baseline": None if options.baseline is None else list(options.baseline),
    }


def _split_by(column: str, recordings: Sequence[Recording]) -> str:
    columns = sorted({name for recording in recordings for name in recording.participant})
    if column != "subject" and column not in columns:
        raise UserError(
            f"split_by: the subject table has no column {column!r}; use subject"
            + (f", or one of: {', '.join(columns)}" if columns else "")
        )
    return column


def _check_reference(channels: Sequence[str], options: PrepareOptions) -> None:
    if options.reference == "average" and (pairs := [name for name in channels if is_bipolar(name)]):
        logger.warning(
            "--channels: %s %s of two electrodes, so their average is no reference; use --reference none",
            listed(pairs),
            "is the difference" if len(pairs) == 1 else "are differences",
        )
    if options.reference == "average" and len(channels) < 2:
        raise UserError("reference: subtracting the average of a single channel leaves nothing; use --reference none")
    if options.reference in channels:
        raise UserError(
            f"reference: {options.reference} minus itself is zero; remove it from --channels or choose another"
        )


def _channels_of_first_recording(
    recordings: Sequence[Recording], options: PrepareOptions
) -> tuple[tuple[str, ...], list[str]]:
    """EEG channels of the first recording, and its other columns; with `skip_bad`, of the first that can be read."""
    for recording in recordings:
        try:
            names, others = eeg_and_other_columns(recording)
        except UserError:
            if not options.skip_bad or recording is recordings[-1]:
                raise
            continue
        if others:
            logger.warning(
                "--channels file: %s has %d electrodes (%s); left out %d other column%s: %s; to choose columns "
                "yourself, name them with --channels",
                recording.recording, len(names), listed(names), len(others), "" if len(others) == 1 else "s",
                listed(others, 20),
            )  # fmt: skip
        return names, others
    raise AssertionError("there are recordings")
