"""TensorBoard and Weights & Biases: if one of them fails, a line says so, and the run goes on without it."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from signal_diffusion.config import schema
from signal_diffusion.errors import UserError, one_line

__all__ = ["TENSORBOARD", "WANDB", "Outputs", "tensorboard_writer", "wandb_module", "wandb_run"]

TENSORBOARD, WANDB = "TensorBoard", "Weights & Biases"
ADVICE = {WANDB: "log in with `wandb login`, or set WANDB_MODE=offline"}
WANDB_ID_NAME = "wandb-id"


class Outputs:
    """Outputs of a run by name, each open until it fails."""

    def __init__(self, message: Callable[[str], None]) -> None:
        """Print warnings with `message`."""
        self._message = message
        self._open: dict[str, Any] = {}

    def open(self, name: str, opener: Callable[[], Any]) -> None:
        """Open an output with `opener`."""
        self._try(name, lambda: self._open.update({name: opener()}), ADVICE.get(name, ""))

    def write(self, name: str, write: Callable[[Any], object]) -> None:
        """Write to an output if it is open."""
        if name in self._open:
            self._try(name, lambda: write(self._open[name]))

    def _try(self, name: str, do: Callable[[], object], advice: str = "") -> None:
        try:
            do()
        except Exception as error:  # of a full disk, a network, or a library
            self._open.pop(name, None)
            advice = "" if isinstance(error, OSError) else advice  # no login helps a disk
            self._message(f"warning: {name}: {one_line(error)}; the run goes on without it{advice and f' ({advice})'}")


def tensorboard_writer(logs: Path, *, purge_step: int) -> Any:
    """A TensorBoard writer, which hides rows of earlier writers from `purge_step` on."""
    from torch.utils.tensorboard.writer import SummaryWriter

    threading.excepthook = _without_tensorboard
    return SummaryWriter(str(logs), purge_step=purge_step)


def _without_tensorboard(error: threading.ExceptHookArgs) -> None:
    """Print errors of threads except those of TensorBoard's writer, which its next `write` raises again."""
    if not type(error.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(error)


def wandb_module() -> ModuleType:
    """Import wandb, which only runs with a `wandb_project` need; raise a `UserError` if it is not installed."""
    try:
        return import_module("wandb")
    except ImportError:
        raise UserError(
            "[logging] wandb_project: wandb is not installed; run `pip install wandb`, or leave the key out"
        ) from None


def wandb_run(run_dir: Path, table: schema.Logging, *, resumed: bool) -> Any:
    """Start a run at Weights & Biases, or resume the one whose id is in the run directory."""
    logging.raiseExceptions = False  # on a full disk, each line of wandb's own log would print a traceback
    path = run_dir / WANDB_ID_NAME
    if not (resumed and path.is_file()):
        path.write_text(uuid.uuid4().hex, encoding="utf-8")
    return wandb_module().init(
        project=table.wandb_project,
        entity=table.wandb_entity or None,
        name=table.run_name or None,
        id=path.read_text(encoding="utf-8"),
        resume="allow",
        dir=str(run_dir),
    )
