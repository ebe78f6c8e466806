"""The tables for looking into a run, and for what is said of it before it begins: [debug] and [validation_rules]."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from signal_diffusion.config.types import TABLE

__all__ = ["Debug", "ValidationRules"]


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Debug:
    """[debug]: slower, with the same results."""

    profile: bool = False
    """Write a trace of steps 5 to 9 of the run, or as many after a resume, into the folder of logs: for TensorBoard's
    profile plugin, chrome://tracing or ui.perfetto.dev."""
    log_gradients: bool = False
    """Log the norm of the gradient of each block, in TensorBoard a histogram too, at every logged step: of what the
    optimizer is given, before it is clipped."""
    detect_anomaly: bool = False
    """Trace the operation that made a gradient NaN; several times slower."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class ValidationRules:
    """[validation_rules]: which warnings are given before training; what cannot work is an error in any case."""

    require_labels_if_conditional: bool = True
    """Warn where training examples have no label, though the model is conditioned on it."""
    warn_if_batch_size_small: bool = True
    """Warn where fewer than 8 examples make an optimizer step of a diffusion model."""
    warn_if_suspicious: bool = True
    """Warn of what is possible and seldom meant: a gradient clipped far too low or high, intervals, a warm-up, an
    average or a profile that are longer than the run."""
