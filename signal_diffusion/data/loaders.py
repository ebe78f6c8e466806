"""Batches: a split that is read by lists of indices, and an order of examples that can start at any step.

A split that fits in memory is one tensor; a larger one stays on disk, memory-mapped, and is read in blocks of a few MiB
(`ExampleOrder.block`), so that a disk or a network that is slow at single examples keeps up. The examples of step `s`
are computed from (seed, s), so a resumed run continues at the right place without fast-forwarding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from signal_diffusion.data.dataset import MappedTensors
from signal_diffusion.data.flat import NAMING, name_of
from signal_diffusion.errors import UserError
from signal_diffusion.randomness import Purpose, generator_for

if TYPE_CHECKING:
    from signal_diffusion.data.streaming import StreamedTensors

__all__ = ["Batch", "ExampleOrder", "Examples", "batches", "evenly_spaced"]

Batch = tuple[Tensor, dict[str, Tensor]]

LARGEST_IN_MEMORY = 4 * 2**30
"""Bytes of a split; each process of a run has its own copy of it."""
BLOCK_BYTES = 2**23
"""Of examples that are neighbours in a large split, and in the row groups of its files."""
BLOCKS_MIXED = 16
"""Blocks that examples are drawn from at a time."""


class Examples:
    """One split, read by lists of indices.

    Parameters
    ----------
    split
        Result of `data.dataset.open_split`.
    shape
        Shape (C, H, W) of one example.
    tensor
        Name of the column of tensors.
    attributes
        Name → (column, category names or a map from value to code; None for a numeric attribute).
    memory_limit_mb
        A split larger than this many MiB stays on disk, memory-mapped; None = 4 GiB or, if that is less, a quarter of
        the free memory.
    subset
        Rows to use; None = all.
    may_lack
        Rows of an example (electrodes) that may be absent, all NaN.
    streamed
        The tensors, if they are not in the split but read from a network.
    """

    _tensors: MappedTensors | Tensor
    in_memory: bool
    """Whether the tensors are in memory."""
    block: int | None
    """Examples of a block, for `ExampleOrder`; None for a split of at most 4 GiB, whatever memory is free."""
    is_streamed = False
    """Whether the tensors are read from a network."""

    def __init__(
        self,
        split: Any,
        *,
        shape: tuple[int, ...],
        tensor: str = "image",
        attributes: Mapping[str, tuple[str, Sequence[str] | Mapping[Any, int] | None]],
        memory_limit_mb: int | None = None,
        subset: Sequence[int] | None = None,
        may_lack: Sequence[int] = (),
        streamed: StreamedTensors | None = None,
    ) -> None:
        self.shape, self._may_lack = shape, list(may_lack)
        self.attributes = {name: _attribute(split, column, names) for name, (column, names) in attributes.items()}
        self._rows = np.arange(len(split)) if subset is None else np.asarray(subset)
        self._split, self._rows_of_split = split, self._rows
        if streamed is None:
            self._read(MappedTensors(split.data.column(tensor), shape), memory_limit_mb)
        else:
            self._tensors, self.in_memory, self.is_streamed = streamed, False, True
            self.block = self._examples_in(streamed.block, streamed)

    def with_tensors(self, tensors: MappedTensors, memory_limit_mb: int | None) -> Examples:
        """Copy with the same order and attributes but other tensors, one per example."""
        assert len(tensors) == len(self)
        other = copy.copy(self)
        rows = torch.from_numpy(self._rows)
        other.attributes = {name: values[rows] for name, values in self.attributes.items()}
        other.shape, other._rows, other.is_streamed = tensors.shape, np.arange(len(self)), False
        other._read(tensors, memory_limit_mb)
        return other

    def _read(self, tensors: MappedTensors, memory_limit_mb: int | None) -> None:
        size = len(self._rows) * int(np.prod(tensors.shape)) * tensors.dtype.itemsize
        if memory_limit_mb is None:
            limit = min(LARGEST_IN_MEMORY, psutil.virtual_memory().available // 4)
        else:
            limit = memory_limit_mb * 2**20
        self.in_memory = size <= limit
        rows = BLOCK_BYTES // (int(np.prod(tensors.shape)) * tensors.dtype.itemsize)
        self.block = self._examples_in(rows, tensors) if size > LARGEST_IN_MEMORY else None
        self._tensors = torch.from_numpy(tensors[self._rows]) if self.in_memory else tensors

    def _examples_in(self, rows: int, tensors: MappedTensors) -> int:
        """How many of the examples, which are spread evenly, are in so many rows."""
        return max(1, rows * len(self._rows) // len(tensors))

    def __len__(self) -> int:
        return len(self._rows)

    def column(self, name: str, indices: Sequence[int]) -> list[Any] | None:
        """The values of a column of the dataset for some examples; None if there is no such column."""
        if name not in self._split.column_names:
            return None
        values = list(self._split.select_columns([name]).with_format(None)[name])
        return [values[self._rows_of_split[index]] for index in indices]

    def not_finite(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """The names of those examples that have values that are not finite, as far as the dataset has names."""
        x, _ = self[indices]  # type: ignore[index]
        finite = torch.isfinite(x)
        finite[:, :, self._may_lack] |= x[:, :, self._may_lack].isnan().all(-1, keepdim=True)
        bad = np.asarray(indices)[~finite.flatten(1).all(dim=1).numpy()]
        return [self._name(int(self._rows_of_split[index])) for index in dict.fromkeys(bad.tolist())]

    def _name(self, row: int) -> str:
        columns = [name for name in NAMING if name in self._split.column_names]
        values = self._split.select_columns(columns).with_format(None)[row]
        names = getattr(self._split.features.get("electrode"), "names", ())
        return name_of({name: [value] for name, value in values.items()}, 0, names) or f"row {row}"

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        """Examples (B, C, H, W) in float32 and their attributes (B,), in the order of `indices`."""
        where = np.asarray(indices)
        rows = self._rows[where]
        if isinstance(self._tensors, Tensor):
            x = self._tensors[torch.from_numpy(where)]
        else:
            x = torch.from_numpy(self._tensors[rows])
        return x.float(), {name: values[torch.from_numpy(rows)] for name, values in self.attributes.items()}


def _attribute(split: Any, column: str, names: Sequence[str] | Mapping[Any, int] | None) -> Tensor:
    """Convert a column to (N,): int64 codes with -1 for unknown, or float32 with NaN for unknown."""
    values = split.with_format(None)[column]
    if names is None:
        return torch.tensor([float("nan") if value is None else value for value in values], dtype=torch.float32)
    index: dict[Any, int] = {None: -1}
    if isinstance(names, Mapping):
        index |= names
    else:
        index |= {name: i for i, name in enumerate(names)} | {i: i for i in range(len(names))}
    try:
        return torch.tensor([index[value] for value in values], dtype=torch.int64)
    except KeyError as error:
        raise UserError(
            f"column {column!r}: found {error.args[0]!r}, expected one of {', '.join(map(str, names))} as in the card"
        ) from None


def evenly_spaced(total: int, limit: int | None) -> list[int]:
    """Pick `limit` indices evenly spaced over `total`; all of them if `limit` is None, 0 or not smaller."""
    if not limit or limit >= total:
        return list(range(total))
    return np.linspace(0, total, limit, endpoint=False).astype(int).tolist()


@dataclass(frozen=True, kw_only=True, eq=False)
class ExampleOrder:
    """Which examples each optimizer step uses.

    An epoch is a permutation seeded with (seed, epoch), cut into steps of `batch_size × num_processes ×
    accumulation` examples; batch m of process r is slice `m · num_processes + r` of its step. So two processes
    together see the same examples as one process with twice the accumulation.

    With `weights` an epoch has the same number of examples, sampled in proportion to their weights: example i occurs
    N · w_i / Σw times, randomly rounded down or up.

    With `block`, an epoch is the blocks of a split in random order, in which each example is delayed at random, by up
    to `BLOCKS_MIXED` blocks, so that it meets those of many blocks. If `is_apart`, each process has a stretch of these
    blocks: a block is read by one process, or by two where their stretches meet, whatever their number. Then two
    processes see other examples than one.
    """

    num_examples: int
    batch_size: int
    accumulation: int = 1
    num_processes: int = 1
    process_index: int = 0
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = True
    weights: np.ndarray | None = None
    """Weights of the examples (N,), positive; None = uniform. Ignored without `shuffle`."""
    block: int | None = None
    """Neighbouring examples that are read together; None = each by itself. Ignored with `weights`."""
    is_apart: bool = False
    """Whether processes read different blocks, as they do from a network."""

    @property
    def examples_per_step(self) -> int:
        """Examples per optimizer step, over all processes."""
        return self.batch_size * self.accumulation * self.num_processes

    @property
    def parts(self) -> list[tuple[int, int]]:
        """For each batch of this process in a step, its number among those of all processes, and how many these are."""
        count = self.accumulation * self.num_processes
        return [(index, count) for index in range(self.process_index, count, self.num_processes)]

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch; an incomplete last step counts unless `drop_last`."""
        whole, rest = divmod(self.num_examples, self.examples_per_step)
        return whole + bool(rest and not self.drop_last)

    def indices(self, step: int) -> list[np.ndarray]:
        """Index lists of this process for step `step` (from 0), one per accumulated batch."""
        epoch, offset = divmod(step, self.steps_per_epoch)
        start = offset * self.examples_per_step
        order = _order(self, epoch)
        step_indices = order[np.arange(start, start + self.examples_per_step) % len(order)]
        slices = step_indices.reshape(self.accumulation, self.num_processes, self.batch_size)
        return list(slices[:, self.process_index])

    def stream(self, first: int, last: int) -> Iterator[list[int]]:
        """Yield the index lists of steps `first` to `last - 1`."""
        for step in range(first, last):
            for indices in self.indices(step):
                yield indices.tolist()


