"""Signals on disk, in µV, one recording at a time: those that `sample` wrote, or those of a prepared dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.dataset import MappedTensors, open_split
from signal_diffusion.data.export.assembling import assemble_windows
from signal_diffusion.data.export.signals import with_names
from signal_diffusion.data.integrity import changed_files
from signal_diffusion.data.montages import check_whole
from signal_diffusion.data.overview import read_columns
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.errors import UserError, listed
from signal_diffusion.randomness import Purpose, generator_for
from signal_diffusion.untrusted import read_arrays, read_json

__all__ = ["StoredSignals", "open_signals", "signals_of"]

SAMPLES, ABOUT = "samples.npz", "samples.json"
_NOT_METADATA = ("tensors", "signals", "sampling_rate", "ch_names")
_EXAMPLES_AT_ONCE = 256  # that are turned into signals; limits memory
_WHOSE = ("subject", "recording", "window")


@dataclass(frozen=True, kw_only=True)
class _About:
    """What is read of a samples.json."""

    checkpoint: str
    num_samples: Annotated[int, Field(ge=0)]
    electrodes: Annotated[int, Field(ge=0)]
    dataset: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class StoredSignals:
    """A folder with signals."""

    root: Path
    card: DatasetCard
    """Card of the dataset; for samples, of the one that the model was trained on."""
    generated: bool
    """Whether a model generated the signals."""
    num_windows: int
    """Number of windows, as stated by the folder."""

    def recordings(self) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
        """Yield the windows of each recording: µV (windows, electrodes, samples), or (windows, samples) of single
        electrodes, and a row of metadata per window.

        A generated window is a recording of its own. In a dataset, a column `split` is added, and examples of single
        electrodes become whole windows.
        """
        return _generated(self.root, self.card) if self.generated else _prepared(self.root, self.card)

    def tensors(self) -> np.ndarray | None:
        """The tensors of samples, (windows, C, H, W) or (windows, electrodes, C, H, W); None if they were not kept."""
        return read_arrays(self.root / SAMPLES, "sample again", ("tensors",)).get("tensors")


def open_signals(root: Path) -> StoredSignals:
    """Open a folder of samples or a dataset; raises a `UserError` if it is neither."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give one that `sample` or `prepare` wrote")
    generated = (root / ABOUT).exists()
    if not generated and not (root / CARD_NAME).exists():
        raise UserError(
            f"{root}: neither a folder that `sample` wrote ({ABOUT} is missing) nor a dataset ({CARD_NAME} is "
            "missing); give the folder of one of them"
        )
    if generated:
        card, num_windows = _about_samples(root)
    else:
        card = DatasetCard.load(root)
        check_whole(card, str(root))
        num_windows = sum(split["windows"] for split in card.splits.values())
    if not generated and (missing := [name for name in _WHOSE if name not in card.columns]):
        raise UserError(
            f"{root}: the dataset has no column {', '.join(missing)}, so it is unknown whose windows these are; "
            "expected a dataset of `signal-diffusion prepare`"
        )
    return StoredSignals(root=root, card=card, generated=generated, num_windows=num_windows)


def signals_of(
    representation: Representation, tensors: MappedTensors, rows: np.ndarray, random: torch.Generator
) -> np.ndarray:
    """Turn rows of a column of tensors into µV, float32, a few at a time; `random` is that of `to_signal`."""
    parts = np.array_split(rows, -(-len(rows) // _EXAMPLES_AT_ONCE))
    return np.concatenate(
        [representation.to_signal(torch.from_numpy(tensors[part]).float(), random).numpy() for part in parts]
    ).astype(np.float32, copy=False)


def _about_samples(root: Path) -> tuple[DatasetCard, int]:
    """The card in samples.json, or that of the checkpoint for older versions, which wrote none; number of windows."""
    about = read_json(root / ABOUT, _About, "sample again")
    checkpoint, num_windows = Path(about.checkpoint), about.num_samples // max(1, about.electrodes)
    if about.dataset is not None:
        try:
            return DatasetCard.of(about.dataset), num_windows
        except UserError as error:
            raise UserError(f"{root / ABOUT}: dataset {error}; sample again") from None
    if not (checkpoint / CARD_NAME).is_file():
        raise UserError(
            f"{root / ABOUT}: was written by an older version and needs the card of its checkpoint, but there is "
            f"no {checkpoint / CARD_NAME}; sample again"
        )
    return DatasetCard.load(checkpoint), num_windows


def _generated(root: Path, card: DatasetCard) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    path = root / SAMPLES
    if not path.exists():
        raise UserError(f"{path}: missing; sample again with --format npz")
    arrays = read_arrays(path, "sample again")
    if "signals" not in arrays:
        raise UserError(f"{path}: has no signals, only {', '.join(arrays)}; sample again")
    columns = {name: values for name, values in arrays.items() if name not in _NOT_METADATA}
    shapes = [values.shape[:1] for values in (arrays["signals"], *columns.values())]
    if arrays["signals"].dtype.kind != "f" or arrays["signals"].ndim not in (2, 3) or len({*shapes}) > 1:
        raise UserError(f"{path}: expected signals as numbers, and as many rows of each column; sample again")
    named = {name: with_names(pd.Series(list(values)), None) for name, values in columns.items()}
    frame = pd.DataFrame(named, index=range(len(arrays["signals"])))  # also without columns
    for number, signals in enumerate(arrays["signals"]):
        yield signals[None], frame.iloc[number : number + 1].reset_index(drop=True)


def _prepared(root: Path, card: DatasetCard) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    if changed := changed_files(root, card, list(card.splits)):
        raise UserError(
            f"{root}: {listed(list(changed))} changed since the dataset was made (its card has another SHA-256); "
            "copy it again, or make it again"
        )
    representation, number = representation_of(card), 0
    for split in card.splits:
        frame = read_columns(root, split, list(card.columns)).assign(split=split)
        tensors = MappedTensors(open_split(root, split, card).data.column(card.representation["column"]), card.shape)
        keys = [name for name in ("dataset", "subject", "recording") if name in frame]
        for _, table in frame.groupby(keys, sort=False, dropna=False):
            random = generator_for(Purpose.SIGNAL, 0, number)
            signals = signals_of(representation, tensors, table.index.to_numpy(), random)
            number += 1
            if representation.per_electrode:
                yield assemble_windows(signals, card, table)
            else:
                yield signals, table.reset_index(drop=True)
