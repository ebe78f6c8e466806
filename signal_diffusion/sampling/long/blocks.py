"""Blocks of samples with the same conditions, from the rows of a timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Attribute
from signal_diffusion.sampling.long.timeline import Row
from signal_diffusion.sampling.requests import encoded

__all__ = ["Block", "blocks_of"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A stretch of samples with the same conditions in all recordings."""

    start: int
    stop: int
    values: Mapping[str, str]
    """Value of each attribute of the timeline; "" = left open."""
    codes: Mapping[str, Tensor]
    """The same for the model, (1,) each."""


def blocks_of(rows: Sequence[Row], attributes: Sequence[Attribute], samples: int, sfreq: float) -> tuple[Block, ...]:
    """Blocks for the rows of a timeline, and for the gaps between them, in which its attributes are left open."""
    blocks: list[Block] = []
    nothing = {each.name: encoded(each, [None], "") for each in attributes}

    def add(stop: int, values: Mapping[str, str], codes: Mapping[str, Tensor]) -> None:
        start = blocks[-1].stop if blocks else 0
        if start < stop:
            blocks.append(Block(start=start, stop=stop, values=values, codes=codes))

    for row in rows:
        start, stop = round(row.onset * sfreq), round(row.end * sfreq)
        if start >= stop:
            raise UserError(f"{row.where}: duration = {row.duration:g}: less than a sample of 1/{sfreq:g} s")
        codes = {
            each.name: encoded(each, [row.values[each.name] or None], f"{row.where}: {each.name} = ")
            for each in attributes
        }
        add(start, {}, nothing)
        add(stop, row.values, codes)
    add(samples, {}, nothing)
    return tuple(blocks)
