"""How far the mean spectrum of generated pictures is from the true one, by sampler, steps and time.

    uv run python scripts/spectral_distance.py runs/quickstart --num 192 \
        --try euler:25,50,250 --try heun:13 --try dpm++2m:25@karras --reference rk4:100

For runs of classes on the built-in synthetic EEG. The distance is the root mean square of the difference in dB from 1
to 45 Hz, and the mean over classes of that; a second draw of real data, of other people and another seed, is the floor
beneath which it says nothing. Beside it stands, with a reference, how far each sample is from the one that the
reference makes of the same noise: what the steps alone cost, whatever the network has learnt.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import spread
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.diffusion.samplers import SAMPLERS
from signal_diffusion.diffusion.time_grids import TIME_GRIDS
from signal_diffusion.errors import UserError, reported_to_user
from signal_diffusion.experiment.dataset import Dataset, dataset_of
from signal_diffusion.sampling.drawing import counted
from signal_diffusion.sampling.requests import asked_for
from signal_diffusion.sampling.trained import Trained, load_trained

WIDTH = 120  # characters, into a file too


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one way of sampling made."""

    pictures: list[Tensor]
    """By class, (N, C, H, W)."""
    evaluations: float
    """Of the network, per sample."""
    seconds: float
    """Of all samples."""


def main(
    run: Annotated[Path, typer.Argument(help="A run's or a checkpoint's folder.")],
    num: Annotated[int, typer.Option(help="Pictures per class.")] = 192,
    guidance_scale: Annotated[float, typer.Option()] = 1.0,
    tried: Annotated[
        list[str] | None,
        typer.Option("--try", metavar="SAMPLER:STEPS,...[@GRID]", show_default="as the experiment has it"),
    ] = None,
    reference: Annotated[str | None, typer.Option(metavar="SAMPLER:STEPS[@GRID]", help="To compare samples with.")] = (
        None
    ),
) -> None:
    """Print the table."""
    with reported_to_user(), tempfile.TemporaryDirectory() as folder:
        trained = load_trained(run)
        base = replace(trained.sampling, guidance_scale=guidance_scale)
        ways = [way for text in tried or () for way in ways_named(text, base)] or [base]
        [exact] = ways_named(reference, base) if reference else [None]
        names = trained.card.columns["label"]["names"]
        root = dataset_of(trained.experiment.data).root
        true = [spectrum_of_class(trained, root, i) for i in range(len(names))]
        table = Table("sampler", "grid", "steps", "evaluations", "s", *(f"{name}, dB" for name in names), "mean, dB")
        table.add_column("RMS to reference")
        for levels, what in references(trained, Path(folder) / "second", true, num):
            table.add_row(what, "", "", "", "", *columns_of(levels, true), "")
        best = sampled(trained, exact, names, num) if exact else None
        for way in ways:
            result = sampled(trained, way, names, num)
            levels = [level_of(trained, pictures) for pictures in result.pictures]
            figures = (str(way.steps), f"{result.evaluations:g}", f"{result.seconds:.1f}", *columns_of(levels, true))
            table.add_row(way.sampler, way.time_grid, *figures, difference(result, best) if best else "")
        Console(width=WIDTH).print(table)


def ways_named(text: str, base: schema.Sampling) -> Iterator[schema.Sampling]:
    """The ways of sampling that "heun:13,25@karras" names."""
    names, _, grid = text.partition("@")
    sampler, _, steps = names.partition(":")
    counts = steps.split(",")
    if sampler not in SAMPLERS or (grid or base.time_grid) not in TIME_GRIDS or not all(map(str.isdecimal, counts)):
        raise UserError(
            f"{text}: expected SAMPLER:STEPS,…@GRID of {', '.join(SAMPLERS)} and {', '.join(TIME_GRIDS)}, such as "
            "heun:13,25@uniform"
        )
    for count in counts:
        yield replace(base, sampler=sampler, steps=int(count), time_grid=grid or base.time_grid)


def sampled(trained: Trained, way: schema.Sampling, names: Sequence[str], num: int) -> Result:
    """`num` pictures of each class, their noise the same every time."""
    generator = replace(trained.generator, sampling=way)
    start = time.perf_counter()
    with counted(trained) as evaluations:
        pictures = [
            generator.generate(
                trained.model.to(generator.device),
                asked_for(trained.attributes, {"label": name}, num).cond,
                range(num),
                guide=trained.guide,
            )
            for name in names
        ]
    seconds = time.perf_counter() - start
    return Result(pictures=pictures, evaluations=evaluations.count / (num * len(names)), seconds=seconds)


def references(trained: Trained, second: Path, true: Sequence[Tensor], num: int) -> Iterator[tuple[list[Tensor], str]]:
    """What to hold the figures against: levels of each class."""
    prepare_synthetic(second, trained.card.representation["name"], SyntheticOptions(seed=1))
    yield [spectrum_of_class(trained, second, i, limit=num) for i in range(len(true))], "second draw"
    nearest = [
        min((t for j, t in enumerate(true) if j != i), key=lambda t, i=i: distance(t, true[i]))
        for i in range(len(true))
    ]
    yield nearest, "nearest class"


def columns_of(levels: Sequence[Tensor], true: Sequence[Tensor]) -> list[str]:
    """The distance of each class, and their mean."""
    found = [distance(level, expected).item() for level, expected in zip(levels, true, strict=True)]
    return [f"{figure:.2f}" for figure in (*found, sum(found) / len(found))]


def difference(result: Result, best: Result) -> str:
    """Root mean square of the difference between samples of the same noise."""
    return f"{(torch.cat(result.pictures) - torch.cat(best.pictures)).square().mean().sqrt():.4f}"


def level_of(trained: Trained, pictures: Tensor) -> Tensor:
    """Mean level in dB (F,)."""
    spectrum = trained.representation.mean_spectrum(pictures)
    assert spectrum is not None
    return spectrum[1]


def spectrum_of_class(trained: Trained, root: Path, index: int, limit: int | None = None) -> Tensor:
    """Mean level in dB (F,) of the training pictures of one class, or of `limit` of them."""
    card = DatasetCard.load(root)
    examples = Dataset(data=trained.experiment.data, root=root, card=card).examples("train", trained.attributes)
    rows = (examples.attributes["label"] == index).nonzero().flatten().tolist()
    pictures, _ = examples[[rows[i] for i in spread(len(rows), limit)]]
    return representation_of(card).mean_spectrum(pictures)[1]


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Root mean square of the difference in dB, 1 to 45 Hz (a bin is 0.99 Hz)."""
    return (first - second)[1:46].square().mean().sqrt()


if __name__ == "__main__":
    typer.run(main)
