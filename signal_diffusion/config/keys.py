"""The keys that files of today's layout may have, and the names today of older keys."""

from __future__ import annotations

import dataclasses
from functools import cache

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.schema import Experiment

__all__ = ["destinations_of", "is_todays", "keys_of", "known_keys"]


@cache
def known_keys() -> tuple[str, ...]:
    """The dotted keys and tables of a diffusion experiment, in order; without the keys of architectures."""
    return tuple(".".join(location) for location in keys_of(Experiment, ()))


def is_todays(key: str) -> bool:
    """Whether a file of today's layout may have a key; those of a network are checked with its architecture."""
    return key in _keys_with_values() or key.startswith("model.architecture.")


@cache
def _keys_with_values() -> frozenset[str]:
    """The keys of both kinds of experiments, without tables."""
    known = {*known_keys(), *(".".join(location) for location in keys_of(AutoencoderExperiment, ()))}
    return frozenset(known - {key.rpartition(".")[0] for key in known})


def destinations_of(key: str) -> tuple[str, ...] | None:
    """The names today of a key of an older layout; None if it is none."""
    from signal_diffusion.config.legacy.translation import destinations

    return destinations(key)


def keys_of(kind: type, root: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The keys and tables of a dataclass, each below `root`, in order."""
    known: list[tuple[str, ...]] = []
    for member in dataclasses.fields(kind):
        known.append((*root, member.name))
        if dataclasses.is_dataclass(member.default_factory):
            known += keys_of(member.default_factory, (*root, member.name))
    return known
