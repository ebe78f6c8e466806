"""`signal-diffusion prepare`: make a dataset from recordings, or from synthetic EEG."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from signal_diffusion.cli.prepare_summary import print_summary
from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.errors import UserError

__all__ = ["prepare"]

RECORDING_OPTIONS = (
    "channels",
    "sfreq",
    "units",
    "ch_names",
    "missing",
    "reference",
    "band",
    "notch",
    "label",
    "event_duration",
    "events",
    "events_table",
    "tmin",
    "tmax",
    "baseline",
    "subjects",
    "subject_pattern",
    "subject_from",
    "one_person_per_file",
    "split_by",
    "reject_above",
    "reject_flat",
    "skip_bad",
    "workers",
    "cluster",
    "shard",
    "merge",
)
SYNTHETIC_OPTIONS = ("num_subjects", "num_windows")

# Options of the panels of --help.
_tensors = partial(typer.Option, rich_help_panel="Tensors")
_files = partial(typer.Option, rich_help_panel="Files")
_people = partial(typer.Option, rich_help_panel="Who is who")
_signals = partial(typer.Option, rich_help_panel="Signals")
_windows = partial(typer.Option, rich_help_panel="Windows")
_events = partial(typer.Option, rich_help_panel="Windows around events")
_labels = partial(typer.Option, rich_help_panel="Labels")
_splits = partial(typer.Option, rich_help_panel="Splits")
_synthetic = partial(typer.Option, rich_help_panel="Synthetic EEG")
_machines = partial(typer.Option, rich_help_panel="Processes and machines")


def prepare(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="Folder to write the dataset to.")],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT...", help="Recordings, folders of recordings, or BIDS folders."),
    ] = None,
    synthetic: Annotated[bool, _synthetic("--synthetic", help="Generate EEG instead of reading recordings.")] = False,
    representation: Annotated[
        str, _tensors(help="How EEG becomes tensors: db-only, db-iq, db-polar, timeseries.")
    ] = "db-only",
    layout: Annotated[
        str, _tensors(help="electrode: one image per electrode; mosaic: one image of all electrodes.")
    ] = "electrode",
    picture_size: Annotated[int, _tensors(help="Height and width of a mosaic, pixels.")] = 64,
    frequency: Annotated[str, _tensors(help="Spacing of the rows of a mosaic: linear or log.")] = "linear",
    db_limits: Annotated[
        tuple[float, float] | None,
        _tensors(help="Levels that become -1 and 1, dB re 1 µV.", show_default="percentiles of the training split"),
    ] = None,
    channels: Annotated[
        str,
        _signals(
            help="10-20 (its 19 electrodes), file (all EEG channels of the first recording), or a list: Fz,Cz,Pz."
        ),
    ] = "10-20",
    sfreq: Annotated[
        float | None,
        _files(help="Sampling rate of arrays (.csv, .tsv, .npy, .npz, .mat), Hz.", show_default="time column"),
    ] = None,
    units: Annotated[
        str | None, _files(help="Unit of arrays, or of recordings with a wrong unit: uV, mV, V, nV, or its size in V.")
    ] = None,
    ch_names: Annotated[
        str | None, _files(help="Channels of arrays, in order: Fz,Cz,Pz.", show_default="names of the columns")
    ] = None,
    missing: Annotated[
        str,
        _files(
            help="If recordings lack electrodes: refuse, interpolate (spherical splines), or absent (time series for "
            "models that know electrodes by position)."
        ),
    ] = "refuse",
    reference: Annotated[str, _signals(help="average, none, or channels: A1,A2.")] = "average",
    band: Annotated[tuple[float, float], _signals(help="Band-pass, Hz.")] = (0.5, 60.0),
    notch: Annotated[list[float] | None, _signals(help="Line frequency to remove, Hz; repeatable.")] = None,
    rate: Annotated[float, _signals(help="Sampling rate of the dataset, Hz.")] = 125.0,
    window: Annotated[
        int, _windows(help="Length of a window, samples; with --events, it follows from --tmin and --tmax.")
    ] = 2048,
    overlap: Annotated[
        float | None, _windows(help="Fraction of a window shared with the next one.", show_default="0.5; synthetic 0")
    ] = None,
    label: Annotated[
        str,
        _labels(
            help="Source of the label: task, session, run or acquisition (of the BIDS name), annotation (or event; "
            "annotation:A,B uses only these), folder (INPUT/LABEL/[SUBJECT/]FILE), a column of the subject table, "
            "or a template: {task}/{annotation}.",
            show_default="task; with --events the event",
        ),
    ] = "task",
    event_duration: Annotated[
        float | None,
        _labels(
            help="With --label annotation: longest duration of events that have none, s.",
            show_default="until the next event; the last one: the median interval",
        ),
    ] = None,
    events: Annotated[
        str | None,
        _events(
            metavar="LABEL=CODE,…",
            help="Cut one window around each of these events, and label it: left=T1,right=T2. Codes are looked up in "
            "events.tsv, annotations and stim channels.",
        ),
    ] = None,
    events_table: Annotated[
        Path | None,
        _events(help="Table (.csv, .tsv) with the columns run, event, label, if a code depends on the run."),
    ] = None,
    tmin: Annotated[float | None, _events(help="Start of a window, relative to its event, s.")] = None,
    tmax: Annotated[float | None, _events(help="End of a window, relative to its event, s.")] = None,
    baseline: Annotated[
        tuple[float, float] | None,
        _events(help="Subtract the mean of this interval, relative to the event, from each electrode, s."),
    ] = None,
    subjects: Annotated[
        Path | None,
        _people(help="Subject table (.csv, .tsv): id, sex, age, group, …; overrides BIDS participants.tsv."),
    ] = None,
    subject_pattern: Annotated[
        str | None,
        _people(
            help=r"In plain folders: regular expression whose first group is the subject, searched in a file's path: "
            r"'(S\d+)R'.",
            show_default="sub-… in the name, else the folder, else the name",
        ),
    ] = None,
    subject_from: Annotated[
        str | None, _people(help="In plain folders: folder, name, or table (--subjects, with a column of file names).")
    ] = None,
    one_person_per_file: Annotated[
        bool, _people("--one-person-per-file", help="Names of files are people, even if a part of them repeats.")
    ] = False,
    captions: Annotated[
        str | None,
        _labels(
            help='Caption template, such as "EEG of a(n)[ {age} year old][ {gender}] subject"; "" = none.',
            show_default="health, age, gender, label",
        ),
    ] = None,
    reject_above: Annotated[
        str,
        _windows(
            metavar="FLOAT|auto",
            help="Reject windows with a larger peak-to-peak amplitude, µV; auto keeps 90 % of them.",
        ),
    ] = "500.0",
    reject_flat: Annotated[
        float, _windows(help="Reject windows with a flat second: peak-to-peak amplitude below this, µV.")
    ] = 0.1,
    splits: Annotated[
        tuple[float, float, float],
        _splits(help="Fractions of subjects in train, validation, test: 0.8 0.1 0.1."),
    ] = (
        0.8,
        0.1,
        0.1,
    ),
    split_by: Annotated[
        str, _splits(help="subject, or a column of the subject table (family, site) whose groups stay together.")
    ] = "subject",
    splits_from: Annotated[
        Path | None, _splits(help="Dataset, or its splits.json, to take the split of each subject from.")
    ] = None,
    seed: Annotated[int, _splits(help="Random seed of the splits and of synthetic EEG.")] = 0,
    skip_bad: Annotated[
        bool, _files("--skip-bad", help="Skip recordings (and ages) that cannot be used, instead of stopping.")
    ] = False,
    workers: Annotated[
        int, _machines(help="Number of processes that read recordings; with --cluster slurm, of jobs.")
    ] = 1,
    cluster: Annotated[
        str | None,
        _machines(
            metavar="tcp://HOST:PORT|slurm",
            help="Read recordings on the workers of a Dask scheduler, or in jobs of SLURM; they need this file system.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        _machines(metavar="I/N", help="Read only this part of the recordings, for --merge: 3/64 in one of 64 jobs."),
    ] = None,
    merge: Annotated[bool, _machines("--merge", help="Make the dataset when --shard has read every part.")] = False,
    num_subjects: Annotated[int, _synthetic(help="Number of synthetic subjects, each recorded once per label.")] = 24,
    num_windows: Annotated[int, _synthetic(help="Number of windows per synthetic recording.")] = 4,
) -> None:
    """Make a dataset from recordings (one folder per subject, or BIDS), or from generated EEG with --synthetic."""
    if bool(inputs) == synthetic:
        raise UserError("prepare: give either recordings to read or --synthetic")
    _refuse(
        context, RECORDING_OPTIONS if synthetic else SYNTHETIC_OPTIONS, "--synthetic" if synthetic else "recordings"
    )
    if events is not None or events_table is not None:
        _refuse(context, ("overlap", *(("label",) if label == "task" else ())), "--events")
    if splits_from is not None:
        _refuse(context, ("splits", "split_by", *(() if synthetic else ("seed",))), "--splits-from")
    if shard is not None:
        _refuse(context, ("cluster",), "--shard")
        if merge:
            raise UserError("prepare: --merge: merges all shards once they are read; leave --shard or --merge out")
    if cluster not in (None, "slurm"):
        _refuse(context, ("workers",), f"--cluster {cluster}, which has workers of its own")
    from signal_diffusion.data.preparing.prepare import (
        PrepareOptions,
        Shard,
        SyntheticOptions,
        merge_shards,
        prepare_shard,
        prepare_synthetic,
    )
    from signal_diffusion.data.preparing.prepare import prepare as prepare_recordings
    from signal_diffusion.data.representations.representation import PictureOptions

    shared: dict[str, Any] = {
        "pictures": PictureOptions(
            layout=cast(Any, layout), size=picture_size, frequency=cast(Any, frequency), db_limits=db_limits
        ),
        "rate": rate,
        "window": window,
        "splits": splits,
        "splits_from": splits_from,
        "seed": seed,
        "captions": captions,
    }
    with progress_bars() as progress:
        if synthetic:
            made = SyntheticOptions(
                overlap=overlap or 0.0, num_subjects=num_subjects, num_windows=num_windows, **shared
            )
            card = prepare_synthetic(output, representation, made, progress)
        else:
            options = PrepareOptions(
                representation=representation,
                channels=channels,
                sfreq=sfreq,
                units=units,
                ch_names=ch_names,
                missing=cast(Any, missing),
                reference=reference,
                band=band,
                notch=tuple(notch or ()),
                overlap=0.5 if overlap is None else overlap,
                label=label,
                event_duration=event_duration,
                events=events,
                events_table=events_table,
                tmin=tmin,
                tmax=tmax,
                baseline=baseline,
                subjects=subjects,
                subject_pattern=subject_pattern,
                subject_from=subject_from,
                one_person_per_file=one_person_per_file,
                split_by=split_by,
                reject_above=_amplitude(reject_above),
                reject_flat=reject_flat,
                skip_bad=skip_bad,
                workers=workers,
                cluster=cluster,
                **shared,
            )
            if options.window != window:  # the default may be replaced, but not the same number if it was given
                _refuse(context, ("window",), "--tmin and --tmax, which make it " + str(options.window))
            if shard is not None:
                part = Shard.parse(shard)
                read, total = prepare_shard(inputs or [], output, options, part, progress)
                print(f"shard {part}: {read} of {total} recordings are read; after all shards, use --merge instead")
                return
            make = merge_shards if merge else prepare_recordings
            card = make(inputs or [], output, options, progress)
    print_summary(card, output)


def _amplitude(text: str) -> float | Literal["auto"]:
    try:
        return "auto" if text == "auto" else float(text)
    except ValueError as error:
        raise UserError(f"reject_above: {text!r} is no amplitude; expected µV, such as 500, or auto") from error


def _refuse(context: typer.Context, names: tuple[str, ...], other: str) -> None:
    """Raise a `UserError` if one of the options was given although `other` makes it ineffective."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UserError(f"prepare: --{name.replace('_', '-')} has no effect with {other}; leave it out")
