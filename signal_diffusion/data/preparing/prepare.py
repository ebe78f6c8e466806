"""Options of `prepare`, for recordings and for synthetic EEG.

Both kinds of source are described here as a `Source`; `building.build` does the work.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from signal_diffusion.data import synthetic
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.preparing.building import Source, WindowOptions, build, no_progress
from signal_diffusion.data.preparing.event_windows import (
    EventWindows,
    baseline_samples,
    parse_events,
    read_events_table,
    samples_of,
)
from signal_diffusion.data.preparing.inputs import collect_recordings, describe_sources, extra_columns
from signal_diffusion.data.preparing.labelling import Labelling
from signal_diffusion.data.preparing.staging import Progress, Staging
from signal_diffusion.data.recordings.arrays import volts_per_unit, with_array_options
from signal_diffusion.data.recordings.channels import channel_names, is_bipolar
from signal_diffusion.data.recordings.headers import check_missing, read_headers
from signal_diffusion.data.recordings.identity import SubjectRule
from signal_diffusion.data.recordings.personal import with_ages_and_sexes
from signal_diffusion.data.recordings.reading import Reading, ReadOptions, eeg_channels, read_recording
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.representations.registry import representation_named
from signal_diffusion.data.representations.representation import DEFAULT_PICTURES, Representation
from signal_diffusion.errors import UserError, listed

__all__ = ["PrepareOptions", "SyntheticOptions", "prepare", "prepare_synthetic"]

logger = logging.getLogger(__name__)

LOWEST_EDGE = 0.01  # Hz, lowest edge of the band-pass: its kernel already lasts about five minutes


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(WindowOptions):
    """Options for recordings."""

    representation: str = "db-only"
    """A name in `REPRESENTATIONS`."""
    channels: str = "10-20"
    """`10-20` (its 19 scalp electrodes), `file` (all EEG channels of the first recording), or a list: `A,B,C`."""
    reference: str = "average"
    """`average` of the channels, `none`, or the channels whose mean is subtracted: `A1,A2`."""
    band: tuple[float, float] = (0.5, 60.0)
    """Edges of the band-pass, Hz."""
    notch: tuple[float, ...] = ()
    """Frequencies to remove, Hz."""
    sfreq: float | None = None
    """Sampling rate of arrays (.csv, .tsv, .npy, .npz, .mat), Hz; None = that of their time column."""
    units: str | None = None
    """Unit of arrays, and of what MNE reads as V from other files: V, mV, uV, nV, or its size in V."""
    ch_names: str | None = None
    """Channels of arrays, in order: `A,B,C`, or `10-20`; None = the names of a table's columns."""
    missing: Literal["refuse", "interpolate"] = "refuse"
    """What to do if recordings lack electrodes: stop, or interpolate them by MNE's spherical splines."""
    label: str = "task"
    """Source of the label (`Labelling`): task, folder, annotation, annotation:A,B, a column of the subject table, or a
    template of these. Windows around events have the label of their event by default."""
    event_duration: float | None = None
    """With labels from annotations: longest duration of events that have none, s; None = until the next event."""
    events: str | None = None
    """Cut windows around these events: `left=T1,right=T2`; None = a fixed grid of windows."""
    events_table: Path | None = None
    """Table (.csv, .tsv) with the columns run, event and label, instead of `events`."""
    tmin: float | None = None
    """Start of the window around an event, s."""
    tmax: float | None = None
    """End of the window around an event, s; `window` follows from both."""
    baseline: tuple[float, float] | None = None
    """Subtract the mean over this interval around the event from each electrode, s."""
    subjects: Path | None = None
    """Subject table (.csv, .tsv); overrides participants.tsv."""
    split_by: str = "subject"
    """`subject`, or a column of the subject table, such as family or site, whose groups stay in one split."""
    subject_pattern: str | None = None
    """In plain folders: regular expression, searched in the path of a file; its first group is the subject."""
    subject_from: str | None = None
    """In plain folders: `folder`, `name` or `table` (`subjects` has a column of file names)."""
    one_person_per_file: bool = False
    """In plain folders: names of files are people, even if a part of them repeats."""
    reject_above: float | Literal["auto"] = 500.0
    """Reject windows with a larger peak-to-peak amplitude on any channel, µV; auto = the one that keeps 90 %."""
    reject_flat: float = 0.1
    """Reject windows with a flat second: a channel with a smaller peak-to-peak amplitude, µV."""
    skip_bad: bool = False
    """Skip recordings that cannot be used, and leave out ages that cannot be read, instead of stopping."""
    workers: int = 1
    """Number of processes that read recordings; the dataset does not depend on it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", self._window())
        super().__post_init__()
        low, high = self.band
        if not 0 < low < high < self.rate / 2:
            raise UserError(
                f"band: {low:g} to {high:g} Hz is not between 0 and half the rate, {self.rate / 2:g} Hz; "
                "choose a narrower --band or a higher --rate"
            )
        if any(not 0 < line < self.rate / 2 for line in self.notch):
            raise UserError(f"notch: {self.notch} Hz is not between 0 and half the rate, {self.rate / 2:g} Hz")
        for name in ("reject_above", "reject_flat"):
            value = getattr(self, name)
            if not (name == "reject_above" and value == "auto") and not 0 <= value < float("inf"):
                raise UserError(f"{name}: {value} µV; expected a finite number of at least 0")
        if self.event_duration is not None and not 0 < self.event_duration < float("inf"):
            raise UserError(f"event_duration: {self.event_duration} s; expected a finite number above 0")
        if self.event_duration is not None and (self.around_events or "annotation" not in self.label):
            raise UserError("event_duration: is for a grid of windows with --label annotation; leave it out")
        if low < LOWEST_EDGE:
            raise UserError(
                f"band: {low:g} Hz would need a filter several minutes long; expected at least {LOWEST_EDGE:g} Hz"
            )
        _ = self.subject_rule  # raises an error
        if self.sfreq is not None and not 1 <= self.sfreq <= 1e6:
            raise UserError(f"sfreq: {self.sfreq:g} Hz; expected the sampling rate of the arrays, such as 256")
        volts_per_unit(self.units)
        if self.missing not in ("refuse", "interpolate"):
            raise UserError(f"missing: {self.missing!r}; use refuse or interpolate")
        if self.workers < 1:
            raise UserError(f"workers: {self.workers}; expected at least 1")
        if self.splits_from is not None and (self.split_by != "subject" or self.splits != WindowOptions.splits):
            raise UserError("splits_from: cannot be combined with --splits or --split-by; leave them out")

    @property
    def subject_rule(self) -> SubjectRule:
        """Who is recorded in the files of plain folders."""
        return SubjectRule(
            pattern=self.subject_pattern, source=self.subject_from, one_person_per_file=self.one_person_per_file
        )

    @property
    def around_events(self) -> bool:
        """Whether windows are cut around events, instead of on a fixed grid."""
        return self.events is not None or self.events_table is not None

    def _window(self) -> int:
        """Length of a window, in samples; raises `UserError` if the options of events contradict each other."""
        if not self.around_events:
            if given := [name for name in ("tmin", "tmax", "baseline") if getattr(self, name) is not None]:
                raise UserError(f"{given[0]}: is for windows around events; add --events left=T1,right=T2")
            return self.window
        if self.events is not None and self.events_table is not None:
            raise UserError("events, events_table: both say which events to use; give one of them")
        if self.tmin is None or self.tmax is None:
            raise UserError("tmin, tmax: windows around events need both, such as --tmin -0.5 --tmax 3.5")
        if not -1e6 < self.tmin < self.tmax < 1e6:
            raise UserError(f"tmin, tmax: {self.tmin:g} to {self.tmax:g} s; expected the start and end of a window")
        if self.label != "task" and "annotation" not in self.label:
            raise UserError(
                f"label: {self.label!r} would hide which event a window is around; leave --label out, or combine them "
                f"as {{{self.label}}}/{{annotation}}"
            )
        window = samples_of(self.tmax - self.tmin, self.rate)
        if self.window not in (WindowOptions.window, window):
            raise UserError(
                f"window: {self.window} samples, but --tmin and --tmax make it {window}; leave --window out"
            )
        return window


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions(WindowOptions):
    """Options for synthetic EEG; each subject is recorded once per label."""

    overlap: float = 0.0
    """Fraction of a window shared with the next one, [0, 1)."""
    num_subjects: int = 24
    """Number of subjects, at least 1."""
    num_windows: int = 4
    """Number of windows per recording, at least 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_subjects < 1 or self.num_windows < 1:
            raise UserError(
                f"num_subjects, num_windows: {self.num_subjects} and {self.num_windows}; expected at least one of each"
            )


