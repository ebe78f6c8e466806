"""What autoencoders leave of real EEG: of pictures, of signals and of rhythms, on people that were not trained on.

    uv run python scripts/round_trip.py data/db-iq --vae runs/eeg-db-iq/checkpoint-20000 --vae PATH/TO/taesd3

The figures are those of `signal_diffusion.round_trip`, means over examples spread evenly over the split.
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
from signal_diffusion.data.loaders import spread
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError, reported_to_user
from signal_diffusion.evaluation.reconstruction import BANDS, round_trip_figures
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.models.autoencoders.frozen import Autoencoder, load_vae

WIDTH = 160  # a table in a file or a pipe is not folded to 80 columns


def main(
    dataset: Annotated[Path, typer.Argument(help="Folder of a dataset.")],
    vae: Annotated[list[str], typer.Option(help="Folder, or Hub id, of an autoencoder; repeatable.")],
    split: Annotated[str, typer.Option(help="Split of people not trained on.")] = "test",
    num: Annotated[int, typer.Option(min=1, help="Examples.")] = 512,
) -> None:
    """Print the table."""
    with reported_to_user():
        card = DatasetCard.load(dataset)
        data = schema.Data(representation=card.representation["name"])
        examples = Dataset(data=data, root=dataset, card=card).examples(split)
        x = examples[spread(len(examples), num)][0]
        names = ("psnr", "correlation", *(f"band_error_{band}" for band in BANDS))
        table = Table("vae", "latents", "values", "PSNR, dB", "correlation", *(f"{band}, dB" for band in BANDS))
        for source in vae:
            with _of_option():
                autoencoder = Autoencoder(load_vae(source), card.shape)
            figures = figures_of(autoencoder, x, card)
            latents = autoencoder.latent_shape
            compression = math.prod(card.shape) / math.prod(latents)
            cells = [f"{figures[name]:.3g}" if name in figures else "–" for name in names]
            table.add_row(source, " × ".join(map(str, latents)), f"{compression:.1f} : 1", *cells)
        Console(width=WIDTH).print(table)


def figures_of(autoencoder: Autoencoder, x: torch.Tensor, card: DatasetCard) -> dict[str, float]:
    """The means over examples x (N, C, H, W), encoded without noise."""
    after = autoencoder.decode(autoencoder.encode(x))
    figures = round_trip_figures(x, after, representation_of(card), sampling_rate=card.sampling_rate)
    return {name: values.double().mean().item() for name, values in figures.items()}


@contextmanager
def _of_option() -> Iterator[None]:
    """Name what the command line has in place of an experiment's key."""
    try:
        yield
    except UserError as error:
        raise UserError(*(line.replace("[model.autoencoder] path:", "--vae:") for line in error.lines)) from None


if __name__ == "__main__":
    typer.run(main)
