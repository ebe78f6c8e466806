"""Measure calls in turn in one process, so that other work on the machine affects all of them alike."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from signal_diffusion.training.peak_memory import bytes_used, reset_resident_peak, resident_peak

__all__ = ["BOTH_PASSES", "Call", "Row", "Variant", "compared", "in_turn", "peak_bytes", "row_of"]

Call = Callable[[], object]
BOTH_PASSES = 3
"""FLOPs of forward and backward pass divided by those of the first: the second has two products for each of it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The figures of one variant of one case."""

    case: str
    variant: str
    seconds: float
    """Median over rounds."""
    fastest: float
    slowest: float
    figures: dict[str, float] = field(default_factory=dict)
    """Others, by the names in `report.COLUMNS`."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to do the work of a case, and how much one call of it does."""

    name: str
    call: Call
    examples: int = 0
    flops: float = 0.0
    """Floating-point operations; 0 = not counted."""
    bytes: float = 0.0
    """Read and written in memory; 0 = not counted."""


def compared(
    case: str, variants: Sequence[Variant], ceilings: Sequence[Variant], *, device: torch.device, rounds: int
) -> list[Row]:
    """Rows of variants that do the same work, relative to the first, and then of the machine's ceilings.

    The first of `ceilings` is matrix products. All are called in turn, after a round that is not counted. Each
    variant is called once more to measure its memory.
    """
    everything = [*variants, *ceilings]
    seconds = in_turn({each.name: each.call for each in everything}, device=device, rounds=rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = []
    for each in everything:
        median, figures = medians[each.name], {}
        if each.examples:
            figures["examples_per_second"] = each.examples / median
        if each.flops:
            figures["flops_per_second"] = each.flops / median
        if each.bytes:
            figures["bytes_per_second"] = each.bytes / median
        if each not in ceilings:
            figures["times_first"] = median / medians[variants[0].name]
            if each.flops and ceilings:
                figures["share_of_products"] = each.flops / median / (ceilings[0].flops / medians[ceilings[0].name])
            if (peak := peak_bytes(each.call, device)) is not None:
                figures["peak_bytes"] = peak
        rows.append(row_of(f"{case}, on {device.type}", each.name, seconds[each.name], figures))
    return rows


def row_of(case: str, variant: str, seconds: Sequence[float], figures: Mapping[str, float]) -> Row:
    """A row of the seconds of each round."""
    return Row(
        case=case,
        variant=variant,
        seconds=statistics.median(seconds),
        fastest=min(seconds),
        slowest=max(seconds),
        figures=dict(figures),
    )


def in_turn(calls: Mapping[str, Call], *, device: torch.device, rounds: int) -> dict[str, list[float]]:
    """The seconds that each call takes in each round, after a round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            if round_ > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def peak_bytes(call: Call, device: torch.device) -> int | None:
    """Peak memory of a call, above what was in use before it; None on a CPU whose system does not report it."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    if sys.platform != "linux":
        return None
    before = bytes_used(device)
    try:
        reset_resident_peak()
    except OSError:
        return None
    call()
    return max(0, resident_peak() - before)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
