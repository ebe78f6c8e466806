"""BIDS paths of files that may lack the folder `eeg`. Imported only when such a folder is read: MNE-BIDS is slow."""

from __future__ import annotations

from pathlib import Path

import mne_bids

__all__ = ["bids_path"]


class _WithoutDatatype(mne_bids.BIDSPath):
    """The path of a recording directly in the folder of a subject or session."""

    @property
    def directory(self) -> Path:
        return Path(super().directory).parent


def bids_path(root: Path, path: Path) -> mne_bids.BIDSPath | None:
    """The BIDS path of an EEG file of a subject's folder of `root`; None if it is not where BIDS expects it."""
    try:
        entities = mne_bids.get_entities_from_fname(path.name)
        kinds = (mne_bids.BIDSPath, _WithoutDatatype)
        for found in (
            kind(
                root=root, datatype="eeg", suffix="eeg", extension=path.name[path.name.index("_eeg.") + 4 :], **entities
            )
            for kind in kinds
        ):
            if found.fpath == path:
                return found
    except (ValueError, KeyError):  # a name that only resembles BIDS
        return None
    return None
