"""Channels of a recording that a restoration does not use, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from signal_diffusion.data.recordings.channels import canonical, without_other_signals

if TYPE_CHECKING:
    import mne

__all__ = ["LeftOut", "left_out_of"]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Channels that are not used, by their names in the recording."""

    unknown: tuple[str, ...]
    """EEG that the model does not know."""
    repeated: tuple[str, ...]
    """EEG of electrodes of which another channel is used, such as T3 next to T7."""
    other: tuple[str, ...]
    """References, such as A1 and M2, and signals that are not EEG, such as ECG and triggers."""


def left_out_of(raw: mne.io.BaseRaw, used: Sequence[str]) -> LeftOut:
    """The channels of a recording except those of these names."""
    types = raw.get_channel_types()
    eeg = without_other_signals([name for name, kind in zip(raw.ch_names, types, strict=True) if kind == "eeg"])
    electrodes = {canonical(name) for name in used}
    left = [name for name in eeg if name not in used]
    return LeftOut(
        unknown=tuple(name for name in left if canonical(name) not in electrodes),
        repeated=tuple(name for name in left if canonical(name) in electrodes),
        other=tuple(name for name in raw.ch_names if name not in eeg and name not in used),
    )
