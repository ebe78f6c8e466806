"""Diagnostics of a run for [debug]: a profiler trace of a few steps, and the gradients of each block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, schedule, tensorboard_trace_handler

from signal_diffusion.config.warnings import TRACED_STEPS
from signal_diffusion.models.sharding import local, norms_of, summed
from signal_diffusion.training.tracking import Histogram

__all__ = ["BlockGradients", "traced"]

SKIPPED, WARM_UP = 2, 2
EXPONENTS, EDGES_PER_DECADE = (-12, 4), 4
"""Histogram edges lie between 10^-12 and 10^4 on either side of 0."""


@contextmanager
def traced(folder: Path | None, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Profile a few steps after warm-up and write the trace into `folder`; None = no profiling.

    Yields a function to call after each step. If the run ends during the traced steps, the trace has the steps so far.
    """
    if folder is None:
        yield lambda: None
        return
    write = tensorboard_trace_handler(str(folder))

    def write_and_report(profiler: profile) -> None:
        write(profiler)
        newest = max(folder.glob("*.pt.trace.json"), key=lambda path: path.stat().st_mtime_ns)
        say(f"trace       {newest}  (open in TensorBoard's profile plugin, chrome://tracing or ui.perfetto.dev)")

    devices = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    steps = schedule(wait=SKIPPED, warmup=WARM_UP, active=TRACED_STEPS - SKIPPED - WARM_UP, repeat=1)
    with profile(
        activities=[ProfilerActivity.CPU, *devices], schedule=steps, on_trace_ready=write_and_report, record_shapes=True
    ) as profiler:
        yield profiler.step


class BlockGradients:
    """Norm and histogram of the gradient of each block of a network, and of all its other parameters ("other").

    `measure` leaves its results on the device, without waiting; `norms` and `histograms` wait.
    """

    def __init__(self, model: nn.Module, blocks: nn.ModuleList, device: torch.device) -> None:
        block_of = {id(weight): index for index, block in enumerate(blocks) for weight in block.parameters()}
        digits = len(str(len(blocks) - 1))
        names = [*(f"gradients/block-{index:0{digits}}" for index in range(len(blocks))), "gradients/other"]
        weights_of: dict[str, list[nn.Parameter]] = {name: [] for name in names}
        for weight in model.parameters():
            if weight.requires_grad:
                weights_of[names[block_of.get(id(weight), -1)]].append(weight)
        self._blocks = {name: weights for name, weights in weights_of.items() if weights}
        positive = torch.logspace(*EXPONENTS, (EXPONENTS[1] - EXPONENTS[0]) * EDGES_PER_DECADE + 1)
        self._edges = torch.cat([-positive.flip(0), positive]).to(device)
        self._measured: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def measure(self) -> None:
        """Measure the current gradients."""
        gradients = {name: [w.grad for w in weights if w.grad is not None] for name, weights in self._blocks.items()}
        self._measured = {
            name: (torch.linalg.vector_norm(norms_of(each)), self._counts(each))
            for name, each in gradients.items()
            if each
        }

    def norms(self) -> dict[str, float]:
        """The norms by name; waits for the device."""
        return {name: norm.item() for name, (norm, _) in self._measured.items()}

    def histograms(self) -> dict[str, Histogram]:
        """The histograms of finite gradients, by name; waits for the device."""
        edges = self._edges.tolist()
        return {
            name: Histogram(edges=edges, counts=counts.tolist(), norm=norm.item())
            for name, (norm, counts) in self._measured.items()
            if torch.isfinite(norm)
        }

    def _counts(self, gradients: list[Tensor]) -> Tensor:
        """Count the values up to each edge and above the one before it (edges,); the last bin has all larger values."""
        counts = torch.zeros(len(self._edges), dtype=torch.int64, device=self._edges.device)
        for gradient in local(gradients):
            bins = torch.bucketize(gradient.float().flatten(), self._edges).clamp_(max=len(counts) - 1)
            counts += torch.bincount(bins, minlength=len(counts))
        return summed(counts, gradients)
