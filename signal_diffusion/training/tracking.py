"""Metrics and messages of a run: metrics.jsonl, TensorBoard, Weights & Biases, a progress bar.

Only the first process writes. Metrics are rows {"step": …, name: value}. Names starting with "time/" depend on the
machine; all others are the same in a resumed run as in an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from signal_diffusion.config import schema
from signal_diffusion.errors import UserError, one_line
from signal_diffusion.untrusted import parse_json

__all__ = ["METRICS_NAME", "Histogram", "Tracker", "read_rows", "wandb_module"]

METRICS_NAME = "metrics.jsonl"
TENSORBOARD, WANDB = "TensorBoard", "Weights & Biases"
WANDB_ID_NAME = "wandb-id"
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
        self._console = Console(stderr=True, quiet=not active, highlight=False)
        self._metrics: TextIO | None = None
        self._outputs: dict[str, Any] = {}
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
            path = run_dir / METRICS_NAME
            _drop_rows_after(path, first_step if resumed else -1)
            self._metrics = path.open("a", encoding="utf-8")
            if logs is not None:
                from torch.utils.tensorboard.writer import SummaryWriter

                self._outputs[TENSORBOARD] = SummaryWriter(str(logs), purge_step=first_step + 1 if resumed else 0)
            if wandb is not None:
                self._outputs[WANDB] = _wandb_run(run_dir, wandb, resumed=resumed)
        with suppress(OSError):
            self._bar.start()

    def message(self, text: str) -> None:
        """Print a line to the console, unless the terminal was closed."""
        with suppress(OSError):
            self._console.print(text, soft_wrap=True, markup=False)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write one row and flush it, so that a kill loses none."""
        if self._metrics is None:
            return
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        self._metrics.write(json.dumps({"step": step, **values}) + "\n")
        self._metrics.flush()
        self._write_to(TENSORBOARD, lambda out: [out.add_scalar(name, value, step) for name, value in values.items()])
        self._write_to(WANDB, lambda out: out.log(values, step=step))

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

        self._write_to(TENSORBOARD, add_to_tensorboard)
        self._write_to(WANDB, lambda out: out.log({name: wandb_module().Image(str(path))}, step=step))

    def histogram(self, step: int, name: str, values: Histogram) -> None:
        """Add a histogram to TensorBoard."""
        filled = [index for index, count in enumerate(values.counts) if count]
        if filled:
            self._write_to(
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

        self._write_to(WANDB, lambda out: out.config.update(dict(values)))
        self._write_to(TENSORBOARD, add_to_tensorboard)

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
        self._write_to(TENSORBOARD, lambda out: out.close())
        self._write_to(WANDB, lambda out: out.finish())

    def _stop_bar(self) -> None:
        with suppress(OSError):
            self._bar.stop()

    def _write_to(self, name: str, write: Callable[[Any], object]) -> None:
        """Write to an output if it is open; after an error the run goes on without it."""
        if name not in self._outputs:
            return
        try:
            write(self._outputs[name])
        except Exception as error:  # of a full disk, a network, or a library
            del self._outputs[name]
            self.message(f"warning: {name}: {one_line(error)}; the run goes on without it")


def wandb_module() -> ModuleType:
    """Import wandb, which only runs with a `wandb_project` need; raise a `UserError` if it is not installed."""
    try:
        return import_module("wandb")
    except ImportError:
        raise UserError(
            "[logging] wandb_project: wandb is not installed; run `pip install wandb`, or leave the key out"
        ) from None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; [] if there is no file. Warns about rows damaged by a kill or a full disk."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        row: dict[str, Any] = {}
        with suppress(ValueError):
            row = parse_json(line, dict[str, int | float])
        if isinstance(row.get("step"), int):
            rows.append(row)
        else:
            print(f"warning: dropped a damaged row of {METRICS_NAME}", file=sys.stderr)
    return rows


def _wandb_run(run_dir: Path, table: schema.Logging, *, resumed: bool) -> Any:
    """Start a run at Weights & Biases, or resume the one whose id is in the run directory."""
    wandb, path = wandb_module(), run_dir / WANDB_ID_NAME
    if not (resumed and path.is_file()):
        path.write_text(uuid.uuid4().hex, encoding="utf-8")
    try:
        return wandb.init(
            project=table.wandb_project,
            entity=table.wandb_entity or None,
            name=table.run_name or None,
            id=path.read_text(encoding="utf-8"),
            resume="allow",
            dir=str(run_dir),
        )
    except wandb.Error as error:
        raise UserError(
            f"[logging] wandb_project: Weights & Biases: {' '.join(str(error).split())}; log in with `wandb login`, "
            "set WANDB_MODE=offline, or leave the key out"
        ) from None


def _drop_rows_after(path: Path, step: int) -> None:
    """Remove rows that a killed run wrote after the checkpoint; they will be written again."""
    if not path.exists():
        return
    kept = [row for row in read_rows(path) if row["step"] <= step]
    replacement = path.with_suffix(".partial")
    replacement.write_text("".join(f"{json.dumps(row)}\n" for row in kept), encoding="utf-8")
    replacement.replace(path)
