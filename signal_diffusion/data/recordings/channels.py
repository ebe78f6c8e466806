"""Match channels to electrodes despite the recorder's naming, and recognise which channels are EEG."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.errors import UserError, listed

if TYPE_CHECKING:
    import mne

__all__ = [
    "TEN_TEN",
    "TEN_TWENTY",
    "as_electrodes",
    "canonical",
    "channel_names",
    "eeg_names",
    "electrode_of",
    "find_channels",
    "is_bipolar",
    "is_constant",
    "missing_channels",
    "without_other_signals",
]

TEN_TWENTY = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8",
    "P7", "P3", "Pz", "P4", "P8", "O1", "O2",
)  # fmt: skip

TEN_TEN = (
    "Fp1", "Fpz", "Fp2", "AF7", "AF3", "AFz", "AF4", "AF8",
    "F7", "F5", "F3", "F1", "Fz", "F2", "F4", "F6", "F8",
    "FT7", "FC5", "FC3", "FC1", "FCz", "FC2", "FC4", "FC6", "FT8",
    "T7", "C5", "C3", "C1", "Cz", "C2", "C4", "C6", "T8",
    "TP7", "CP5", "CP3", "CP1", "CPz", "CP2", "CP4", "CP6", "TP8",
    "P7", "P5", "P3", "P1", "Pz", "P2", "P4", "P6", "P8",
    "PO7", "PO3", "POz", "PO4", "PO8", "O1", "Oz", "O2",
)  # fmt: skip
"""The electrodes of the 10-10 system on the circle Fpz, T7, Oz, T8 and above it."""

_OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_MASTOIDS = ("A1", "A2", "M1", "M2")
# EDF has no channel types, and MNE gives all of its channels the type EEG.
_NOT_EEG = re.compile(
    r"[HVLR]?E[OCKM]G|EXG|ERGO?(?![A-Z])|[LR]OC$|GSR|EDA\b|RESP|PLET|TEMP|S[AP]O2|PULSE|PHOTIC|IBI$|BURSTS|SUPPR"
    r"|VREF$|VERTEX REF|CHIN|LEG|ABD|THO|NASAL|SNORE|FLOW|AUX|MISC|STATUS|TRIG|MARKER|DC\d|ACC|GYRO"
)
_ELECTRODE = re.compile(
    r"(NFP|N|AFP|AFF|AF|FP|FFC|FFT|FCC|FTT|FC|FT|F|CCP|CPP|CP|C|TTP|TPP|TP|T|PPO|POO|PO|P|OI|O|I)(Z|\d\d?)(H?)"
)


def channel_names(channels: str, option: str = "channels") -> tuple[str, ...]:
    """Parse `10-20` (its 19 scalp electrodes) or a list `A,B,C`."""
    if channels == "10-20":
        return TEN_TWENTY
    names = tuple(name.strip() for name in channels.split(",") if name.strip())
    if not names or len(set(map(canonical, names))) < len(names):
        raise UserError(
            f"{option}: {channels!r} is empty or names a channel twice; use 10-20 or a list such as Fz,Cz,Pz"
        )
    return names


def find_channels(wanted: Sequence[str], raw: mne.io.BaseRaw, option: str = "--channels") -> list[int]:
    """Index of each name of an option: an exact match among all channels, else by electrode among EEG channels."""
    if missing := missing_channels(wanted, raw):
        raise UserError(
            f"no channel {listed(missing)}; the file has {_list_channels(raw)}; choose from these with {option}"
        )
    found = _found(wanted, raw)
    return [index for name in wanted if (index := found[name]) is not None]


def missing_channels(wanted: Sequence[str], raw: mne.io.BaseRaw) -> list[str]:
    """Names that `find_channels` does not find."""
    return [name for name, index in _found(wanted, raw).items() if index is None]


def is_constant(wanted: str, raw: mne.io.BaseRaw) -> bool:
    """Whether a channel never changes; False if the recording is not in memory, or has no such channel."""
    index = _found([wanted], raw)[wanted]
    return raw.preload and index is not None and bool(np.ptp(raw.get_data(picks=[index])) == 0)


def canonical(name: str) -> str:
    """Strip what recorders add to an electrode's name: `EEG T3-REF`, `RAW_T7`, `t7`, `T7.` → `T7`."""
    name = re.sub(r"^(EEG[ ._-]*|RAW[ ._-]+)", "", name.strip(" ."), flags=re.IGNORECASE).upper()
    electrode, _, other = name.rpartition("-")
    # Strip a common reference, but not the second half of a bipolar pair such as Fp1-F7 or A1-A2.
    if electrode and (other in ("REF", "LE", "AVG") or (other in _MASTOIDS and electrode not in _MASTOIDS)):
        name = electrode
    return _OLD_NAMES.get(name, name)


