"""The files of a dataset against those that its card lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.integrity import leads_out, sha256_of

__all__ = ["compare_files", "first_line", "readable_files"]


def compare_files(root: Path, card: DatasetCard) -> Iterator[str]:
    """Yield complaints about files that are missing, changed or not listed."""
    for name, digest in card.files.items():
        path = root / name
        if name.split("/")[0] not in card.splits:
            yield f"{name}: listed in the card, which has no split {name.split('/')[0]!r}"
        if not path.is_file():
            yield f"{name}: listed in the card, but missing"
            continue
        if leads_out(path, root):
            yield f"{name}: a link to {path.resolve()}, which is not in the dataset"
        actual = sha256_of(path)
        if actual != digest:
            yield f"{name}: the card says SHA-256 {digest[:12]}…, found {actual[:12]}…"
    there = {path.relative_to(root).as_posix() for split in card.splits for path in (root / split).glob("*.parquet")}
    for name in sorted(there - card.files.keys()):
        yield f"{name}: exists, but is not listed in the card"
    for split in card.splits:
        if not any(name.startswith(f"{split}/") for name in card.files):
            yield f"{CARD_NAME}: the card has a split {split!r}, but lists no file of it"


def readable_files(root: Path, card: DatasetCard, complaints: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield split and path of each listed file; one that is not Parquet is added to `complaints` instead."""
    for name in sorted(card.files):
        split = name.split("/")[0]
        if split in card.splits and (root / name).is_file():
            try:
                pq.read_metadata(root / name)
            except (pa.ArrowException, OSError) as error:
                complaints.append(f"{name}: listed in the card, but cannot be read as Parquet ({first_line(error)})")
                continue
            yield split, root / name


def first_line(error: Exception) -> str:
    """First line of an error's message, or its type if it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
