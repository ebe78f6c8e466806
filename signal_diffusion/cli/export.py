"""`signal-diffusion export`: a trained model as a folder that needs nothing else, and as a model of the Hub."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli.sample import Run
from signal_diffusion.errors import UserError

__all__ = ["export"]


def export(
    run: Run,
    output: Annotated[Path, typer.Option(help="New folder.")],
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Put it on the Hugging Face Hub too.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="For your eyes alone there, where it is new.")] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key, such as generation.sampling.use_ema=false."),
    ] = None,
) -> None:
    """Write a trained model as a folder in diffusers' style that sampling needs nothing beside."""
    from signal_diffusion import hub
    from signal_diffusion.pipeline import SignalDiffusionPipeline
    from signal_diffusion.sampling.export import check_new

    if push_to_hub is None and private:
        raise UserError("--private has no effect without --push-to-hub; leave it out")
    if push_to_hub is not None:
        hub.check_uploadable(push_to_hub, option="--push-to-hub")
    check_new(output)
    pipeline = SignalDiffusionPipeline.from_pretrained(run, overrides=sets or ())
    folder = pipeline.save_pretrained(output, name=push_to_hub or "")
    print(f"{folder}: the model, to be sampled from with `signal-diffusion sample {shlex.quote(str(folder))}`")
    if push_to_hub is not None:
        print(hub.uploaded(folder, push_to_hub, option="--push-to-hub", private=private))
