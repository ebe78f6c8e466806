"""Write samples as a folder of images, which `datasets` (as an "imagefolder") and `foreign` can read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from PIL import Image
from torch import Tensor

from signal_diffusion.data.foreign.folder_rows import METADATA
from signal_diffusion.data.representations.representation import Representation

__all__ = ["write_images"]


def write_images(folder: Path, tensors: Tensor, frame: pd.DataFrame, representation: Representation) -> None:
    """Write one PNG per sample of (N, C, H, W), 8 bits for values from -1 to 1, and a table with `file_name` first.

    One channel is grey, as shown by `Representation.picture` (the tensor itself, except for time series). Three
    channels are red, green and blue.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{index:06d}.png" for index in range(len(tensors))]
    for name, tensor in zip(names, tensors, strict=True):
        image = tensor.permute(1, 2, 0) if len(tensor) == 3 else representation.picture(tensor)
        levels = ((image.float().clamp(-1, 1) + 1) * 127.5).round().byte()
        Image.fromarray(levels.numpy()).save(folder / name)
    pd.concat([pd.Series(names, name="file_name"), frame], axis=1).to_csv(folder / METADATA, index=False)
