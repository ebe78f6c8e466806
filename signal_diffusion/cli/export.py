"""`signal-diffusion export`: write a trained model as a self-contained folder, and upload it to the Hub."""

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
    output: Annotated[Path, typer.Option(help="Folder to write; must not exist yet.")],
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that `evaluate` or `evaluate privacy` wrote, to attach and to summarise in the model card.",
        ),
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Also upload it to the Hugging Face Hub.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="With --push-to-hub: make a new repository private.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Write the weights in fp16, half as large.")] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override any key, such as generation.sampling.use_ema=false."),
    ] = None,
) -> None:
    """Write a trained model as a self-contained folder in diffusers' layout."""
    from signal_diffusion import hub
    from signal_diffusion.pipeline import SignalDiffusionPipeline
    from signal_diffusion.sampling.attached_reports import read_reports
    from signal_diffusion.sampling.export import check_new

    if push_to_hub is None and private:
        raise UserError("--private has no effect without --push-to-hub; leave it out")
    if push_to_hub is not None:
        hub.check_uploadable(push_to_hub, option="--push-to-hub")
    check_new(output)
    if report is not None:
        read_reports(report)  # before the model is loaded
    pipeline = SignalDiffusionPipeline.from_pretrained(run, overrides=sets or ())
    folder = pipeline.save_pretrained(output, name=push_to_hub or "", report=report, half=half)
    print(f"{folder}: exported; sample from it with `{shlex.join(['signal-diffusion', 'sample', str(folder)])}`")
    if push_to_hub is not None:
        print(hub.upload(folder, push_to_hub, option="--push-to-hub", private=private))