def prepare(
    inputs: Sequence[Path], output: Path, options: PrepareOptions, progress: Progress = no_progress
) -> DatasetCard:
    """Make a dataset from recordings in files, folders and BIDS folders; returns its card.

    Raises `UserError` if an input, an option or the output cannot be used.
    """
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
    channels = _channels(recordings, options)
    interpolate = options.missing == "interpolate"
    headers = read_headers(recordings, channels, progress)
    check_missing(headers, recordings, interpolate=interpolate, skip_bad=options.skip_bad)
    if events is not None:
        _check_window_of_events(kind, options, len(channels))
    read = ReadOptions(
        channels=channels,
        interpolate=interpolate,
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
    source = Source(
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
        positions=headers.positions,
        sources=describe_sources(inputs),
        preprocessing={
            **({"units": options.units} if options.units else {}),
            **({"interpolated": headers.missing} if interpolate else {}),
            **({"positions": headers.positions_from} if headers.positions_from else {}),
            "resampling": "polyphase",
            "band": list(options.band),
            "notch": list(options.notch),
            "reference": options.reference,
            **_how_cut(options, events),
            "reject_above": options.reject_above,
            "reject_flat": options.reject_flat,
            **({"participants": notes} if notes else {}),
        },
        command=_command([_without_folders(root) for root in inputs], options, path=_without_folders),
        made_from=_made_from([str(root.resolve()) for root in inputs], options),
        extras=extra_columns(recordings),
        split_by=_split_by(options.split_by, recordings),
        workers=options.workers,
        skip_bad=options.skip_bad,
        left_out=found.left_out,
    )
    return build(source, output, kind, options, progress)


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
        command=_command(["--synthetic", "--representation", representation], options, path=_without_folders),
        made_from=_made_from(["--synthetic", "--representation", representation], options),
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


def _channels(recordings: Sequence[Recording], options: PrepareOptions) -> tuple[str, ...]:
    channels = (
        _channels_of_first_recording(recordings, options)
        if options.channels == "file"
        else channel_names(options.channels)
    )
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
    return channels


def _channels_of_first_recording(recordings: Sequence[Recording], options: PrepareOptions) -> tuple[str, ...]:
    """EEG channels of the first recording; with `skip_bad`, of the first one that can be read."""
    for recording in recordings:
        try:
            return eeg_channels(recording)
        except UserError:
            if not options.skip_bad or recording is recordings[-1]:
                raise
    raise AssertionError("there are recordings")


def _made_from(inputs: Sequence[str], options: WindowOptions) -> str:
    """Hash that distinguishes recordings and options, without revealing paths."""
    return hashlib.sha256(_command(inputs, options).encode()).hexdigest()


def _without_folders(path: Path) -> str:
    """A path as it was given if it is below the current folder, else its name: cards reveal no folders."""
    is_below = not path.is_absolute() and ".." not in path.parts
    return str(path) if is_below and path.name else path.resolve().name


def _command(arguments: Sequence[str], options: WindowOptions, path: Callable[[Path], str] = str) -> str:
    """Format the options as the command that makes the same dataset; `path` formats the paths among them."""
    words = ["signal-diffusion", "prepare", *arguments, "--output", "DIR"]
    values = {entry.name: getattr(options, entry.name) for entry in fields(options)}
    pictures = values.pop("pictures")
    if pictures.layout != DEFAULT_PICTURES.layout:
        values |= {"layout": pictures.layout, "picture_size": pictures.size, "frequency": pictures.frequency}
    values |= {"db_limits": pictures.db_limits}
    values.pop("workers", None)
    if isinstance(options, PrepareOptions) and options.around_events:
        for name in ("window", "overlap", *(["label"] if options.label == "task" else [])):
            values.pop(name)
    if values.get("missing") == "refuse":  # commands of older datasets do not have it
        values.pop("missing")
    if options.splits_from is not None:
        for name in ("splits", "split_by", *(["seed"] if isinstance(options, PrepareOptions) else [])):
            values.pop(name, None)
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif name == "notch":
            words += [word for line in value for word in (flag, str(line))]
        elif value is not False and value is not None:
            each = value if isinstance(value, tuple) else (value,)
            words += [flag, *(path(one) if isinstance(one, Path) else str(one) for one in each)]
    return shlex.join(words)