def electrode_of(name: str) -> str | None:
    """Usual spelling of the electrode of the 10-05 system that a name means, `EEG T3-REF` → `T7`; None for others."""
    return _spell(canonical(name), "") or None


def is_bipolar(name: str) -> bool:
    """Whether a name is the difference of two electrodes: `FP1-F7`, `EEG Fpz-Cz`."""
    one, _, other = canonical(name).partition("-")
    return bool(_spell(one, "") and _spell(other, ""))


def eeg_names(raw: mne.io.BaseRaw) -> tuple[str, ...]:
    """Names of the EEG channels by electrode, in the file's order; `find_channels` finds each under that name.

    Names that are not electrodes of the 10-05 system are unchanged. Channels that have the type EEG only because the
    format has no types (ECG, EOG, ...) are left out, and so are references: mastoids, and VREF of EGI, which is zero.
    """
    types = raw.get_channel_types()
    named_eeg = [name for name, kind in zip(raw.ch_names, types, strict=True) if kind == "eeg"]
    return as_electrodes(without_other_signals(named_eeg), raw)


def without_other_signals(names: Sequence[str]) -> list[str]:
    """Names without those of other signals (ECG, EOG, …) and of references."""
    left = [name for name in names if not _NOT_EEG.match(canonical(name))]
    if any(canonical(name) == "A3" for name in left):  # then A1 and A2 are electrodes of a BioSemi cap, A1 to A32
        return left
    return [name for name in left if not set(canonical(name).split("-")) <= set(_MASTOIDS)]


def as_electrodes(names: Sequence[str], raw: mne.io.BaseRaw) -> tuple[str, ...]:
    """Spell channels by electrode, in the file's order; of two channels of one electrode, only the first."""
    chosen = {canonical(name): name for name in reversed(names)}
    if not chosen:
        raise UserError(f"no EEG channel; the file has {_list_channels(raw)}; choose from these with --channels")
    spelled = {key: _spell(key, name) for key, name in chosen.items()}
    # A channel of another type may have the name of an electrode.
    found = _found(list(spelled.values()), raw)
    return tuple(
        spelled[key] if found[spelled[key]] == raw.ch_names.index(name) else name
        for key, name in sorted(chosen.items(), key=lambda item: raw.ch_names.index(item[1]))
    )


def _found(wanted: Sequence[str], raw: mne.io.BaseRaw) -> dict[str, int | None]:
    exact = {name.strip().lower(): index for index, name in reversed(list(enumerate(raw.ch_names)))}
    types = raw.get_channel_types()
    electrodes = {
        canonical(name): index for index, name in reversed(list(enumerate(raw.ch_names))) if types[index] == "eeg"
    }
    return {name: exact.get(name.lower(), electrodes.get(canonical(name))) for name in wanted}


def _list_channels(raw: mne.io.BaseRaw) -> str:
    return ", ".join(raw.ch_names[:40]) + (", …" if len(raw.ch_names) > 40 else "")


def _spell(electrode: str, default: str) -> str:
    """Usual spelling of an electrode of the 10-05 system, `FP1` → `Fp1`; `default` for other names."""
    found = _ELECTRODE.fullmatch(electrode)
    return default if found is None else found[1].replace("FP", "Fp") + found[2].lower() + found[3].lower()
