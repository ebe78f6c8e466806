"""Start the processes that `accelerate launch --cpu --num_processes N` does not start.

Without mpirun it starts only one. It sets the address to meet at in the environment, but neither a rank nor N, which
has to be read from its command line.
"""

from __future__ import annotations

import os
import sys
from itertools import pairwise

import psutil

from signal_diffusion.errors import UserError

__all__ = ["start_missing_processes"]

RANK_VARIABLES = ("RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def start_missing_processes(module: str) -> None:
    """Replace this process with torchrun and as many processes of `module` as `accelerate launch` was asked for.

    Does nothing unless `accelerate launch` was asked for several CPU processes and has started only this one.

    Raises
    ------
    UserError
        If several were asked for and their number cannot be found.
    """
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
        # Without "--" torchrun would take our options for its own, such as --num for --numa-binding.
        os.execv(sys.executable, [sys.executable, *torchrun, *rendezvous, "-m", "--", module, *sys.argv[1:]])


def _num_processes_in(command_line: list[str]) -> int | None:
    """The number after `--num_processes` in the command line of `accelerate launch`."""
    words = [part for word in command_line for part in word.split("=", 1)]
    for name, value in pairwise(words):
        if name in ("--num_processes", "--num-processes") and value.isdigit():
            return int(value)
    return None
