"""`signal-diffusion evaluate privacy`: what a trained model gives away of the people it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.cli.sample import MODULE, Run, Sets, Steps, sampling_overrides
from signal_diffusion.errors import UserError

__all__ = ["privacy"]


def privacy(
    run: Run,
    output: Annotated[Path, typer.Option(help="Folder to write privacy.json to; must not exist yet.")],
    real: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET[:SPLIT]",
            help="Dataset that the model was trained on, and a split of people whom it was not trained on.",
            show_default="the run's dataset, test",
        ),
    ] = None,
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
    from signal_diffusion.evaluation.reading import split_of
    from signal_diffusion.experiment.dataset import dataset_of
    from signal_diffusion.experiment.loading import CONFIG_NAME, file_in_errors
    from signal_diffusion.sampling.choosing import checkpoint_at, experiment_at
    from signal_diffusion.sampling.options import named_in_errors
    from signal_diffusion.sampling.privacy import assess_privacy
    from signal_diffusion.sampling.privacy_inputs import checked_split, draw, options_for, other_advice
    from signal_diffusion.sampling.processes import agreed_checkpoint, ending_together
    from signal_diffusion.sampling.request_options import build_request
    from signal_diffusion.sampling.trained import load_trained
    from signal_diffusion.training.launching import start_missing_processes

    start_missing_processes(MODULE)

    overrides, split = [*sampling_overrides(sets, steps), f"generation.sampling.num_samples={num}"], "test"
    if real is not None:
        root, split = split_of(real, split)
        overrides += [f"data.paths.root={json.dumps(str(root))}", "data.source=dataset"]
    with named_in_errors({} if steps is None else {"steps": "--steps"}):
        found = checkpoint_at(run, overrides)
        checkpoint = agreed_checkpoint(found, experiment_at(found, overrides).compute)
        experiment, card = experiment_at(checkpoint, overrides), DatasetCard.load(checkpoint)
    with other_advice("give the folder of the run's dataset with --real"):
        dataset = dataset_of(experiment.data, min_channels=card.min_channels)
    split = checked_split(dataset, card, split)
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
