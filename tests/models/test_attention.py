import functools
import itertools
import math
import random
import sys
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from signal_diffusion.errors import UserError
from signal_diffusion.models.attention import cuda as attention_cuda
from signal_diffusion.models.attention.full import attention
from signal_diffusion.models.attention.neighbourhood import (
    neighbourhood_attention,
    neighbourhood_backends,
    neighbourhood_kernel,
)
from signal_diffusion.models.attention.tiles import FLOP_FORMULAS

TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
DRAW = random.Random(0)
# (height, width, rows and columns of the window): odd, even, not square, smaller than a tile or a window
SHAPES = [tuple(DRAW.choice(range(1, most)) for most in (20, 20, 10, 10)) for _ in range(32)]
SHAPES += [(1, 40, 7, 7), (20, 17, 20, 7), (33, 2, 1, 2)]


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_attention_is_the_softmax_of_scaled_products(dtype, tolerance):
    q, k, v = torch.randn(3, 2, 3, 17, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.softmax(q @ k.mT / math.sqrt(8), dim=-1) @ v

    found = attention(q.to(dtype), k.to(dtype), v.to(dtype))

    assert (found.double() - expected).norm() < tolerance * expected.norm()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_neighbourhood_attention_and_its_gradients_equal_a_loop_over_queries(shape):
    height, width, *kernel = shape
    q, k, v, upstream = inputs(height, width)
    expected = with_gradients(reference, q, k, v, upstream, kernel)

    for backend, (dtype, tolerance) in itertools.product(["dense", "tiles"], TOLERANCES):
        found = with_gradients(neighbourhood_attention, *(x.to(dtype) for x in (q, k, v, upstream)), kernel, backend)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == dtype
            assert (ours.double() - theirs).norm() < tolerance * theirs.norm()


@pytest.mark.parametrize("backend", ["dense", "tiles"])
def test_a_window_of_one_token_gives_its_value(backend):
    q, k, v, upstream = inputs(33, 2)

    out, grad_q, grad_k, grad_v = with_gradients(neighbourhood_attention, q, k, v, upstream, (1, 1), backend)

    assert torch.allclose(out, v, rtol=0, atol=1e-12)
    assert torch.allclose(grad_v, upstream, rtol=0, atol=1e-12)
    assert max(grad_q.abs().max(), grad_k.abs().max()) < 1e-12


@pytest.mark.parametrize("backend", ["dense", "tiles"])
def test_scale_and_strides_of_the_inputs_are_respected(backend):
    q, k, v, upstream = (x.permute(0, 1, 3, 2, 4) for x in inputs(19, 18))

    found = neighbourhood_attention(q, k, v, (5, 7), scale=0.7, backend=backend)

    assert (found - reference(q, k, v, (5, 7), scale=0.7)).norm() < 1e-12 * upstream.norm()


@pytest.mark.parametrize("shape", [pytest.param((9, 12, 7, 7), marks=pytest.mark.slow), (20, 17, 20, 7), (6, 5, 9, 2)])
def test_flex_attention_inside_a_graph_equals_the_reference(shape):
    height, width, *kernel = shape
    q, k, v, _ = (x.repeat(1, 1, 1, 1, 2).float() for x in inputs(height, width))
    compiled = torch.compile(neighbourhood_attention, backend="eager", fullgraph=True, dynamic=False)

    found = compiled(q, k, v, tuple(kernel), backend="flex")

    expected = reference(q.double(), k.double(), v.double(), kernel)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_flex_attention_makes_each_mask_once(monkeypatch):
    monkeypatch.setattr(attention_cuda, "_masks", {})
    q, k, v, _ = (x.repeat(1, 1, 1, 1, 2).float() for x in inputs(11, 13))
    compiled = torch.compile(neighbourhood_attention, backend="eager", fullgraph=True, dynamic=False)

    compiled(q, k, v, (3, 3), backend="flex")
    (first,) = attention_cuda._masks.values()
    compiled(2 * q, k, v, (3, 3), backend="flex")

    (second,) = attention_cuda._masks.values()
    assert second is first


def test_flex_attention_outside_a_graph_recompiles_beyond_torchs_limit(monkeypatch):
    graphs = []
    monkeypatch.setattr(attention_cuda, "flex_attention", torch.square)
    backend = lambda graph, inputs: graphs.append(graph) or graph.forward  # noqa: E731
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))

    with torch._dynamo.config.patch(recompile_limit=8):
        compiled = attention_cuda._compiled_flex.__wrapped__()
        for batch in range(1, 10):
            compiled(torch.ones(batch, 16))

    assert len(graphs) == 9


