"""Samples with values that are not finite: they are refused, and the message says what may help."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from signal_diffusion.checkpoints import EMA_WEIGHTS
from signal_diffusion.errors import UserError
from signal_diffusion.sampling.choosing import is_exported
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.trained import Trained

if TYPE_CHECKING:
    from signal_diffusion.sampling.long.recordings import Recordings

__all__ = ["NotFiniteError", "finite_samples", "refusal"]


class NotFiniteError(UserError):
    """Some samples have values that are not finite; the others are kept."""

    exit_code: ClassVar[int] = 3
    samples: Samples | None = None
    """The finite samples, if they are in memory and not in files."""
    recordings: Recordings | None = None
    """The finite recordings, if they are in memory and not in files."""


def finite_samples(trained: Trained, samples: Samples) -> Samples:
    """The samples; a `NotFiniteError` with those that are finite, unless all are."""
    kept = samples.finite().nonzero().flatten().tolist()
    if len(kept) == len(samples):
        return samples
    of = "samples" if samples.tensors.ndim == 4 else "windows"
    error = refusal(trained, len(samples) - len(kept), len(samples), of=of, kept="the error's attribute samples")
    error.samples = samples.take(kept)
    raise error


def refusal(trained: Trained, count: int, total: int, *, of: str, kept: str) -> NotFiniteError:
    """The error for `count` of `total` samples or windows; `of` names them, and `kept` says where the others are."""
    verb = "is" if count == 1 else "are"
    others = f"the other {total - count} are in {kept}" if count < total else "nothing is kept"
    *first, last = _advice(trained)
    advice = f"{', '.join(first)} or {last}" if first else last
    return NotFiniteError(f"{count} of {total} {of} {verb} not finite (NaN or infinity); {others}; try {advice}")


def _advice(trained: Trained) -> list[str]:
    sampling, found = trained.sampling, []
    if sampling.guidance_scale != 1:
        found.append(f"a smaller --guidance-scale (now {sampling.guidance_scale:g})")
    found.append(f"more --steps (now {sampling.steps})")
    if not is_exported(trained.checkpoint):
        found.append("an earlier checkpoint")
    if not trained.averaged and (trained.checkpoint / EMA_WEIGHTS).is_file():
        found.append("the averaged weights (use_ema)")
    if trained.experiment.training.mixed_precision == "fp16":
        found.append("a model trained in bf16 instead of fp16")
    return found
