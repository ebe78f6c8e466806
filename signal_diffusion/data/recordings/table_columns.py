"""Which columns of a table of signals are electrodes: headsets also write counters, qualities, motion and markers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.recordings.channels import canonical, electrode_of, is_bipolar, without_other_signals

if TYPE_CHECKING:
    import mne

__all__ = ["electrode_columns"]

# `EXG Channel 0` of OpenBCI, `EEG 001`, `ch_1`, `E17`; not EXG1 of BioSemi, which is an external electrode.
_NUMBERED = re.compile(r"(?:E[XE]G[ ._-]*(?:CH|CHAN|CHANNEL)|EEG|CH|CHAN|CHANNEL|ELECTRODE|E)[ ._-]*\d+", re.IGNORECASE)
_OTHER_COLUMN = re.compile(
    r"BATTERY|COUNTER|SAMPLE|INDEX|ROW|PACKET|TIME|INTERPOLATED|RAWCQ|CQ|EQ\.|HSI|POOR|QUALITY|SIGNAL.?QUALITY|HEADBAND"
    r"|ELEMENTS|POW|MOT\b|MAG|QUAT|ANALOG|DIGITAL|OTHER|LABEL|CLASS|TARGET|EVENT|STIM|SYNC|TRIAL|EPOCH|STATE"
    r"|CONDITION|SUBJECT|PPG|HEART|EYE|DELTA|THETA|ALPHA|BETA|GAMMA|ATTENTION|MEDITATION|(RIGHT|LEFT).AUX"
)


def electrode_columns(raw: mne.io.BaseRaw, *, by_name_only: bool) -> list[str]:
    """Names of the columns that are electrodes, in the table's order; may be empty.

    Electrodes of the 10-05 system, if there are two or more; otherwise numbered channels, if there are two or more;
    otherwise all columns but counters and those with the name of another signal. With `by_name_only`, for names that
    the user gave, only the names of other biological signals and of references are left out.
    """
    numbered = [name for name in raw.ch_names if _NUMBERED.fullmatch(name.strip())]
    signals = {*numbered, *without_other_signals(raw.ch_names)}
    if by_name_only:
        return [name for name in raw.ch_names if name in signals]
    # A BioSemi cap has A1 to A32, B1 to B32, …, of which only C1, C2, … look like the 10-05 system.
    biosemi = any(canonical(name) == "A3" for name in raw.ch_names)
    electrodes = [name for name in raw.ch_names if electrode_of(name) or is_bipolar(name)]
    for chosen in (electrodes, numbered):
        if len(chosen) >= 2 and not biosemi:
            return chosen
    return [
        name
        for name, signal in zip(raw.ch_names, raw.get_data(), strict=True)
        if name in signals and not _OTHER_COLUMN.match(canonical(name)) and not _is_counter(signal)
    ]


def _is_counter(signal: np.ndarray) -> bool:
    """Whether nine in ten steps are the same and not 0: a counter, which may start again or lose samples."""
    steps = np.diff(signal)
    usual = np.median(steps) if len(steps) else 0.0
    return bool(usual != 0 and np.mean(np.abs(steps - usual) <= 1e-6 * abs(usual)) >= 0.9)
