"""Metrics and messages of a run: metrics.jsonl, TensorBoard, Weights & Biases, a progress bar.

Only the first process writes. Metrics are rows {"step": …, name: value}. Names starting with "time/" depend on the
machine; all others are the same in a resumed run as in an uninterrupted one.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from signal_diffusion.config import schema
from signal_diffusion.training.metrics_file import METRICS_NAME, MetricsFile
from signal_diffusion.training.outputs import TENSORBOARD, WANDB, Outputs, tensorboard_writer, wandb_module, wandb_run

__all__ = ["Histogram", "Tracker"]

SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Number of values in each bin."""

    edges: Sequence[float]
    """Upper edges of the bins, ascending."""
    counts: Sequence[int]
    norm: float
    """Root of the sum of the squared values."""


class Tracker:
    """Writes metrics and messages of one run; a tracker that is not `active` does nothing."""

    def __init__(
        self,
        run_dir: Path,
        logs: Path | None,
        *,
        active: bool,
        first_step: int,
        last_step: int,
        resumed: bool,
        wandb: schema.Logging | None = None,
    ) -> None:
        """Open the outputs: TensorBoard writes into `logs`, if given; Weights & Biases as `wandb` says, if given."""
        self.active = active
        self._console = _Console(stderr=True, quiet=not active, highlight=False)
        self._metrics: MetricsFile | None = None
        self._outputs = Outputs(self.message)
        self._last_line = -math.inf  # so that the first logged step is printed at once
        self._last_step = last_step
        self._bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            disable=not (active and self._console.is_terminal),
        )
        self._task = self._bar.add_task("train", total=last_step, completed=first_step, status="starting")
        if active:
            self._metrics = MetricsFile(run_dir / METRICS_NAME, last_step=first_step if resumed else -1)
            if logs is not None:
                purge_step = first_step + 1 if resumed else 0
                self._outputs.open(TENSORBOARD, partial(tensorboard_writer, logs, purge_step=purge_step))
            if wandb is not None:
                self._outputs.open(WANDB, partial(wandb_run, run_dir, wandb, resumed=resumed))
        with suppress(OSError):
            self._bar.start()

    def message(self, text: str) -> None:
        """Print a line to the console, unless the terminal was closed."""
        with suppress(OSError):
            self._console.print(text, soft_wrap=True, markup=False)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write one row; a `UserError` if the disk is full."""
        if self._metrics is None:
            return
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        self._metrics.write({"step": step, **values})
        for name, value in values.items():
            self._outputs.write(TENSORBOARD, partial(_add_scalar, name=name, value=value, step=step))
        self._outputs.write(WANDB, lambda out: out.log(values, step=step))

    def progress(self, step: int, loss: float, examples_per_second: float) -> None:
        """Advance the progress bar; without a terminal, print a line every ten seconds instead."""
        status = f"loss {loss:.4f}  {examples_per_second:,.0f} examples/s"
        with suppress(OSError):
            self._bar.update(self._task, completed=step, status=status)
        now = time.monotonic()
        if self._bar.disable and (now - self._last_line > SECONDS_BETWEEN_LINES or step == self._last_step):
            self._last_line = now
            left = self._bar.tasks[self._task].time_remaining
            remaining = f"  {int(left // 60)}:{int(left % 60):02d} left" if left else ""
            self.message(f"step {step}/{self._last_step}  {status}{remaining}")

    def image(self, step: int, name: str, path: Path) -> None:
        """Add a PNG file to TensorBoard and Weights & Biases."""

        def add_to_tensorboard(writer: Any) -> None:
            from matplotlib.image import imread

            writer.add_image(name, imread(path)[..., :3], step, dataformats="HWC")

        self._outputs.write(TENSORBOARD, add_to_tensorboard)
        self._outputs.write(WANDB, lambda out: out.log({name: wandb_module().Image(str(path))}, step=step))

    def histogram(self, step: int, name: str, values: Histogram) -> None:
        """Add a histogram to TensorBoard."""
        filled = [index for index, count in enumerate(values.counts) if count]
        if filled:
            self._outputs.write(
                TENSORBOARD,
                lambda out: out.add_histogram_raw(
                    name,
                    min=values.edges[max(0, filled[0] - 1)],
                    max=values.edges[filled[-1]],
                    num=sum(values.counts),
                    sum=0.0,  # not shown by TensorBoard
                    sum_squares=values.norm**2,
                    bucket_limits=list(values.edges),
                    bucket_counts=list(values.counts),
                    global_step=step,
                ),
            )

    def hyperparameters(self, values: Mapping[str, Any], text: str) -> None:
        """Write the experiment as TensorBoard's hyperparameters and text, and as W&B's configuration."""

        def add_to_tensorboard(writer: Any) -> None:
            from torch.utils.tensorboard.summary import hparams

            plain = {
                key: value if isinstance(value, int | float | bool | str) else str(value)
                for key, value in values.items()
            }
            for summary in hparams(plain, {"validation/ema_loss": 0.0}):
                writer._get_file_writer().add_summary(summary)  # add_hparams would create a second run
            writer.add_text("config.toml", f"```toml\n{text}\n```")

        self._outputs.write(WANDB, lambda out: out.config.update(dict(values)))
        self._outputs.write(TENSORBOARD, add_to_tensorboard)

    def conclude(self, lines: Sequence[str]) -> None:
        """Remove the progress bar and print the last lines."""
        self._stop_bar()
        for line in lines:
            self.message(line)

    def close(self) -> None:
        """Flush and close everything."""
        self._stop_bar()
        if self._metrics is not None:
            self._metrics.close()
        self._outputs.write(TENSORBOARD, lambda out: out.close())
        self._outputs.write(WANDB, lambda out: out.finish())

    def _stop_bar(self) -> None:
        with suppress(OSError):
            self._bar.stop()


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on without a reader: in `… 2>&1 | tee log`, Ctrl-C ends tee before the run is saved. Rich would exit."""
        self.quiet = True
        stderr, stdout = sys.stderr.fileno(), sys.stdout.fileno()
        closed = [stderr, stdout] if os.path.sameopenfile(stderr, stdout) else [stderr]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in closed:  # of warnings, too, and of what is still buffered
            os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _add_scalar(writer: Any, name: str, value: float, step: int) -> None:
    writer.add_scalar(name, value, step)
