"""Electrodes of a restoration by a model that knows electrodes by their places."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.recordings.channels import canonical, eeg_names
from signal_diffusion.data.recordings.positions import standard_positions
from signal_diffusion.errors import UserError, listed
from signal_diffusion.sampling.montages import Montage, montage_named
from signal_diffusion.sampling.restoring.options import RestoreOptions

if TYPE_CHECKING:
    import mne

__all__ = ["montage_of"]


def montage_of(raw: mne.io.BaseRaw, card: DatasetCard, options: RestoreOptions) -> Montage:
    """Electrodes of the recording that have a position, then those to restore; in an order that is not the file's.

    Raises
    ------
    UserError
        If the options name an electrode without a position, a reference of the recording, or as bad what is not in it.
    """
    recorded = {canonical(name): name for name in eeg_names(raw)}
    known = {canonical(name): name for name in card.channels}
    placed = {canonical(name) for name in standard_positions(list(recorded.values()))} | known.keys()
    _check(options, {canonical(name) for name in raw.ch_names}, recorded.keys(), placed, known.keys())
    added = card.channels if options.adds_all else (*(options.add or ()), *options.to)
    names = {key: known.get(key, recorded[key]) for key in sorted(recorded.keys() & placed)}
    names |= {canonical(name): name for name in added if canonical(name) not in names}
    own = [name for key, name in known.items() if key in names]  # first, and in the model's order
    return montage_named([*own, *(name for key, name in names.items() if key not in known)], card, "--add")


def _check(
    options: RestoreOptions,
    present: Collection[str],
    recorded: Collection[str],
    placed: Collection[str],
    known: Collection[str],
) -> None:
    """Raise a `UserError` for a name that the recording or the model cannot have; all are canonical names.

    `present` are all channels of the recording, `recorded` its EEG, `placed` those of it that have a position, and
    `known` the electrodes of the model's training data.
    """
    for option, names in (("--bad", options.bad), ("--add", options.add or ()), ("--to", options.to)):
        others = {name: canonical(name) for name in names if canonical(name) not in known}
        if unused := [name for name, key in others.items() if key in present and key not in recorded]:
            raise UserError(
                f"{option} {listed(unused)}: in the recording this is a reference or not EEG, and is not used; leave "
                f"it out of {option}"
            )
        if option == "--to" and (unplaced := others.keys() - standard_positions(list(others)).keys()):
            raise UserError(
                f"--to {listed(sorted(unplaced))}: no known position; use 10-10, 10-20, or electrodes of MNE's "
                "standard_1005, such as FC1"
            )
        if option == "--bad" and (absent := [name for name, key in others.items() if key not in recorded]):
            raise UserError(
                f"--bad {listed(absent)}: the recording has no such electrode; use --add to restore what it lacks"
            )
        if option == "--bad" and (useless := [name for name, key in others.items() if key not in placed]):
            raise UserError(
                f"--bad {listed(useless)}: has no known position, so it is not used anyway; leave it out of --bad"
            )
