"""Measure our networks and kernels on this machine's CPU, next to others of the same size.

    uv run python scripts/model_speed.py [dit|hourglass|localmamba|attention|scan|scaling|all] [--precision bf16|fp32]
    PYTHONPATH=<source of k-diffusion> uv run python scripts/model_speed.py hourglass

Variants take turns in one process, and each figure is the median over rounds, so that other load on the machine affects
all of them alike. A training step is forward, backward and AdamW, as in the trainer. On a CPU without bf16, which torch
emulates, our steps are in fp32, as in a run; "ours, emulated" is comparable with the others, which are emulated too.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.models.attention.neighbourhood import neighbourhood_attention
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.dit import DiTArchitecture
from signal_diffusion.models.flops import forward_flops
from signal_diffusion.models.hourglass import HourglassArchitecture
from signal_diffusion.models.localmamba import LocalMambaArchitecture
from signal_diffusion.models.registry import build
from signal_diffusion.models.selective_scan import operator
from signal_diffusion.models.selective_scan.operator import selective_scan
from signal_diffusion.training.device import cpu_has_bf16
from signal_diffusion.training.optimizers import build_optimizer

__all__ = ["main"]

Step = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """The figures of one variant of one case."""

    part: str
    case: str
    variant: str
    seconds: float
    """Median over rounds."""
    times_ours: float | None = None
    """`seconds` divided by those of the variant "ours"."""
    examples_per_second: float | None = None
    matmul_share: float | None = None
    """FLOP/s, taking a step as three forward passes, divided by the FLOP/s of this machine's matrix products."""
    peak_bytes: int | None = None
    """Peak memory during one call, minus the memory in use before it."""
    note: str = ""