def test_natten_receives_its_own_layout_and_returns_ours(monkeypatch):
    def na2d(q, k, v, kernel_size, scale):
        q, k, v = (x.permute(0, 3, 1, 2, 4) for x in (q, k, v))
        return reference(q, k, v, kernel_size, scale=scale).permute(0, 2, 3, 1, 4)

    monkeypatch.setitem(sys.modules, "natten", SimpleNamespace(na2d=na2d))
    q, k, v, _ = inputs(5, 9)

    found = neighbourhood_attention(q, k, v, (7, 7), backend="natten")

    assert (found - reference(q, k, v, (7, 7))).abs().max() < 1e-12


@pytest.mark.parametrize("size", [pytest.param((9, 9), marks=pytest.mark.slow), (18, 17)])
def test_compiling_without_a_graph_break_gives_the_same_result(size):
    q, k, v, upstream = inputs(*size)
    compiled = torch.compile(neighbourhood_attention, backend="aot_eager", fullgraph=True)

    found = with_gradients(compiled, q, k, v, upstream, (7, 5))

    expected = with_gradients(neighbourhood_attention, q, k, v, upstream, (7, 5))
    assert all(torch.allclose(ours, theirs, rtol=0, atol=1e-12) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(9, 9), (18, 17)])
def test_compiling_with_inductor_gives_the_same_result(size):
    q, k, v, upstream = (x.float() for x in inputs(*size))
    compiled = torch.compile(neighbourhood_attention, fullgraph=True)

    found = with_gradients(compiled, q, k, v, upstream, (7, 5))

    expected = with_gradients(neighbourhood_attention, q, k, v, upstream, (7, 5))
    assert all(torch.allclose(ours, theirs, rtol=0, atol=1e-5) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("size", [(9, 9), (18, 17)])
def test_autocast_computes_in_bf16_and_gives_gradients_in_fp32(size):
    q, k, v = (x.float().requires_grad_() for x in inputs(*size)[:3])

    with torch.autocast("cpu", torch.bfloat16):
        found = neighbourhood_attention(q, k, v, (7, 7))
    found.float().sum().backward()

    assert found.dtype == torch.bfloat16
    assert q.grad.dtype == k.grad.dtype == v.grad.dtype == torch.float32


def test_gradient_checkpointing_gives_the_same_gradients():
    q, k, v, upstream = inputs(18, 17)

    def checkpointed(q, k, v, kernel):
        return checkpoint(neighbourhood_attention, q, k, v, kernel, use_reentrant=False)

    found = with_gradients(checkpointed, q, k, v, upstream, (7, 7))

    expected = with_gradients(neighbourhood_attention, q, k, v, upstream, (7, 7))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("size", [(9, 9), (18, 17)])
def test_it_runs_on_fake_and_meta_tensors_without_caching_them(size):
    with FakeTensorMode():
        q, k, v = (torch.empty(2, 2, *size, 8, requires_grad=True) for _ in range(3))
        neighbourhood_attention(q, k, v, (5, 6)).sum().backward()
    meta = torch.empty(2, 2, *size, 8, device="meta")
    q, k, v, _ = inputs(*size)

    assert neighbourhood_attention(meta, meta, meta, (5, 6)).shape == meta.shape
    assert (neighbourhood_attention(q, k, v, (5, 6)) - reference(q, k, v, (5, 6))).abs().max() < 1e-12


def test_saved_memory_is_linear_in_the_tokens_and_a_fifth_of_that_of_a_mask():
    few, many = saved_bytes("tiles", 32), saved_bytes("tiles", 64)

    assert many == 4 * few
    assert 5 * many <= saved_bytes("dense", 64)


def test_flops_are_those_of_the_windows():
    q, k, v = (x.requires_grad_() for x in inputs(20, 20)[:3])

    with FlopCounterMode(display=False, custom_mapping=FLOP_FORMULAS) as counter:
        neighbourhood_attention(q, k, v, (7, 5)).sum().backward()

    # Two products in the forward pass and five in the backward pass, two operations per multiply-add.
    assert counter.get_total_flops() == (2 + 5) * 2 * q.numel() * 7 * 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"kernel_size": (7, 0)}, "kernel_size is"), ({"kernel_size": (7, 7), "backend": "tile"}, "'tile' is unknown")],
)
def test_invalid_arguments_are_refused(arguments, message):
    q, k, v, _ = inputs(4, 4)

    with pytest.raises(UserError, match=message):
        neighbourhood_attention(q, k, v, **arguments)


