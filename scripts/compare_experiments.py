"""Train variations of an experiment for the same CPU time each, and compare what they have learned.

    uv run python scripts/compare_experiments.py config/recipes/eegmat-timeseries.toml --cpu-minutes 5 \
        --set data.paths.root=runs/eegmat/data --output runs/compared --row "as it is:" \
        --row "patches of 16: model.architecture.patch_size=[0,16]" --seeds 1,2,3

CPU time is that of all threads, so other work on the machine changes little. `x0 loss` is the validation error of x0
with averaged weights, whatever the network predicts, and the other columns are ratios to real people of the quick
report on the validation split: 1 is as good as real. Rows that are complete are not repeated.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from signal_diffusion.checkpoints import step_of
from signal_diffusion.errors import UserError, report_user_errors
from signal_diffusion.sampling.average_choice import measured
from signal_diffusion.sampling.trained import load_trained

METRICS = ("lsd", "bp-w1", "amp-w1", "kurtosis", "envcv-w1", "corrf", "eeg-fd", "coverage")
RESULT = "compared.json"
WIDTH = 160  # columns, also in a file or a pipe


@dataclass(frozen=True)
class Row:
    """A variation: its name, and the keys that it changes."""

    name: str
    changes: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Row:
        """Read `name: key=value; key=value`."""
        name, _, changes = text.partition(":")
        return cls(name.strip(), tuple(each.strip() for each in changes.split(";") if each.strip()))


def main(
    config: Annotated[Path, typer.Argument(help="Experiment file.")],
    rows: Annotated[list[str], typer.Option("--row", metavar="'NAME: KEY=VALUE; …'", help="A variation; repeatable.")],
    output: Annotated[Path, typer.Option(help="Folder of the runs.")],
    cpu_minutes: Annotated[float, typer.Option(help="CPU time of each training.")] = 5.0,
    seeds: Annotated[str, typer.Option(help="Seeds of each row.")] = "0",
    num: Annotated[int, typer.Option(help="Samples of the quick report.")] = 400,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of all rows.")] = None,
) -> None:
    """Train, judge and print a table; see the module's description."""
    columns = ("weights", "steps", "x0 loss", *METRICS)
    table = Table("row", *columns, box=None)
    for row in map(Row.parse, rows):
        results = []
        for seed in seeds.split(","):
            run = output / f"{row.name.replace(' ', '-').replace('/', '-')}-{seed}"
            if not (run / RESULT).exists():
                overrides = [*(sets or []), *row.changes, f"compute.seed={seed}"]
                _train(config, run, overrides, 60 * cpu_minutes)
                (run / RESULT).write_text(json.dumps(_judged(run, num)), encoding="utf-8")
            results.append(json.loads((run / RESULT).read_text(encoding="utf-8")))
        table.add_row(row.name, *(_cell([result[column] for result in results]) for column in columns))
        Console(width=WIDTH).print(table)


def _train(config: Path, run: Path, overrides: Sequence[str], seconds: float) -> None:
    """Train until the CPU time is used, then stop with a checkpoint."""
    options = [option for each in overrides for option in ("--set", each)]
    command = [sys.executable, "-m", "signal_diffusion.training.diffusion", str(config), "--output-dir", str(run)]
    run.mkdir(parents=True, exist_ok=True)
    with (run / "log.txt").open("a") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None and sum(psutil.Process(process.pid).cpu_times()[:2]) < seconds:
            time.sleep(0.5)
        if process.poll() is None:
            process.terminate()
        if process.wait() not in (0, 128 + signal.SIGTERM):
            raise UserError(f"{run}: the training failed; see {run / 'log.txt'}")


def _judged(run: Path, num: int) -> dict[str, float | None]:
    """Weights, steps, the error of x0, and the ratios of the quick report on the validation split; None = has none."""
    trained = load_trained(run)
    paths, report = trained.experiment.data.paths, run / "report"
    command = ["evaluate", "windows", str(run), "--real", f"{paths.root}:{paths.val}", "--quick", "--num", str(num)]
    subprocess.run([sys.executable, "-m", "signal_diffusion.cli", *command, "--output", str(report)], check=True)
    metrics = json.loads((report / "report.json").read_text(encoding="utf-8"))["metrics"]
    return {
        "weights": sum(parameter.numel() for parameter in trained.model.parameters()),
        "steps": step_of(trained.checkpoint),
        "x0 loss": measured(trained.checkpoint, [], "x0_loss")[0],
    } | {name: metrics.get(name, {}).get("ratio") for name in METRICS}


def _cell(values: Sequence[float | None]) -> str:
    """The mean of several seeds and its spread; "–" if one has no value, as CorrF of single electrodes."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    text = f"{statistics.mean(known):.4g}"
    return f"{text} ± {statistics.stdev(known):.2g}" if len(known) > 1 else text


if __name__ == "__main__":
    with report_user_errors():
        typer.run(main)
