import logging
import sys

import pytest
import torch

from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.flops import forward_flops
from signal_diffusion.models.localmamba import LocalMamba, LocalMambaArchitecture
from signal_diffusion.models.scan_orders import inverse_order, scan, scan_order
from signal_diffusion.models.selective_scan import compiled, operator, tokens
from signal_diffusion.models.selective_scan.operator import selective_scan
from signal_diffusion.models.selective_scan.tokens import scan_tokens

pytest.importorskip("numba", reason="numba is not installed")

BATCH, ROWS, COLUMNS, CHANNELS, STATES = 2, 5, 9, 70, 3  # more than a chunk of tokens and a block of channels
ORDER = torch.stack([scan_order(direction, ROWS, COLUMNS) for direction in ("h", "v_flip", "w2")])


def token_inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    orders, length = ORDER.shape
    shapes = [(1, BATCH, length, CHANNELS), (orders, BATCH, length, CHANNELS)]
    shapes += [(orders * CHANNELS, STATES), *[(BATCH, length, orders, STATES)] * 2, *[(orders * CHANNELS,)] * 2]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    inputs[2] = -inputs[2].abs()
    return [x.to(dtype).requires_grad_() for x in inputs]


def by_copies(u, delta, a, b, c, d, bias):
    """The same by arranging all inputs in each order, and putting the result back."""
    inverse = inverse_order(ORDER)

    def arranged(x):  # (K, B, L, n) → (B, K, n, L)
        return torch.stack([x[k, :, order].mT for k, order in enumerate(ORDER)], 1)

    u = scan(u[0].mT, ORDER, inverse)
    b, c = (arranged(x.permute(2, 0, 1, 3)) for x in (b, c))
    y = selective_scan(u.flatten(1, 2), arranged(delta).flatten(1, 2), a, b, c, d, bias).unflatten(1, (len(ORDER), -1))
    return torch.stack([y[:, k][..., order].mT for k, order in enumerate(inverse)])


def with_gradients(function, inputs):
    y = function(*inputs)
    cotangent = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).cos().view(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, inputs, cotangent)]


def test_tokens_that_stay_in_place_are_scanned_as_those_that_are_copied_into_each_order():
    found = with_gradients(lambda *inputs: scan_tokens(*inputs, ORDER), token_inputs())

    for one, other in zip(found, with_gradients(by_copies, token_inputs(torch.float64)), strict=True):
        assert (one - other).norm() < 1e-6 * other.norm()


def test_the_result_does_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    results = []
    for number in (1, 3):
        torch.set_num_threads(number)
        results.append(with_gradients(lambda *inputs: scan_tokens(*inputs, ORDER), token_inputs()))
    torch.set_num_threads(before)

    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("which", [0, 1, 3])
def test_what_is_not_finite_reaches_the_output(which, value):
    inputs = [x.detach() for x in token_inputs()]
    inputs[which][0, 0, 0, 0] = value

    assert not scan_tokens(*inputs, ORDER).isfinite().all()


def test_the_operator_passes_opcheck():
    torch.library.opcheck(tokens._scan_tokens, (*token_inputs(), ORDER))


@pytest.mark.parametrize("use", ["eager", pytest.param("compiled", marks=pytest.mark.slow), "checkpointed", "autocast"])
def test_a_network_predicts_and_learns_the_same_with_either_backend(use, monkeypatch):
    def result():
        torch.manual_seed(0)
        table = LocalMambaArchitecture(depths=(1,), dims=(16,), d_state=3)
        model = LocalMamba(table, shape=(1, 12, 20))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        if use == "compiled":
            for block in model.blocks:
                block.compile(fullgraph=True, backend="aot_eager")
        if use == "checkpointed":
            model.gradient_checkpointing = True
        with torch.autocast("cpu", torch.bfloat16, enabled=use == "autocast"):
            prediction = model(torch.randn(2, 1, 12, 20), torch.tensor([0.2, 0.7]), Conditioning())
        prediction.float().square().mean().backward()
        return torch.cat([prediction.float().flatten(), *(p.grad.flatten() for p in model.parameters())])

    found = result()
    torch.compiler.reset()
    monkeypatch.setattr(operator, "selective_scan_backends", lambda device: ("torch",))
    expected = result()

    assert (found - expected).norm() < (3e-2 if use == "autocast" else 1e-4) * expected.norm()


def test_its_operations_are_counted_as_those_of_the_scan_in_torch(monkeypatch):
    model = LocalMamba(LocalMambaArchitecture(depths=(1,), dims=(32,)), shape=(1, 12, 20))
    found = forward_flops(model, torch.zeros(1, 1, 12, 20), Conditioning())
    monkeypatch.setattr(operator, "selective_scan_backends", lambda device: ("torch",))

    assert found == forward_flops(model, torch.zeros(1, 1, 12, 20), Conditioning())


def test_without_a_cache_the_functions_are_compiled_with_a_warning(monkeypatch, caplog):
    def njit(signature, *, cache=False, **options):
        if cache:
            raise OSError("No space left on device")
        return lambda function: function

    monkeypatch.setattr("numba.njit", njit)

    with caplog.at_level(logging.WARNING):
        functions = compiled._compiled.__wrapped__()

    assert [function.__name__ for function in functions] == ["forward", "backward"]
    assert "every process compiles the selective scan: No space left on device" in caplog.text


def test_a_numba_that_does_not_import_is_a_warning_and_torch_scans(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "signal_diffusion.models.selective_scan.cpu_kernel", None)
    compiled.cpu_kernel.cache_clear()

    with caplog.at_level(logging.WARNING):
        found = operator.selective_scan_backends(torch.device("cpu"))
    compiled.cpu_kernel.cache_clear()

    assert found == ("torch",)
    assert "numba is installed but does not work, so selective scans are slower" in caplog.text