@lru_cache(maxsize=2)
def _order(order: ExampleOrder, epoch: int) -> np.ndarray:
    if not order.shuffle:
        return np.arange(order.num_examples)
    generator = generator_for(Purpose.ORDER, order.seed, epoch)
    if order.block is not None and order.weights is None:
        return _in_blocks(order, order.block, generator)
    shuffled = torch.randperm(order.num_examples, generator=generator)
    if order.weights is None:
        return shuffled.numpy()
    # Systematic sampling: equally spaced pointers into the cumulative weights, sorted so that equal weights are
    # adjacent. Each example and each group then occurs its expected number of times, up to rounding; independent
    # sampling would leave out a third of the examples.
    weights = torch.from_numpy(order.weights).double()
    shuffled = shuffled[weights[shuffled].argsort(stable=True)]
    weights = weights[shuffled]
    edges = weights.cumsum(0) * (order.num_examples / weights.sum())
    pointers = torch.arange(order.num_examples) + torch.rand((), generator=generator, dtype=torch.float64)
    chosen = torch.searchsorted(edges, pointers, right=True).clamp(max=order.num_examples - 1)
    return shuffled[chosen][torch.randperm(order.num_examples, generator=generator)].numpy()


def _in_blocks(order: ExampleOrder, block: int, generator: torch.Generator) -> np.ndarray:
    stretches = order.num_processes if order.is_apart else 1
    blocks = torch.randperm(-(-order.num_examples // block), generator=generator)
    rows = (block * blocks[:, None] + torch.arange(block)).flatten()
    rows = rows[rows < order.num_examples]  # the last block may be smaller
    used = torch.arange(order.steps_per_epoch * order.examples_per_step) % order.num_examples
    rows = rows[used].view(stretches, -1)
    delays = block * BLOCKS_MIXED * torch.rand(rows.shape, generator=generator, dtype=torch.float64)
    rows = rows.gather(1, (torch.arange(rows.shape[1]) + delays).argsort(1))
    steps = rows.view(stretches, order.steps_per_epoch, order.accumulation, -1)
    return steps.permute(1, 2, 0, 3).flatten().numpy()


class _Stream:
    """Iterable of index lists, passed to DataLoader as its `sampler`."""

    def __init__(self, order: ExampleOrder, first: int, last: int) -> None:
        self._arguments = (order, first, last)

    def __iter__(self) -> Iterator[list[int]]:
        order, first, last = self._arguments
        return order.stream(first, last)


def batches(
    examples: Examples, order: ExampleOrder, first: int, last: int, *, num_workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """Iterate over this process's batches for steps `first` to `last - 1`, `order.accumulation` per step."""
    loader: DataLoader[Batch] = DataLoader(
        examples,  # type: ignore[arg-type]  # DataLoader only needs __getitem__, here with a list of indices
        sampler=_Stream(order, first, last),
        batch_size=None,
        # In memory, indexing a tensor is faster than copying batches between processes.
        # Each worker keeps row groups of its own, so several would read every group several times.
        num_workers=0 if examples.in_memory else min(1, num_workers) if examples.is_streamed else num_workers,
        pin_memory=pin_memory,
    )
    return iter(loader)
