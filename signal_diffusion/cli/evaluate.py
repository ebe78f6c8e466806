"""`signal-diffusion evaluate`: judge synthetic EEG by real EEG, and report it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from signal_diffusion.cli.evaluate_privacy import privacy
from signal_diffusion.cli.evaluate_restoration import restoration
from signal_diffusion.cli.evaluate_utility import check_start, measured_utility, save_utility
from signal_diffusion.cli.evaluate_utility import utility as utility_command
from signal_diffusion.cli.lists import names_in, numbers_in
from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.cli.sample import Sets, Steps
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    from signal_diffusion.evaluation.windows import Windows

__all__ = ["app"]

DEFAULT = "windows"
"""The subcommand that is meant if none is named."""


class _Group(TyperGroup):
    """`evaluate SAMPLES …` is `evaluate windows SAMPLES …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="Judge synthetic EEG by real EEG. `evaluate SAMPLES` means `evaluate windows SAMPLES`.",
    no_args_is_help=True,
)
app.command("utility")(utility_command)
app.command()(privacy)
app.command()(restoration)


@app.command(DEFAULT)
def windows(
    synthetic: Annotated[
        Path,
        typer.Argument(
            metavar="SAMPLES|RUN",
            help="What to judge: a folder that `sample` wrote, a dataset (or DATASET:SPLIT), a folder of FIF or EDF "
            "files, or a run or an exported model, which generates samples with the conditions of the real windows.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder to write the report to; must not exist yet.")],
    real: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET[:SPLIT]",
            help="Real windows to judge by, of people whom the model was not trained on.",
            show_default="the test split; of a run, that of its dataset",
        ),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET[:SPLIT]",
            help="What the model was trained on, for the floor's other people and for copies.",
            show_default="the train split of --real",
        ),
    ] = None,
    num: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Windows that a run generates.",
            show_default="as many as real ones; for --utility, twice the training windows",
        ),
    ] = None,
    guidance_scale: Annotated[
        str | None,
        typer.Option(
            metavar="SCALE,...",
            help="Guidance scales that a run generates with (1 = no guidance). With several, the first is judged, and "
            "a table compares adherence and fidelity by scale.",
            show_default="as in the run",
        ),
    ] = None,
    metrics: Annotated[str | None, typer.Option(metavar="NAME,...", help="Only these metrics.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the metrics that take seconds.")] = False,
    controls: Annotated[
        bool, typer.Option("--controls", help="Also judge copies, surrogates and noise: what each metric can see.")
    ] = False,
    utility: Annotated[
        str | None,
        typer.Option(
            metavar="CLASSIFIER,...",
            help="Also run `evaluate utility` on the label, with these of logreg, riemann and eegnet: its gains are "
            "the verdict on use, and its curves are on the page.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of windows and of the draws of people.")] = 0,
    steps: Steps = None,
    sets: Sets = None,
) -> None:
    """Judge synthetic windows by real ones: values, floors, ratios and intervals, and a page to read."""
    check_start(output)
    if utility is not None:
        from signal_diffusion.evaluation.utility.classifiers import check_classifiers, require_extra

        check_classifiers(names_in(utility), "--utility")
        require_extra()
    from signal_diffusion.cli.evaluated_model import check_not_for_files, is_model, real_of, windows_of_model
    from signal_diffusion.evaluation.evaluating import evaluate, real_split
    from signal_diffusion.evaluation.metrics import chosen_metrics

    chosen = None if metrics is None else names_in(metrics)
    chosen_metrics(chosen)  # a misspelt one is refused before hours of sampling
    scales = [] if guidance_scale is None else _scales(guidance_scale)
    if scales and not is_model(synthetic):
        raise UserError(
            f"--guidance-scale {guidance_scale}: {synthetic} is no run or exported model that could generate with it; "
            "leave it out"
        )
    check_not_for_files(synthetic, num=num, steps=steps, set=sets)
    real = real_of(synthetic, real)
    how: dict[str, Any] = {"num": num, "steps": steps, "sets": sets}
    found = None
    if utility is not None:  # first, since it is what can go wrong for reasons of its own
        scale = scales[0] if scales else None
        found = measured_utility(synthetic, real, train, names_in(utility), quick=quick, guidance_scale=scale, **how)
    with progress_bars() as progress:
        by_scale = {
            scale: windows_of_model(synthetic, *real_split(real), seed=seed, guidance_scale=scale, **how)
            for scale in scales
        }
        judged: Path | Windows = synthetic
        if is_model(synthetic):
            judged = by_scale[scales[0]] if scales else windows_of_model(synthetic, *real_split(real), seed=seed, **how)
        report = evaluate(
            judged,
            real,
            train=train,
            metrics=chosen,
            quick=quick,
            controls=controls,
            guidance=by_scale if len(by_scale) > 1 else None,
            seed=seed,
            on_metric=lambda done, total: progress("judging", done, total),
        )
    files = []
    if found is not None:
        from signal_diffusion.evaluation.utility.verdicts import with_utility

        report = with_utility(report, found)
        files = save_utility(found, output)
    files = [*report.save(output), *files]
    print(report.to_text())
    print(f"{output}: {', '.join(file.name for file in files)}")


def _scales(text: str) -> list[float]:
    return numbers_in("--guidance-scale", text, "numbers of at least 0, such as 1,2,4", lambda x: 0 <= x < math.inf)