def main(
    part: Annotated[
        Literal["dit", "hourglass", "localmamba", "attention", "scan", "scaling", "all"], typer.Argument()
    ] = "all",
    precision: Annotated[Literal["bf16", "fp32"], typer.Option(help="Autocast type of training steps.")] = "bf16",
    rounds: Annotated[int, typer.Option(min=1, help="Calls of each variant, after a warm-up call.")] = 5,
    compiled: Annotated[bool, typer.Option(help="Also measure compiled networks (takes a minute).")] = True,
    output: Annotated[Path | None, typer.Option("--json", help="JSON file for the figures.")] = None,
) -> None:
    """Measure one part or all of them."""
    bench = Bench(bf16=precision == "bf16", rounds=rounds, compiled=compiled)
    parts = ("dit", "hourglass", "localmamba", "attention", "scan", "scaling") if part == "all" else (part,)
    console, rows = Console(width=150), []
    console.print(f"{torch.get_num_threads()} threads, {precision}, medians of {rounds}, torch {torch.__version__}")
    for name in parts:
        found = list(getattr(bench, name)())
        console.print(_table(name, found))
        rows += found
    if output:
        output.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Bench:
    """The parts to measure; each yields its rows, with ours first in each case."""

    bf16: bool
    rounds: int
    compiled: bool

    def dit(self) -> Iterator[Row]:
        """Compare our DiT with that of diffusers: width 384, 6 layers, patches of 4 × 4."""
        from diffusers import DiTTransformer2DModel

        def theirs() -> nn.Module:
            return DiTTransformer2DModel(
                num_attention_heads=6,
                attention_head_dim=64,
                in_channels=1,
                num_layers=6,
                sample_size=64,
                patch_size=4,
                num_embeds_ada_norm=1,
            )

        def ours() -> Denoiser:
            table = DiTArchitecture(num_layers=6, num_attention_heads=6, attention_head_dim=64)
            return build("dit", table, shape=(1, 64, 64))

        batch, label = 8, torch.zeros(8, dtype=torch.int64)
        x, t = torch.randn(batch, 1, 64, 64), torch.rand(batch)

        def their_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
            return self.training_step(model, optimizer, lambda: model(x, 1000 * t, class_labels=label).sample)

        steps = self.our_steps(ours, x, t)
        model = theirs()
        steps["diffusers"] = their_step(model, torch.optim.AdamW(model.parameters(), lr=1e-4))
        model = theirs()
        steps["diffusers, fused AdamW"] = their_step(model, torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True))
        flops = forward_flops(ours(), x[:1], Conditioning())
        yield from self.networks("dit", "64×64, batch 8", steps, batch, flops, tokens=256 * batch, width=384)

    def hourglass(self) -> Iterator[Row]:
        """Compare our hourglass at its real size with that of k-diffusion, whose attention is global without NATTEN."""
        x, t = torch.randn(4, 1, 64, 64), torch.rand(4)
        table = HourglassArchitecture()
        steps = self.our_steps(lambda: build("hourglass", table, shape=(1, 64, 64)), x, t)
        try:
            other = _k_diffusion_hourglass(table)
        except ImportError as error:
            table = HourglassArchitecture(kernel_sizes=(0, 0, 0))
            other = build("hourglass", table, shape=(1, 64, 64))
            steps[f"global everywhere, ours ({error})"] = self.our_step(other, x, t)
        else:
            sigma = t.clamp(min=0.01)
            steps["k-diffusion, global"] = self.training_step(
                other, torch.optim.AdamW(other.parameters(), lr=1e-4), lambda: other(x, sigma)
            )
        flops = forward_flops(build("hourglass", HourglassArchitecture(), shape=(1, 64, 64)), x[:1], Conditioning())
        yield from self.networks("hourglass", "64×64, batch 4", steps, 4, flops, tokens=1024 * 4, width=64)

    def localmamba(self) -> Iterator[Row]:
        """Compare forward and backward passes of our localmamba, and steps of sampling, with scans in plain PyTorch."""
        cases = {"64×64": ((1, 64, 64), {}), "19×2048": ((1, 19, 2048), {"patch_size": (1, 8)})}
        for case, (shape, keys) in cases.items():
            model = build("localmamba", LocalMambaArchitecture(**keys), shape=shape, electrode_rows=shape[1] == 19)
            x, t = torch.randn(1, *shape), torch.rand(1)

            def train(model: Denoiser = model, x: Tensor = x, t: Tensor = t) -> None:
                model(x, t, Conditioning()).square().mean().backward()
                model.zero_grad()

            def sample(model: Denoiser = model, x: Tensor = x, t: Tensor = t) -> None:
                with torch.inference_mode():
                    model(x, t, Conditioning())

            flops, steps = (
                forward_flops(model, x, Conditioning()),
                {"ours": train, "scans in PyTorch": _without_numba(train)},
            )
            yield from self.networks("localmamba", case, steps, 1, flops, tokens=model.num_tokens, width=64)
            samples = {"ours": sample, "scans in PyTorch": _without_numba(sample)}
            yield from self.kernels("localmamba", f"{case}, a step of sampling", samples)

    def attention(self) -> Iterator[Row]:
        """Compare neighbourhood attention, forward and backward, with SDPA masked to the same neighbourhoods."""
        for height, width in ((64, 64), (32, 32), (20, 128)):
            dtype = torch.bfloat16 if self.bf16 else torch.float32
            q, k, v = (torch.randn(4, 1, height, width, 64, dtype=dtype, requires_grad=True) for _ in range(3))

            def ours(q: Tensor = q, k: Tensor = k, v: Tensor = v) -> None:
                torch.autograd.grad(neighbourhood_attention(q, k, v, (7, 7)).sum(), (q, k, v))

            def masked(q: Tensor = q, k: Tensor = k, v: Tensor = v) -> None:
                torch.autograd.grad(neighbourhood_attention(q, k, v, (7, 7), backend="dense").sum(), (q, k, v))

            yield from self.kernels("attention", f"{height}×{width}, k 7", {"ours": ours, "masked SDPA": masked})

    def scan(self) -> Iterator[Row]:
        """Compare the selective scan, forward and backward, with two plain loops; B 4, D 192, N 8."""
        for length in (512, 1024):
            u, delta, b, c = (torch.randn(4, n, length) for n in (192, 192, 8, 8))
            a, d, bias = -torch.rand(192, 8) - 0.1, torch.randn(192), torch.randn(192)
            inputs = [x.requires_grad_() for x in (u, delta, a, b[:, None], c[:, None], d, bias)]
            scans = {"ours": selective_scan, "loop after unbind": _loop_over_unbound}
            if length == 512:
                scans["loop with indexing"] = _loop_with_indexing
            calls = {
                name: lambda scan=scan, inputs=inputs: torch.autograd.grad(scan(*inputs).sum(), inputs)
                for name, scan in scans.items()
            }
            yield from self.kernels("scan", f"L {length}", calls)

    def scaling(self) -> Iterator[Row]:
        """Measure time and memory of a step at 1, 2 and 4 times the tokens, and fit their exponents."""
        tables = {"hourglass": HourglassArchitecture(), "localmamba": LocalMambaArchitecture()}
        shapes = ((1, 64, 64), (1, 64, 128), (1, 128, 128))
        for name, table in tables.items():
            models = [build(name, table, shape=shape) for shape in shapes]
            steps = {
                str(model.num_tokens): self.our_step(model, torch.randn(2, *shape), torch.rand(2))
                for model, shape in zip(models, shapes, strict=True)
            }
            seconds = self.medians(steps)
            peaks = [peak_bytes(step) for step in steps.values()]
            tokens = [model.num_tokens for model in models]
            time_exponent, memory_exponent = _exponent(tokens, [*seconds.values()]), _exponent(tokens, peaks)
            exponents = f"exponents: time {time_exponent:.2f}, memory {memory_exponent:.2f}"
            for (count, median), peak in zip(seconds.items(), peaks, strict=True):
                yield Row(
                    part="scaling",
                    case=name,
                    variant=f"{count} tokens",
                    seconds=median,
                    peak_bytes=peak,
                    examples_per_second=2 / median,
                    note=exponents,
                )

    def our_steps(self, build_one: Callable[[], Denoiser], x: Tensor, t: Tensor) -> dict[str, Step]:
        """Return training steps of one of our networks: as in a run, compiled, and in emulated bf16 if that differs."""
        steps = {"ours": self.our_step(build_one(), x, t)}
        if self.compiled:
            steps["ours, compiled"] = self.our_step(_compiled(build_one()), x, t)
        if self.bf16 and not cpu_has_bf16():
            steps["ours, emulated"] = self.our_step(build_one(), x, t, emulated=True)
        return steps

    def our_step(self, model: Denoiser, x: Tensor, t: Tensor, *, emulated: bool = False) -> Step:
        """Return a training step of one of our networks, with the trainer's optimizer."""
        optimizer, bf16 = build_optimizer(model, schema.Optimizer()), self.bf16 and (emulated or cpu_has_bf16())
        return self.training_step(model, optimizer, lambda: model(x, t, Conditioning()), bf16=bf16)

    def training_step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        forward: Callable[[], Tensor],
        *,
        bf16: bool | None = None,
    ) -> Step:
        """Return a function that runs forward, backward and an optimizer step."""
        enabled = self.bf16 if bf16 is None else bf16

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                prediction = forward()
            prediction.float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        model.train()
        return step

    def networks(
        self, part: str, case: str, steps: dict[str, Step], batch: int, flops: int, *, tokens: int, width: int
    ) -> Iterator[Row]:
        """Yield rows of training steps and of the matrix products to compare them with; `flops` are those of ours."""
        products = _products(tokens, width, torch.bfloat16 if self.bf16 else torch.float32)
        seconds = self.medians({**steps, "products": lambda: [a @ b for a, b in products]})
        rate = sum(2 * len(a) * b.numel() for a, b in products) / seconds["products"]
        for name in steps:
            share = 3 * flops * batch / seconds[name] / rate if name.startswith(("ours", "diffusers")) else None
            yield Row(
                part=part,
                case=case,
                variant=name,
                seconds=seconds[name],
                times_ours=seconds[name] / seconds["ours"],
                examples_per_second=batch / seconds[name],
                matmul_share=share,
            )
        sizes = ", ".join("·".join(map(str, (*a.shape, b.shape[1]))) for a, b in products)
        yield Row(
            part=part,
            case=case,
            variant="matrix products",
            seconds=seconds["products"],
            note=f"{rate / 1e9:.0f} GFLOP/s of {sizes}",
        )

    def kernels(self, part: str, case: str, calls: dict[str, Step]) -> Iterator[Row]:
        """Yield rows of kernels, with their memory."""
        seconds = self.medians(calls)
        for name, call in calls.items():
            yield Row(
                part=part,
                case=case,
                variant=name,
                seconds=seconds[name],
                times_ours=seconds[name] / seconds["ours"],
                peak_bytes=peak_bytes(call),
            )

    def medians(self, calls: dict[str, Step]) -> dict[str, float]:
        """Return the median seconds of each call, after a warm-up; the calls take turns."""
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for round_ in range(self.rounds + 1):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                if round_ > 0:
                    seconds[name].append(time.perf_counter() - start)
        return {name: statistics.median(values) for name, values in seconds.items()}


