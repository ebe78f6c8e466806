"""Requests for samples: the conditions of each sample, and the number of the noise that it starts from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from signal_diffusion.errors import UserError, listed
from signal_diffusion.models.conditioning.attributes import Attribute, Caption, Categorical, Conditioning

__all__ = [
    "ELECTRODE",
    "Request",
    "Value",
    "encoded",
    "request_rows",
    "request_values",
]

ELECTRODE = "electrode"
"""The attribute that distinguishes the examples of a window."""
Value = str | float | None
"""Value of an attribute: a category, a caption or a number; None = left open."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request for N samples, each with its conditions and its noise."""

    cond: Conditioning
    """Conditions, (N,) each; empty for an unconditional model."""
    noise: tuple[int, ...]
    """Number of each sample's initial noise: with the same seed, number and conditions, samples are equal."""
    phase: tuple[int, ...] = ()
    """Number of each sample's random phase, for representations without phase; () = the number of its noise."""
    electrodes: int = 0
    """Number of consecutive samples that are the electrodes of one window; 0 = single samples."""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.noise)

    def __getitem__(self, rows: slice) -> Request:
        """A request for some of the samples."""
        return dataclasses.replace(self, cond=self.cond[rows], noise=self.noise[rows], phase=self.phase[rows])

    def take(self, rows: Sequence[int]) -> Request:
        """A request for some of the samples, by number."""
        noise, phase = (tuple(numbers[row] for row in rows) for numbers in (self.noise, self.phase or self.noise))
        cond = self.cond[torch.tensor(rows, dtype=torch.int64)]
        return dataclasses.replace(self, cond=cond, noise=noise, phase=phase)


def request_values(
    attributes: Sequence[Attribute], requested: Mapping[str, str], num: int, *, options: Collection[str] = ()
) -> Request:
    """Request `num` samples with the same values; other attributes are left open.

    A category may be abbreviated to a unique beginning of its name, in any case: "F" for "female". If nothing is
    requested and the model has one attribute, a category, its classes are generated in turn. Errors name
    `--attributes`, or for attributes in `options` the option of that name.

    Raises
    ------
    UserError
        If the model has no such attribute, or the attribute no such value.
    """
    known = {attribute.name: attribute for attribute in attributes}
    given = {name: f"--{name} " if name in options else f"--attributes {name}=" for name in requested}
    if unknown := sorted(requested.keys() - known.keys()):
        has = f"it has {', '.join(known)}" if known else "it is unconditional"
        raise UserError(*(f"{given[name][:-1]}: the model has no attribute {name}; {has}" for name in unknown))
    complete = {name: _complete(known[name], text) for name, text in requested.items()}
    only = attributes[0] if len(attributes) == 1 else None
    if not requested and isinstance(only, Categorical):
        values = {only.name: torch.arange(num) % len(only.names)}
    else:
        values = {
            name: encoded(attribute, [complete.get(name)], given.get(name, "")).expand(num)
            for name, attribute in known.items()
        }
    return Request(cond=Conditioning(values), noise=tuple(range(num)))


def request_rows(attributes: Sequence[Attribute], values: Mapping[str, Sequence[Value]]) -> Request:
    """Request one sample for each row of `values`, which come from a split and include every attribute.

    Raises
    ------
    UserError
        If an attribute has no such value.
    """
    cond = {each.name: encoded(each, values[each.name], f"--like: {each.name} = ") for each in attributes}
    return Request(cond=Conditioning(cond), noise=tuple(range(len(next(iter(values.values()))))))


def _complete(attribute: Attribute, text: str) -> str:
    """The only category whose name begins with a text; otherwise the text itself."""
    if not isinstance(attribute, Categorical) or text in attribute.names:
        return text
    found = [name for name in attribute.names if name.lower().startswith(text.lower())]
    return found[0] if text and len(found) == 1 else text


def encoded(attribute: Attribute, values: Sequence[Value], given: str) -> Tensor:
    """Encode values for the model, (N,); errors start with `given`, the option that set the values, and the value."""
    if not isinstance(attribute, Categorical | Caption):
        return torch.tensor([_number(value, given) for value in values])
    names = attribute.names if isinstance(attribute, Categorical) else attribute.texts
    codes: dict[Value, int] = {name: index for index, name in enumerate(names)} | {None: -1}
    if isinstance(attribute, Caption):
        codes[""] = -1
    if unknown := [str(value) for value in values if value not in codes]:
        if isinstance(attribute, Caption):
            raise UserError(f"caption {unknown[0]!r}: not embedded; pass it in the `captions` of load_trained")
        raise UserError(f"{given}{unknown[0]}: expected one of {listed(names, most=100)}")
    return torch.tensor([codes[value] for value in values])


def _number(value: Value, given: str) -> float:
    if value is None:
        return math.nan
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{given}{value}: expected a number")
    return number
