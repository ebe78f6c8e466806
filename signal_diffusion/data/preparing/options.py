"""Options of `prepare`, for recordings and for synthetic EEG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from signal_diffusion.data.preparing.building import WindowOptions
from signal_diffusion.data.preparing.event_windows import samples_of
from signal_diffusion.data.recordings.arrays import volts_per_unit
from signal_diffusion.data.recordings.identity import SubjectRule
from signal_diffusion.errors import UserError
from signal_diffusion.executing.clusters import check_cluster

__all__ = ["PrepareOptions", "SyntheticOptions"]

_LOWEST_EDGE = 0.01  # Hz, lowest edge of the band-pass: its kernel already lasts about five minutes


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
    """Unit of the numbers in arrays, or in recordings with a wrong unit: V, mV, uV, nV, or the unit's size in V."""
    ch_names: str | None = None
    """Channels of arrays, in order: `A,B,C`, or `10-20`; None = the names of a table's columns."""
    missing: Literal["refuse", "interpolate", "absent"] = "refuse"
    """What to do if recordings lack electrodes: stop, interpolate them by MNE's spherical splines, or leave them absent
    (NaN) in time series, for models that know electrodes by position."""
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
    """Number of processes that read recordings; the dataset does not depend on it, nor on `cluster`."""
    cluster: str | None = None
    """Dask scheduler, tcp://HOST:PORT, whose workers read recordings; or slurm, for `workers` jobs of it."""

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
        if low < _LOWEST_EDGE:
            raise UserError(
                f"band: {low:g} Hz would need a filter several minutes long; expected at least {_LOWEST_EDGE:g} Hz"
            )
        _ = self.subject_rule  # raises an error
        if self.sfreq is not None and not 1 <= self.sfreq <= 1e6:
            raise UserError(f"sfreq: {self.sfreq:g} Hz; expected the sampling rate of the arrays, such as 256")
        volts_per_unit(self.units)
        if self.missing not in ("refuse", "interpolate", "absent"):
            raise UserError(f"missing: {self.missing!r}; use refuse, interpolate or absent")
        if self.missing == "absent" and self.representation != "timeseries":
            raise UserError(
                f"missing: absent electrodes are for --representation timeseries, found {self.representation}; use "
                "interpolate, or --channels that all recordings have"
            )
        if self.workers < 1:
            raise UserError(f"workers: {self.workers}; expected at least 1")
        if self.cluster is not None:
            check_cluster(self.cluster)
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
