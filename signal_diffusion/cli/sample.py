"""`signal-diffusion sample`: synthetic EEG from a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.errors import UserError

__all__ = ["sample"]


def sample(
    run: Annotated[Path, typer.Argument(help="A run's folder (its newest checkpoint), or a checkpoint's.")],
    num: Annotated[int | None, typer.Option(min=1, help="Samples to generate.")] = None,
    label: Annotated[str | None, typer.Option(help="Class of all samples; without it, all in turn.")] = None,
    caption: Annotated[str | None, typer.Option(help="What all samples are, in words; without it, left open.")] = None,
    attributes: Annotated[str | None, typer.Option(metavar="NAME=VALUE,...", help="Others are left open.")] = None,
    sampler: Annotated[str | None, typer.Option(help="euler or ddim.")] = None,
    steps: Annotated[int | None, typer.Option(help="Evaluations of the network per sample.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="1 = conditional only.")] = None,
    seed: Annotated[int | None, typer.Option(help="Sample i depends on (seed, i) alone.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at a time; it changes them by rounding alone.")] = 64,
    output: Annotated[Path | None, typer.Option(help="New folder.", show_default="in the run's generated/")] = None,
    formats: Annotated[
        str, typer.Option("--format", metavar="NAME,...", help="Of the samples: npz, parquet, fif, edf.")
    ] = "npz",
) -> None:
    """Generate synthetic EEG from a trained model: files with them in microvolts, and a picture."""
    from signal_diffusion import pipeline
    from signal_diffusion.data.export import formats_named

    wanted = formats_named(formats)
    options = {
        "num_samples": num,
        "sampler": sampler,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "seed": seed,
    }
    overrides = [f"generation.sampling.{key}={value}" for key, value in options.items() if value is not None]
    asked = _asked(attributes, label=label, caption=caption)
    trained = pipeline.load_trained(run, overrides, [asked["caption"]] if "caption" in asked else [])
    total = trained.sampling.num_samples
    cond = pipeline.conditions(trained.attributes, asked, total)
    folder = output or pipeline.default_output(trained, asked)
    with progress_bars() as progress:
        files = pipeline.sample(
            trained,
            cond,
            total,
            folder,
            formats=wanted,
            batch_size=batch_size,
            on_batch=lambda done: progress("sampling", done, total),
        )
    print(f"{folder}: {total} samples of {trained.checkpoint}: {', '.join(file.name for file in files)}")


def _asked(attributes: str | None, **options: str | None) -> dict[str, str]:
    """What samples are asked to be, by attribute; blank options ask for nothing."""
    asked: dict[str, str] = {}
    for word in (attributes or "").split(","):
        name, equals, value = (part.strip() for part in word.partition("="))
        if not word.strip():
            continue
        if not (name and equals and value):
            raise UserError(f"--attributes {word}: expected name=value")
        if name in asked:
            raise UserError(f"--attributes {word}: {name} is given twice; expected one value")
        asked[name] = value
    for name, text in options.items():
        if text is None or not text.strip():
            continue
        if name in asked:
            raise UserError(f"--{name} {text}: --attributes has a {name} too; expected one of the two")
        asked[name] = text.strip()
    return asked
