"""The names that an experiment file may use: backbones, representations, methods, samplers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from signal_diffusion.config.schema import Experiment

__all__ = ["Offer"]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The names that an experiment file may use, passed in by the caller so that `config` needs no other subpackage."""

    architectures: Mapping[str, type]
    representations: Collection[str]
    methods: Collection[str]
    predictions: Collection[str]
    samplers: Collection[str]
    time_grids: Collection[str]
    check: Callable[[Experiment], Iterable[tuple[str, str]]]
    """Further checks of an experiment, which need the other subpackages; yields (dotted key, message)."""
    check_schedule: Callable[[Experiment], Iterable[tuple[str, str]]]
    """The same, but in a file of an older layout they are only warnings."""

    @property
    def names(self) -> dict[str, Collection[str]]:
        """The allowed names of each of these dotted keys."""
        return {
            "model.name": self.architectures,
            "data.representation": self.representations,
            "model.diffusion.method": self.methods,
            "model.diffusion.prediction": self.predictions,
            "generation.sampling.sampler": self.samplers,
            "generation.sampling.time_grid": self.time_grids,
        }
