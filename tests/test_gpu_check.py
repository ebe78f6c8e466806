"""`scripts/gpu_check.py`, run on the CPU."""

import importlib.util
import itertools
import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from signal_diffusion.models.registry import BACKBONES

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_check.py"


@pytest.fixture(scope="module")
def gpu_check():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module  # dataclasses look up their module here
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu_check"]


@pytest.mark.slow
def test_all_checks_pass_on_the_cpu_and_are_in_the_report(gpu_check, tmp_path: Path, monkeypatch, capsys):
    output = tmp_path / "report.json"
    monkeypatch.setattr(
        "sys.argv", ["gpu_check", "--device", "cpu", "--tiny", "--minutes", "60", "--output", str(output)]
    )

    assert gpu_check.main() == 0

    results = {result["check"]: result for result in json.loads(output.read_text())["results"]}
    assert {result["status"] for result in results.values()} == {"ok"}
    assert results["selective scan, torch, float32"]["figures"]["gradient error"] < 1e-5
    assert 0 < results["dit, eager"]["figures"]["share of products"] < 1
    for backbone in BACKBONES:
        assert results.keys() >= {f"{backbone}, {kind}" for kind in ("bf16 against fp32", "eager", "compiled")}
    assert results["a run with --batch-size auto, resumed to the bit"]["figures"]["batch"] > 1
    assert results["one process over NCCL"]["figures"]["difference"] == 0
    assert {"dit, CUDA graphs", "matrix products, bf16"} <= results.keys()
    assert f"{len(results)} ok, 0 failed, 0 skipped" in capsys.readouterr().out


def test_the_exit_code_is_0_without_a_gpu(gpu_check, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu_check"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert gpu_check.main() == 0

    assert capsys.readouterr().out == "no GPU found: nothing to check\n"


def test_a_wrong_kernel_fails_its_check_and_the_command(gpu_check, monkeypatch, capsys):
    right = gpu_check.selective_scan
    monkeypatch.setattr(gpu_check, "selective_scan", lambda *inputs, backend: 1.001 * right(*inputs, backend=backend))
    monkeypatch.setattr("sys.argv", ["gpu_check", "--device", "cpu", "--tiny"])
    monkeypatch.setattr(gpu_check, "neighbourhood_backends", lambda device: ())
    monkeypatch.setattr(gpu_check, "tiny_networks", lambda: [])
    monkeypatch.setattr(gpu_check, "check_run", lambda device: {})

    assert gpu_check.main() == 1

    assert "failed  selective scan, torch, float32" in capsys.readouterr().out


def test_attention_is_right_for_every_shape(gpu_check):
    errors = gpu_check.check_attention("tiles", torch.float32, torch.device("cpu"), gpu_check.GRIDS)

    assert max(errors.values()) < 1e-6


def test_the_selective_scan_is_right_for_every_shape(gpu_check):
    errors = gpu_check.check_scan("torch", torch.float32, torch.device("cpu"), gpu_check.SCANS)

    assert max(errors.values()) < 1e-6


def broken_scan(right, wrong):
    """The selective scan, but zero for those (groups, length) that are `wrong`."""
    return lambda *x, backend: right(*x, backend=backend) * (not wrong(x[3].shape[1], x[0].shape[2]))


def broken_attention(right, wrong):
    """Neighbourhood attention, but zero for those (rows, columns, kernel) that are `wrong`."""
    return lambda *x, backend: right(*x, backend=backend) * (not wrong(*x[0].shape[2:4], x[3]))


@pytest.mark.parametrize(
    ("function", "check", "broken"),
    [
        ("selective_scan", "check_scan", partial(broken_scan, wrong=lambda groups, length: groups > 1)),
        ("selective_scan", "check_scan", partial(broken_scan, wrong=lambda groups, length: length > 2048)),
        (
            "neighbourhood_attention",
            "check_attention",
            partial(broken_attention, wrong=lambda rows, columns, kernel: kernel[0] != kernel[1]),
        ),
        (
            "neighbourhood_attention",
            "check_attention",
            partial(broken_attention, wrong=lambda rows, columns, kernel: kernel[0] == rows),
        ),
    ],
    ids=["several groups", "long sequence", "kernel not square", "kernel of all rows"],
)
def test_a_kernel_that_is_wrong_only_for_some_shapes_fails(gpu_check, monkeypatch, function, check, broken):
    monkeypatch.setattr(gpu_check, function, broken(getattr(gpu_check, function)))
    backend, shapes = ("torch", gpu_check.SCANS) if check == "check_scan" else ("tiles", gpu_check.GRIDS)

    with pytest.raises(gpu_check.ComparisonError, match="relative error"):
        getattr(gpu_check, check)(backend, torch.float32, torch.device("cpu"), shapes)


def test_a_large_difference_between_bf16_and_fp32_losses_fails(gpu_check, monkeypatch):
    losses = itertools.cycle([torch.tensor(1.0), torch.tensor(1.1)])
    monkeypatch.setattr(gpu_check, "_steps", lambda *args, bf16: [next(losses)])

    with pytest.raises(gpu_check.ComparisonError, match=r"10\.00%"):
        gpu_check.check_precision(gpu_check.tiny_networks()[0], torch.device("cpu"))


def test_checks_without_their_package_or_out_of_time_are_skipped_and_a_failure_stops_no_other(gpu_check, monkeypatch):
    def needs_a_package():
        raise ModuleNotFoundError("No module named 'natten'", name="natten")

    def breaks():
        raise RuntimeError("no\nkernel image")

    checks = {"a": needs_a_package, "b": breaks, "c": lambda: {"speed": 1.0}, "d": lambda: {"speed": 2.0}}
    monkeypatch.setattr(gpu_check.time, "perf_counter", itertools.count().__next__)  # the clock is read twice per check

    results = list(gpu_check.run(checks, seconds=6))

    assert [result.status for result in results] == ["skipped", "failed", "ok", "skipped"]
    assert [result.note for result in results[:2]] == ["needs natten, which is not installed", "RuntimeError: no"]
    assert (results[2].figures, results[3].note) == ({"speed": 1.0}, "out of time")


def test_the_checked_networks_are_those_of_the_experiment_files(gpu_check):
    networks = {network.name: network for network in gpu_check.shipped_networks()}

    assert networks["dit-timeseries"].shape == (1, 20, 2048)
    assert networks["dit-timeseries"].architecture["patch_size"] == [0, 8]
    assert networks["dit-db-only"].batch == 32
