"""What samples are asked for: conditions, and which noise each begins from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError, listed
from signal_diffusion.models.conditioning.attributes import Attribute, Caption, Categorical, Conditioning

__all__ = ["ELECTRODE", "Noise", "Request", "Value", "asked_for", "check_windows", "of_windows", "with_values"]

ELECTRODE = "electrode"
"""The attribute that runs over a window's examples."""
Noise = Literal["shared", "independent"]
Value = str | float | None
"""Of an attribute: a name, a caption or a number; None = the null."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """N samples, each with its conditions and its noise."""

    cond: Conditioning
    """(N,); empty for an unconditional model."""
    noise: tuple[int, ...]
    """Number of the noise that each begins from: under a seed, equal conditions and numbers give equal samples."""
    phase: tuple[int, ...] = ()
    """Number of what is drawn for a signal that a sample does not hold whole, such as a phase; () = as the noise."""
    electrodes: int = 0
    """So many samples in a row are the electrodes of one window; 0 = each stands alone."""

    def __len__(self) -> int:
        """Samples that are asked for."""
        return len(self.noise)

    def __getitem__(self, rows: slice) -> Request:
        """Some of them."""
        return dataclasses.replace(self, cond=self.cond[rows], noise=self.noise[rows], phase=self.phase[rows])


def asked_for(
    attributes: Sequence[Attribute], asked: Mapping[str, str], num: int, *, options: Collection[str] = ()
) -> Request:
    """Ask for `num` samples of the named values; the null for other attributes.

    Of a category, the beginning of one name alone stands for it, in any case: "F" for "female". A model of one
    categorical attribute that is not asked for anything makes its classes in turn. Mistakes are blamed on
    `--attributes`, or on an option by the attribute's name, of those in `options`.

    Raises
    ------
    UserError
        For an attribute that the model does not have, or a value that the attribute does not have.
    """
    known = {attribute.name: attribute for attribute in attributes}
    given = {name: f"--{name} " if name in options else f"--attributes {name}=" for name in asked}
    if unknown := sorted(asked.keys() - known.keys()):
        has = f"it has {', '.join(known)}" if known else "it is unconditional"
        raise UserError(*(f"{given[name][:-1]}: the model has no attribute {name}; {has}" for name in unknown))
    meant = {name: _meant(known[name], text) for name, text in asked.items()}
    only = attributes[0] if len(attributes) == 1 else None
    if not asked and isinstance(only, Categorical):
        values = {only.name: torch.arange(num) % len(only.names)}
    else:
        values = {
            name: _coded(attribute, [meant.get(name)], given.get(name, "")).expand(num)
            for name, attribute in known.items()
        }
    return Request(cond=Conditioning(values), noise=tuple(range(num)))


def with_values(attributes: Sequence[Attribute], values: Mapping[str, Sequence[Value]]) -> Request:
    """Ask for a sample of each row of `values`, drawn from a split, which has to have every attribute.

    Raises
    ------
    UserError
        For a value that an attribute does not have.
    """
    cond = {each.name: _coded(each, values[each.name], f"--like: {each.name} = ") for each in attributes}
    return Request(cond=Conditioning(cond), noise=tuple(range(len(next(iter(values.values()))))))


def check_windows(card: DatasetCard, attributes: Sequence[Attribute], asked: Mapping[str, str]) -> None:
    """Raise a `UserError` where a model's samples are not the electrodes of windows, each asked for by name."""
    if card.representation["layout"] != ELECTRODE:
        raise UserError(
            f"--windows: an example of this model is a whole {card.representation['layout']}, and not an electrode; "
            "use --num"
        )
    if not any(attribute.name == ELECTRODE for attribute in attributes):
        raise UserError(
            "--windows: the model does not know which electrode an example is of; expected one that was trained with "
            'model.conditioning.type = "attributes" and "electrode" among them; use --num'
        )
    if ELECTRODE in asked:
        raise UserError(f"--attributes {ELECTRODE}={asked[ELECTRODE]}: --windows makes all electrodes; leave it out")


def of_windows(windows: Request, attributes: Sequence[Attribute], card: DatasetCard, noise: Noise) -> Request:
    """Ask for all electrodes of each of N windows, one after the other in the card's order: N · E samples.

    Parameters
    ----------
    windows
        A sample per window, with the conditions that its electrodes share.
    attributes
        Those of a model that `check_windows` lets pass.
    noise
        "shared" by all electrodes of a window, whose number it has, or "independent".

    What a signal needs and a picture does not hold is drawn for each electrode anew, even from shared noise: electrodes
    of one drawn phase would seem to be synchronous, which no picture said.

    Raises
    ------
    UserError
        Where the model does not know one of the card's electrodes.
    """
    num, electrodes = len(windows), len(card.channels)
    [attribute] = [each for each in attributes if each.name == ELECTRODE]
    repeated = {name: values.repeat_interleave(electrodes) for name, values in windows.cond.attributes.items()}
    repeated[ELECTRODE] = _coded(attribute, card.channels, "--windows: electrode ").repeat(num)
    own = tuple(range(num * electrodes))
    shared = tuple(number for number in windows.noise for _ in range(electrodes))
    return Request(
        cond=Conditioning(repeated),
        noise=shared if noise == "shared" else own,
        phase=own,
        electrodes=electrodes,
    )


def _meant(attribute: Attribute, text: str) -> str:
    """The category whose name begins with a text, where there is one and it is no name itself."""
    if not isinstance(attribute, Categorical) or text in attribute.names:
        return text
    found = [name for name in attribute.names if name.lower().startswith(text.lower())]
    return found[0] if text and len(found) == 1 else text


def _coded(attribute: Attribute, values: Sequence[Value], given: str) -> Tensor:
    """Values as a model takes them, (N,); an error begins with what they were `given` by, and the value."""
    if not isinstance(attribute, Categorical | Caption):
        return torch.tensor([_number(value, given) for value in values])
    names = attribute.names if isinstance(attribute, Categorical) else attribute.texts
    place: dict[Value, int] = {name: index for index, name in enumerate(names)} | {None: -1}
    if isinstance(attribute, Caption):
        place[""] = -1
    if unknown := [str(value) for value in values if value not in place]:
        if isinstance(attribute, Caption):
            raise UserError(f"caption {unknown[0]!r}: not embedded; name it among the `captions` of load_trained")
        raise UserError(f"{given}{unknown[0]}: expected one of {listed(names, most=100)}")
    return torch.tensor([place[value] for value in values])


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
