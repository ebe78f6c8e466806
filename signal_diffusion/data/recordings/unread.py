"""Files next to recordings that hold data but are not read: what they are, and how they become FIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from signal_diffusion.data.recordings.companions import companions_of
from signal_diffusion.data.recordings.formats import FORMATS, SUFFIXES, is_recording, other_kind, suffix_of
from signal_diffusion.errors import UserError, listed

__all__ = ["refuse_unread", "unread_in", "warning_about"]

# Formats that are not read: what they are, and Python that reads them as `data` (channels, samples).
_NEO = 'block = neo.io.get_io("{name}").read_block(); data = block.segments[0].analogsignals[0].magnitude.T'
_UNREAD = {
    ".xdf": ("a Lab Streaming Layer recording", 'data = pyxdf.load_xdf("{name}")[0][0]["time_series"].T'),
    ".acq": ("a BIOPAC recording", 'data = [each.data for each in bioread.read_file("{name}").channels]'),
    ".smr": ("a Spike2 recording", _NEO),
    ".smrx": ("a Spike2 recording", _NEO),
    ".abf": ("an Axon recording", _NEO),
    ".plx": ("a Plexon recording", _NEO),
    ".rhd": ("an Intan recording", _NEO),
    ".rhs": ("an Intan recording", _NEO),
    ".ncs": ("a Neuralynx recording", _NEO),
    ".trc": ("a Micromed recording", _NEO),
    ".poly5": ("a TMSi recording", 'data = Poly5Reader("{name}").samples'),
    ".nwb": ("a Neurodata Without Borders file", 'data = NWBHDF5IO("{name}").read().acquisition["…"].data[:].T'),
    ".h5": ("an HDF5 file", 'data = h5py.File("{name}")["…"][:]'),
    ".hdf5": ("an HDF5 file", 'data = h5py.File("{name}")["…"][:]'),
    ".mefd": ("a MEF recording", 'data = mne.io.read_raw_mef("{name}").get_data()'),
    ".easy": ("a Neuroelectrics table", 'data = np.loadtxt("{name}").T[:-5] * 1e-9'),
    ".data": ("a Nicolet recording", 'data = mne.io.read_raw_nicolet("{name}", ch_type="eeg").get_data()'),
    ".cnt": ("neither a Neuroscan nor an ANT Neuro file", 'data = np.fromfile("{name}", …)'),
    ".eeg": ("signals without their header (.vhdr)", 'data = np.fromfile("{name}", …)'),
    ".dat": (
        "signals without their header (.lay, .vhdr, .dap), or of BCI2000",
        'data = np.fromfile("{name}", …), of BCI2000 mne.io.read_raw_bci2k("{name}", preload=True).get_data() × gain',
    ),
}  # fmt: skip


def unread_in(files: Sequence[Path]) -> dict[Path, str]:
    """Files that hold data but are no recordings that can be read, and no part of one: what each is."""
    present = set(files)
    belonging = {companion for path in files if is_recording(path) for companion in companions_of(path)}
    found = {}
    for path in files:
        if is_recording(path) or path in belonging:
            continue
        kind = other_kind(path)
        if kind is None and suffix_of(path) in _UNREAD and not _is_part(path, present):
            kind = _UNREAD[suffix_of(path)][0]
        if kind == "a hypnogram":
            kind = "a hypnogram without its recording (…-PSG.edf)"
        if kind is not None:
            found[path] = kind
    return found


def warning_about(unread: dict[Path, str], root: Path) -> str:
    """One line that counts and names files that are not read: `2 files are not read: a.xdf (…), b.acq (…)`."""
    names = [f"{path.relative_to(root).as_posix()} ({kind})" for path, kind in unread.items()]
    return f"{len(names)} {'file is' if len(names) == 1 else 'files are'} not read: {listed(names)}"


def refuse_unread(unread: dict[Path, str]) -> None:
    """Raise a `UserError` that says what the first file is, and the Python that turns it into FIF."""
    path, kind = next(iter(unread.items()))
    others = f", and {len(unread) - 1} more such files" if len(unread) > 1 else ""
    if suffix_of(path) not in _UNREAD:
        raise UserError(f"{path}: holds {kind}, not a recording{others}; give the recordings: {', '.join(SUFFIXES)}")
    load = _UNREAD[suffix_of(path)][1].format(name=path.name)
    raise UserError(
        f"{path}: {kind}, which is not read{others}; turn it into FIF with Python: (1) {load} "
        '(2) raw = mne.io.RawArray(data, mne.create_info(names, sfreq, "eeg")), with data in V '
        f'(3) raw.save("{path.stem}_raw.fif")'
    )


def _is_part(path: Path, present: set[Path]) -> bool:
    """Whether a file is part of a recording next to it; BrainVision headers may name files of any stem."""
    for each in FORMATS:
        if suffix_of(path) in each.companions:
            owners = [other for other in present if other.parent == path.parent and suffix_of(other) in each.suffixes]
            if any(each.name == "BrainVision" or owner.stem == path.stem for owner in owners):
                return True
    return False
