"""`signal-diffusion prepare`: make a dataset from recordings, or from synthetic EEG."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.errors import UserError
from signal_diffusion.escaping import for_terminal

if TYPE_CHECKING:
    from signal_diffusion.data.card import DatasetCard

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
)
TENSORS, FILES, WHO, SIGNALS = "Tensors", "Files", "Who is who", "Signals"
WINDOWS, EVENTS, LABELS, SPLITS, SYNTHETIC = "Windows", "Windows around events", "Labels", "Splits", "Synthetic EEG"
SYNTHETIC_OPTIONS = ("num_subjects", "num_windows")


def prepare(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="Folder to write the dataset to.")],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT...", help="Recordings, folders of recordings, or BIDS folders."),
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Generate EEG instead of reading recordings.", rich_help_panel=SYNTHETIC)
    ] = False,
    representation: Annotated[
        str,
        typer.Option(help="How EEG becomes tensors: db-only, db-iq, db-polar, timeseries.", rich_help_panel=TENSORS),
    ] = "db-only",
    layout: Annotated[
        str,
        typer.Option(
            help="electrode: one image per electrode; mosaic: one image of all electrodes.", rich_help_panel=TENSORS
        ),
    ] = "electrode",
    picture_size: Annotated[
        int, typer.Option(help="Height and width of a mosaic, pixels.", rich_help_panel=TENSORS)
    ] = 64,
    frequency: Annotated[
        str, typer.Option(help="Spacing of the rows of a mosaic: linear or log.", rich_help_panel=TENSORS)
    ] = "linear",
    db_limits: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Levels that become -1 and 1, dB re 1 µV.",
            show_default="percentiles of the training split",
            rich_help_panel=TENSORS,
        ),
    ] = None,
    channels: Annotated[
        str,
        typer.Option(
            help="10-20 (its 19 electrodes), file (all EEG channels of the first recording), or a list: Fz,Cz,Pz.",
            rich_help_panel=SIGNALS,
        ),
    ] = "10-20",
    sfreq: Annotated[
        float | None,
        typer.Option(
            help="Sampling rate of arrays (.csv, .tsv, .npy, .npz, .mat), Hz.",
            show_default="time column",
            rich_help_panel=FILES,
        ),
    ] = None,
    units: Annotated[
        str | None,
        typer.Option(
            help="Unit of arrays, or of recordings with a wrong unit: uV, mV, V, nV, or its size in V.",
            rich_help_panel=FILES,
        ),
    ] = None,
    ch_names: Annotated[
        str | None,
        typer.Option(
            help="Channels of arrays, in order: Fz,Cz,Pz.", show_default="names of the columns", rich_help_panel=FILES
        ),
    ] = None,
    missing: Annotated[
        str,
        typer.Option(
            help="If recordings lack electrodes: refuse, or interpolate (spherical splines).", rich_help_panel=FILES
        ),
    ] = "refuse",
    reference: Annotated[
        str, typer.Option(help="average, none, or channels: A1,A2.", rich_help_panel=SIGNALS)
    ] = "average",
    band: Annotated[tuple[float, float], typer.Option(help="Band-pass, Hz.", rich_help_panel=SIGNALS)] = (0.5, 60.0),
    notch: Annotated[
        list[float] | None, typer.Option(help="Line frequency to remove, Hz; repeatable.", rich_help_panel=SIGNALS)
    ] = None,
    rate: Annotated[float, typer.Option(help="Sampling rate of the dataset, Hz.", rich_help_panel=SIGNALS)] = 125.0,
    window: Annotated[
        int,
        typer.Option(
            help="Length of a window, samples; with --events, it follows from --tmin and --tmax.",
            rich_help_panel=WINDOWS,
        ),
    ] = 2048,
    overlap: Annotated[
        float | None,
        typer.Option(
            help="Fraction of a window shared with the next one.",
            show_default="0.5; synthetic 0",
            rich_help_panel=WINDOWS,
        ),
    ] = None,
    label: Annotated[
        str,
        typer.Option(
            help="Source of the label: task, session, run or acquisition (of the BIDS name), annotation (or event; "
            "annotation:A,B uses only these), folder (INPUT/LABEL/[SUBJECT/]FILE), a column of the subject table, "
            "or a template: {task}/{annotation}.",
            show_default="task; with --events the event",
            rich_help_panel=LABELS,
        ),
    ] = "task",
    event_duration: Annotated[
        float | None,
        typer.Option(
            help="With --label annotation: longest duration of events that have none, s.",
            show_default="until the next event; the last one: the median interval",
            rich_help_panel=LABELS,
        ),
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL=CODE,…",
            help="Cut one window around each of these events, and label it: left=T1,right=T2. Codes are looked up in "
            "events.tsv, annotations and stim channels.",
            rich_help_panel=EVENTS,
        ),
    ] = None,
    events_table: Annotated[
        Path | None,
        typer.Option(
            help="Table (.csv, .tsv) with the columns run, event, label, if a code depends on the run.",
            rich_help_panel=EVENTS,
        ),
    ] = None,
    tmin: Annotated[
        float | None, typer.Option(help="Start of a window, relative to its event, s.", rich_help_panel=EVENTS)
    ] = None,
    tmax: Annotated[
        float | None, typer.Option(help="End of a window, relative to its event, s.", rich_help_panel=EVENTS)
    ] = None,
    baseline: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Subtract the mean of this interval, relative to the event, from each electrode, s.",
            rich_help_panel=EVENTS,
        ),
    ] = None,
    subjects: Annotated[
        Path | None,
        typer.Option(
            help="Subject table (.csv, .tsv): id, sex, age, group, …; overrides BIDS participants.tsv.",
            rich_help_panel=WHO,
        ),
    ] = None,
    subject_pattern: Annotated[
        str | None,
        typer.Option(
            help=r"In plain folders: regular expression whose first group is the subject, searched in a file's path: "
            r"'(S\d+)R'.",
            show_default="sub-… in the name, else the folder, else the name",
            rich_help_panel=WHO,
        ),
    ] = None,
    subject_from: Annotated[
        str | None,
        typer.Option(
            help="In plain folders: folder, name, or table (--subjects, with a column of file names).",
            rich_help_panel=WHO,
        ),
    ] = None,
    one_person_per_file: Annotated[
        bool,
        typer.Option(
            "--one-person-per-file",
            help="Names of files are people, even if a part of them repeats.",
            rich_help_panel=WHO,
        ),
    ] = False,
    captions: Annotated[
        str | None,
        typer.Option(
            help='Caption template, such as "EEG of a(n)[ {age} year old][ {gender}] subject"; "" = none.',
            show_default="health, age, gender, label",
            rich_help_panel=LABELS,
        ),
    ] = None,
    reject_above: Annotated[
        str,
        typer.Option(
            metavar="FLOAT|auto",
            help="Reject windows with a larger peak-to-peak amplitude, µV; auto keeps 90 % of them.",
            rich_help_panel=WINDOWS,
        ),
    ] = "500.0",
    reject_flat: Annotated[
        float,
        typer.Option(
            help="Reject windows with a flat second: peak-to-peak amplitude below this, µV.", rich_help_panel=WINDOWS
        ),
    ] = 0.1,
    splits: Annotated[
        tuple[float, float, float],
        typer.Option(help="Fractions of subjects in train, validation, test.", rich_help_panel=SPLITS),
    ] = (
        0.8,
        0.1,
        0.1,
    ),
    split_by: Annotated[
        str,
        typer.Option(
            help="subject, or a column of the subject table (family, site) whose groups stay together.",
            rich_help_panel=SPLITS,
        ),
    ] = "subject",
    splits_from: Annotated[
        Path | None,
        typer.Option(
            help="Dataset, or its splits.json, to take the split of each subject from.", rich_help_panel=SPLITS
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed of the splits and of synthetic EEG.", rich_help_panel=SPLITS)
    ] = 0,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            help="Skip recordings (and ages) that cannot be used, instead of stopping.",
            rich_help_panel=FILES,
        ),
    ] = False,
    workers: Annotated[int, typer.Option(help="Number of processes that read recordings.", rich_help_panel=FILES)] = 1,
    num_subjects: Annotated[
        int, typer.Option(help="Number of synthetic subjects, each recorded once per label.", rich_help_panel=SYNTHETIC)
    ] = 24,
    num_windows: Annotated[
        int, typer.Option(help="Number of windows per synthetic recording.", rich_help_panel=SYNTHETIC)
    ] = 4,
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
    from signal_diffusion.data.preparing.prepare import PrepareOptions, SyntheticOptions, prepare_synthetic
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
                **shared,
            )
            if options.window != window:  # the default may be replaced, but not the same number if it was given
                _refuse(context, ("window",), "--tmin and --tmax, which make it " + str(options.window))
            card = prepare_recordings(inputs or [], output, options, progress)
    _summarise(card, output)


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


def _summarise(card: DatasetCard, output: Path) -> None:
    from signal_diffusion.data.card import format_label_counts

    name = card.representation["name"]
    layout = card.representation["layout"]
    print(f"{output}: {name}, {layout} {'×'.join(map(str, card.shape))}, {len(card.channels)} electrodes")
    for split, counts in card.splits.items():
        print(
            f"  {split:<10} {len(counts['subjects']):4d} subjects  {counts['windows']:6d} windows  "
            f"{counts['examples']:7d} examples  {for_terminal(format_label_counts(counts))}"
        )
    rejected = ", ".join(f"{count} {reason}" for reason, count in card.rejected.items())
    if card.tmin is not None and card.window is not None and card.sampling_rate:
        tmax = card.tmin + card.window / card.sampling_rate
        print(f"  windows from {card.tmin:g} to {tmax:g} s around events")
    print(f"  windows rejected: {rejected}; recordings without examples: {len(card.skipped)}")
    if "label" not in card.columns:
        print("  no labels; choose their source with --label")
    print(
        "train on it: uv run python -m signal_diffusion.training.diffusion "
        + shlex.join([f"config/diffusion/dit-{name}.toml", "--set", f"data.paths.root={output}"])
    )
