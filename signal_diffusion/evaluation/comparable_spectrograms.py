"""Whether the stored spectrograms of two sets of windows can be compared."""

from __future__ import annotations

import dataclasses

from signal_diffusion.evaluation.stored_spectrograms import Spectrograms
from signal_diffusion.evaluation.windows import Windows

__all__ = ["comparable_spectrograms"]


def comparable_spectrograms(real: Windows, synthetic: Windows, notes: list[str]) -> tuple[Windows, Windows]:
    """Both sets without spectrograms, and why, if these are not of the same kind."""
    if real.spectrograms is None and synthetic.spectrograms is None:
        return real, synthetic
    if not (difference := _difference(real, synthetic)):
        return real, synthetic
    notes.append(f"{synthetic.name}: {difference}; only the signals are compared")
    return dataclasses.replace(real, spectrograms=None), dataclasses.replace(synthetic, spectrograms=None)


def _difference(real: Windows, synthetic: Windows) -> str:
    """How the spectrograms of two sets differ; "" if they can be compared."""
    first, second = real.spectrograms, synthetic.spectrograms
    if first is None or second is None or first.representation.name != second.representation.name:
        return f"has {_kind(second)}, but {real.name} has {_kind(first)}"
    options, others = (each.representation.parameters() for each in (first, second))
    for key in {**options, **others}:
        if options.get(key) != others.get(key):
            return f"{key} of its spectrograms is {others.get(key)}, but {options.get(key)} in {real.name}"
    if not first.representation.per_electrode and real.ch_names != synthetic.ch_names:
        return f"its spectrograms have other electrodes than those of {real.name}, or another order of them"
    return ""


def _kind(stored: Spectrograms | None) -> str:
    return "no spectrograms" if stored is None else f"spectrograms of {stored.representation.name}"
