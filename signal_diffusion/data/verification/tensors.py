"""The tensors of a file against the card: shape, type, finite values in [-1, 1], and a signal in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import as_array
from signal_diffusion.data.flat import find_flat
from signal_diffusion.data.montages import are_complete, montages_of
from signal_diffusion.data.shared_examples import example_digests

__all__ = ["FLAT", "violations"]

FLAT = "expected a signal in every example"


def violations(
    column: pa.ChunkedArray, card: DatasetCard, digests: list[np.ndarray], absent: Counter[tuple[str, ...]]
) -> Iterator[tuple[str, int, str]]:
    """Yield a violated requirement, the row and, if it is about one electrode, its name; for each that violates it.

    Adds to `digests` of the examples, and counts their `absent` electrodes if some recordings lack some.
    """
    shape = "×".join(map(str, card.shape))
    for chunk in column.chunks:
        values = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
        for size in card.shape:
            nested = pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type)
            if not nested or values.null_count or (pc.list_value_length(values).to_numpy() != size).any():
                yield f"the card says all are {shape}", 0, ""
                return
            values = values.flatten()
        if values.type not in (pa.float16(), pa.float32()) or values.null_count:
            yield "expected all float16 or float32, none missing", 0, ""
            return
    tensors = as_array(column, card.shape)
    digests.append(example_digests(tensors))
    finite, expected = are_complete(tensors, card), "expected all finite"
    if montages_of(card):
        expected += ", or NaN on the electrodes that a montage of the card lacks"
        for row in np.isnan(tensors).all(axis=(1, 3)):
            absent[tuple(name for name, one in zip(card.channels, row, strict=True) if one)] += 1
    # 1 is exact in float16 and float32: no tolerance is needed.
    outside = finite & (np.abs(tensors) > 1).any(axis=(1, 2, 3))
    for what, rows in ((expected, ~finite), ("expected all in [-1, 1]", outside)):
        yield from ((what, int(row), "") for row in np.flatnonzero(rows))
    yield from ((FLAT, row, electrode) for row, electrode in find_flat(tensors, card))
