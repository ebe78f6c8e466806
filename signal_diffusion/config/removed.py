"""Keys that earlier versions had in today's layout; files that still have them are read without them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from signal_diffusion.errors import log_once

__all__ = ["REMOVED", "drop_removed_keys"]

REMOVED: dict[str, str] = {
    "data.loading.pin_memory": "batches for a CUDA device are always in page-locked memory",
    "data.loading.memory_limit_mb": "a split of up to 4 GiB, and a quarter of the free memory, is loaded",
    "training.performance.cudnn_benchmark": "cuDNN always chooses the fastest kernel for each input size",
}
"""What happens instead, by dotted key; a phrase that completes "was removed: "."""

logger = logging.getLogger(__name__)


def drop_removed_keys(tables: dict[str, Any], path: Path, *, quiet: bool) -> None:
    """Delete removed keys from the tables of a file, with one warning for each unless `quiet`."""
    for key, instead in REMOVED.items():
        *above, last = key.split(".")
        table: Any = tables
        for part in above:
            table = table.get(part) if isinstance(table, dict) else None
        if isinstance(table, dict) and last in table:
            del table[last]
            if not quiet:
                log_once(logger, f"{path}: [{'.'.join(above)}] {last}: was removed: {instead}; leave the key out")
