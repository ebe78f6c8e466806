"""How far the mean spectrum of generated pictures is from the true one, per class, beside a second draw of real data.

    uv run python scripts/spectral_distance.py runs/quickstart --num 192

For runs on the built-in synthetic EEG, whose second draw is of other people and another seed. The distance is the root
mean square of the difference in dB from 1 to 45 Hz.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from signal_diffusion import experiment as experiments
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import spread
from signal_diffusion.data.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.diffusion.generation import generate
from signal_diffusion.errors import reported_to_user
from signal_diffusion.pipeline import Trained, conditions, load_trained


def main(
    run: Annotated[Path, typer.Argument(help="A run's or a checkpoint's folder.")],
    num: Annotated[int, typer.Option(help="Pictures per class.")] = 192,
    guidance_scale: Annotated[float, typer.Option()] = 1.0,
) -> None:
    """Print the table."""
    with reported_to_user(), tempfile.TemporaryDirectory() as folder:
        trained = load_trained(run)
        second = Path(folder) / "second"
        prepare_synthetic(second, trained.card.representation["name"], SyntheticOptions(seed=1))
        first = experiments.dataset_root(trained.experiment.data)
        table = Table("class", "generated, dB", "second draw, dB", "other classes, dB")
        names = trained.card.columns["label"]["names"]
        true = [spectrum_of_class(trained, first, index) for index in range(len(names))]
        sampling = replace(trained.sampling, guidance_scale=guidance_scale)
        for index, name in enumerate(names):
            cond = conditions(trained.attributes, {"label": name}, num)
            pictures = generate(
                trained.model,
                trained.method,
                cond,
                range(num),
                shape=trained.card.shape,
                sampling=sampling,
                device="cpu",
            )
            _, generated = trained.representation.mean_spectrum(pictures)
            others = torch.stack([distance(level, true[index]) for i, level in enumerate(true) if i != index])
            drawn = spectrum_of_class(trained, second, index, limit=num)
            figures = (distance(generated, true[index]), distance(drawn, true[index]), others.min())
            table.add_row(name, *(f"{figure:.2f}" for figure in figures))
        Console().print(table)


def spectrum_of_class(trained: Trained, root: Path, index: int, limit: int | None = None) -> Tensor:
    """Mean level in dB (F,) of the training pictures of one class, or of `limit` of them."""
    card = DatasetCard.load(root)
    data = trained.experiment.data
    examples = experiments.examples_of(data, root, card, "train", trained.attributes, None)
    rows = (examples.attributes["label"] == index).nonzero().flatten().tolist()
    pictures, _ = examples[[rows[i] for i in spread(len(rows), limit)]]
    return representation_of(card).mean_spectrum(pictures)[1]


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Root mean square of the difference in dB, 1 to 45 Hz (a bin is 0.99 Hz)."""
    return (first - second)[1:46].square().mean().sqrt()


if __name__ == "__main__":
    typer.run(main)
