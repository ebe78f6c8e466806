"""`signal-diffusion sample`: generate synthetic EEG with a trained model."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    from signal_diffusion.sampling.samples import Samples

__all__ = ["Run", "SampleCommand", "Sets", "Steps", "attribute_pairs", "sample", "sampling_overrides"]

MODULE = "signal_diffusion.cli"
Run = Annotated[
    Path,
    typer.Argument(
        help="Folder of a run (uses its generation.checkpoint, by default the newest), of a checkpoint or of an "
        "exported model; or owner/name on the Hub."
    ),
]
Steps = Annotated[int | None, typer.Option(help="Number of steps.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override any key, such as generation.sampling.use_ema=false."),
]


class SampleCommand(TyperCommand):
    """A command that imports the names of samplers and formats only when its help is shown."""

    def format_help(self, *arguments: Any) -> None:
        """Insert the names of samplers and formats into the help of options."""
        from signal_diffusion.data.export.file_formats import FORMATS
        from signal_diffusion.diffusion.samplers import SAMPLERS

        for option in self.params:
            text = getattr(option, "help", None) or ""
            option.help = text.format(samplers=", ".join(SAMPLERS), formats=", ".join(FORMATS))  # type: ignore[attr-defined]
        super().format_help(*arguments)


def sample(
    run: Run,
    num: Annotated[int | None, typer.Option(help="Number of samples.")] = None,
    label: Annotated[str | None, typer.Option(help="Class of all samples; by default, all classes in turn.")] = None,
    attributes: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE,...", help="Values of attributes; others are left open.")
    ] = None,
    caption: Annotated[str | None, typer.Option(help="Caption of all samples; by default, left open.")] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="SPLIT", help="Conditions of random examples from this split of the run's dataset."),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Make --num long recordings (1), whose windows continue each other."),
    ] = None,
    timeline: Annotated[
        Path | None,
        typer.Option(metavar="TSV", help="Conditions of recordings over time: columns onset, duration, trial_type."),
    ] = None,
    windows: Annotated[
        int | None, typer.Option(help="Number of whole windows with all electrodes, instead of --num.")
    ] = None,
    noise: Annotated[
        str | None, typer.Option(help="Noise of a window's electrodes: shared or independent.", show_default="shared")
    ] = None,
    electrodes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...|10-20|10-10",
            help="Electrodes of a model that knows them by position, also others than it was trained on.",
        ),
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="One of {samplers}.")] = None,
    steps: Steps = None,
    guidance_scale: Annotated[float | None, typer.Option(help="1 = no guidance.")] = None,
    seed: Annotated[int | None, typer.Option(help="Sample i depends only on (seed, i).")] = None,
    batch_size: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Samples per batch. Changes samples by rounding, db-only signals by up to 3 % of their peak.",
        ),
    ] = "auto",
    output: Annotated[
        Path | None, typer.Option(help="Folder to write; must not exist yet.", show_default="in the run's generated/")
    ] = None,
    formats: Annotated[
        str | None, typer.Option("--format", metavar="NAME,...", help="File formats: {formats}.")
    ] = None,
    grid: Annotated[
        int | None, typer.Option(min=1, help="Also write one PNG of all samples, this many per row.")
    ] = None,
    trajectory: Annotated[
        str | None,
        typer.Option(metavar="gif", help="Also write an animation of the first samples, from noise to data."),
    ] = None,
    sets: Sets = None,
) -> None:
    """Generate synthetic EEG with a trained model, as files in microvolts and images.

    Options that you leave out default to the run's experiment. After a kill, the same command continues; recordings of
    --duration start again. If samples are not finite, the others are written, and the exit code is 3.
    """
    from signal_diffusion.data.export.file_formats import parse_formats
    from signal_diffusion.sampling.options import check_not_long, named_in_errors
    from signal_diffusion.sampling.request_options import request_options

    is_long = duration is not None or timeline is not None
    if is_long:
        check_not_long({"--windows": windows, "--noise": noise, "--grid": grid, "--trajectory": trajectory})
        num = 1 if num is None else num
    options = {"num_samples": num, "sampler": sampler, "steps": steps, "guidance_scale": guidance_scale, "seed": seed}
    overrides = [*(sets or ())]
    overrides += [f"generation.sampling.{key}={value}" for key, value in options.items() if value is not None]
    if formats is not None:
        names = parse_formats(formats)
        files = json.dumps([name for name in names if name != "png"])
        overrides += [f"generation.output.formats={files}"]
        overrides += [f"generation.output.save_individual={str('png' in names).lower()}"]
    if grid is not None:
        overrides += ["generation.output.save_grid=true", f"generation.output.grid_nrow={grid}"]
    if trajectory not in (None, "gif"):
        raise UserError(f"--trajectory {trajectory}: expected gif")
    pairs = None if attributes is None else attribute_pairs(attributes)
    wanted = request_options(
        attributes=pairs,
        label=label,
        caption=caption,
        like=like,
        num=num,
        windows=windows,
        noise=noise,
        electrodes=electrodes,
    )
    given = {key: f"--{key.replace('_', '-')}" for key, value in options.items() if value is not None}
    with named_in_errors(given | ({"num_samples": "--num"} if num is not None else {})):
        if is_long:
            from signal_diffusion.cli.sample_recordings import sample_recordings

            sample_recordings(run, overrides, wanted, _batch_size(batch_size), output, duration, timeline)
            return
        _sample(run, overrides, wanted, _batch_size(batch_size), output, animate=trajectory is not None)


def sampling_overrides(sets: Sequence[str] | None, steps: int | None) -> list[str]:
    """Overrides of the experiment by `--set` and `--steps`."""
    return [*(sets or ()), *([] if steps is None else [f"generation.sampling.steps={steps}"])]


def attribute_pairs(text: str) -> dict[str, str]:
    """Parse `--attributes NAME=VALUE,...`."""
    pairs: dict[str, str] = {}
    for word in filter(str.strip, text.split(",")):
        name, equals, value = (part.strip() for part in word.partition("="))
        if not (name and equals and value):
            raise UserError(f"--attributes {word}: expected name=value")
        if name in pairs:
            raise UserError(f"--attributes {word}: {name} is given twice; use one value")
        pairs[name] = value
    if not pairs:
        raise UserError("--attributes: is blank; leave it out for any values")
    return pairs


def _sample(
    run: Path, overrides: list[str], wanted: Any, batch_size: int | None, output: Path | None, *, animate: bool
) -> None:
    """Check everything, then load the model and sample."""
    from signal_diffusion.cli.checked_sampling import check_config_keys

    check_config_keys(run, overrides)  # before the next imports, which take seconds
    from accelerate.state import PartialState

    from signal_diffusion.cli.checked_sampling import checked_sampling
    from signal_diffusion.config.sources import CONFIG_NAME
    from signal_diffusion.data.export.file_formats import check_formats
    from signal_diffusion.experiment.loading import file_in_errors
    from signal_diffusion.paths import relative_to_cwd
    from signal_diffusion.sampling.health import health_check
    from signal_diffusion.sampling.job import sample as sample_job
    from signal_diffusion.sampling.montages import with_electrodes
    from signal_diffusion.sampling.output_folder import unfinished_folder
    from signal_diffusion.sampling.processes import ending_together
    from signal_diffusion.sampling.request_options import build_request
    from signal_diffusion.sampling.trained import load_trained
    from signal_diffusion.sampling.writing import SampleFiles
    from signal_diffusion.training.launching import start_missing_processes

    start_missing_processes(MODULE)
    checked = checked_sampling(run, overrides, output, wanted.named())
    checkpoint, experiment, folder = checked.checkpoint, checked.experiment, checked.folder
    table = experiment.generation.output
    check_formats(checked.formats, checked.card)
    with file_in_errors(checkpoint / CONFIG_NAME):
        request, captions = build_request(wanted, experiment, checked.card)

    def report(samples: Samples, written: Sequence[Path]) -> None:
        size = max(1, request.electrodes)
        what = f"{len(samples)} {'windows' if request.electrodes else 'samples'}"
        names = ", ".join(file.name for file in written)
        print(f"{folder}: {what} from {relative_to_cwd(checkpoint)}: {names}")
        print("\n".join(health_check(samples, len(request) // size)))

    with ending_together("repeat the command, which keeps the samples made"):
        trained = with_electrodes(load_trained(checkpoint, overrides, captions), wanted.electrodes)
        try:
            with progress_bars(shown=PartialState().is_main_process) as progress:
                sample_job(
                    trained,
                    request,
                    folder,
                    files=SampleFiles(
                        formats=checked.formats,
                        grid_nrow=table.grid_nrow if table.save_grid else None,
                        animation=animate,
                    ),
                    batch_size=batch_size,
                    requested=wanted.named(),
                    on_batch=lambda done: progress("sampling", done, len(request)),
                    on_written=report,
                )
        except (KeyboardInterrupt, SystemExit):
            if PartialState().is_local_main_process:
                print(f"stopped; the same command continues from {unfinished_folder(folder)}", file=sys.stderr)
            raise


def _batch_size(text: str) -> int | None:
    from signal_diffusion.config.types import MAX_BATCH_SIZE
    from signal_diffusion.sampling.options import whole_number

    if text.strip() == "auto":
        return None
    if not text.strip().isdecimal():
        raise UserError(f"--batch-size {text}: expected a number, or auto")
    return whole_number("--batch-size", int(text), MAX_BATCH_SIZE)
