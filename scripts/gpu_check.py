"""Check our kernels and networks on a GPU: first that their numbers are right, then their speed.

    uv run python scripts/gpu_check.py --output gpu_check.json

Needs torch, NumPy, pydantic, safetensors and this package's source. A check that needs a package that is not installed
is skipped, and its line says so. Nothing is downloaded. The exit code is 0 if there is no GPU, and 1 if a check fails.

Each backend of the two kernels is compared with a float64 reference on the CPU. A run on synthetic data with
`--batch-size auto` is resumed and has to end with the same bits. Each network of config/diffusion trains a few steps on
noise: under bf16 and fp32 with the same weights and data, and, at its real batch size, eager, compiled and with CUDA
graphs; one of them as the only process of a group over NCCL. `--device cpu --tiny` runs the same code with a small
network of each backbone, to test it.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, distributed, nn
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from the source: the package does not have to be installed

from signal_diffusion.config import schema
from signal_diffusion.models.attention.neighbourhood import neighbourhood_attention, neighbourhood_backends
from signal_diffusion.models.compilation import compile_blocks
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.flops import forward_flops
from signal_diffusion.models.registry import BACKBONES, build
from signal_diffusion.models.selective_scan.operator import selective_scan, selective_scan_backends
from signal_diffusion.training.optimizers import build_optimizer

__all__ = ["Network", "Result", "checks", "main", "run"]

CONFIG = Path(__file__).parents[1] / "config" / "diffusion"
SHAPES = {"db-only": (1, 64, 64), "timeseries": (1, 20, 2048)}
LATENT_SHAPES = {"db-only": (16, 8, 8), "timeseries": (16, 3, 256)}
RANDOM = random.Random(2)
# Rows, columns, kernel rows, kernel columns: a grid that is not square; electrodes as rows, all of them in the kernel;
# and random ones. All have more than 256 tokens, up to which attention uses a dense mask instead.
GRIDS = [(17, 24, 7, 7), (20, 64, 20, 7)]
GRIDS += [
    (RANDOM.randint(17, 33), RANDOM.randint(16, 40), RANDOM.randint(2, 15), RANDOM.randint(2, 15)) for _ in range(2)
]
# Groups, channels per group, length: a length that no chunk size divides; random ones; and several groups with more
# than the 2048 positions that mamba-ssm's kernel processes at once.
SCANS = [(1, 16, 133)]
SCANS += [(RANDOM.randint(1, 4), RANDOM.randint(1, 8), RANDOM.randint(1, 300)) for _ in range(2)]
SCANS += [(4, 2, 2100)]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # relative error of a kernel, by input type
LOSS_TOLERANCE = 0.05  # relative difference of a loss under bf16 and fp32
GROUP_TOLERANCE = 1e-3  # relative difference of a loss in a group of one: a GPU adds in any order
COMPARED_STEPS, COMPARED_BATCH = 8, 4
TINY: dict[str, dict[str, Any]] = {
    "dit": {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "patch_size": [4, 4]},
    "hourglass": {"depths": [1], "widths": [64], "kernel_sizes": [3], "patch_size": [4, 4], "mapping_width": 64},
    "localmamba": {"depths": [1], "dims": [64], "d_state": 2, "patch_size": [4, 4], "scan_directions": ["h", "v_flip"]},
    "sd35": {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "patch_size": 4}
    | {"joint_attention_dim": 32, "pooled_projection_dim": 32, "pos_embed_max_size": 64, "dual_attention_layers": [0]},
    "unet": {"model_channels": 12, "channel_multipliers": [1, 2], "use_attention": [False, True]},
}
RUN = ("training.max_steps=4", "training.checkpointing.interval=2", "training.mixed_precision=bf16")
RUN += ("data.source=dataset", "training.validation.enabled=false", "training.visualization.enabled=false")
RUN += ("logging.tensorboard=false",)


class ComparisonError(Exception):
    """Two results differ by more than the tolerance."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A backbone with its sizes and its batch size."""

    name: str
    backbone: str
    architecture: dict[str, Any]
    shape: tuple[int, int, int]
    batch: int

    def build(self) -> Denoiser:
        """Build it with fresh weights and without conditions."""
        table = TypeAdapter(BACKBONES[self.backbone].architecture).validate_json(json.dumps(self.architecture))
        return build(self.backbone, table, shape=self.shape, electrode_rows=self.shape == SHAPES["timeseries"])


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a check."""

    check: str
    status: str
    """"ok", "failed" or "skipped"."""
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    note: str = ""


Check = Callable[[], dict[str, float]]


def main() -> int:
    """Run all checks on a device; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small networks, to test this script")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="time limit; checks that would start after 7/8 of it are skipped"
    )
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU found: nothing to check")
        return 0
    device = torch.device(options.device)
    machine = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{machine}, torch {torch.__version__}")
    networks = tiny_networks() if options.tiny else shipped_networks()
    results = []
    for result in run(checks(networks, device, tiny=options.tiny), seconds=options.minutes * 60 * 7 / 8):
        figures = "  ".join(f"{name} {value:.4g}" for name, value in result.figures.items())
        print(f"{result.status:8}{result.check:44}{result.seconds:6.1f} s  {figures}{result.note}", flush=True)
        results.append(result)
    if options.output:
        report = {"machine": machine, "torch": torch.__version__, "results": [asdict(result) for result in results]}
        options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    counts = {status: sum(result.status == status for result in results) for status in ("ok", "failed", "skipped")}
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts["failed"] else 0


