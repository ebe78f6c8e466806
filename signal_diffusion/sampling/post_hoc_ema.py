"""Post-hoc EMA: averages of the weights of any length, made after training from the EMA snapshots of a run.

An average ends at a checkpoint, and is written as a folder next to it that has all files of the checkpoint except the
state of training, so that all commands accept it as a checkpoint:

    ema.safetensors        the average
    average.json           its σ_rel, and how it was made
    model.safetensors …    as in the checkpoint: the weights of the last step, the experiment, the dataset's card
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from signal_diffusion.checkpoints import (
    DAMAGED,
    EMA_WEIGHTS,
    MANIFEST,
    POST_HOC_EMA,
    Snapshot,
    digests,
    list_snapshots,
    step_of,
    write_manifest,
)
from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.disks import size_of
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import AVERAGE_NAME, AverageOf, Checkpoint
from signal_diffusion.training.post_hoc_ema import SIGMA_RELS
from signal_diffusion.training.power_profiles import MAX_SIGMA_REL, exponent_of, fit
from signal_diffusion.training.state import OPTIMIZER, Progress
from signal_diffusion.untrusted import read_tensors

__all__ = ["PostHocAverage", "averages_at", "check_sigma_rel", "snapshots_of", "write_average"]

TURN_ON = "train with training.ema.post_hoc = true"


@dataclass(frozen=True, kw_only=True)
class PostHocAverage:
    """An average of the weights that ends at a checkpoint."""

    made: AverageOf
    weights: Mapping[str, Tensor]
    """In fp32, by name; only those that are trained."""


def check_sigma_rel(sigma_rel: float) -> None:
    """Raise a `UserError` for a σ_rel that no average has."""
    if not 0 < sigma_rel <= MAX_SIGMA_REL:
        raise UserError(
            f"--sigma-rel {sigma_rel:g}: expected numbers above 0 and up to {MAX_SIGMA_REL:.3f}, the average of all "
            "steps, such as 0.05,0.1,0.15"
        )


def snapshots_of(checkpoint: Path) -> list[Snapshot]:
    """The EMA snapshots up to a verified checkpoint whose averages began at the same step as the checkpoint's.

    Raises
    ------
    UserError
        If there is no snapshot of the checkpoint's step.
    """
    if Checkpoint(checkpoint).average:
        raise UserError(f"{checkpoint}: an average that `ema` made; give the folder of the run or of a checkpoint")
    progress, every = Progress.of(checkpoint), list_snapshots(checkpoint.parent)
    if not progress.post_hoc_updates:
        raise UserError(f"{checkpoint}: has no averages for post-hoc EMA{_others(every)}; {TURN_ON}")
    origin = progress.step - progress.post_hoc_updates
    found = [each for each in every if each.origin == origin and each.step <= progress.step]
    if not found or found[-1].step != progress.step:
        raise UserError(f"{checkpoint}: its EMA snapshot is missing{_others(every)}; use another checkpoint")
    return found


def averages_at(
    checkpoint: Path,
    sigma_rels: Sequence[float],
    snapshots: Sequence[Snapshot],
    on_snapshot: Callable[[int, int], None] = lambda done, total: None,
) -> list[PostHocAverage]:
    """The averages of some σ_rel that end at a checkpoint, from its snapshots, which are read one by one.

    Raises
    ------
    UserError
        If a snapshot is damaged or of another network.
    """
    like = read_tensors(checkpoint / EMA_WEIGHTS, DAMAGED)
    end = snapshots[-1].num_steps
    ends = np.array([each.num_steps for each in snapshots for _ in SIGMA_RELS], float)
    exponents = np.array([exponent_of(each) for _ in snapshots for each in SIGMA_RELS])
    fits = [fit(ends, exponents, end=end, exponent=exponent_of(each)) for each in sigma_rels]
    sums = [{name: torch.zeros_like(value) for name, value in like.items()} for _ in sigma_rels]
    for number, snapshot in enumerate(snapshots):
        tensors = _read(snapshot, like)
        for (coefficients, _), total in zip(fits, sums, strict=True):
            for column, tracked in enumerate(SIGMA_RELS):
                factor = float(coefficients[number * len(SIGMA_RELS) + column])
                for name, value in total.items():
                    value.add_(tensors[f"{tracked:g}/{name}"].to(value.dtype), alpha=factor)
        on_snapshot(number + 1, len(snapshots))
    return [
        PostHocAverage(
            made=AverageOf(sigma_rel=sigma_rel, profile_error=error, snapshots=len(snapshots)), weights=total
        )
        for sigma_rel, (_, error), total in zip(sigma_rels, fits, sums, strict=True)
    ]


def write_average(checkpoint: Path, average: PostHocAverage, validation_loss: float | None = None) -> Path:
    """Write `ema-<σ_rel>-step-<step>` next to a verified checkpoint; replaces one that was written before.

    Raises
    ------
    UserError
        If a folder of that name is something else, or it cannot be written.
    """
    step, made = step_of(checkpoint), replace(average.made, validation_loss=validation_loss)
    output = checkpoint.with_name(f"ema-{made.sigma_rel:g}-step-{step}")
    if output.exists() and not (output / AVERAGE_NAME).is_file():
        raise UserError(f"{output}: exists, and is not an average that `ema` made; rename it and repeat the command")
    names = sorted(digests(checkpoint).keys() - {EMA_WEIGHTS, POST_HOC_EMA, OPTIMIZER, MANIFEST})
    files = [checkpoint / name for name in names]
    needs = size_of(average.weights) + sum(path.stat().st_size for path in files)
    try:
        with atomic_folder(output, "the average", needs=needs) as folder:
            for name, path in zip(names, files, strict=True):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / name)
            save_file(dict(average.weights), folder / EMA_WEIGHTS)
            (folder / AVERAGE_NAME).write_text(json.dumps(asdict(made), indent=2) + "\n", encoding="utf-8")
            write_manifest(folder, step, [*names, EMA_WEIGHTS, AVERAGE_NAME])
    except SafetensorError as error:  # not an OSError
        raise UserError(f"{output}: cannot write the average: {error}; check the path and its permissions") from error
    return output


def _read(snapshot: Snapshot, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = read_tensors(snapshot.path, "remove it, and repeat the command without it")
    expected = {f"{tracked:g}/{name}": value.shape for tracked in SIGMA_RELS for name, value in like.items()}
    if expected != {name: value.shape for name, value in tensors.items()}:
        raise UserError(f"{snapshot.path}: has other weights than the checkpoint; remove it and repeat the command")
    return tensors


def _others(snapshots: Sequence[Snapshot]) -> str:
    """Steps that have a snapshot, for an error."""
    return f" (there are snapshots of the steps {snapshots[0].step} to {snapshots[-1].step})" if snapshots else ""
