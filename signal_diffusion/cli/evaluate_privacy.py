"""`signal-diffusion evaluate privacy`: what a trained model gives away of the people it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli.judged_dataset import Real, judged_dataset, overrides_of
from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.cli.sample import MODULE, Run, Sets, Steps, sampling_overrides
from signal_diffusion.errors import UserError

__all__ = ["privacy"]


def privacy(
    run: Run,
    output: Annotated[Path, typer.Option(help="Folder to write privacy.json to; must not exist yet.")],
    real: Real = None,
    num: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 500,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="SPLIT",
            help="Split that the samples have their conditions from; those of train bring out copies most.",
            show_default="train",
        ),
    ] = None,
    steps: Steps = None,
    sets: Sets = None,
) -> None:
    """Look for copies of training data in samples, for training people, and for membership in the model's loss."""
    if output.exists():
        raise UserError(f"{output} already exists; choose another --output, or remove it")
    from accelerate.state import PartialState

    from signal_diffusion.data.card import DatasetCard
    from signal_diffusion.experiment.loading import CONFIG_NAME, file_in_errors
    from signal_diffusion.sampling.choosing import checkpoint_at, experiment_at
    from signal_diffusion.sampling.options import named_in_errors
    from signal_diffusion.sampling.privacy import assess_privacy
    from signal_diffusion.sampling.privacy_inputs import draw, options_for
    from signal_diffusion.sampling.processes import agreed_checkpoint, ending_together
    from signal_diffusion.sampling.request_options import build_request
    from signal_diffusion.sampling.trained import load_trained
    from signal_diffusion.training.launching import start_missing_processes

    start_missing_processes(MODULE)

    of_real, split = overrides_of(real)
    overrides = [*sampling_overrides(sets, steps), f"generation.sampling.num_samples={num}", *of_real]
    with named_in_errors({} if steps is None else {"steps": "--steps"}):
        found = checkpoint_at(run, overrides)
        checkpoint = agreed_checkpoint(found, experiment_at(found, overrides).compute)
        experiment, card = experiment_at(checkpoint, overrides), DatasetCard.load(checkpoint)
    dataset, split = judged_dataset(experiment, card, split)
    wanted = options_for(experiment, card, num, like)
    with file_in_errors(checkpoint / CONFIG_NAME):
        request, captions = build_request(wanted, experiment, card)
    with ending_together("repeat the command"):
        trained = load_trained(checkpoint, overrides, captions)
        with progress_bars(shown=PartialState().is_main_process) as progress:
            samples = draw(trained, request, progress)
            report = assess_privacy(trained, dataset, samples, split=split, like=wanted.like, on_progress=progress)
    if report is not None:
        files = report.save(output)
        print(report.to_text())
        print(f"{output}: {', '.join(file.name for file in files)}")
