"""`signal-diffusion config`: create, show, check and compare experiment files."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from signal_diffusion.errors import UserError, listed, print_warning

if TYPE_CHECKING:
    from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
    from signal_diffusion.config.schema import Experiment
    from signal_diffusion.config.warnings import Finding
    from signal_diffusion.experiment.checkpoint import Checkpoint

__all__ = ["app"]

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a key; repeatable.")
]

app = typer.Typer(help="Create, show, check and compare experiment files.", no_args_is_help=True)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="Experiment file, run or checkpoint.")], overrides: Overrides = None
) -> None:
    """Print the whole experiment, including defaults, as an experiment file."""
    from signal_diffusion.config.loading import to_toml

    print(to_toml(_loaded(file, overrides or ())), end="")


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Experiment files, runs or checkpoints.")],
    overrides: Overrides = None,
) -> None:
    """Check experiment files against their datasets, and print the size of the model, the steps and the memory."""
    errors: list[str] = []
    for file in files:
        try:
            report = _report(file, overrides or ())
        except UserError as error:
            errors += error.lines
            continue
        print(f"{file}: ok\n{report}")
    if errors:
        raise UserError(*errors)


@app.command()
def new(
    backbone: Annotated[str, typer.Option(help="Backbone, such as dit.")],
    representation: Annotated[str, typer.Option(help="Representation, such as db-iq, or image for any images.")],
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write; default: print it.")] = None,
) -> None:
    """Create an experiment file to start from, with a comment above each key that documents it."""
    from signal_diffusion.config.templates import template
    from signal_diffusion.experiment.loading import offer

    known = offer()
    choices = {
        "--backbone": (backbone, known.architectures),
        "--representation": (representation, known.representations),
    }
    for option, (found, names) in choices.items():
        if found not in names:
            raise UserError(f"{option}: expected one of {listed(list(names), len(names))}, found {found!r}")
    text = template(backbone, representation, known)
    if output is None:
        print(text, end="")
        return
    if output.exists():
        raise UserError(f"--output {output}: already exists; choose another name")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(output)
    print(f"wrote {output}", file=sys.stderr)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="Experiment file of any layout, run or checkpoint.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The same, to compare with.")],
) -> None:
    """Print the keys in which two experiments differ, including defaults; – means without value or effect.

    The exit code is 0 if they are equal, 1 if they differ.
    """
    ours, theirs = _in_effect(first), _in_effect(second)
    rows = [
        (key, _shown(ours.get(key)), _shown(theirs.get(key)))
        for key in _in_order({**ours, **theirs})
        if ours.get(key) != theirs.get(key)
    ]
    if not rows:
        print(f"{first} and {second} are the same experiment")
        return
    table = [("", str(first), str(second)), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(2)]
    for key, mine, other in table:
        print(f"{key:<{widths[0]}}  {mine:<{widths[1]}}  {other}")
    raise typer.Exit(1)


def _in_effect(path: Path) -> dict[str, Any]:
    """The dotted keys and values of an experiment, with defaults, without keys that have no effect."""
    from signal_diffusion.config.dotted import dotted
    from signal_diffusion.config.loading import to_toml

    return dict(dotted(tomllib.loads(to_toml(_loaded(path)))))


def _loaded(path: Path, overrides: Sequence[str] = ()) -> Experiment | AutoencoderExperiment:
    """The experiment of a file, a run or a checkpoint."""
    from signal_diffusion.config.loading import check_keys

    file = _file_of(path)
    check_keys(file, overrides)  # before the next import, which takes seconds
    from signal_diffusion.experiment.loading import load_any_experiment

    return load_any_experiment(file, overrides)


def _file_of(path: Path) -> Path:
    """The path itself or, for the folder of a run or a checkpoint, its experiment file."""
    from signal_diffusion.config.loading import CONFIG_NAME

    file = path / CONFIG_NAME if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise UserError(f"{path}: has no {CONFIG_NAME}; expected an experiment file, a run or a checkpoint")
    return file


def _in_order(keys: Iterable[str]) -> list[str]:
    """Sort keys by table, in the order of the experiment file."""
    from signal_diffusion.config.loading import known_keys

    tables = {key: place for place, key in enumerate(known_keys())}
    return sorted(keys, key=lambda key: tables.get(key.rpartition(".")[0], len(tables)))


def _shown(value: Any) -> str:
    from signal_diffusion.config.documentation import toml_value

    return "–" if value is None else toml_value(value)


def _report(path: Path, overrides: Sequence[str]) -> str:
    """What is known about an experiment of either kind, one line each."""
    experiment = _loaded(path, overrides)
    from signal_diffusion.experiment.loading import file_in_errors

    with file_in_errors(path):
        return _figures(_file_of(path), experiment, overrides)


def _figures(file: Path, experiment: Experiment | AutoencoderExperiment, overrides: Sequence[str]) -> str:
    from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
    from signal_diffusion.config.loading import read_translation, written_keys
    from signal_diffusion.experiment.compatibility import check_same_run
    from signal_diffusion.experiment.inspection import findings_on, inspect

    if isinstance(experiment, AutoencoderExperiment):
        from signal_diffusion.experiment.dataset import dataset_of
        from signal_diffusion.training.autoencoder import outline  # imports diffusers, which takes seconds

        dataset = dataset_of(experiment.data)
        lines = outline(experiment, dataset)
        _warn(file, overrides, findings_on(experiment, dataset))
        return lines
    from signal_diffusion.experiment.resolving import resolve

    checkpoint = _checkpoint_of(experiment)
    resolved = resolve(
        experiment, written_keys(file, overrides), read_translation(file).expected, checkpoint=checkpoint
    )
    if checkpoint:
        check_same_run(checkpoint, resolved.experiment, resolved.dataset.card)
    found, gib = inspect(resolved), 2**30
    pretrained = None if experiment.training.resume.enabled else resolved.pretrained
    _warn(file, overrides, findings_on(resolved.experiment, resolved.dataset, pretrained))
    memory = (found.state_bytes + found.activation_bytes) / gib
    return (
        f"  parameters       {found.parameters:,}\n"
        f"  tokens           {found.tokens:,} per example\n"
        f"  compute          {found.flops / 1e9:,.2f} GFLOP per example and forward pass, about "
        f"{3 * found.flops / 1e9:,.2f} to train on it\n"
        f"  steps            {found.steps_per_epoch:,} per epoch of {found.train_examples:,} examples, "
        f"{found.num_steps:,} in all\n"
        f"  memory           about {memory:.2f} GiB per process: {found.state_bytes / gib:.2f} for weights, "
        f"gradients, optimizer and EMA, {found.activation_bytes / gib:.2f} for activations\n"
        f"  kernels          {', '.join(f'{name}: {kernel}' for name, kernel in found.kernels.items()) or 'PyTorch'}"
    )


def _checkpoint_of(experiment: Experiment) -> Checkpoint | None:
    """The checkpoint that an experiment names to resume from; None for a run's latest, which is not known here."""
    from signal_diffusion.checkpoints import verify
    from signal_diffusion.experiment.checkpoint import Checkpoint

    table = experiment.training.resume
    if not table.enabled or table.checkpoint == "latest":
        return None
    verify(Path(table.checkpoint))
    return Checkpoint(Path(table.checkpoint))


def _warn(file: Path, overrides: Sequence[str], findings: Sequence[Finding]) -> None:
    """Print warnings about an experiment to standard error, as a run of it would."""
    from signal_diffusion.config.loading import located_lines

    for line in located_lines(file, overrides, findings):
        print_warning(line)
