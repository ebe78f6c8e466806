"""Windows of staged recordings as the tensors and columns that are written, some windows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.preparing.captions import caption_of
from signal_diffusion.data.preparing.describing import window_attributes
from signal_diffusion.data.preparing.staged import Staged
from signal_diffusion.data.recordings.subjects import parse_number
from signal_diffusion.data.recordings.windows import windows_in
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.executing.engine import Engine

__all__ = ["rows_of", "training_signals"]

_WINDOWS = 32
"""Of a unit of work: at most 30 MB of tensors for 64×64 pixels, 3 channels and 19 electrodes."""
_UNITS_AHEAD = 32
"""Units whose tensors may wait for those before them."""
_FEW = 512
"""Windows that are converted sooner than processes can import PyTorch."""


def training_signals(staged: Staged, window: int) -> Iterator[Tensor]:
    """Yield µV (n, channels, window) of a few kept windows at a time."""
    for _, signals in windows_in(staged.path, staged.starts[staged.kept], window, staged.baseline):
        yield torch.from_numpy(signals)


def rows_of(
    members: Iterable[Staged],
    representation: Representation,
    card: DatasetCard,
    extras: Mapping[str, str],
    engine: Engine,
) -> Iterator[dict[str, Any]]:
    """Yield the columns of a few windows at a time, in order; `engine` computes the tensors if there are many.

    `extras` is name in the dataset → column of the subject table.
    """
    assert card.window is not None
    parts, submitted = tee(_parts(members))
    units = ((staged.path, staged.starts[staged.kept[part]], staged.baseline) for staged, part in submitted)
    work = partial(_tensors, representation=representation, window=card.window)
    if sum(entry["windows"] for entry in card.splits.values()) < _FEW:
        engine = Engine()
    tensors = engine.in_order(work, units, ahead=_UNITS_AHEAD)
    for (staged, part), each in zip(parts, tensors, strict=True):
        yield {representation.column: each, **_columns(staged, part, representation, card, extras)}


def _parts(members: Iterable[Staged]) -> Iterator[tuple[Staged, slice]]:
    for staged in members:
        for start in range(0, len(staged.kept), _WINDOWS):
            yield staged, slice(start, start + _WINDOWS)


def _tensors(
    path: Path, starts: np.ndarray, baseline: slice | None, *, representation: Representation, window: int
) -> np.ndarray:
    """A unit of work: windows that start at some samples of a staged recording, (examples, C, H, W) float16."""
    signals = (torch.from_numpy(each) for _, each in windows_in(path, starts, window, baseline))
    tensors = [representation.to_tensor(each).numpy().astype(np.float16) for each in signals]
    return np.concatenate(tensors).reshape(-1, *representation.shape)


def _columns(
    staged: Staged, part: slice, representation: Representation, card: DatasetCard, extras: Mapping[str, str]
) -> dict[str, Sequence[Any]]:
    """The columns of the examples of some kept windows, except their tensors."""
    electrodes = card.channels if representation.per_electrode else ("",)
    numbers, labels = staged.kept[part], staged.labels[part]
    known = [window_attributes(staged.recording, label, extras) for label in labels]
    if card.captions:
        known = [values | {"caption": caption_of(card.captions, values)} for values in known]
    columns: dict[str, Any] = {name: [values[name] for values in known for _ in electrodes] for name in known[0]}
    for name in extras:
        if name in card.columns and card.columns[name]["kind"] == "numeric":
            columns[name] = [None if value is None else parse_number(value) for value in columns[name]]
    columns |= {"window": np.repeat(numbers, len(electrodes)), "electrode": list(electrodes) * len(numbers)}
    return {name: values for name, values in columns.items() if name in card.columns}
