"""What launchers leave to the processes that they start: to start the others, and to end with the launcher.

Without mpirun, `accelerate launch --cpu --num_processes N` starts only one. It sets the address to meet at in the
environment, but neither a rank nor N, which has to be read from its command line, or from the file that this names.

A signal to `accelerate launch` alone ends it, and SIGUSR1, SIGUSR2 or SIGKILL ends torchrun, and neither tells its
processes. So these ask the kernel for a signal (Linux only).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil
import yaml  # type: ignore[import-untyped]

from signal_diffusion.errors import LAUNCHER_ENDED, UserError

__all__ = ["start_missing_processes"]

ACCELERATE = ("accelerate", "accelerate-launch", "accelerate.commands.launch", "accelerate.commands.accelerate_cli")
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that this process gets when its parent ends
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def start_missing_processes(module: str) -> None:
    """Replace this process with torchrun and as many processes of `module` as `accelerate launch` was asked for.

    Does not replace it unless `accelerate launch` was asked for several CPU processes and has started only this one.
    A process that has a launcher gets `LAUNCHER_ENDED` when that ends; torchrun, if in its place, is killed, which ends
    it without a traceback, and gives the others more than its 30 s to save.

    Raises
    ------
    UserError
        If several were asked for and their number cannot be found.
    """
    _end_with_launcher(LAUNCHER_ENDED)
    wants_several = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_ADDR" in os.environ
    if not wants_several or any(name in os.environ for name in RANK_VARIABLES):
        return
    num_processes = _num_processes_in(psutil.Process(os.getppid()).cmdline())
    if num_processes is None:
        raise UserError(
            "accelerate launch was asked for several CPU processes and started one; "
            f"use torchrun --nproc_per_node N -m {module} …"
        )
    if num_processes > 1:
        torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", str(num_processes)]
        rendezvous = ["--master_addr", os.environ["MASTER_ADDR"], "--master_port", os.environ["MASTER_PORT"]]
        _end_with_launcher(signal.SIGKILL)
        # Without "--" torchrun would take our options for its own, such as --num for --numa-binding.
        os.execv(sys.executable, [sys.executable, *torchrun, *rendezvous, "-m", "--", module, *sys.argv[1:]])


def _end_with_launcher(number: int | None) -> None:
    """Have the kernel send this process a signal when its launcher ends, if it has one."""
    if sys.platform == "linux" and number and _has_launcher():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)  # also for the program that may replace this one


def _has_launcher() -> bool:
    """Whether torchrun or `accelerate launch` has started this process, and not a shell, which may end before it."""
    words: list[str] = []
    with suppress(psutil.Error):  # it has ended, or is another user's
        words = psutil.Process(os.getppid()).cmdline()[:3]  # python -m module
    return "TORCHELASTIC_RUN_ID" in os.environ or any(Path(word).name in ACCELERATE for word in words)


def _num_processes_in(command_line: list[str]) -> int | None:
    """The number after `--num_processes` in the command line of `accelerate launch`, or in its `--config_file`."""
    words = [part for word in command_line for part in word.split("=", 1)]
    options = {name.replace("-", "_"): value for name, value in reversed([*pairwise(words)])}
    value = options.get("__num_processes", "")
    if not value and (file := options.get("__config_file")):
        with suppress(OSError, yaml.YAMLError):
            value = str((yaml.safe_load(Path(file).read_text()) or {}).get("num_processes"))
    return int(value) if value.isdigit() else None
