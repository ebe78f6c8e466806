"""`signal-diffusion restore`: restore electrodes and gaps of a recording, and continue it, with a trained model."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from signal_diffusion.cli.lists import names_in
from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.cli.sample import Run, SampleCommand, Sets, Steps, attribute_pairs
from signal_diffusion.errors import UserError
from signal_diffusion.escaping import for_terminal

if TYPE_CHECKING:
    from signal_diffusion.sampling.restoring.plan import Plan

__all__ = ["RestoreCommand", "restore"]


class RestoreCommand(SampleCommand):
    """A command whose option --gap takes two numbers and may be repeated, for which Typer has no type."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line, with the two numbers after each --gap as one word."""
        words, joined = list(args), []
        while words:
            word = words.pop(0)
            if word.startswith("--gap="):
                words.insert(0, word.removeprefix("--gap="))
                word = "--gap"
            joined.append(word)
            if word == "--gap":
                values = list(takewhile(lambda word: not word.startswith("--"), words[:2]))
                joined.append(" ".join(values))
                del words[: len(values)]
        return super().parse_args(ctx, joined)


def restore(
    run: Run,
    recording: Annotated[Path, typer.Argument(help="EEG file: EDF, BDF, FIF, EEGLAB, BrainVision and more.")],
    output: Annotated[Path, typer.Option(help="Folder to write; must not exist yet.")],
    bad: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Electrodes to restore although the recording has them.")
    ] = None,
    bads_from_file: Annotated[
        bool, typer.Option("--bads-from-file", help="Restore those that the recording marks as bad.")
    ] = False,
    add: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Of the electrodes that the recording lacks, restore these.",
            show_default="all that the model was trained on",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="10-10|10-20|A,B,...", help="Restore every electrode of this montage that the recording lacks."
        ),
    ] = None,
    gap: Annotated[
        list[str] | None,
        typer.Option(metavar="START STOP", help="Restore all electrodes between these seconds; repeatable."),
    ] = None,
    extend: Annotated[float, typer.Option(metavar="SECONDS", help="Continue after the end of the recording.")] = 0.0,
    draws: Annotated[
        int, typer.Option(help="How often to generate what is missing: the file has the mean, the npz each draw.")
    ] = 16,
    label: Annotated[str | None, typer.Option(help="Class of the recording.", show_default="left open")] = None,
    attributes: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE,...", help="Values of attributes; others are left open.")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="One of {samplers}.")] = None,
    steps: Steps = None,
    seed: Annotated[int | None, typer.Option(help="Draw i depends only on (seed, i).")] = None,
    units: Annotated[
        str | None, typer.Option(help="Unit of the recording, if the file states a wrong one: V, mV, uV, nV.")
    ] = None,
    formats: Annotated[str, typer.Option("--format", metavar="NAME,...", help="File formats: fif, edf.")] = "fif",
    sets: Sets = None,
) -> None:
    """Restore missing or bad electrodes and gaps of a recording, and continue it, at its own rate.

    What was given is unchanged. What was restored is the mean of several draws, marked by annotations; the draws and
    their spread are in restored.npz, at the model's rate. Options that you leave out default to the run's experiment,
    but guidance is off: guided draws are more typical than what was recorded.
    """
    from signal_diffusion.data.recordings.channels import channel_names
    from signal_diffusion.sampling.montages import electrodes_named
    from signal_diffusion.sampling.options import named_in_errors
    from signal_diffusion.sampling.output_folder import check_output
    from signal_diffusion.sampling.request_options import request_options
    from signal_diffusion.sampling.restoring.given import as_recording
    from signal_diffusion.sampling.restoring.job import restore_to_folder
    from signal_diffusion.sampling.restoring.options import UNGUIDED, RestoreOptions
    from signal_diffusion.sampling.trained import load_trained

    options = RestoreOptions(
        bad=() if bad is None else channel_names(bad, "--bad"),
        bads_from_file=bads_from_file,
        add=None if add is None else channel_names(add, "--add"),
        to=() if to is None else electrodes_named(to, "--to"),
        gaps=[_seconds(words) for words in gap or ()],
        extend=extend,
        draws=draws,
        units=units,
    )
    wanted = request_options(attributes=None if attributes is None else attribute_pairs(attributes), label=label)
    given = {"sampler": sampler, "steps": steps, "seed": seed}
    keys = [f"generation.sampling.{key}={value}" for key, value in given.items() if value is not None]
    check_output(output)
    with as_recording(recording) as found, named_in_errors({key: f"--{key}" for key in given}):
        trained = load_trained(run, [UNGUIDED, *(sets or ()), *keys])
        with progress_bars() as progress:
            names = restore_to_folder(
                trained,
                found,
                options,
                wanted,
                output,
                formats=names_in(formats),
                on_plan=_print_plan,
                on_progress=lambda done, total: progress("restoring", done, total),
            )
    print(f"{output}: {', '.join(names)}")


def _seconds(words: str) -> tuple[float, float]:
    """The two numbers after --gap."""
    try:
        start, stop = map(float, words.split())
    except ValueError:
        raise UserError(f"--gap {words}: expected two numbers of seconds, such as --gap 12.0 14.5") from None
    return start, stop


def _print_plan(plan: Plan) -> None:
    """What is given, what is restored and what is left out."""
    print(f"given       {len(plan.given)} electrodes")
    if plan.restored:
        print(f"restored    {', '.join(plan.restored)}")
    if gaps := [f"{start:g} to {stop:g} s" for start, stop in plan.gaps]:
        print(f"gaps        {', '.join(gaps)}, in all electrodes")
    if plan.extension:
        print(f"continued   by {plan.extend:g} s")
    if plan.ratio != 1:
        print(f"rate        {plan.recorded_sfreq:g} Hz; what is generated at {plan.sfreq:g} Hz is resampled to that")
    if plan.lacking:
        print(f"not added   {', '.join(plan.lacking)}")
    reasons = {
        "which the model does not know": plan.left_out.unknown,
        "of electrodes of which another channel is used": plan.left_out.repeated,
        "as reference or not EEG": plan.left_out.other,
    }
    for reason, names in reasons.items():
        if names:
            print(f"left out    {for_terminal(', '.join(names))}, {reason}")
