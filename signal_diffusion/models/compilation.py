"""Compiling networks with torch.compile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["allow_many_shapes", "compile_blocks", "uncompiled"]


def allow_many_shapes() -> None:
    """Let torch.compile recompile a function for up to 64 kinds of inputs.

    Each level needs its own kernel, and so does each batch size of validation and previews. That exceeds torch's
    default limit of 8, beyond which it silently runs the function uncompiled.
    """
    torch._dynamo.config.recompile_limit = 64


def compile_blocks(blocks: nn.ModuleList, mode: str, *, many_shapes: bool = False) -> None:
    """Compile each block in place, when it is called next, so that the names of weights get no prefix.

    With `many_shapes`, sizes that vary are compiled as variables, instead of again for each.
    """
    allow_many_shapes()
    for block in blocks:
        block.compile(mode=mode, fullgraph=True, dynamic=None if many_shapes else False)


@contextmanager
def uncompiled(blocks: nn.ModuleList) -> Iterator[None]:
    """Inside this context, call the blocks as they were before `compile_blocks`."""
    compiled = [block._compiled_call_impl for block in blocks]
    for block in blocks:
        block._compiled_call_impl = None
    try:
        yield
    finally:
        for block, call in zip(blocks, compiled, strict=True):
            block._compiled_call_impl = call
