"""Settings of torch.compile, to be made once before it compiles anything."""

from __future__ import annotations

import torch

__all__ = ["allow_many_shapes"]


def allow_many_shapes() -> None:
    """Let torch.compile recompile a function for up to 64 kinds of inputs.

    Each level needs its own kernel, and so does each batch size of validation and previews. That exceeds torch's
    default limit of 8, beyond which it silently runs the function uncompiled.
    """
    torch._dynamo.config.recompile_limit = 64
