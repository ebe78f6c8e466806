"""Which training examples a figure of a dataset shows and averages; they are the same each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import as_array, split_files
from signal_diffusion.data.loaders import evenly_spaced

__all__ = ["PREFERRED", "read_examples", "rows_of_labels", "spread_over_subjects", "spread_over_windows"]

MAX_LABELS = 6
PREFERRED = ("O1", "O2", "Pz", "Cz")
"""If a figure shows one electrode, it is the first of these that the windows have."""


def rows_of_labels(frame: pd.DataFrame, card: DatasetCard) -> dict[str, pd.Index]:
    """Rows of each label (at most six) in the card's order; all rows under "" if there are no labels."""
    if "label" not in frame or frame["label"].isna().all():
        return {"": frame.index}
    labels = [name for name in card.columns["label"]["names"] if (frame["label"] == name).any()]
    return {name: frame.index[frame["label"] == name] for name in labels[:MAX_LABELS]}


def spread_over_subjects(frame: pd.DataFrame, card: DatasetCard, num: int) -> list[int]:
    """Choose `num` rows from as many subjects as possible, evenly spaced over each subject's windows."""
    if "electrode" in frame:
        electrodes = set(frame["electrode"])
        shown = next((name for name in (*PREFERRED, *card.channels) if name in electrodes), None)
        frame = frame[frame["electrode"] == shown] if shown else frame
    subjects = [rows for _, rows in frame.groupby("subject").groups.items()] if "subject" in frame else [frame.index]
    subjects = subjects or [frame.index]
    chosen = [subjects[index] for index in evenly_spaced(len(subjects), num)]
    rounds = -(-num // len(chosen))
    picked = [[int(rows[index]) for index in evenly_spaced(len(rows), rounds)] for rows in chosen]
    round_robin = [rows[number] for number in range(rounds) for rows in picked if number < len(rows)]
    return sorted(round_robin[:num])


def spread_over_windows(frame: pd.DataFrame, groups: Mapping[str, pd.Index], num: int) -> dict[int, str]:
    """Row → label of the examples of up to `num` windows of each label, evenly spaced."""
    label_of: dict[int, str] = {}
    keys = [name for name in ("dataset", "recording", "window") if name in frame]
    for label, rows in groups.items():
        # Whole windows: every n-th row could always be the same electrode.
        windows = (
            [list(each) for each in frame.loc[rows].groupby(keys, dropna=False).groups.values()]
            if keys
            else [[r] for r in rows]
        )
        label_of |= {int(row): label for index in evenly_spaced(len(windows), num) for row in windows[index]}
    return label_of


def read_examples(root: Path, card: DatasetCard, rows: Iterable[int]) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield rows (n,) and tensors (n, C, H, W) of the training split, sorted, one row group at a time."""
    column, start, rows = card.representation["column"], 0, np.unique(list(rows))
    for path in split_files(root, "train"):
        file = pq.ParquetFile(path)
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            here = rows[(rows >= start) & (rows < start + count)]
            if len(here):
                table = file.read_row_group(group, columns=[column])
                yield here, torch.from_numpy(as_array(table.column(0), card.shape)[here - start]).float()
            start += count
