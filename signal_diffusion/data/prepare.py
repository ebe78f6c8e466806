"""From recordings, or from the synthetic generator, to a dataset on disk: what there is to choose.

The work is `building.build`'s; here is what the two kinds of source have in common, and where they differ.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from signal_diffusion.data import synthetic
from signal_diffusion.data.building import Progress, Source, WindowOptions, build, silent
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.recordings import (
    Recording,
    channel_names,
    find_recordings,
    read_recording,
    source_of,
)
from signal_diffusion.data.registry import representation_named
from signal_diffusion.errors import UserError

__all__ = ["PrepareOptions", "SyntheticOptions", "prepare", "prepare_synthetic"]


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(WindowOptions):
    """What to do with recordings."""

    representation: str = "db-only"
    """A name in `REPRESENTATIONS`."""
    channels: str = "10-20"
    """`10-20`, its 19 scalp electrodes, or a list: `A,B,C`."""
    reference: str = "average"
    """`average` of the channels, `none`, or the channels whose mean is subtracted: `A1,A2`."""
    band: tuple[float, float] = (0.5, 60.0)
    """Edges of the band-pass, Hz."""
    notch: tuple[float, ...] = ()
    """Frequencies to remove, Hz."""
    label: str = "task"
    """`task` of the BIDS name, or a column of participants.tsv."""
    reject_above: float = 500.0
    """µV peak to peak in a window, on any channel."""
    reject_flat: float = 0.1
    """µV; a channel that moves less within a second is flat."""
    skip_bad: bool = False
    """Go on without the recordings that cannot be used."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.band
        if not 0 < low < high < self.rate / 2:
            raise UserError(
                f"band: {low:g} to {high:g} Hz is not between 0 and half the rate, {self.rate / 2:g} Hz; "
                "choose a narrower --band or a higher --rate"
            )
        if any(not 0 < line < self.rate / 2 for line in self.notch):
            raise UserError(f"notch: {self.notch} does not lie between 0 and {self.rate / 2:g} Hz, half the rate")


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions(WindowOptions):
    """How much synthetic EEG to make; each subject is recorded once per class."""

    overlap: float = 0.0
    """Share of a window that the next one repeats, [0, 1)."""
    subjects: int = 24
    """At least one."""
    windows: int = 4
    """Per recording, at least one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.subjects < 1 or self.windows < 1:
            raise UserError(f"subjects, windows: {self.subjects} and {self.windows}; expected at least one of each")


def prepare(inputs: Sequence[Path], output: Path, options: PrepareOptions, progress: Progress = silent) -> DatasetCard:
    """Make a dataset of recordings in files, folders and BIDS folders; returns its card.

    Raises `UserError` where an input, an option or the output cannot be used.
    """
    recordings = [recording for root in inputs for recording in find_recordings(root)]
    if len(inputs) > 1:  # sub-01 is someone else in every dataset
        recordings = [replace(each, subject=f"{each.dataset}/{each.subject}") for each in recordings]
    channels = channel_names(options.channels)
    if options.reference == "average" and len(channels) < 2:
        raise UserError(f"reference: the average of {channels[0]} alone leaves nothing; use --reference none")

    def read(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
        return read_recording(
            recording,
            channels=channels,
            reference=options.reference,
            band=options.band,
            notch=options.notch,
            sampling_rate=options.rate,
            min_samples=options.window,
            flat_below=options.reject_flat,
        )

    source = Source(
        recordings=recordings,
        labels=_labels(recordings, options.label),
        read=read,
        channels=channels,
        sources=[source_of(root) for root in inputs],
        preprocessing={
            "resampling": "polyphase",
            "band": list(options.band),
            "notch": list(options.notch),
            "reference": options.reference,
            "overlap": options.overlap,
            "reject_above": options.reject_above,
            "reject_flat": options.reject_flat,
        },
        command=_command([str(root) for root in inputs], options),
        reject_above=options.reject_above,
        skip_bad=options.skip_bad,
    )
    return build(source, output, representation_named(options.representation), options, progress)


def prepare_synthetic(
    output: Path,
    representation: str,
    options: SyntheticOptions | None = None,
    progress: Progress = silent,
) -> DatasetCard:
    """Make a dataset of synthetic EEG of two classes, relaxed and alert; returns its card."""
    options = options or SyntheticOptions()
    step = round(options.window * (1 - options.overlap))
    num_samples = options.window + (options.windows - 1) * step
    jobs = {}
    for subject in range(options.subjects):
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
                caption=synthetic.caption(label, who),
            )
            jobs[name] = (recording, label, who, number)

    def read(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
        _, label, who, number = jobs[recording.recording]
        signal, _ = synthetic.simulate(label, who, num_samples, options.rate, seed=options.seed, recording=number)
        return signal, np.zeros(0, dtype=bool)

    source = Source(
        recordings=[recording for recording, *_ in jobs.values()],
        labels=[label for _, label, *_ in jobs.values()],
        read=read,
        channels=tuple(synthetic.POSITIONS),
        sources=[{"name": "synthetic", "license": None, "description": "generated by signal-diffusion"}],
        preprocessing={"overlap": options.overlap},
        command=_command(["--synthetic", "--representation", representation], options),
        reject_above=float("inf"),
        skip_bad=False,
    )
    return build(source, output, representation_named(representation), options, progress)


def _labels(recordings: Sequence[Recording], column: str) -> list[str | None]:
    if column == "task":
        return [recording.task for recording in recordings]
    there = {name for recording in recordings for name in recording.participant}
    if column not in there:
        raise UserError(
            f"label: participants.tsv has no column {column!r}; use task, or one of: {', '.join(sorted(there))}"
        )
    return [recording.participant.get(column) for recording in recordings]


def _command(arguments: Sequence[str], options: WindowOptions) -> str:
    words = ["signal-diffusion", "prepare", *arguments, "--output", "DIR"]
    for entry in fields(options):
        value = getattr(options, entry.name)
        flag = "--" + entry.name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif entry.name == "notch":
            words += [word for line in value for word in (flag, str(line))]
        elif value is not False:
            values = value if isinstance(value, tuple) else (value,)
            words += [flag, *map(str, values)]
    return shlex.join(words)
