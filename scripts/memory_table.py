"""Print the memory that training takes: the estimate of `config check`, and what steps on noise take on this machine.

    uv run python scripts/memory_table.py config/diffusion/*.toml
    uv run python scripts/memory_table.py --batch 4 --measure config/diffusion/dit-db-only.toml

A row per network, batch and precision, in GiB: the state, which is weights, gradients, optimizer and EMA, and the peak
without and with gradient checkpointing. Measured steps are a forward and a backward pass, the optimizer and EMA, on the
GPU or the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer

from signal_diffusion.config import schema
from signal_diffusion.experiment.assumed import Assumptions
from signal_diffusion.experiment.inspection import inspect
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.experiment.memory import GIB
from signal_diffusion.experiment.resolving import Resolved, resolve
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.registry import build
from signal_diffusion.training.ema import Ema
from signal_diffusion.training.optimizers import build_optimizer
from signal_diffusion.training.peak_memory import bytes_used, measure_peak

__all__ = ["main"]

PRECISIONS = {"no": "fp32", "bf16": "bf16"}


def main(
    files: Annotated[list[Path], typer.Argument(help="Experiment files.")],
    batch: Annotated[int | None, typer.Option(help="Examples per process; the file's by default.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Also take steps, without an autoencoder.")] = False,
) -> None:
    """Print the table in Markdown."""
    columns = ["network", "batch", "precision", "state", "peak", "peak with gradient checkpointing"]
    columns += ["measured", "measured with gradient checkpointing"] * measure
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for file in files:
        for precision in PRECISIONS:
            print(f"| {' | '.join(_row(file, precision, batch, measure=measure))} |", flush=True)


def _row(file: Path, precision: str, batch: int | None, *, measure: bool) -> Iterator[str]:
    overrides = [f"training.mixed_precision={precision}", *([f"data.loading.batch_size={batch}"] if batch else [])]
    kinds = [
        resolve(
            load_experiment(file, [*overrides, f"training.gradient_checkpointing={checkpointing}"]),
            assumptions=Assumptions(),
        )
        for checkpointing in ("false", "true")
    ]
    estimates = [inspect(kind).memory for kind in kinds]
    yield from (f"`{file.stem}`", f"{kinds[0].experiment.data.loading.batch_size}", PRECISIONS[precision])
    yield _gib(estimates[0].state)
    yield from (_gib(each.state + each.activations) for each in estimates)
    if measure:
        yield from (_gib(_measured(kind)) for kind in kinds)


def _measured(resolved: Resolved) -> int:
    """The peak of training steps on one fixed batch of noise, without conditions."""
    experiment, shape = resolved.experiment, resolved.dataset.card.shape
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    used, training = bytes_used(device), experiment.training
    with device:
        model = build(experiment.model.name, experiment.model.architecture, shape=shape)
        x, t = torch.randn(experiment.data.loading.batch_size, *shape), torch.rand(experiment.data.loading.batch_size)
    if training.gradient_checkpointing:
        model.checkpoint_gradients()
    optimizer, ema = build_optimizer(model, training.optimizer), Ema(model, schema.Ema(update_every=1))

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=training.mixed_precision == "bf16"):
            prediction = model(x, t, Conditioning())
        prediction.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(1)

    step()  # makes the optimizer's state
    return measure_peak(device, step) - used


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"


if __name__ == "__main__":
    typer.run(main)
