"""What torch's compiler has to be told, once, before it compiles."""

from __future__ import annotations

import torch

__all__ = ["allow_many_shapes"]


def allow_many_shapes() -> None:
    """Have a function compiled anew for up to 64 kinds of inputs.

    There is a kernel for each level, and those again for validation and previews, with their batches: over torch's 8,
    after which it leaves a function as it is, without a word.
    """
    torch._dynamo.config.recompile_limit = 64
