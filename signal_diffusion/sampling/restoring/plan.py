"""What of a recording is given, and what is to be restored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.recordings.channels import canonical, find_channels, missing_channels
from signal_diffusion.data.recordings.source import rate_ratio, samples_of_gap
from signal_diffusion.errors import UserError, listed
from signal_diffusion.sampling.filling import CONTEXT
from signal_diffusion.sampling.restoring.left_out import LeftOut, left_out_of
from signal_diffusion.sampling.restoring.options import RestoreOptions
from signal_diffusion.sampling.restoring.times import merged_gaps, start_of

if TYPE_CHECKING:
    import mne

__all__ = ["Plan", "plan_of"]

BY_PLACE = "model.conditioning.electrodes = 'position'"
LEAST_KNOWN = 1.0
"""Seconds of a recording that have to be outside of gaps."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is given of a recording, and what is restored."""

    channels: tuple[str, ...]
    """The model's electrodes, in order; each is given, restored or neither."""
    given: tuple[str, ...]
    """Electrodes that are read."""
    restored: tuple[str, ...]
    """Electrodes that are restored from beginning to end."""
    left_out: LeftOut
    """Channels of the recording that are not used."""
    gaps: tuple[tuple[float, float], ...]
    """Gaps that do not touch each other, sorted: start and end in s."""
    extend: float
    """Seconds to generate after the end."""
    sfreq: float
    """The rate of signals, Hz: the model's, or that of the recording (`at_recorded_rate`)."""
    recorded_sfreq: float
    """The rate of the recording, Hz; the model's if it is nearly that."""
    start: datetime | None
    """Date and time of the first sample; None if the recording has none, or one that EDF or FIF cannot store."""

    @property
    def written(self) -> tuple[str, ...]:
        """Electrodes of the result, in order."""
        return tuple(name for name in self.channels if name in self.given or name in self.restored)

    def written_of(self, ch_names: Iterable[str]) -> tuple[str, ...]:
        """Electrodes of the result that channels of the recording are, in order."""
        electrodes = set(map(canonical, ch_names))
        return tuple(name for name in self.written if canonical(name) in electrodes)

    @property
    def lacking(self) -> tuple[str, ...]:
        """Electrodes of the model that are neither given nor restored."""
        return tuple(name for name in self.channels if name not in self.written)

    @property
    def ratio(self) -> Fraction:
        """The rate of the recording ÷ that of signals."""
        return 1 / rate_ratio(self.sfreq, self.recorded_sfreq)

    def at_recorded_rate(self) -> Plan:
        """The same for signals at the rate of the recording."""
        return replace(self, sfreq=self.recorded_sfreq)

    @property
    def extension(self) -> int:
        """Samples to generate after the end."""
        return round(self.extend * self.sfreq)

    def known(self, num_samples: int) -> np.ndarray:
        """Where values are given, (channels, samples with the extension) bool, for a recording of so many samples."""
        known = np.zeros((len(self.channels), num_samples + self.extension), dtype=bool)
        known[[self.channels.index(name) for name in self.given], :num_samples] = True
        for first, stop in (samples_of_gap(gap, self.sfreq) for gap in self.gaps):
            known[:, first:stop] = False
        return known


