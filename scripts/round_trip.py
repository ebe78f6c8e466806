"""Measure how well autoencoders reconstruct real EEG (tensors, signals, rhythms) of subjects they were not trained on.

    uv run python scripts/round_trip.py data/db-iq --vae runs/eeg-db-iq/checkpoint-20000 --vae PATH/TO/taesd3

The figures are those of `signal_diffusion.evaluation.reconstruction`, averaged over examples spread evenly over the
split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import evenly_spaced
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError, report_user_errors
from signal_diffusion.evaluation.reconstruction import BANDS, round_trip_metrics
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.autoencoders.loading import load_vae

WIDTH = 160  # columns; in a file or a pipe, rich would fold the table to 80


def main(
    dataset: Annotated[Path, typer.Argument(help="Folder of a dataset.")],
    vae: Annotated[list[str], typer.Option(help="Folder or Hub id of an autoencoder; repeatable.")],
    split: Annotated[
        str, typer.Option(help="Split to measure on; its subjects must not have been trained on.")
    ] = "test",
    num: Annotated[int, typer.Option(min=1, help="Number of examples.")] = 512,
) -> None:
    """Print a table with one row per autoencoder."""
    with report_user_errors():
        card = DatasetCard.load(dataset)
        data = schema.Data(representation=card.representation["name"])
        examples = Dataset(data=data, root=dataset, card=card).examples(split)
        x = examples[evenly_spaced(len(examples), num)][0]
        names = ("psnr", "correlation", *(f"band_error_{band}" for band in BANDS))
        table = Table("vae", "latents", "values", "PSNR, dB", "correlation", *(f"{band}, dB" for band in BANDS))
        for source in vae:
            with _option_in_errors():
                autoencoder = Autoencoder(load_vae(source), card.shape)
            figures = figures_of(autoencoder, x, card)
            latents = autoencoder.latent_shape
            compression = math.prod(card.shape) / math.prod(latents)
            cells = [f"{figures[name]:.3g}" if name in figures else "–" for name in names]
            table.add_row(source, " × ".join(map(str, latents)), f"{compression:.1f} : 1", *cells)
        Console(width=WIDTH).print(table)


def figures_of(autoencoder: Autoencoder, x: torch.Tensor, card: DatasetCard) -> dict[str, float]:
    """Return the mean figures of examples x (N, C, H, W), encoded to the mean of the posterior."""
    reconstruction = autoencoder.decode(autoencoder.encode(x))
    figures = round_trip_metrics(x, reconstruction, representation_of(card), sampling_rate=card.sampling_rate)
    return {name: values.double().mean().item() for name, values in figures.items()}


@contextmanager
def _option_in_errors() -> Iterator[None]:
    """Name the option in errors that name the key of an experiment file."""
    try:
        yield
    except UserError as error:
        raise UserError(*(line.replace("[model.autoencoder] path:", "--vae:") for line in error.lines)) from None


if __name__ == "__main__":
    typer.run(main)
