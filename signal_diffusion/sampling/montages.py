"""Samples of electrodes that a model was not trained on, by a model that knows electrodes by their places."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.montages import ENTRY, main_montage
from signal_diffusion.data.recordings.channels import TEN_TEN, canonical, channel_names
from signal_diffusion.data.recordings.positions import standard_positions
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.errors import UserError, listed, log_once
from signal_diffusion.experiment.network import places_of

if TYPE_CHECKING:
    from signal_diffusion.sampling.trained import Trained

__all__ = [
    "Montage",
    "check_takes_montages",
    "electrodes_named",
    "montage_card",
    "montage_named",
    "with_electrodes",
    "with_montage",
]

logger = logging.getLogger(__name__)

Montage = Mapping[str, Sequence[float]]
"""Electrode → [x, y, z] on the unit sphere (x to the right ear, y to the nose, z up), in the order of the rows."""


def electrodes_named(electrodes: str, option: str = "--electrodes") -> tuple[str, ...]:
    """The names of a list `A,B,C`, or of `10-20` (19 electrodes) or `10-10` (61); a `UserError` for doubles or none."""
    return TEN_TEN if electrodes.strip() == "10-10" else channel_names(electrodes.strip(), option)


def montage_named(names: Sequence[str], card: DatasetCard, option: str = "--electrodes") -> dict[str, list[float]]:
    """The montage of these electrodes, in this order.

    Electrodes of the dataset are where its card says; others are where MNE's standard_1005 has them, as in `prepare`.

    Raises
    ------
    UserError
        If one of them has no position.
    """
    own = {canonical(name): position for name, position in card.positions.items()}
    found = standard_positions(names) | {name: own[canonical(name)] for name in names if canonical(name) in own}
    if unknown := [name for name in names if name not in found]:
        raise UserError(
            f"{option}: {listed(unknown)}: no known position; use electrodes of the dataset "
            f"({listed(card.channels)}), or of MNE's standard_1005, such as FC1"
        )
    return {name: found[name] for name in names}


def check_takes_montages(experiment: schema.Experiment, option: str = "--electrodes") -> None:
    """Raise a `UserError` unless a model of this experiment knows electrodes by their places."""
    if experiment.model.conditioning.electrodes != "position":
        raise UserError(
            f"{option}: the model knows electrodes by name, and can only sample those that it was trained on; train "
            "one with model.conditioning.electrodes = 'position'"
        )


def montage_card(card: DatasetCard, montage: Montage) -> DatasetCard:
    """The card of the same dataset with other electrodes; their scale is that of `TimeSeries.for_electrodes`.

    Raises
    ------
    UserError
        If a position is not finite or not on the unit sphere.
    """
    signals = representation_of(card)
    assert isinstance(signals, TimeSeries)
    for name, place in montage.items():
        length = math.hypot(*place) if len(place) == 3 else 0.0
        if not abs(length - 1) < 0.01:
            raise UserError(f"electrode {name}: position {list(place)}; expected x, y, z on the unit sphere")
    positions = {name: [float(each) for each in place] for name, place in montage.items()}
    signals = signals.for_electrodes([card.positions[name] for name in card.channels], list(positions.values()))
    preprocessing = {name: value for name, value in card.preprocessing.items() if name != ENTRY}
    if any(place != card.positions.get(name) for name, place in positions.items()):
        standard = positions == standard_positions(list(positions))
        preprocessing = preprocessing | {"positions": "standard_1005" if standard else "given"}
    return replace(
        card,
        channels=tuple(positions),
        positions=positions,
        shape=signals.shape,
        representation=card.representation | {"parameters": signals.parameters()},
        preprocessing=preprocessing,
    )


def with_electrodes(trained: Trained, electrodes: str) -> Trained:
    """The same model for the electrodes that `electrodes_named` finds; "" = those that it was trained on.

    If its training data had different electrodes, these are those that most of the examples had, and a line says so.
    """
    card = trained.card
    names = electrodes_named(electrodes) if electrodes else main_montage(card, list(card.splits))
    if not electrodes and len(names) == len(card.channels):
        return trained
    if not electrodes:
        log_once(
            logger,
            f"{trained.checkpoint.name}: its training data have different electrodes; sampling the {len(names)} that "
            f"most examples have ({listed(names, 20)}); name others with --electrodes",
        )
    return with_montage(trained, montage_named(names, card))


def with_montage(trained: Trained, montage: Montage) -> Trained:
    """The same model for other electrodes, any number of them: its samples, cards and signals are of these.

    Raises
    ------
    UserError
        If the model knows electrodes by name, or has other electrodes already, from whose estimated scale no other
        should be estimated; or if a position is not on the unit sphere.
    """
    check_takes_montages(trained.experiment, f"{trained.checkpoint}: other electrodes")
    if trained.places is not None:
        raise UserError(f"{trained.checkpoint}: has other electrodes already; start from the model as it was loaded")
    card = montage_card(trained.card, montage)
    return replace(trained, card=card, representation=representation_of(card), places=places_of(card))