def peak_bytes(call: Step) -> int | None:
    """Return the peak resident memory during a call minus that before it; None if Linux does not report it."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the high-water mark
    except (AttributeError, OSError):
        return None
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))


def _without_numba(call: Step) -> Step:
    """Return a function that does the same with selective scans in plain PyTorch."""

    def changed() -> None:
        with mock.patch.object(operator, "selective_scan_backends", lambda device: ("torch",)):
            call()

    return changed


def _compiled(model: Denoiser) -> Denoiser:
    for block in model.blocks:
        block.compile(fullgraph=True)
    return model


def _products(tokens: int, width: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Return the factors of a transformer layer's products: qkv, attention output, feed-forward in and out."""
    sizes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
    return [(torch.randn(tokens, n, dtype=dtype), torch.randn(n, m, dtype=dtype)) for n, m in sizes]


def _exponent(tokens: list[int], costs: list[Any]) -> float:
    """Return the least-squares slope of log cost over log tokens."""
    if None in costs:
        return math.nan
    return statistics.linear_regression([math.log(n) for n in tokens], [math.log(cost) for cost in costs]).slope


def _loop_with_indexing(*inputs: Tensor) -> Tensor:
    return _loop(*inputs, parts=lambda x: [x[:, :, i] for i in range(x.shape[2])])