@pytest.mark.parametrize("device", ["cpu", "meta", "mps"])
def test_without_cuda_the_backends_are_tiles_and_dense(device):
    assert neighbourhood_backends(torch.device(device)) == ("tiles", "dense")
    assert neighbourhood_kernel(torch.device(device), (17, 16), (7, 7), 64) == "torch, in tiles"


def test_on_cuda_natten_comes_first_only_if_it_has_its_library(monkeypatch):
    monkeypatch.setattr(attention_cuda, "_find_spec", lambda name: object())
    cuda = torch.device("cuda", 0)
    found = []
    for compiled in (False, True):
        attention_cuda._has_libnatten.cache_clear()
        monkeypatch.setitem(sys.modules, "natten", SimpleNamespace(HAS_LIBNATTEN=compiled))
        found.append(neighbourhood_backends(cuda))
    attention_cuda._has_libnatten.cache_clear()

    assert found == [("flex", "tiles", "dense"), ("natten", "flex", "tiles", "dense")]


@pytest.mark.parametrize(
    ("size", "kernel", "dim", "found"),
    [
        ((32, 32), (7, 7), 64, ["FlexAttention", "NATTEN"]),
        ((32, 32), (7, 7), 8, ["tiles", "NATTEN"]),
        ((1, 300), (7, 7), 64, ["FlexAttention", "FlexAttention"]),
        ((16, 16), (7, 7), 64, ["SDPA", "SDPA"]),
    ],
)
def test_the_reported_kernel_is_the_one_that_computes(monkeypatch, size, kernel, dim, found):
    cuda = torch.device("cuda", 0)
    for installed, name in zip([("flex",), ("natten", "flex")], found, strict=True):
        monkeypatch.setattr(attention_cuda, "installed", lambda installed=installed: installed)

        assert neighbourhood_kernel(cuda, size, kernel, dim).endswith(name)


def inputs(height, width, batch=2, heads=2, dim=8):
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.randn(4, batch, heads, height, width, dim, dtype=torch.float64, generator=generator).unbind()


def reference(q, k, v, kernel, scale=None):
    """The definition, query by query, with each window moved inside the grid."""
    height, width, dim = q.shape[2:]
    rows, columns = min(kernel[0], height), min(kernel[1], width)
    out = []
    for i in range(height):
        for j in range(width):
            top = min(max(i - rows // 2, 0), height - rows)
            left = min(max(j - columns // 2, 0), width - columns)
            keys = k[:, :, top : top + rows, left : left + columns].flatten(2, 3)
            values = v[:, :, top : top + rows, left : left + columns].flatten(2, 3)
            scores = (keys @ q[:, :, i, j, :, None]).squeeze(-1) * (dim**-0.5 if scale is None else scale)
            out.append((torch.softmax(scores, -1)[:, :, None] @ values).squeeze(2))
    return torch.stack(out, 2).unflatten(2, (height, width))


def with_gradients(function, q, k, v, upstream, kernel, backend=None):
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    out = function(*leaves, tuple(kernel), **({"backend": backend} if backend else {}))
    return [out, *torch.autograd.grad(out, leaves, upstream)]


def saved_bytes(backend, size):
    q, k, v = (torch.zeros(1, 1, size, size, 64).requires_grad_() for _ in range(3))
    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        neighbourhood_attention(q, k, v, (7, 7), backend=backend)
    return sum(saved.values())
