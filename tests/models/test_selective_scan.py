import random
import sys
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from mambapy.pscan import pscan
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from signal_diffusion.errors import UserError
from signal_diffusion.models.selective_scan import chunked, mamba_kernel, operator
from signal_diffusion.models.selective_scan.operator import (
    selective_scan,
    selective_scan_backends,
    selective_scan_kernel,
)

CPU = torch.device("cpu")
BACKENDS = [
    "torch",
    pytest.param("numba", marks=pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed")),
]


def reference(u, delta, a, b, c, d, delta_bias):
    """One position after the other, as in the paper's equations."""
    dt = F.softplus(delta + delta_bias[:, None])
    b, c = (x.repeat_interleave(u.shape[1] // x.shape[1], dim=1) for x in (b, c))
    h, ys = 0, []
    for i in range(u.shape[2]):
        h = torch.exp(dt[:, :, i, None] * a) * h + (dt[:, :, i] * u[:, :, i])[..., None] * b[..., i]
        ys.append((c[..., i] * h).sum(-1) + d * u[:, :, i])
    return torch.stack(ys, -1)


def random_inputs(batch, channels, num_states, length, groups, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, channels, length)] * 2 + [(batch, groups, num_states, length)] * 2 + [(channels,)] * 2
    u, delta, b, c, d, bias = (torch.randn(s, dtype=torch.float64, generator=generator) for s in shapes)
    a = -torch.rand(channels, num_states, dtype=torch.float64, generator=generator) * num_states - 0.01
    return [u, delta, a, b, c, d, bias]


def with_gradients(scan, inputs):
    """The output, and the gradients of its product with a fixed cotangent."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    y = scan(*inputs)
    cotangent = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).cos().view(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, inputs, cotangent)]


def worst_error(found, expected):
    errors = [(x.double() - y).norm() / y.norm().clamp_min(1e-6) for x, y in zip(found, expected, strict=True)]
    return max(errors).item()


def random_shapes(number):
    draw = random.Random(0)
    shapes = [(1, 2, 3, 1, 1), (2, 6, 4, 16, 2), (2, 6, 4, 17, 3)]
    while len(shapes) < number:
        groups = draw.choice([1, 1, 2, 4])
        shapes.append(
            (draw.randint(1, 3), groups * draw.randint(1, 9), draw.randint(1, 8), draw.randint(2, 90), groups)
        )
    return shapes


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [*random_shapes(31), (1, 70, 3, 67, 1)])
def test_outputs_and_gradients_equal_a_plain_loop(shape, backend):
    inputs = [x.float() for x in random_inputs(*shape)]

    found = with_gradients(partial(selective_scan, backend=backend), inputs)
    expected = with_gradients(reference, [x.double() for x in inputs])

    assert worst_error(found, expected) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", random_shapes(6))
def test_bf16_inputs_add_only_their_rounding_error(shape, backend):
    rounded = [x.bfloat16() if i in (0, 1, 3, 4) else x.float() for i, x in enumerate(random_inputs(*shape))]

    found = with_gradients(partial(selective_scan, backend=backend), rounded)
    expected = with_gradients(reference, [x.double() for x in rounded])

    assert worst_error(found, expected) < 2e-2
    assert [x.dtype for x in found] == [torch.bfloat16, *(x.dtype for x in rounded)]


@pytest.mark.parametrize("block", [1, 200, 10**6])  # elements of 1, 4 and all 13 chunks
def test_any_number_of_chunks_at_once_gives_the_same_result(block, monkeypatch):
    monkeypatch.setattr(chunked, "CPU_BLOCK", block)
    inputs = random_inputs(2, 6, 4, 200, 2)

    assert worst_error(with_gradients(selective_scan, inputs), with_gradients(reference, inputs)) < 1e-12


def test_gradients_equal_finite_differences():
    inputs = [x.requires_grad_() for x in random_inputs(1, 2, 2, 18, 2)]

    assert torch.autograd.gradcheck(selective_scan, inputs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rate", [-1e4, -1e-7])
def test_very_fast_and_very_slow_decay_stay_finite_and_accurate(rate, backend):
    inputs = [x.float() for x in random_inputs(2, 4, 3, 70, 1)]
    inputs[1], inputs[2] = torch.ones_like(inputs[1]), torch.full_like(inputs[2], rate)

    found = with_gradients(partial(selective_scan, backend=backend), inputs)
    expected = with_gradients(reference, [x.double() for x in inputs])

    assert all(x.isfinite().all() for x in found)
    assert worst_error(found, expected) < 1e-5


def saved_for_the_backward_pass(length, backend):
    saved = []
    inputs = [x.float().requires_grad_() for x in random_inputs(2, 64, 8, length, 1)]
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()), lambda x: x):
        selective_scan(*inputs, backend=backend)
    return saved


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_for_the_backward_pass_is_linear_in_length_without_a_state_per_position(backend):
    short, long = (saved_for_the_backward_pass(length, backend) for length in (512, 2048))

    assert max(long) < 2 * 64 * 8 * 2048 / 7
    assert 3 * sum(short) < sum(long) <= 4 * sum(short)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_compiling_without_a_graph_break_gives_the_same_result(compiler, backend):
    inputs = [x.float() for x in random_inputs(2, 6, 4, 37, 2)]
    scan = partial(selective_scan, backend=backend)
    torch.compiler.reset()

    found = with_gradients(torch.compile(scan, fullgraph=True, backend=compiler), inputs)

    assert all(torch.equal(x, y) for x, y in zip(found, with_gradients(scan, inputs), strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_checkpointing_gives_the_same_gradients(backend):
    inputs = [x.float() for x in random_inputs(2, 6, 4, 37, 2)]
    scan = partial(selective_scan, backend=backend)

    found = with_gradients(lambda *x: checkpoint(scan, *x, use_reentrant=False), inputs)

    assert all(torch.equal(x, y) for x, y in zip(found, with_gradients(scan, inputs), strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_does_not_change_float32(backend):
    inputs = [x.float() for x in random_inputs(2, 6, 4, 37, 2)]
    with torch.autocast("cpu", torch.bfloat16):
        found = selective_scan(*inputs, backend=backend)

    assert torch.equal(found, selective_scan(*inputs, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_and_shared_inputs_give_the_same_result_as_copies(backend):
    u, delta, a, b, _, d, bias = (x.float() for x in random_inputs(2, 6, 4, 37, 2))
    strided = [x.mT.contiguous().mT for x in (u, delta, a, b)]
    scan = partial(selective_scan, backend=backend)

    found = scan(*strided[:3], strided[3], strided[3], d, bias)

    torch.testing.assert_close(found, scan(u, delta, a, b, b.clone(), d, bias), rtol=1e-5, atol=1e-5)


def test_shapes_are_known_for_meta_and_fake_tensors():
    inputs = [x.to("meta") for x in random_inputs(2, 6, 4, 37, 2)]
    with FakeTensorMode():
        faked = with_gradients(selective_scan, [torch.empty(x.shape) for x in inputs])

    assert selective_scan(*inputs).shape == (2, 6, 37)
    assert [x.shape for x in faked] == [x.shape for x in (inputs[0], *inputs)]


def test_the_operator_passes_opcheck():
    inputs = [x.float().requires_grad_() for x in random_inputs(2, 6, 4, 37, 2)]

    torch.library.opcheck(operator._scan, (*inputs, None))


def test_outputs_and_gradients_equal_mambapy():
    def theirs(u, delta, a, b, c, d, delta_bias):
        dt = F.softplus(delta + delta_bias[:, None]).mT  # (B, L, D)
        h = pscan((dt[..., None] * a).exp(), (dt * u.mT)[..., None] * b[:, 0].mT[:, :, None])
        return (h * c[:, 0].mT[:, :, None]).sum(-1).mT + d[:, None] * u

    inputs = random_inputs(2, 6, 4, 37, 1)

    assert worst_error(with_gradients(selective_scan, inputs), with_gradients(theirs, inputs)) < 1e-12


def test_the_backend_can_be_forced_and_one_that_cannot_run_is_refused():
    inputs = random_inputs(1, 2, 2, 5, 1)

    assert selective_scan_backends(CPU) == (("numba", "torch") if find_spec("numba") else ("torch",))
    assert selective_scan_kernel(CPU) == selective_scan_backends(CPU)[0]
    assert torch.equal(selective_scan(*inputs, backend="torch"), selective_scan(*inputs))
    with pytest.raises(UserError, match="'mamba_ssm' cannot run on cpu in float64; expected torch"):
        selective_scan(*inputs, backend="mamba_ssm")


def test_cuda_uses_the_compiled_extension_if_it_imports(monkeypatch):
    mamba_kernel.extension.cache_clear()
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", SimpleNamespace())
    with_it = selective_scan_backends(torch.device("cuda"))
    mamba_kernel.extension.cache_clear()
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)  # an import that fails
    without = selective_scan_backends(torch.device("cuda"))
    mamba_kernel.extension.cache_clear()

    assert (with_it, without) == (("mamba_ssm", "torch"), ("torch",))


def test_the_compiled_extension_gets_the_types_and_strides_that_it_checks():
    u, delta, a, b, c, d, bias = (x.float() for x in random_inputs(2, 6, 4, 37, 2))

    *found, gate, last = mamba_kernel._mamba_inputs(
        u.bfloat16().mT.contiguous().mT, delta, a.mT.contiguous().mT, b, c, d, bias
    )

    assert gate is None
    assert all(x.dtype == torch.float32 and x.is_contiguous() for x in (*found, last))
    assert [x.shape for x in (*found, last)] == [x.shape for x in (u, delta, a, b, c, d, bias)]
