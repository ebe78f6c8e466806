"""Run functions in other processes: several over gloo, with torchrun's environment, or one with its own environment.

torchrun would import torch itself, and the whole package in each process that it starts. These processes are forked
from one that has imported everything and done nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.distributed import TCPStore

TIMEOUT = 300  # s

_processes = multiprocessing.get_context("forkserver")
_LATER = (
    "torch._dynamo",
    "datasets",
    "diffusers.models.autoencoders.autoencoder_kl",
    "matplotlib.figure",
    "scipy.io",
)  # which a run imports where it needs them
_processes.set_forkserver_preload(["signal_diffusion.training.diffusion", *_LATER])


@dataclass(frozen=True)
class Finished:
    """Exit codes (None for a process that had to be killed) and the outputs, one process after the other."""

    exit_codes: list[int | None]
    output: str


FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
"""What `accelerate launch` tells its processes about FSDP2."""


def two_processes(function: Callable[..., object], *arguments: object, **named: object) -> Finished:
    """Call a module's function with the same arguments in two processes of one distributed group."""
    return several_processes(2, {}, function, *arguments, **named)


def several_processes(
    count: int, variables: dict[str, str], function: Callable[..., object], *arguments: object, **named: object
) -> Finished:
    """Call a module's function in the processes of one distributed group, with further environment variables."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    rendezvous = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    rendezvous |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"} | variables
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return _finished(function, arguments, named, [os.environ | rendezvous | rank for rank in ranks])


def another_process(function: Callable[..., object], *arguments: object, **variables: str) -> Finished:
    """Call a module's function in a fresh process with this one's environment and `variables`."""
    return _finished(function, arguments, {}, [os.environ | variables])


def _finished(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    named: dict[str, object],
    environments: list[dict[str, str]],
) -> Finished:
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / str(number) for number in range(len(environments))]
        started = []
        for path, environment in zip(outputs, environments, strict=True):
            process = _processes.Process(target=_call, args=(function, arguments, named, environment, path))
            process.start()
            started.append(process)
        for process in started:
            process.join(TIMEOUT)
        codes = [process.exitcode for process in started]
        for process in started:
            process.kill()
        return Finished(codes, "".join(path.read_text() for path in outputs))


def _call(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    named: dict[str, object],
    environment: dict[str, str],
    output: Path,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    function(*arguments, **named)
