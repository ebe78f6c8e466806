"""What [debug] shows of a run: a trace of a few steps, and the gradient of each block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.profiler import ProfilerActivity, profile, schedule, tensorboard_trace_handler

from signal_diffusion.config.warnings import TRACED_STEPS
from signal_diffusion.training.tracking import Histogram

__all__ = ["BlockGradients", "traced"]

SKIPPED, WARM_UP = 2, 2
EXPONENTS, EDGES_PER_DECADE = (-12, 4), 4
"""The edges of histograms: powers of ten on either side of 0."""


@contextmanager
def traced(folder: Path | None, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Profile some steps, warm by then, into `folder`; None = nothing at all.

    Gives what has to be called after each step. A run that ends while it is traced leaves what there is.
    """
    if folder is None:
        yield lambda: None
        return
    write = tensorboard_trace_handler(str(folder))

    def write_and_say(profiler: profile) -> None:
        write(profiler)
        newest = max(folder.glob("*.pt.trace.json"), key=lambda path: path.stat().st_mtime_ns)
        say(f"traced      {newest}  (TensorBoard's profile plugin, chrome://tracing or ui.perfetto.dev)")

    devices = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    steps = schedule(wait=SKIPPED, warmup=WARM_UP, active=TRACED_STEPS - SKIPPED - WARM_UP, repeat=1)
    with profile(
        activities=[ProfilerActivity.CPU, *devices], schedule=steps, on_trace_ready=write_and_say, record_shapes=True
    ) as profiler:
        yield profiler.step


class BlockGradients:
    """Norm and histogram of the gradient of each block of a network, and of all else in it, "other".

    `measure` leaves what it finds on the device; reading that is what waits.
    """

    def __init__(self, model: nn.Module, blocks: nn.ModuleList, device: torch.device) -> None:
        places = {id(weight): index for index, block in enumerate(blocks) for weight in block.parameters()}
        digits = len(str(len(blocks) - 1))
        names = [*(f"gradients/block-{index:0{digits}}" for index in range(len(blocks))), "gradients/other"]
        found: dict[str, list[nn.Parameter]] = {name: [] for name in names}
        for weight in model.parameters():
            if weight.requires_grad:
                found[names[places.get(id(weight), -1)]].append(weight)
        self._blocks = {name: weights for name, weights in found.items() if weights}
        positive = torch.logspace(*EXPONENTS, (EXPONENTS[1] - EXPONENTS[0]) * EDGES_PER_DECADE + 1)
        self._edges = torch.cat([-positive.flip(0), positive]).to(device)
        self._found: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def measure(self) -> None:
        """Take up the gradients as they are now."""
        gradients = {name: [w.grad for w in weights if w.grad is not None] for name, weights in self._blocks.items()}
        self._found = {name: (get_total_norm(each), self._counts(each)) for name, each in gradients.items() if each}

    def norms(self) -> dict[str, float]:
        """The norms by name; waits for the device."""
        return {name: norm.item() for name, (norm, _) in self._found.items()}

    def histograms(self) -> dict[str, Histogram]:
        """The histograms by name, of gradients that are finite; waits for the device."""
        edges = self._edges.tolist()
        return {
            name: Histogram(edges=edges, counts=counts.tolist(), norm=norm.item())
            for name, (norm, counts) in self._found.items()
            if torch.isfinite(norm)
        }

    def _counts(self, gradients: list[Tensor]) -> Tensor:
        """How many values lie above one edge and not above the next (edges,); the last has all that are larger."""
        counts = torch.zeros(len(self._edges), dtype=torch.int64, device=self._edges.device)
        for gradient in gradients:
            places = torch.bucketize(gradient.float().flatten(), self._edges).clamp_(max=len(counts) - 1)
            counts += torch.bincount(places, minlength=len(counts))
        return counts
