"""Folders of images and Parquet files that are converted, and what they become."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.loaders import Examples
from signal_diffusion.experiment.dataset import dataset_of

SPLITS = ("train", "validation")
ABOUT = {"sampling_rate": 250.0, "ch_names": ["Fz", "Cz", "Pz"], "unit": "µV"}


def pixels(seed: int, *shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    return buffer.getvalue()


def write_parquet(root: Path, column: str, values: list[Any], **others: list[Any]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        pq.write_table(pa.table({column: values, **others}), root / f"{split}.parquet")
    return root


def signals(count: int = 6) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((count, 3, 128)) * 20).astype(np.float32)


def write_signals(path: Path, about: dict[str, Any], **others: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {key: value if isinstance(value, bytes) else json.dumps(value) for key, value in about.items()}
    others = {"signal": signals().tolist(), **others}
    pq.write_table(pa.table(others).replace_schema_metadata(metadata), path)


def opened(**data: Any) -> tuple[Path, DatasetCard, schema.Data]:
    data = {"representation": "image", **data}
    dataset = dataset_of(schema.Data(**data))
    return dataset.root, dataset.card, dataset.data


def root_of(path: Path | str) -> schema.Paths:
    return schema.Paths(root=str(path))


def tensors_of(root: Path, card: DatasetCard, split: str) -> torch.Tensor:
    examples = Examples(open_split(root, split), shape=card.shape, tensor=card.representation["column"], attributes={})
    return examples[list(range(len(examples)))][0]
