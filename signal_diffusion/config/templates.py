"""`signal-diffusion config new`: an experiment file to begin with, each key under a comment that says what it may be.

The files in config/diffusion/ say the same in fewer words; tests hold the two equal.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from signal_diffusion.config.documentation import Key, Table, tables_of, toml
from signal_diffusion.config.json_schema import experiment_schema
from signal_diffusion.config.loading import Offer
from signal_diffusion.config.schema import Loading, Optimizer, Training

__all__ = ["draft"]

WIDTH = 120
SERIES_PATCH = [1, 8]
"""A token of a time series: of one electrode, 64 ms at the 125 Hz that `prepare` resamples to."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What an experiment with a backbone begins with; where it says nothing, with what the dataclasses say."""

    batch_size: int = Loading().batch_size
    learning_rate: float = Optimizer().learning_rate
    sizes: tuple[str, ...] | None = None
    """The keys of [model.architecture] that are written; None = all."""
    pretrained: str = ""
    """Weights to start from, in the latent space of the autoencoder beside them."""
    recomputed: Collection[str] = ()
    """Representations whose activations are too many to be kept for the backward pass."""
    note: str = ""


STARTS: Mapping[str, Start] = {
    "dit": Start(
        sizes=("num_layers", "num_attention_heads", "attention_head_dim", "patch_size"), recomputed=("timeseries",)
    ),
    "hourglass": Start(batch_size=64, sizes=("depths", "widths", "kernel_sizes", "patch_size")),
    "localmamba": Start(batch_size=64, learning_rate=3e-4, sizes=("depths", "dims", "d_state", "patch_size")),
    "sd35": Start(
        batch_size=16,
        learning_rate=5e-5,
        sizes=(),
        pretrained="stabilityai/stable-diffusion-3.5-medium",
        note="The weights are on the Hugging Face Hub behind a licence: accept it there and log in (`hf auth login`), "
        "or put a local folder in the place of their name.",
    ),
}


def draft(backbone: str, representation: str, offer: Offer) -> str:
    """Write the text of an experiment with one of the backbones on one of the representations that are on offer."""
    tables = {(table.name, table.backbone): table for table in tables_of(experiment_schema(offer))}
    architecture = tables["model.architecture", backbone]
    start = STARTS.get(backbone, Start())
    values = _values(backbone, representation, start, architecture)
    lines = list(_head(f"{backbone}-{representation}", start))
    name = ""
    for key, value in values.items():
        within, _, last = key.rpartition(".")
        table = architecture if within == "model.architecture" else tables[within, ""]
        if within != name:
            lines += ["", f"[{within}]"]
            name = within
        [about] = (each for each in table.keys if each.name == last)
        lines += [*_comment(about.meaning), *_comment(_range_of(about), "    "), f"{last} = {toml(value)}"]
    return "\n".join(lines) + "\n"


def _values(backbone: str, representation: str, start: Start, architecture: Table) -> dict[str, Any]:
    """What the file says, by dotted key, in the order of its tables."""
    pictures = representation == "image"
    values: dict[str, Any] = {
        "data.representation": representation,
        "data.paths.root": "data/pictures" if pictures else f"data/{representation}",
        "data.loading.batch_size": start.batch_size,
        "model.name": backbone,
    }
    if start.pretrained:
        values["model.pretrained"] = start.pretrained
    for key in architecture.keys:
        if start.sizes is None or key.name in start.sizes:
            of_pairs = key.name == "patch_size" and isinstance(key.default, list)
            value = SERIES_PATCH if of_pairs and representation == "timeseries" else key.default
            values[f"model.architecture.{key.name}"] = value
    values["model.diffusion.method"] = "rectified_flow"
    values["model.conditioning.type"] = "none" if pictures else "class"  # not every folder of pictures has labels
    if start.pretrained:
        values |= {"model.autoencoder.enabled": True, "model.autoencoder.cache_latents": True}
    return values | {
        "training.epochs": Training().epochs,
        "training.mixed_precision": Training().mixed_precision,
        "training.gradient_checkpointing": representation in start.recomputed,
        "training.optimizer.learning_rate": start.learning_rate,
    }


def _head(name: str, start: Start) -> Iterator[str]:
    yield from _comment(f"{name.replace('-', ' on ', 1)}, made by `signal-diffusion config new`.")
    yield f"#     uv run python -m signal_diffusion.training.diffusion FILE --output-dir runs/{name}"
    yield "#"
    if start.note:
        yield from _comment(start.note)
        yield "#"
    yield from _comment(
        "Above each key is what it means, what it may be, and its default. There are more keys, which have their "
        "defaults: `signal-diffusion config show FILE` prints them all, and docs/configuration.md tells of them."
    )


def _range_of(key: Key) -> str:
    return key.values + ("" if key.default is None else f"; default {toml(key.default)}")


def _comment(text: str, indent: str = "") -> list[str]:
    prefix = f"# {indent}"
    return textwrap.wrap(
        text, WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_long_words=False, break_on_hyphens=False
    )
