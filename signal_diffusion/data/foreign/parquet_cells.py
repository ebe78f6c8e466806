"""One cell of a Parquet file: an encoded image, or a signal in nested lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from signal_diffusion.data.representations.pictures import RawImage
from signal_diffusion.errors import UserError

__all__ = ["image_or_signal"]


def image_or_signal(value: Any, where: str) -> RawImage:
    """Read a cell: an encoded image (bytes, or Hugging Face's struct of bytes and path), or nested lists of numbers."""
    value = value.value if isinstance(value, pa.ExtensionScalar) else value
    if pa.types.is_struct(value.type):
        content = value.as_py() or {}
        if content.get("bytes") is not None:
            return content["bytes"]
        if content.get("path"):
            raise UserError(f"{where}: only the path {content['path']!r}; expected the image itself, as bytes")
    elif value.is_valid and _is_list(value.type):
        return _nested(value.values, where)
    elif value.is_valid and (pa.types.is_binary(value.type) or pa.types.is_large_binary(value.type)):
        return value.as_py()
    raise UserError(
        f"{where}: expected an image or a signal, found {value.type if value.is_valid else 'nothing'}; remove the row"
    )


def _nested(values: pa.Array, where: str) -> np.ndarray:
    """Convert nested lists to one float32 array, without a Python object per value."""
    shape = [len(values)]
    while isinstance(values, pa.ExtensionArray) or _is_list(values.type):
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
            continue
        inner = values.flatten()
        if len(values) == 0 or len(inner) % len(values) or len(set(values.value_lengths().to_pylist())) > 1:
            raise UserError(f"{where}: lists have different lengths; expected the same length in all rows")
        shape.append(len(inner) // len(values))
        values = inner
    try:
        return values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(shape)
    except (TypeError, ValueError):
        raise UserError(f"{where}: expected lists of numbers, found {values.type}") from None


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
