"""Choose the representation of a foreign dataset: from the headers of its images, or fitted to its signals."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

import numpy as np
import torch

from signal_diffusion.data.foreign.options import ConversionOptions
from signal_diffusion.data.foreign.rows import Rows
from signal_diffusion.data.representations.pictures import Picture, image_dimensions
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.errors import UserError, listed

__all__ = ["chunks", "image_representation", "signal_representation"]

logger = logging.getLogger(__name__)

_AT_ONCE = 64  # examples
_CHANNELS = {"db-only": 1, "db-iq": 3, "db-polar": 3}
_SMALLEST_STD = 1e-3  # µV; scalp EEG has about 10 µV, which would be 1e-5 if given in volts


def image_representation(splits: Mapping[str, Rows], wanted: ConversionOptions) -> tuple[Picture, dict[str, Any]]:
    """Choose channels and size from the headers of all images."""
    counts: Counter[int] = Counter()
    sizes: dict[tuple[int, int], str] = {}
    in_colour = ""
    for rows in splits.values():
        for where, raw in rows.tensors():
            found, size = image_dimensions(raw, where)
            counts[found] += 1
            sizes.setdefault(size, where)
            in_colour = in_colour or (where if found == 3 else "")
    channels = _CHANNELS.get(wanted.representation, 3 if in_colour else wanted.min_channels)
    if channels == 1 and in_colour:
        raise UserError(
            f"{in_colour}: has three channels, but [data] representation = {wanted.representation!r} has one; use grey "
            "images, or another representation such as 'image'"
        )
    if wanted.representation in _CHANNELS:
        logger.warning(
            "%s images without limits and scales: samples cannot be turned into signals", wanted.representation
        )
    arrays = [raw for _, raw in islice(splits["train"].tensors(), _AT_ONCE) if isinstance(raw, np.ndarray)]
    if arrays and all(raw.min() >= 0 for raw in arrays):  # values above 1 have already been refused
        logger.warning("the first arrays are in [0, 1], half of the expected [-1, 1]; rescale them with 2 x - 1")
    (height, width), *others = sizes
    if wanted.image_size is None and (others or height != width):
        shown = ", ".join(f"{h}×{w} ({where})" for (h, w), where in list(sizes.items())[:2])
        raise UserError(
            f"[data] image_size: set it, in pixels: the images are not square or differ in height × width: {shown}"
        )
    repeated = counts[1] if channels == 3 else 0
    if repeated:
        logger.warning("%d of %d images are grey: repeated to three channels", repeated, counts.total())
    return Picture(channels=channels, size=wanted.image_size or height), {"repeated_to_three_channels": repeated}


def signal_representation(
    splits: Mapping[str, Rows],
    wanted: ConversionOptions,
    stated: float | None,
    ch_names: Sequence[str] | None,
) -> tuple[TimeSeries, dict[str, Any]]:
    """Check that all signals have one shape, then fit to the training split."""
    rate = wanted.sampling_rate
    if rate is None and stated is None:
        raise UserError("[data] sampling_rate: not set, and the dataset does not state it; set it, in Hz")
    if None not in (rate, stated) and rate != stated:
        raise UserError(f"[data] sampling_rate: {rate:g} Hz, but the dataset says {stated:g} Hz; leave the key out")
    shape: tuple[int, ...] = ()
    for rows in splits.values():
        for where, raw in rows.tensors():
            if not isinstance(raw, np.ndarray) or raw.ndim != 2 or not raw.size or raw.shape != (shape or raw.shape):
                found = raw.shape if isinstance(raw, np.ndarray) else "an image"
                expected = shape or "(electrodes, samples)"
                raise UserError(f"{where}: expected a signal of shape {expected}, the same in all rows; found {found}")
            if not np.isfinite(raw).all():
                _refuse_not_finite(where, raw, ch_names)
            shape = raw.shape
    training = (torch.from_numpy(np.stack([raw for _, raw in some])) for some in chunks(splits["train"]))
    fitted = TimeSeries.fit(training, sampling_rate=cast(float, rate or stated), window=shape[1])
    if max(fitted.std) < _SMALLEST_STD:
        raise UserError(
            f"the signals have standard deviations up to {max(fitted.std):.2g}; expected µV: multiply volts by 1e6"
        )
    return fitted, {}


def _refuse_not_finite(where: str, raw: np.ndarray, ch_names: Sequence[str] | None) -> None:
    bad, names = ~np.isfinite(raw), ch_names or ()
    numbers = np.flatnonzero(bad.any(axis=1))
    named = [names[number] if number < len(names) else str(number + 1) for number in numbers.tolist()]
    raise UserError(
        f"{where}: the signal has values that are not finite, {bad.sum()} on {listed(named)}; repair the row or remove "
        "it"
    )


def chunks(rows: Rows) -> Iterator[list[tuple[str, Any]]]:
    """Yield the tensors of a split, a few at a time."""
    tensors = rows.tensors()
    while some := list(islice(tensors, _AT_ONCE)):
        yield some
