"""Options of commands that run units of work elsewhere than in their own process; `prepare` has them in a panel."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Cluster", "Workers"]

Workers = Annotated[int, typer.Option(min=1, help="Number of processes that work; with --cluster slurm, of jobs.")]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="tcp://HOST:PORT|slurm",
        help="Work on the workers of a Dask scheduler, or in jobs of SLURM; they need this file system.",
    ),
]
