"""`signal-diffusion config new`: an experiment file to start from, with a comment above each key that documents it.

The files in config/diffusion/ have the same values and shorter comments; tests compare the two.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from signal_diffusion.config.documentation import Key, Table, tables_of, toml_value
from signal_diffusion.config.json_schema import experiment_schema
from signal_diffusion.config.offer import Offer
from signal_diffusion.config.schema import Loading, Optimizer, Training

__all__ = ["PRESETS", "Preset", "template"]

WIDTH = 120
SERIES = {"model.architecture.patch_size": [1, 8]}
"""Values for time series: patches of 8 samples of one electrode, 64 ms at the 125 Hz that `prepare` resamples to."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Values to start a backbone's experiments from; the defaults are those of the dataclasses."""

    batch_size: int = Loading().batch_size
    learning_rate: float = Optimizer().learning_rate
    sizes: tuple[str, ...] | None = None
    """The keys of [model.architecture] that are written; None = all."""
    pretrained: str = ""
    """Pretrained pipeline to start from; training then uses the latent space of its autoencoder."""
    series: Mapping[str, Any] = field(default_factory=dict)
    """Values for time series, by dotted key."""
    note: str = ""


PRESETS: Mapping[str, Preset] = {
    "dit": Preset(
        sizes=("num_layers", "num_attention_heads", "attention_head_dim", "patch_size"),
        series={
            "model.architecture.patch_size": [0, 8],
            "model.architecture.patch_overlap": True,
            "model.architecture.input_power": True,
            "model.diffusion.prediction": "sample",
            "model.diffusion.loss": "velocity",
        },
    ),
    "hourglass": Preset(batch_size=64, sizes=("depths", "widths", "kernel_sizes", "patch_size"), series=SERIES),
    "localmamba": Preset(
        batch_size=64, learning_rate=3e-4, sizes=("depths", "dims", "d_state", "patch_size"), series=SERIES
    ),
    "sd35": Preset(
        batch_size=16,
        learning_rate=5e-5,
        sizes=(),
        pretrained="stabilityai/stable-diffusion-3.5-medium",
        note="The weights are gated on the Hugging Face Hub: accept the licence there and log in (`hf auth login`), or "
        "set a local folder instead.",
    ),
}


def template(backbone: str, representation: str, offer: Offer) -> str:
    """The text of an experiment file for one of the backbones and representations in `offer`."""
    tables = {(table.name, table.backbone): table for table in tables_of(experiment_schema(offer))}
    architecture = tables["model.architecture", backbone]
    preset = PRESETS.get(backbone, Preset())
    values = _values(backbone, representation, preset, architecture)
    lines = list(_head(f"{backbone}-{representation}", preset))
    name = ""
    for key, value in values.items():
        within, _, last = key.rpartition(".")
        table = architecture if within == "model.architecture" else tables[within, ""]
        if within != name:
            lines += ["", f"[{within}]"]
            name = within
        [about] = (each for each in table.keys if each.name == last)
        lines += [*_comment(about.meaning), *_comment(_range_of(about), "    "), f"{last} = {toml_value(value)}"]
    return "\n".join(lines) + "\n"


def _values(backbone: str, representation: str, preset: Preset, architecture: Table) -> dict[str, Any]:
    """The values of the file, by dotted key, in the order of its tables."""
    is_image = representation == "image"
    values: dict[str, Any] = {
        "data.representation": representation,
        "data.paths.root": "data/pictures" if is_image else f"data/{representation}",
        "data.loading.batch_size": preset.batch_size,
        "model.name": backbone,
    }
    if preset.pretrained:
        values["model.pretrained"] = preset.pretrained
    series = preset.series if representation == "timeseries" else {}
    for key in architecture.keys:
        dotted = f"model.architecture.{key.name}"
        if preset.sizes is None or key.name in preset.sizes or dotted in series:
            values[dotted] = key.default
    values |= {"model.diffusion.method": "rectified_flow", **series}
    values["model.conditioning.type"] = "none" if is_image else "class"  # not every folder of images has labels
    if preset.pretrained:
        values |= {"model.autoencoder.enabled": True, "model.autoencoder.cache_latents": True}
    return values | {
        "training.epochs": Training().epochs,
        "training.mixed_precision": Training().mixed_precision,
        "training.gradient_checkpointing": Training().gradient_checkpointing,
        "training.optimizer.learning_rate": preset.learning_rate,
    }


def _head(name: str, preset: Preset) -> Iterator[str]:
    yield from _comment(f"{name.replace('-', ' on ', 1)}, written by `signal-diffusion config new`.")
    yield f"#     uv run python -m signal_diffusion.training.diffusion FILE --output-dir runs/{name}"
    yield "#"
    if preset.note:
        yield from _comment(preset.note)
        yield "#"
    yield from _comment(
        "The comment above each key says what it means, its allowed values, and its default. All other keys have their "
        "defaults: `signal-diffusion config show FILE` prints them, and docs/configuration.md describes them."
    )


def _range_of(key: Key) -> str:
    return key.values + ("" if key.default is None else f"; default {toml_value(key.default)}")


def _comment(text: str, indent: str = "") -> list[str]:
    prefix = f"# {indent}"
    return textwrap.wrap(
        text, WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_long_words=False, break_on_hyphens=False
    )
