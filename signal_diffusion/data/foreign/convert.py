"""Convert datasets that `prepare` did not make (image folders, Parquet files, the Hub) once, into the cache."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import filelock

from signal_diffusion.data.card import CARD_NAME, FORMAT_VERSION
from signal_diffusion.data.foreign.converted_dataset import write_converted
from signal_diffusion.data.foreign.options import ConversionOptions
from signal_diffusion.data.foreign.split_locations import SplitLocation, fingerprint
from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.paths import cache_folder, is_readable

__all__ = ["convert"]

logger = logging.getLogger(__name__)

_VERSION = 3  # of the conversion; increase it to convert again into a new folder of the cache


def convert(
    places: Mapping[str, SplitLocation],
    wanted: ConversionOptions,
    cache_dir: str = "",
    *,
    name: str,
    aliases: Mapping[str, str],
) -> Path:
    """Convert splits (split → place) to a dataset of our format, once; returns its folder in the cache.

    Parameters
    ----------
    places
        Result of `find_splits`.
    wanted
        Representation, columns and sizes that the experiment asks for.
    cache_dir
        As in `cache_folder`; the name of a conversion depends on `wanted` and the files, their sizes and times.
    name
        Name of the dataset, for its card.
    aliases
        Other names of splits that the experiment may use, such as folders: name → split.

    Raises
    ------
    UserError
        For the first file or row that cannot be used; nothing is left in the cache.
    """
    key = {
        "version": [_VERSION, FORMAT_VERSION],
        "wanted": asdict(wanted),
        "files": {split: fingerprint(place) for split, place in places.items()},
        "aliases": dict(aliases),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    cache = cache_folder(cache_dir, "converted", holds=lambda folder: is_readable(folder / digest / CARD_NAME))
    root = cache / digest
    if is_readable(root / CARD_NAME):  # complete if it exists: it is renamed into place
        return root
    cache.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(cache / f".{digest}.wait"):  # a second process waits, and uses the result of the first
        if not (root / CARD_NAME).exists():
            logger.info("converting %s into %s", name, root)
            with atomic_folder(root, f"the conversion of {name}") as partial:
                write_converted(partial, places, wanted, name, aliases)
    return root
