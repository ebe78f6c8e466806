"""Measure how far the mean spectrum of generated samples is from the true one, by sampler, number of steps and time.

    uv run python scripts/spectral_distance.py runs/quickstart --num 192 \
        --try euler:25,50,250 --try heun:13 --try dpm++2m:25@karras --reference rk4:100

For class-conditional runs on the built-in synthetic EEG. The distance is the root mean square of the difference in dB
from 1 to 45 Hz, per class and averaged over classes. The distance of a second synthetic dataset, with other subjects
and another seed, is its floor: smaller differences mean nothing. With --reference, the last column compares each sample
with the one that the reference generates from the same noise: the error of the steps, whatever the network has learned.
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
from signal_diffusion.data.loaders import evenly_spaced
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.diffusion.samplers import SAMPLERS
from signal_diffusion.diffusion.time_grids import TIME_GRIDS
from signal_diffusion.errors import UserError, report_user_errors
from signal_diffusion.experiment.dataset import Dataset, dataset_of
from signal_diffusion.sampling.drawing import count_evaluations
from signal_diffusion.sampling.requests import request_values
from signal_diffusion.sampling.trained import Trained, load_trained

WIDTH = 120  # columns, also in a file or a pipe


@dataclass(frozen=True, kw_only=True)
class Result:
    """The samples of one way of sampling."""

    samples: list[Tensor]
    """One tensor per class, (N, C, H, W)."""
    evaluations: float
    """Evaluations of the network per sample."""
    seconds: float
    """For all samples together."""


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a run or a checkpoint.")],
    num: Annotated[int, typer.Option(help="Samples per class.")] = 192,
    guidance_scale: Annotated[float, typer.Option(help="1 = conditional only.")] = 1.0,
    tried: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            metavar="SAMPLER:STEPS,...[@GRID]",
            help="Way of sampling; repeatable.",
            show_default="that of the experiment",
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="SAMPLER:STEPS[@GRID]", help="Way of sampling to compare samples with.")
    ] = (None),
) -> None:
    """Print a table with one row per way of sampling."""
    with report_user_errors(), tempfile.TemporaryDirectory() as folder:
        trained = load_trained(run)
        base = replace(trained.sampling, guidance_scale=guidance_scale)
        ways = [way for text in tried or () for way in parsed(text, base)] or [base]
        [exact] = parsed(reference, base) if reference else [None]
        names = trained.card.columns["label"]["names"]
        root = dataset_of(trained.experiment.data).root
        true = [spectrum_of_class(trained, root, i) for i in range(len(names))]
        table = Table("sampler", "grid", "steps", "evaluations", "s", *(f"{name}, dB" for name in names), "mean, dB")
        table.add_column("RMS to reference")
        for levels, title in references(trained, Path(folder) / "second", true, num):
            table.add_row(title, "", "", "", "", *columns_of(levels, true), "")
        best = sampled(trained, exact, names, num) if exact else None
        for way in ways:
            result = sampled(trained, way, names, num)
            levels = [level_of(trained, samples) for samples in result.samples]
            figures = (str(way.steps), f"{result.evaluations:g}", f"{result.seconds:.1f}", *columns_of(levels, true))
            table.add_row(way.sampler, way.time_grid, *figures, difference(result, best) if best else "")
        Console(width=WIDTH).print(table)


def parsed(text: str, base: schema.Sampling) -> Iterator[schema.Sampling]:
    """Yield the ways of sampling that a text such as "heun:13,25@karras" names."""
    names, _, grid = text.partition("@")
    sampler, _, steps = names.partition(":")
    counts = steps.split(",")
    if sampler not in SAMPLERS or (grid or base.time_grid) not in TIME_GRIDS or not all(map(str.isdecimal, counts)):
        raise UserError(
            f"{text}: expected SAMPLER:STEPS,…@GRID such as heun:13,25@uniform; samplers: {', '.join(SAMPLERS)}; "
            f"grids: {', '.join(TIME_GRIDS)}"
        )
    for count in counts:
        yield replace(base, sampler=sampler, steps=int(count), time_grid=grid or base.time_grid)


def sampled(trained: Trained, way: schema.Sampling, names: Sequence[str], num: int) -> Result:
    """Generate `num` samples of each class, always from the same noise."""
    generator = replace(trained.generator, sampling=way)
    start = time.perf_counter()
    with count_evaluations(trained) as evaluations:
        samples = [
            generator.generate(
                trained.model.to(generator.device),
                request_values(trained.attributes, {"label": name}, num).cond,
                range(num),
                guide=trained.guide,
            )
            for name in names
        ]
    seconds = time.perf_counter() - start
    return Result(samples=samples, evaluations=evaluations.count / (num * len(names)), seconds=seconds)


def references(trained: Trained, second: Path, true: Sequence[Tensor], num: int) -> Iterator[tuple[list[Tensor], str]]:
    """Yield the rows to compare with: the level of each class, and a title."""
    prepare_synthetic(second, trained.card.representation["name"], SyntheticOptions(seed=1))
    yield [spectrum_of_class(trained, second, i, limit=num) for i in range(len(true))], "second dataset"
    nearest = [
        min((t for j, t in enumerate(true) if j != i), key=lambda t, i=i: distance(t, true[i]))
        for i in range(len(true))
    ]
    yield nearest, "nearest class"


def columns_of(levels: Sequence[Tensor], true: Sequence[Tensor]) -> list[str]:
    """Format the distance of each class, and their mean."""
    found = [distance(level, expected).item() for level, expected in zip(levels, true, strict=True)]
    return [f"{figure:.2f}" for figure in (*found, sum(found) / len(found))]


def difference(result: Result, best: Result) -> str:
    """Format the root mean square difference between samples of the same noise."""
    return f"{(torch.cat(result.samples) - torch.cat(best.samples)).square().mean().sqrt():.4f}"


def level_of(trained: Trained, samples: Tensor) -> Tensor:
    """Return the mean level in dB (F,) of samples (N, C, H, W)."""
    spectrum = trained.representation.mean_spectrum(samples)
    assert spectrum is not None
    return spectrum[1]


def spectrum_of_class(trained: Trained, root: Path, index: int, limit: int | None = None) -> Tensor:
    """Return the mean level in dB (F,) of the training examples of one class, or of `limit` of them."""
    card = DatasetCard.load(root)
    examples = Dataset(data=trained.experiment.data, root=root, card=card).examples("train", trained.attributes)
    rows = (examples.attributes["label"] == index).nonzero().flatten().tolist()
    x, _ = examples[[rows[i] for i in evenly_spaced(len(rows), limit)]]
    return representation_of(card).mean_spectrum(x)[1]


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the root mean square difference in dB from 1 to 45 Hz, bins 1 to 45 of 0.99 Hz each."""
    return (first - second)[1:46].square().mean().sqrt()


if __name__ == "__main__":
    typer.run(main)
