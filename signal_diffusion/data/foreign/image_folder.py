"""Write samples as a folder of images, which `datasets` (as an "imagefolder") and `foreign` can read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from signal_diffusion.data.foreign.folder_rows import METADATA

__all__ = ["eight_bits", "write_images"]


def write_images(folder: Path, images: Iterable[np.ndarray], frame: pd.DataFrame) -> None:
    """Write images, (H, W) or (H, W, 3) uint8, as one PNG each, and a table: `file_name` and the columns of `frame`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{index:06d}.png" for index in range(len(frame))]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)
    pd.concat([pd.Series(names, name="file_name"), frame], axis=1).to_csv(folder / METADATA, index=False)


def eight_bits(image: Tensor) -> np.ndarray:
    """An image, (H, W) or (H, W, 3), from [-1, 1] to 0 … 255; values outside are clipped."""
    return ((image.float().clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
