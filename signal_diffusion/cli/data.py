"""`signal-diffusion data`: show what a dataset contains, and check it against its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from signal_diffusion.cli.lists import names_in
from signal_diffusion.errors import UserError
from signal_diffusion.escaping import for_terminal

if TYPE_CHECKING:
    from rich.table import Table

    from signal_diffusion.data.card import DatasetCard
    from signal_diffusion.data.overview import Balanced

__all__ = ["app"]

MAX_WEIGHT = (
    10.0  # balancing.DEFAULT_MAX_WEIGHT, copied: importing it would slow down every --help; a test compares the two
)

app = typer.Typer(help="Show and check datasets.", no_args_is_help=True)
Root = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the dataset.")]


@app.command()
def show(
    context: typer.Context,
    root: Root,
    output: Annotated[Path | None, typer.Option(help="PNG file to write.", show_default="DIR.png")] = None,
    balance: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN,...", help="Also show the training split with balanced sampling by these columns."
        ),
    ] = None,
    max_weight: Annotated[
        float, typer.Option(min=1, help="Largest weight of an example, with --balance.")
    ] = MAX_WEIGHT,
    num: Annotated[
        int | None, typer.Option(min=1, max=32, help="Examples per label.", show_default="8; 4 if they are large")
    ] = None,
) -> None:
    """Summarise a dataset, and plot examples and the mean spectrum of each label."""
    source = context.get_parameter_source("max_weight")
    if balance is None and source is not None and source.name == "COMMANDLINE":
        raise UserError("data show: --max-weight has no effect without --balance; leave it out")
    path = output or root.resolve().with_name(f"{root.resolve().name}.png")
    if path.suffix.lower() != ".png" or path.is_dir():
        raise UserError(f"data show: --output {path}: expected the name of a PNG file")
    from signal_diffusion.data.card import DatasetCard
    from signal_diffusion.data.overview import balanced_marginals
    from signal_diffusion.figures.dataset import draw_overview

    card = DatasetCard.load(root)
    balanced = balanced_marginals(root, names_in(balance), max_weight) if balance else None
    tables = [_summary(card), _splits(card), _marginals(card)]
    if balanced is not None:
        tables.append(_balance(balanced, balance or ""))
    _print(str(root), tables)
    draw_overview(root, path, num=num)
    print(f"{path}: examples and mean spectra" if card.sampling_rate else f"{path}: examples")


@app.command()
def check(root: Root) -> None:
    """Check a dataset against everything that its card says."""
    from signal_diffusion.data.verification.checks import check_dataset

    checks = check_dataset(root)
    for each in checks:
        print(f"{'✗' if each.complaints else '✓'} {each.name}: {each.claim}")
    if complaints := [f"{root / complaint}" for each in checks for complaint in each.complaints]:
        raise UserError(*complaints)
    print(f"{root}: matches its card")


def _print(title: str, tables: list[Table]) -> None:
    from rich import box
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:  # plain columns, never wrapped
        console = Console(width=10_000, highlight=False)
    console.print(for_terminal(title), style="bold", markup=False)
    for table in tables:
        table.box = box.SIMPLE_HEAD if console.is_terminal else None
        console.print(table)
        if not console.is_terminal:
            console.print()


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _cell(text: str) -> str:
    from rich.markup import escape

    return escape(for_terminal(text))


def _summary(card: DatasetCard) -> Table:
    from rich.table import Table

    from signal_diffusion.data.overview import describe

    table = Table(show_header=False)
    for name, value in describe(card):
        table.add_row(name, _cell(value))
    return table


def _splits(card: DatasetCard) -> Table:
    table = _table("split", "subjects", "windows", "examples")
    for name, split in card.splits.items():
        table.add_row(name, f"{len(split['subjects'])}", f"{split['windows']}", f"{split['examples']}")
    return table


def _marginals(card: DatasetCard) -> Table:
    """Number and share of examples with each value of each categorical column, per split."""
    table = _table("examples", *card.splits)
    values: dict[tuple[str, str], dict[str, str]] = {}
    for split, stated in card.splits.items():
        for column, entries in stated["marginals"].items():
            for value, entry in entries.items():
                values.setdefault((column, value), {})[split] = f"{entry['examples']} ({entry['share']:.1%})"
    for (column, value), cells in sorted(values.items(), key=lambda item: list(card.columns).index(item[0][0])):
        table.add_row(_cell(f"{column} {value}"), *(cells.get(split, "0") for split in card.splits))
    return table


def _balance(balanced: Balanced, by: str) -> Table:
    table = _table(_cell(f"training split, balanced by {by}"), "share", "balanced")
    for column, entries in balanced.marginals.items():
        for value, entry in entries.items():
            table.add_row(_cell(f"{column} {value}"), f"{entry['share']:.1%}", f"{entry['balanced']:.1%}")
    table.add_row(f"weights of {balanced.groups} groups", "", f"{balanced.lightest:.2f} to {balanced.heaviest:.2f}")
    return table