def _loop_over_unbound(*inputs: Tensor) -> Tensor:
    return _loop(*inputs, parts=lambda x: x.unbind(2))


def _loop(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    bias: Tensor,
    *,
    parts: Callable[[Tensor], Any],
) -> Tensor:
    """Run a selective scan of one group position by position; the backward pass is autograd's."""
    dt = F.softplus(delta + bias[:, None])
    decay, x = (dt[..., None] * a[:, None]).exp(), (dt * u)[..., None] * b.mT  # (B, D, L, N)
    h, states = torch.zeros_like(x[:, :, 0]), []
    for decay_i, x_i in zip(parts(decay), parts(x), strict=True):
        h = decay_i * h + x_i
        states.append(h)
    return (torch.stack(states, 2) * c.mT).sum(-1) + d[:, None] * u


def _k_diffusion_hourglass(table: HourglassArchitecture) -> nn.Module:
    os.environ["K_DIFFUSION_USE_COMPILE"] = "0"  # it would compile the whole network, which takes minutes
    from k_diffusion.models import image_transformer_v2 as k_diffusion

    attention = k_diffusion.GlobalAttentionSpec(table.attention_head_dim)
    levels = [
        k_diffusion.LevelSpec(depth, width, round(width * table.mlp_ratio), attention, 0.0)
        for depth, width in zip(table.depths, table.widths, strict=True)
    ]
    hidden = round(table.mapping_width * table.mlp_ratio)
    mapping = k_diffusion.MappingSpec(table.mapping_depth, table.mapping_width, hidden, 0.0)
    return k_diffusion.ImageTransformerDenoiserModelV2(levels, mapping, 1, 1, table.patch_size)


def _table(part: str, rows: list[Row]) -> Table:
    table = Table("case", "variant", "ms", "× ours", "examples/s", "of products", "peak MB", "", title=part)
    for row in rows:
        table.add_row(
            row.case,
            row.variant,
            f"{row.seconds * 1e3:.1f}",
            _formatted(row.times_ours, ".2f"),
            _formatted(row.examples_per_second, ".1f"),
            _formatted(row.matmul_share, ".0%"),
            _formatted(row.peak_bytes and row.peak_bytes / 1e6, ".0f"),
            row.note,
        )
    return table


def _formatted(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


if __name__ == "__main__":
    typer.run(main)
