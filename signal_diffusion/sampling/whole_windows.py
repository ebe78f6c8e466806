"""Requests for whole windows from a model that generates single electrodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Attribute, Conditioning
from signal_diffusion.sampling.requests import ELECTRODE, Request, encoded

__all__ = ["Noise", "check_windows", "request_windows"]

Noise = Literal["shared", "independent"]


def check_windows(card: DatasetCard, attributes: Sequence[Attribute], requested: Mapping[str, str]) -> None:
    """Raise a `UserError` unless the model generates single electrodes and is conditioned on which one."""
    if card.representation["layout"] != ELECTRODE:
        raise UserError(
            f"--windows: an example of this model is a whole {card.representation['layout']}, not an electrode; use "
            "--num"
        )
    if not any(attribute.name == ELECTRODE for attribute in attributes):
        raise UserError(
            "--windows: the model is not conditioned on the electrode; use --num, or a model trained with "
            'model.conditioning.type = "attributes" and "electrode" in model.conditioning.attributes'
        )
    if ELECTRODE in requested:
        raise UserError(
            f"--attributes {ELECTRODE}={requested[ELECTRODE]}: --windows generates all electrodes; leave it out"
        )


def request_windows(windows: Request, attributes: Sequence[Attribute], card: DatasetCard, noise: Noise) -> Request:
    """Request all electrodes of each of N windows, consecutively in the card's order: N · E samples.

    Random phases are different for each electrode, even with shared noise: electrodes with the same phase would be
    synchronous, which is not in the data.

    Parameters
    ----------
    windows
        One sample per window, with the conditions that its electrodes share.
    attributes
        Attributes of a model that passes `check_windows`.
    noise
        "shared" by all electrodes of a window, or "independent".

    Raises
    ------
    UserError
        If the model does not know one of the card's electrodes.
    """
    num, electrodes = len(windows), len(card.channels)
    [attribute] = [each for each in attributes if each.name == ELECTRODE]
    repeated = {name: values.repeat_interleave(electrodes) for name, values in windows.cond.attributes.items()}
    repeated[ELECTRODE] = encoded(attribute, card.channels, "--windows: electrode ").repeat(num)
    own = tuple(range(num * electrodes))
    shared = tuple(number for number in windows.noise for _ in range(electrodes))
    return Request(
        cond=Conditioning(repeated),
        noise=shared if noise == "shared" else own,
        phase=own,
        electrodes=electrodes,
    )
