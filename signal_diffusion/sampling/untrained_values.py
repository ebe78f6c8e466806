"""Warnings about requested values that a model was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import listed
from signal_diffusion.models.conditioning.attributes import Attribute, Categorical, Numeric
from signal_diffusion.sampling.requests import Request

__all__ = ["untrained_values"]

FAR = 4.0
"""Number of standard deviations from the mean beyond which a number is called untrained, if its range is unknown."""


def untrained_values(
    request: Request, attributes: Sequence[Attribute], card: DatasetCard, data: schema.Data
) -> list[str]:
    """A line for each attribute of which a request has values that the card's training split has not.

    These are categories without an example (a card lists all categories of its dataset, also those that occur in
    validation only) and numbers outside of the range; of older cards, which state none, numbers more than
    `FAR` standard deviations from the mean.
    """
    train = card.splits.get(card.preprocessing.get("splits", {}).get(data.paths.train, data.paths.train), {})
    lines = []
    for attribute in attributes:
        column = getattr(data.columns, attribute.name, attribute.name)
        values = request.cond.attributes[attribute.name].unique().tolist()
        if isinstance(attribute, Categorical) and (counts := train.get("marginals", {}).get(column)) is not None:
            names = [attribute.names[code] for code in values if code >= 0]
            if missing := [name for name in names if not counts.get(name, {}).get("examples")]:
                trained = [name for name in attribute.names if name in counts]
                lines.append(
                    f"{attribute.name} {listed(missing)}: requested, but the model was trained on no such example; its "
                    f"samples mean nothing. It was trained on {listed(trained, most=20) or 'none'}"
                )
        elif isinstance(attribute, Numeric):
            low, high, known = _trained_numbers(column, train, card)
            if outside := [f"{value:g}" for value in values if value < low or value > high]:  # NaN is neither
                lines.append(
                    f"{attribute.name} {listed(outside)}: requested, but the model was trained on {known}; what it "
                    "generates outside of that is a guess"
                )
    return lines


def _trained_numbers(column: str, train: Mapping[str, Any], card: DatasetCard) -> tuple[float, float, str]:
    """The range of numbers that a model was trained on, and that range in words."""
    if limits := train.get("ranges", {}).get(column):
        low, high = limits
        return low, high, f"{low:g} to {high:g}"
    mean, std = card.columns[column]["mean"], card.columns[column]["std"]
    return mean - FAR * std, mean + FAR * std, f"numbers of mean {mean:.3g} and standard deviation {std:.3g}"
