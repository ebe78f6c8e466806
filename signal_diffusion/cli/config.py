"""`signal-diffusion config`: create, show, check, migrate and compare experiment files."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from signal_diffusion.cli.config_check import report
from signal_diffusion.cli.experiment_files import loaded
from signal_diffusion.errors import UserError, listed

__all__ = ["Overrides", "app"]

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a key; repeatable.")
]

app = typer.Typer(help="Create, show, check, migrate and compare experiment files.", no_args_is_help=True)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="Experiment file, run or checkpoint.")], overrides: Overrides = None
) -> None:
    """Print the whole experiment, including defaults, as an experiment file."""
    from signal_diffusion.config.writing import to_toml

    print(to_toml(loaded(file, overrides or ())), end="")


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Experiment files, runs or checkpoints.")],
    overrides: Overrides = None,
) -> None:
    """Check experiment files against their datasets, and print the size of the model, the steps and the memory.

    What is not on this machine, such as the dataset, is assumed, and listed as what a run needs. The exit code is 2
    only if a file is wrong.
    """
    errors: list[str] = []
    for file in files:
        try:
            lines = report(file, overrides or ())
        except UserError as error:
            errors += error.lines
            continue
        print(f"{file}: ok\n{lines}")
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
def migrate(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="File of an older layout, .toml, .yaml or .yml.")],
    new: Annotated[
        Path | None, typer.Argument(metavar="NEW", help="File to write; default: OLD.toml or OLD-migrated.toml.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the new file instead of writing it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Rewrite an experiment file of an older layout in today's, and list what becomes of its keys."""
    from signal_diffusion.cli.config_migrate import migrated, write_new

    text = migrated(old, "signal-diffusion config migrate")
    if text is not None and dry_run:
        print(text, end="")
    elif text is not None:
        last = f"{old.stem}-migrated.toml" if old.suffix == ".toml" else f"{old.stem}.toml"
        write_new(new or old.with_name(last), text, option="NEW", force=force)


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
    from signal_diffusion.config.writing import to_toml

    return dict(dotted(tomllib.loads(to_toml(loaded(path)))))


def _in_order(keys: Iterable[str]) -> list[str]:
    """Sort keys by table, in the order of the experiment file."""
    from signal_diffusion.config.keys import known_keys

    tables = {key: place for place, key in enumerate(known_keys())}
    return sorted(keys, key=lambda key: tables.get(key.rpartition(".")[0], len(tables)))


def _shown(value: Any) -> str:
    from signal_diffusion.config.documentation import toml_value

    return "–" if value is None else toml_value(value)
