"""`signal-diffusion encode`: fill the cache of latents that runs of an experiment read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli.config import Overrides
from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.cli.workers import Cluster, Workers
from signal_diffusion.errors import UserError
from signal_diffusion.executing.clusters import check_workers
from signal_diffusion.executing.shard import Shard

__all__ = ["encode"]


def encode(
    experiment: Annotated[Path, typer.Argument(help="Experiment file (TOML) with model.autoencoder.cache_latents.")],
    overrides: Overrides = None,
    workers: Workers = 1,
    cluster: Cluster = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Encode only this part of the files: 3/64 in one of 64 jobs."),
    ] = None,
) -> None:
    """Encode the training and validation examples of an experiment by its autoencoder, before it is run.

    Runs whose files, options and autoencoder are the same read these latents; what is missing, they encode themselves.
    """
    from signal_diffusion.config.loading import check_keys

    check_workers(workers, cluster)
    part = None if shard is None else Shard.parse(shard)
    if part is not None and cluster is not None:
        raise UserError("--cluster has no effect with --shard; leave it out")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("encode starts processes itself (--workers, --cluster, --shard); run it without a launcher")
    check_keys(experiment, overrides or ())  # before the next import, which takes seconds
    from signal_diffusion.training.encoding import encode as encode_all
    from signal_diffusion.training.encoding import encode_part

    with progress_bars() as progress:
        if part is not None:
            encode_part(experiment, overrides or (), part, workers=workers, say=print, progress=progress)
        else:
            encode_all(experiment, overrides or (), workers=workers, cluster=cluster, say=print, progress=progress)
