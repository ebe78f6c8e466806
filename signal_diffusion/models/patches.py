"""Patches of an example, which may overlap in its columns: in time, if the example is a signal or a spectrogram."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

__all__ = ["Patches"]


class Patches(nn.Module):
    """Cut examples into patches, and join patches to examples.

    With `overlap`, a patch also has half of the columns of the patch before it and of the one after it (zeros outside
    of the example), and joined patches are cross-faded there with weights that add to 1, so nothing jumps at borders.

    Parameters
    ----------
    size
        Rows and columns that a patch would have without overlap.
    """

    fade: Tensor

    def __init__(self, size: tuple[int, int], *, overlap: bool = False) -> None:
        super().__init__()
        self.size = size
        self.margin = margin = size[1] // 2 if overlap else 0
        rise = torch.sin(math.pi / 2 * (torch.arange(2 * margin) + 0.5) / (2 * margin)).square()
        fade = torch.cat([rise, torch.ones(size[1] - 2 * margin), rise.flip(0)]) if margin else torch.empty(0)
        self.register_buffer("fade", fade, persistent=False)

    @property
    def num_values(self) -> int:
        """Rows × columns of a patch, with those that it shares."""
        return self.size[0] * (self.size[1] + 2 * self.margin)

    def cut(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → patches (B, N, C·values), row by row."""
        x = F.pad(x, (self.margin, self.margin)).unflatten(2, (-1, self.size[0]))
        x = x.unfold(-1, self.size[1] + 2 * self.margin, self.size[1])  # (B, C, rows, ph, columns, pw)
        return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def join(self, patches: Tensor, shape: Sequence[int]) -> Tensor:
        """Examples of `shape` (B, C, H, W) from patches (B, N, C·values); without overlap, the inverse of `cut`."""
        batch, channels, height, width = shape
        (ph, pw), margin = self.size, self.margin
        x = patches.reshape(batch, height // ph, width // pw, channels, ph, pw + 2 * margin).permute(0, 3, 1, 4, 2, 5)
        if not margin:
            return x.reshape(shape)
        x = x * self.fade
        before, own, after = x[..., :margin], x[..., margin : margin + pw], x[..., margin + pw :]
        # the margins of the outermost patches are outside of the example: there, their own values count fully
        fade = self.fade[margin : 2 * margin]
        first, last = own[..., :1, :margin] / fade, own[..., -1:, -margin:] / fade.flip(0)
        starts = torch.cat([first, own[..., 1:, :margin] + after[..., :-1, :]], dim=-2)
        ends = torch.cat([own[..., :-1, -margin:] + before[..., 1:, :], last], dim=-2)
        return torch.cat([starts, own[..., margin : pw - margin], ends], dim=-1).reshape(shape)