def run(checks: dict[str, Check], *, seconds: float) -> Iterator[Result]:
    """Run checks in order; skip those that would start after `seconds`. A failing check does not stop the others."""
    begin = time.perf_counter()
    for name, check in checks.items():
        start = time.perf_counter()
        if start - begin >= seconds:
            yield Result(check=name, status="skipped", note="out of time")
            continue
        status, figures, note = "ok", {}, ""
        try:
            figures = check()
        except ImportError as error:
            status, note = "skipped", f"needs {error.name or error}, which is not installed"
        except Exception as error:  # a failure is reported, and the next check runs
            lines = str(error).splitlines()
            status, note = "failed", f"{type(error).__name__}: {lines[0] if lines else ''}"
        yield Result(check=name, status=status, seconds=time.perf_counter() - start, figures=figures, note=note)


def checks(networks: list[Network], device: torch.device, *, tiny: bool) -> dict[str, Check]:
    """Return all checks of a device by name, the most important first."""
    found: dict[str, Check] = {}
    grids, scans = (GRIDS[:1], SCANS[:1]) if tiny else (GRIDS, SCANS)
    for dtype in TOLERANCE:
        kind = str(dtype).removeprefix("torch.")
        for backend in neighbourhood_backends(device):
            found[f"neighbourhood attention, {backend}, {kind}"] = partial(
                check_attention, backend, dtype, device, grids
            )
        for backend in selective_scan_backends(device):
            found[f"selective scan, {backend}, {kind}"] = partial(check_scan, backend, dtype, device, scans)
    found["a run with --batch-size auto, resumed to the bit"] = partial(check_run, device)
    for network in networks[:1]:
        found["one process over NCCL"] = partial(check_group, network, device)
    for network in networks:
        found[f"{network.name}, bf16 against fp32"] = partial(check_precision, network, device)
    rates: dict[str, float] = {}  # filled by the check of matrix products, read by the checks of speed
    found["matrix products, bf16"] = partial(check_products, rates, device, size=256 if tiny else 8192)
    for kind, mode in (("eager", None), ("compiled", "default"), ("CUDA graphs", "reduce-overhead")):
        for network in networks[:1] if tiny and kind == "CUDA graphs" else networks:
            found[f"{network.name}, {kind}"] = partial(check_speed, network, device, rates, mode=mode)
    return found


def shipped_networks() -> list[Network]:
    """Return the networks of the experiment files on the smallest and the largest examples."""
    networks = []
    for representation, shape in SHAPES.items():
        for path in sorted(CONFIG.glob(f"*-{representation}.toml")):
            model = tomllib.loads(path.read_text(encoding="utf-8"))
            latent = model["model"].get("autoencoder", {}).get("enabled", False)
            networks.append(
                Network(
                    name=path.stem,
                    backbone=model["model"]["name"],
                    architecture=model["model"].get("architecture", {}),
                    shape=LATENT_SHAPES[representation] if latent else shape,
                    batch=model["data"]["loading"]["batch_size"],
                )
            )
    return networks


def tiny_networks() -> list[Network]:
    """Return networks that take a second on a CPU."""
    return [
        Network(name=name, backbone=name, architecture=architecture, shape=(1, 16, 16), batch=2)
        for name, architecture in TINY.items()
    ]


def check_attention(
    backend: str, dtype: torch.dtype, device: torch.device, grids: Sequence[tuple[int, int, int, int]]
) -> dict[str, float]:
    """Check neighbourhood attention and its gradients; return the largest errors over `grids`, given as in `GRIDS`."""
    return _largest(_check_grid(backend, dtype, device, *grid) for grid in grids)


