"""A model on a fixed list of examples, by the work of all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

__all__ = ["in_eval_mode", "of_each"]


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Have a model in eval mode for a while, and in the mode that it was in after that."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def of_each(
    count: int,
    batch_size: int,
    accelerator: Accelerator,
    poll: Callable[[], None],
    batch: Callable[[np.ndarray], Tensor],
) -> Tensor:
    """What `batch` says of positions 0 to `count` - 1, (count, …) float64 on the CPU, in their order.

    On every process; `poll` is called before each batch, equally often on all of them, and may raise.
    """
    share = -(-count // accelerator.num_processes)  # the last process repeats, and is cut off
    own = np.minimum(np.arange(share) + accelerator.process_index * share, count - 1)
    parts = []
    for start in range(0, share, batch_size):
        poll()
        parts.append(batch(own[start : start + batch_size]))
    return accelerator.gather(torch.cat(parts)).cpu()[:count].double()
