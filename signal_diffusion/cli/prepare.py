"""`signal-diffusion prepare`: a dataset from recordings, or of synthetic EEG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    from signal_diffusion.data.card import DatasetCard

__all__ = ["prepare"]

OF_RECORDINGS = ("channels", "reference", "band", "notch", "label", "reject_above", "reject_flat", "skip_bad")
OF_SYNTHETIC = ("subjects", "windows")


def prepare(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="Folder of the dataset to write.")],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT...", help="Recordings, folders of recordings, BIDS folders."),
    ] = None,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Make EEG instead of reading it.")] = False,
    representation: Annotated[
        str, typer.Option(help="What examples are: db-only, db-iq, db-polar, timeseries.")
    ] = "db-only",
    channels: Annotated[str, typer.Option(help="10-20 (19 electrodes), or a list: Fz,Cz,Pz.")] = "10-20",
    reference: Annotated[str, typer.Option(help="average, none, or channels: A1,A2.")] = "average",
    band: Annotated[tuple[float, float], typer.Option(help="Band-pass, Hz.")] = (0.5, 60.0),
    notch: Annotated[list[float] | None, typer.Option(help="Frequency to remove, Hz; repeatable.")] = None,
    rate: Annotated[float, typer.Option(help="Sampling rate of the dataset, Hz.")] = 125.0,
    window: Annotated[int, typer.Option(help="Samples of a window.")] = 2048,
    overlap: Annotated[
        float | None,
        typer.Option(help="Share of a window that the next repeats.", show_default="0.5; synthetic 0"),
    ] = None,
    label: Annotated[str, typer.Option(help="task of the BIDS name, or a column of participants.tsv.")] = "task",
    reject_above: Annotated[
        float, typer.Option(help="Leave out windows with a larger peak-to-peak amplitude, µV.")
    ] = 500.0,
    reject_flat: Annotated[float, typer.Option(help="Leave out windows with a second that moves less, µV.")] = 0.1,
    splits: Annotated[tuple[float, float, float], typer.Option(help="Shares of subjects: train, validation, test.")] = (
        0.8,
        0.1,
        0.1,
    ),
    seed: Annotated[int, typer.Option(help="Of the splits, and of synthetic EEG.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without unusable files.")] = False,
    subjects: Annotated[int, typer.Option(help="Of synthetic EEG, each recorded once per class.")] = 24,
    windows: Annotated[int, typer.Option(help="Per synthetic recording.")] = 4,
) -> None:
    """Make a dataset: of recordings, one folder per person or BIDS, or with --synthetic of generated EEG."""
    if bool(inputs) == synthetic:
        raise UserError("prepare: give recordings to read, or --synthetic, and not both")
    _refuse(context, OF_RECORDINGS if synthetic else OF_SYNTHETIC, "--synthetic" if synthetic else "recordings")
    from signal_diffusion.data.prepare import PrepareOptions, SyntheticOptions, prepare_synthetic
    from signal_diffusion.data.prepare import prepare as prepare_recordings

    with progress_bars() as progress:
        if synthetic:
            made = SyntheticOptions(
                rate=rate,
                window=window,
                overlap=overlap or 0.0,
                splits=splits,
                seed=seed,
                subjects=subjects,
                windows=windows,
            )
            card = prepare_synthetic(output, representation, made, progress)
        else:
            options = PrepareOptions(
                representation=representation,
                channels=channels,
                reference=reference,
                band=band,
                notch=tuple(notch or ()),
                rate=rate,
                window=window,
                overlap=0.5 if overlap is None else overlap,
                label=label,
                reject_above=reject_above,
                reject_flat=reject_flat,
                splits=splits,
                seed=seed,
                skip_bad=skip_bad,
            )
            card = prepare_recordings(inputs or [], output, options, progress)
    _summarise(card, output)


def _refuse(context: typer.Context, names: tuple[str, ...], beside: str) -> None:
    """Options that have no effect beside what else was given are a mistake."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UserError(f"prepare: --{name.replace('_', '-')} has no effect with {beside}; leave it out")


def _summarise(card: DatasetCard, output: Path) -> None:
    from signal_diffusion.data.card import labels_in_words

    name = card.representation["name"]
    print(f"{output}: {name}, {'×'.join(map(str, card.shape))}, {len(card.channels)} electrodes")
    for split, counts in card.splits.items():
        print(
            f"  {split:<10} {len(counts['subjects']):4d} subjects  {counts['windows']:6d} windows  "
            f"{counts['examples']:7d} examples  {labels_in_words(counts)}"
        )
    rejected = ", ".join(f"{count} {reason}" for reason, count in card.rejected.items())
    print(f"  windows rejected: {rejected}; recordings skipped: {len(card.skipped)}")
    print(
        f"train on it: uv run python -m signal_diffusion.training.diffusion config/diffusion/dit-{name}.toml "
        f"--set data.paths.root={output}"
    )
