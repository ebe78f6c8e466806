"""Where the splits of a foreign dataset are: folders of images, or Parquet files, recognised by their names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from signal_diffusion.data.card import CARD_NAME, SPLITS
from signal_diffusion.data.foreign.folder_rows import METADATA, files_in
from signal_diffusion.errors import MissingError, UserError

__all__ = ["SplitLocation", "find_splits", "fingerprint", "split_location"]

SplitLocation = Path | tuple[Path, ...]
"""Location of a split: a folder of images, or its Parquet files."""

_FOLDERS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_IN_A_NAME = re.compile(rf"(?:^|[_.-])({'|'.join(_FOLDERS)})(?=$|[_.0-9-])")


def find_splits(root: Path) -> dict[str, SplitLocation]:
    """Find the splits of a foreign dataset by the names of folders and files: split → place."""
    files = sorted(path for path in root.rglob("*.parquet") if not _hidden(path, root))
    places: dict[str, SplitLocation] = {}
    if files:
        for path in files:
            split = _split_of(path.relative_to(root))
            if split is None:
                raise UserError(f"{path}: no split in its name; expected train*.parquet or train/*.parquet")
            places[split] = (*places.get(split, ()), path)  # type: ignore[misc]  # only files so far
        for split, paths in places.items():
            if len({path.parent for path in paths}) > 1:  # type: ignore[union-attr]
                raise UserError(
                    f"{root}: the split {split!r} is spread over several folders; set root to the folder of one dataset"
                )
    else:
        for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
            split = _FOLDERS.get(folder.name.lower())
            if split in places:
                raise UserError(f"{folder}: second folder for the split {split!r}; expected one")
            if split is not None:
                places[split] = folder
    if "train" not in places:
        found = f"found only {', '.join(places)}" if places else "found no split"
        raise UserError(
            f"{root}: no training split, {found}; expected a dataset of `signal-diffusion prepare` ({CARD_NAME}), "
            "folders of images (train/, validation/), or Parquet files (train*.parquet or train/*.parquet, …)"
        )
    return {split: places[split] for split in SPLITS if split in places}


def split_location(folder: Path, key: str) -> SplitLocation:
    """Use a folder as one split, whatever its name; `key` is the experiment's key, for errors."""
    if not folder.is_dir():
        raise MissingError(f"{key}: {folder} is not a folder; expected a folder of images or Parquet files")
    for root in (folder, folder.absolute().parent):
        if (root / CARD_NAME).exists():
            raise UserError(
                f"{key}: {folder} belongs to a dataset made by `signal-diffusion prepare`; "
                f'set [data.paths] root = "{root}" instead'
            )
    return tuple(sorted(folder.glob("*.parquet"))) or folder


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _split_of(path: Path) -> str | None:
    """Split in the name of a file, or else of its nearest folder: train-00000-of-00002.parquet, train/0.parquet.

    None if there is none.
    """
    for name in (path.stem, *reversed(path.parts[:-1])):
        if found := _IN_A_NAME.search(name.lower()):
            return _FOLDERS[found[1]]
    return None


def fingerprint(place: SplitLocation) -> list[list[Any]]:
    """Path, size and modification time of every file that may be read."""
    files = place if isinstance(place, tuple) else sorted([*files_in(place), *place.parent.glob(METADATA)])
    return [[str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
