"""Run units of work on a Dask cluster, by `distributed` and, for SLURM, by `dask-jobqueue`: the extra `cluster`.

Workers read and write files, so they need the file system of this process and the same versions of all packages. A
worker that is killed costs the unit that it worked on: the scheduler runs that one again.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from signal_diffusion.errors import UserError, one_line

__all__ = [
    "check_cluster",
    "check_submission",
    "check_workers",
    "dask_executor",
    "lost_on_cluster",
    "slurm_cluster",
]

logger = logging.getLogger(__name__)

_SCHEMES = ("tcp", "tls", "ucx", "ws", "wss")
_SECONDS_TO_CONNECT = 5
_JOB: dict[str, Any] = {"cores": 1, "processes": 1, "memory": "4GiB"}
"""One unit at a time, which takes less than 2 GiB; for SLURM, unless `jobqueue.yaml` says otherwise."""
_ONE_AT_A_TIME = threading.Lock()


def check_cluster(cluster: str) -> None:
    """Raise a `UserError` unless the text names a cluster."""
    if cluster != "slurm" and not _is_address(cluster):
        raise UserError(f"cluster: {cluster!r}; expected the address of a Dask scheduler, tcp://HOST:PORT, or slurm")


def check_workers(workers: int, cluster: str | None) -> None:
    """Raise a `UserError` unless the text names a cluster, which may be given a number of workers only by SLURM."""
    if cluster is not None:
        check_cluster(cluster)
    if cluster not in (None, "slurm") and workers != 1:
        raise UserError(f"--workers has no effect with --cluster {cluster}, which has workers of its own; leave it out")


def _is_address(text: str) -> bool:
    """Whether a text has a scheme of Dask, a host and a port, and nothing else."""
    try:
        parts = urlsplit(text)
        return bool(parts.scheme in _SCHEMES and parts.hostname and parts.port) and not parts.path.strip("/")
    except ValueError:  # a port above 65535, or half an IPv6 address
        return False


@contextlib.contextmanager
def dask_executor(cluster: str, jobs: int) -> Iterator[Executor]:
    """Yield the executor of a Dask cluster: of a scheduler that runs, or of up to `jobs` jobs of SLURM.

    Raises `UserError` if Dask is not installed or the scheduler does not answer.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UserError("cluster: needs Dask, which is not installed; run `uv sync --extra cluster`") from None
    with ExitStack() as stack:
        target: Any = cluster
        if cluster == "slurm":
            target = stack.enter_context(slurm_cluster())
            check_submission(target.job_script())
            target.adapt(minimum_jobs=0, maximum_jobs=jobs)
        try:
            client = stack.enter_context(Client(target, timeout=_SECONDS_TO_CONNECT))
        except OSError as error:
            raise UserError(
                f"cluster: no Dask scheduler answers at {cluster} ({one_line(error)}); start one with `dask scheduler`"
            ) from None
        if not client.scheduler_info(n_workers=-1)["workers"]:
            logger.warning("--cluster %s has no worker yet; waiting for the first one", cluster)
        yield _InFolder(client.get_executor(pure=False), Path.cwd())


def lost_on_cluster() -> tuple[type[Exception], ...]:
    """The errors of units that Dask gave up: their workers were killed four times, or the scheduler ended."""
    from distributed.scheduler import KilledWorker

    return KilledWorker, CancelledError


def slurm_cluster() -> Any:
    """A `dask_jobqueue.SLURMCluster` by the user's `jobqueue.yaml`, or of jobs with one core."""
    try:
        from dask import config
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise UserError("cluster: slurm needs dask-jobqueue; run `uv sync --extra cluster`") from None
    known = config.get("jobqueue.slurm", {})
    return SLURMCluster(**{name: value for name, value in _JOB.items() if not known.get(name)})


def check_submission(script: str) -> None:
    """Raise a `UserError` if SLURM would not accept a job; otherwise Dask would try for ever."""
    try:
        done = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError("cluster: slurm needs the command sbatch, which is not on this machine") from None
    if done.returncode:
        why = " ".join(done.stderr.split())
        raise UserError(
            f"cluster: slurm does not accept jobs with one worker ({why}); set queue, memory and walltime under "
            "jobqueue: slurm: in ~/.config/dask/jobqueue.yaml"
        )


class _InFolder(Executor):
    """Dask's executor, whose units run in the folder of this process, to which their paths may be relative."""

    def __init__(self, executor: Executor, folder: Path) -> None:
        self._executor, self._folder = executor, folder

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        return self._executor.submit(_run_in, self._folder, work, *arguments)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait=wait and not cancel_futures)


def _run_in(folder: Path, work: Callable[..., Any], *arguments: Any) -> Any:
    """Run a unit in a folder; one at a time in a worker with several threads, which share the folder."""
    with _ONE_AT_A_TIME, ExitStack() as stack:
        needed = (folder, *(folder / each for each in _files_of(arguments)))
        missing = next((each for each in needed if not each.exists()), None)
        if missing is not None:
            raise UserError(
                f"{missing}: not found on {socket.gethostname()}, a worker of --cluster; workers need the file system "
                "of the machine that runs this command, under the same paths"
            )
        if Path.cwd() != folder:
            stack.enter_context(contextlib.chdir(folder))
        return work(*arguments)


def _files_of(arguments: tuple[Any, ...]) -> Iterator[Path]:
    """What a unit needs to see: the file of a recording, and the folder of a file that it reads or writes."""
    for each in arguments:
        if isinstance(each, Path):
            yield each.parent
        elif isinstance(path := getattr(each, "path", None), Path):
            yield path