def _check_grid(
    backend: str, dtype: torch.dtype, device: torch.device, height: int, width: int, rows: int, columns: int
) -> dict[str, float]:
    dim = 32
    inputs = [torch.randn(1, 2, height, width, dim, generator=torch.Generator().manual_seed(i)) for i in range(3)]

    def reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = torch.zeros(height, width, height, width, dtype=torch.bool)
        for row in range(height):
            for column in range(width):
                top = min(max(row - rows // 2, 0), height - rows)
                left = min(max(column - columns // 2, 0), width - columns)
                mask[row, column, top : top + rows, left : left + columns] = True
        scores = torch.einsum("bhnd,bhmd->bhnm", q.flatten(2, 3), k.flatten(2, 3)) / dim**0.5
        weights = scores.masked_fill(~mask.reshape(height * width, -1), -torch.inf).softmax(-1)
        return (weights @ v.flatten(2, 3)).unflatten(2, (height, width))

    def ours(*inputs: Tensor) -> Tensor:
        return neighbourhood_attention(*inputs, (rows, columns), backend=backend)

    return _compare(ours, reference, inputs, [dtype] * 3, device)


def check_scan(
    backend: str, dtype: torch.dtype, device: torch.device, scans: Sequence[tuple[int, int, int]]
) -> dict[str, float]:
    """Check the selective scan and its gradients; return the largest errors over `scans`, given as in `SCANS`."""
    return _largest(_check_sequence(backend, dtype, device, *scan) for scan in scans)


def _check_sequence(
    backend: str, dtype: torch.dtype, device: torch.device, groups: int, channels: int, length: int
) -> dict[str, float]:
    torch.manual_seed(0)
    batch, dim, states = 2, groups * channels, 8
    inputs = [torch.randn(batch, dim, length), torch.randn(batch, dim, length), -torch.rand(dim, states) - 0.1]
    inputs += [torch.randn(batch, groups, states, length), torch.randn(batch, groups, states, length)]
    inputs += [torch.randn(dim), torch.randn(dim)]

    def reference(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, bias: Tensor) -> Tensor:
        dt, h, ys = torch.nn.functional.softplus(delta + bias[:, None]), torch.zeros_like(u[..., :1] * a), []
        b, c = (x.repeat_interleave(channels, 1).unbind(-1) for x in (b, c))  # (B, D, N) each
        for dt_i, x_i, b_i, c_i in zip(dt.unbind(-1), (dt * u).unbind(-1), b, c, strict=True):
            h = (dt_i[..., None] * a).exp() * h + x_i[..., None] * b_i
            ys.append((h * c_i).sum(-1))
        return torch.stack(ys, -1) + d[:, None] * u

    def ours(*inputs: Tensor) -> Tensor:
        return selective_scan(*inputs, backend=backend)

    dtypes = [dtype, dtype, torch.float32, dtype, dtype, torch.float32, torch.float32]
    return _compare(ours, reference, inputs, dtypes, device)


def check_precision(network: Network, device: torch.device) -> dict[str, float]:
    """Compare the losses of the same few steps under bf16 and fp32."""
    single, half = (
        [float(loss) for loss in _steps(network, COMPARED_BATCH, device, COMPARED_STEPS, bf16=bf16)]
        for bf16 in (False, True)
    )
    difference = max(abs(a - b) / a for a, b in zip(single, half, strict=True))
    if not difference <= LOSS_TOLERANCE:
        raise ComparisonError(f"losses differ by {difference:.2%}, more than {LOSS_TOLERANCE:.0%}")
    return {"difference": difference, "first loss": single[0], "last loss": single[-1]}


def check_run(device: torch.device) -> dict[str, float]:
    """Train the quickstart with the largest batch that fits, resume it from the middle, and compare the ends."""
    from safetensors.torch import load_file

    from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
    from signal_diffusion.training.diffusion import train

    with tempfile.TemporaryDirectory() as folder:
        root, whole, resumed = (Path(folder) / name for name in ("data", "whole", "resumed"))
        prepare_synthetic(root, "db-only", SyntheticOptions(num_subjects=3, num_windows=1))
        overrides = (*RUN, f"compute.device={device.type}", f"data.paths.root={root}")
        train(CONFIG / "quickstart.toml", output_dir=whole, overrides=overrides, fit_batch_size=True)
        shutil.copytree(whole / "checkpoint-2", resumed / "checkpoint-2")
        train(CONFIG / "quickstart.toml", output_dir=resumed, overrides=overrides, fit_batch_size=True, resume="latest")
        for name in ("model.safetensors", "ema.safetensors"):
            a, b = (load_file(run / "checkpoint-4" / name) for run in (whole, resumed))
            if different := [key for key in a if not torch.equal(a[key], b[key])]:
                raise ComparisonError(f"{name}: {len(different)} of {len(a)} tensors differ after resuming")
        table = tomllib.loads((resumed / "config.toml").read_text(encoding="utf-8"))
        return {"batch": table["data"]["loading"]["batch_size"]}


def check_group(network: Network, device: torch.device) -> dict[str, float]:
    """Compare the losses of a group of one process, over NCCL on a GPU, with those without a group."""
    alone = [float(loss) for loss in _steps(network, COMPARED_BATCH, device, COMPARED_STEPS, bf16=False)]
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)
    try:
        ddp = nn.parallel.DistributedDataParallel
        losses = _steps(network, COMPARED_BATCH, device, COMPARED_STEPS, bf16=False, wrap=ddp)
        difference = max(abs(a - float(b)) / a for a, b in zip(alone, losses, strict=True))
    finally:
        distributed.destroy_process_group()
    if not difference <= GROUP_TOLERANCE:
        raise ComparisonError(f"losses differ by {difference:.1e}")
    return {"difference": difference}


def check_products(rates: dict[str, float], device: torch.device, *, size: int) -> dict[str, float]:
    """Measure the TFLOP/s of square bf16 matrix products, to compare other speeds with."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(15):
        _wait(device)
        start = time.perf_counter()
        a @ b
        _wait(device)
        seconds.append(time.perf_counter() - start)
    rates["bf16"] = 2 * size**3 / statistics.median(seconds[5:])
    return {"TFLOP/s": rates["bf16"] / 1e12}


def check_speed(
    network: Network, device: torch.device, rates: dict[str, float], *, mode: str | None
) -> dict[str, float]:
    """Measure speed and memory of training steps under bf16; halve the batch until it fits into memory."""
    batch = network.batch
    while True:
        try:
            return _speed(network, batch, device, rates, mode=mode)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            batch //= 2


def _speed(
    network: Network, batch: int, device: torch.device, rates: dict[str, float], *, mode: str | None
) -> dict[str, float]:
    with FakeTensorMode():
        flops = 3 * batch * forward_flops(network.build(), torch.zeros(1, *network.shape), Conditioning())
    if device.type == "cuda":
        gc.collect()  # memory that the previous check left
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds, start = [], 0.0
    for loss in _steps(network, batch, device, 13, bf16=True, mode=mode):
        _wait(device)
        seconds.append(time.perf_counter() - start)
        if not torch.isfinite(loss):
            raise ComparisonError(f"the loss of step {len(seconds)} is {loss.item()}")
        start = time.perf_counter()
    median = statistics.median(seconds[3:])
    figures = {"examples/s": batch / median, "batch": batch, "GFLOP per example": flops / 3 / batch / 1e9}
    if "bf16" in rates:
        figures["share of products"] = flops / median / rates["bf16"]
    if device.type == "cuda":
        figures["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return figures


def _steps(
    network: Network,
    batch: int,
    device: torch.device,
    num_steps: int,
    *,
    bf16: bool,
    mode: str | None = None,
    wrap: Callable[[Denoiser], nn.Module] = lambda model: model,
) -> Iterator[Tensor]:
    """Yield the losses of training steps on one fixed batch of noise; `mode` is that of torch.compile."""
    torch.manual_seed(0)
    with device:
        model = network.build()
    x, target = (torch.randn(batch, *network.shape).to(device) for _ in range(2))
    t = torch.rand(batch).to(device)
    if mode:
        torch.compiler.reset()
        compile_blocks(model.blocks, mode)
    wrapped = wrap(model)
    optimizer = build_optimizer(model, schema.Optimizer(learning_rate=1e-3))
    for _ in range(num_steps):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            prediction = wrapped(x, t, Conditioning())
        loss = (prediction.float() - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield loss.detach()


def _compare(
    ours: Callable[..., Tensor],
    reference: Callable[..., Tensor],
    inputs: list[Tensor],
    dtypes: list[torch.dtype],
    device: torch.device,
) -> dict[str, float]:
    """Return the relative errors of output and gradients, compared with float64 on the same rounded inputs."""
    rounded = [x.to(device, dtype).requires_grad_() for x, dtype in zip(inputs, dtypes, strict=True)]
    exact = [x.detach().cpu().double().requires_grad_() for x in rounded]
    found, expected = ours(*rounded), reference(*exact)
    weight = torch.randn(expected.shape, dtype=torch.float64).to(dtypes[0]).double()
    gradients = torch.autograd.grad(found, rounded, weight.to(device, found.dtype))
    exact_gradients = torch.autograd.grad(expected, exact, weight)
    errors = [
        ((a.cpu().double() - b).norm() / b.norm()).item()
        for a, b in zip((found, *gradients), (expected, *exact_gradients), strict=True)
    ]
    figures = {"output error": errors[0], "gradient error": max(errors[1:])}
    if not max(errors) <= TOLERANCE[dtypes[0]]:
        raise ComparisonError(f"relative error {max(errors):.1e}, more than {TOLERANCE[dtypes[0]]:.0e}")
    return figures


def _largest(found: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the largest value of each figure."""
    rows = list(found)
    return {name: max(row[name] for row in rows) for name in rows[0]}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
