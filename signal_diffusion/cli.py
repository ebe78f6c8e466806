"""The `signal-diffusion` command. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from signal_diffusion.errors import UserError, reported_to_user

if TYPE_CHECKING:
    from signal_diffusion.data.dataset import DatasetCard

__all__ = ["app", "main"]

OF_RECORDINGS = ("channels", "reference", "band", "notch", "label", "reject_above", "reject_flat", "skip_bad")
OF_SYNTHETIC = ("subjects", "windows")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Diffusion models of EEG: datasets, experiment files, samples. Training is a module of its own:

    python -m signal_diffusion.training.diffusion EXPERIMENT.toml
    """


@app.command()
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

    with _progress() as progress:
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


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Give a function (what, done, total) that draws a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield show


def _summarise(card: DatasetCard, output: Path) -> None:
    name = card.representation["name"]
    print(f"{output}: {name}, {'×'.join(map(str, card.shape))}, {len(card.channels)} electrodes")
    for split, counts in card.splits.items():
        labels = ", ".join(f"{label} {count}" for label, count in counts["labels"].items())
        print(
            f"  {split:<10} {len(counts['subjects']):4d} subjects  {counts['windows']:6d} windows  "
            f"{counts['examples']:7d} examples  {labels}"
        )
    rejected = ", ".join(f"{count} {reason}" for reason, count in card.rejected.items())
    print(f"  windows rejected: {rejected}; recordings skipped: {len(card.skipped)}")
    print(
        f"train on it: uv run python -m signal_diffusion.training.diffusion config/diffusion/dit-{name}.toml "
        f"--set data.paths.root={output}"
    )


Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a key; repeatable.")
]

config_app = typer.Typer(help="Look at experiment files, without training.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@config_app.command()
def show(file: Annotated[Path, typer.Argument(help="Experiment file.")], overrides: Overrides = None) -> None:
    """Print the whole experiment, with its defaults, as a file that reads back the same."""
    from signal_diffusion.config.loading import to_toml
    from signal_diffusion.experiment import load

    print(to_toml(load(file, overrides or ())), end="")


@config_app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Experiment files.")],
    overrides: Overrides = None,
) -> None:
    """Hold experiment files against their datasets, and tell what training them would take."""
    from signal_diffusion.experiment import load, naming
    from signal_diffusion.inspection import inspect

    complaints: list[str] = []
    for file in files:
        try:
            with naming(file):
                found = inspect(load(file, overrides or ()))
        except UserError as error:
            complaints += error.lines
            continue
        gib = 2**30
        memory = (found.state_bytes + found.activation_bytes) / gib
        print(
            f"{file}: ok\n"
            f"  parameters       {found.parameters:,}\n"
            f"  tokens           {found.tokens:,} per example\n"
            f"  steps            {found.steps_per_epoch:,} per epoch of {found.train_examples:,} examples, "
            f"{found.num_steps:,} in all\n"
            f"  memory           about {memory:.2f} GiB per process: {found.state_bytes / gib:.2f} for weights, "
            f"gradients, optimizer and average, {found.activation_bytes / gib:.2f} for activations\n"
            f"  kernels          {', '.join(f'{name}: {kernel}' for name, kernel in found.kernels.items())}"
        )
    if complaints:
        raise UserError(*complaints)


@app.command()
def sample(
    run: Annotated[Path, typer.Argument(help="A run's folder (its newest checkpoint), or a checkpoint's.")],
    num: Annotated[int | None, typer.Option(min=1, help="Samples to generate.")] = None,
    label: Annotated[str | None, typer.Option(help="Class of all samples; without it, all in turn.")] = None,
    attributes: Annotated[str | None, typer.Option(metavar="NAME=VALUE,...", help="Others are left open.")] = None,
    sampler: Annotated[str | None, typer.Option(help="euler or ddim.")] = None,
    steps: Annotated[int | None, typer.Option(help="Evaluations of the network per sample.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="1 = conditional only.")] = None,
    seed: Annotated[int | None, typer.Option(help="Sample i depends on (seed, i) alone.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at a time; it changes them by rounding alone.")] = 64,
    output: Annotated[Path | None, typer.Option(help="New folder.", show_default="in the run's generated/")] = None,
) -> None:
    """Generate synthetic EEG from a trained model: samples.npz, in microvolts too, and a picture."""
    from signal_diffusion import pipeline

    options = {
        "num_samples": num,
        "sampler": sampler,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "seed": seed,
    }
    overrides = [f"generation.sampling.{key}={value}" for key, value in options.items() if value is not None]
    trained = pipeline.load_trained(run, overrides)
    asked = dict(_pair(word) for word in (attributes or "").split(",") if word)
    if label is not None:
        asked["label"] = label
    total = trained.sampling.num_samples
    cond = pipeline.conditions(trained.attributes, asked, total)
    folder = output or pipeline.default_output(trained, asked)
    with _progress() as progress:
        pipeline.sample(
            trained,
            cond,
            total,
            folder,
            batch_size=batch_size,
            on_batch=lambda done: progress("sampling", done, total),
        )
    print(f"{folder}: {total} samples of {trained.checkpoint}: samples.npz, samples.json, samples.png")


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals and value):
        raise UserError(f"--attributes {word}: expected name=value")
    return name, value


def main() -> None:
    """Run the command; what the user can put right becomes a line and exit code 2."""
    with reported_to_user():
        app()