def plan_of(raw: mne.io.BaseRaw, card: DatasetCard, options: RestoreOptions) -> Plan:
    """What is given and what is restored of an opened recording, for a model with this card.

    Raises
    ------
    UserError
        If an electrode or a gap is not possible, too little is known, or there is nothing to restore.
    """
    lacking = missing_channels(card.channels, raw)
    has = [name for name in card.channels if name not in lacking]
    files = dict(zip(has, (raw.ch_names[index] for index in find_channels(has, raw)), strict=True)) if has else {}
    bad = _model_electrodes("--bad", options.bad, card)
    marked = {name for name in has if files[name] in raw.info["bads"]}
    if (unnamed := sorted(marked - bad)) and not options.bads_from_file:
        raise UserError(
            f"the recording marks {listed(unnamed)} as bad; add --bads-from-file to restore what it marks, or name "
            "each with --bad"
        )
    bad |= marked
    given = tuple(name for name in has if name not in bad)
    restored = {*bad, *(lacking if options.adds_all else _added(options, has, card))}
    _check_given(given, raw, card)
    plan = Plan(
        channels=card.channels,
        given=given,
        restored=tuple(name for name in card.channels if name in restored),
        left_out=left_out_of(raw, list(files.values())),
        gaps=merged_gaps(options.gaps, float(card.sampling_rate or 0)),
        extend=options.extend,
        sfreq=float(card.sampling_rate or 0),
        recorded_sfreq=float(raw.info["sfreq"]),
        start=start_of(raw),
    )
    _check_times(plan, raw.n_times / float(raw.info["sfreq"]), card)
    if not (plan.restored or plan.gaps or plan.extension):
        raise UserError(
            f"there is nothing to restore: the recording has the model's {len(given)} electrodes; use --bad, --gap or "
            "--extend"
        )
    return plan


def _model_electrodes(option: str, names: Iterable[str], card: DatasetCard) -> set[str]:
    """The model's electrodes of these names, such as T7 for T3."""
    known = {canonical(name): name for name in card.channels}
    found = {}
    for name in names:
        if canonical(name) not in known:
            others = (
                "" if option == "--bad" else f"; for others, such as all of 10-10 or 10-20, use a model with {BY_PLACE}"
            )
            raise UserError(
                f"{option} {name}: the model has no such electrode; it has {listed(card.channels, most=64)}{others}"
            )
        found[known[canonical(name)]] = name
    return set(found)


def _added(options: RestoreOptions, has: Sequence[str], card: DatasetCard) -> set[str]:
    added = _model_electrodes("--add", options.add or (), card)
    if present := [name for name in has if name in added]:
        raise UserError(f"--add {listed(present)}: the recording has it; use --bad to replace its signal")
    return added | (_model_electrodes("--to", options.to, card) - set(has))


def _check_given(given: Sequence[str], raw: mne.io.BaseRaw, card: DatasetCard) -> None:
    average = card.preprocessing.get("reference") == "average"
    if len(given) < 1 + average:
        found = f"only {given[0]}, whose average reference is zero" if given else "none"
        raise UserError(
            f"too little is known: of the model's {len(card.channels)} electrodes ({listed(card.channels)}), the "
            f"recording has {found}; its channels are {listed(raw.ch_names, most=20)}"
        )


def _check_times(plan: Plan, seconds: float, card: DatasetCard) -> None:
    """Raise a `UserError` unless gaps are within the recording and short enough, and enough of it is known.

    Also if the extension has no sample.
    """
    if plan.extend and not plan.extension:
        raise UserError(
            f"--extend {plan.extend:g}: less than half a sample of the model ({1 / plan.sfreq:.3g} s); use more"
        )
    # A gap has to fit into one window, with what comes before it: two windows would not meet in the middle.
    longest = math.floor((1 - CONTEXT) * (card.window or 0)) / plan.sfreq
    for start, stop in plan.gaps:
        if stop > seconds + 0.5 / plan.sfreq:
            raise UserError(f"--gap {start:g} {stop:g}: ends after the recording, which lasts {seconds:.6g} s")
        if stop - start > longest:
            raise UserError(
                f"--gap {start:g} {stop:g}: longer than {longest:.3g} s, the most that fits into a window of the model "
                f"({(card.window or 0) / plan.sfreq:.3g} s) with what comes before; use a model with longer windows"
            )
    known = seconds - sum(stop - start for start, stop in plan.gaps)
    if known < LEAST_KNOWN:
        raise UserError(
            f"too little is known: {known:.3g} s of the recording are outside of gaps; at least {LEAST_KNOWN:g} s are "
            "needed"
        )
