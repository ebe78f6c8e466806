"""Fill the latent cache of an experiment before its runs: by processes, on a cluster, or by the jobs of an array.

A unit of work is a shard of the cache. Workers read the experiment file themselves, and encode a shard only if what
they find (autoencoder, files, options) leads to the same folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

from accelerate import Accelerator

from signal_diffusion.config.sources import check_trains, expectations, written_keys
from signal_diffusion.errors import UserError
from signal_diffusion.executing.engine import Engine, engine_of
from signal_diffusion.executing.shard import Shard
from signal_diffusion.executing.threads import one_thread
from signal_diffusion.experiment.changed_data import checked
from signal_diffusion.experiment.loading import file_in_errors, load_experiment
from signal_diffusion.experiment.resolving import resolve
from signal_diffusion.training.device import accelerator_of
from signal_diffusion.training.latent_cache import LatentSplit, fill, latent_split
from signal_diffusion.training.latent_shards import LatentShard, reported_to_user

__all__ = ["encode", "encode_part", "encode_shard"]

Progress = Callable[[str, int, int], None]
"""Called with what is done, the number of shards that are done, and of all."""


def encode(
    config: Path,
    overrides: Sequence[str] = (),
    *,
    workers: int = 1,
    cluster: str | None = None,
    say: Callable[[str], None],
    progress: Progress,
) -> None:
    """Encode the splits that a run of this experiment file reads, as far as the cache does not have them.

    `workers` and `cluster` are as in `engine_of`; the bytes do not depend on them.

    Raises
    ------
    UserError
        If the experiment is wrong or does not cache latents, or the cache cannot be written.
    """
    _opened.cache_clear()
    with file_in_errors(config):
        splits, accelerator = _opened(config, tuple(overrides))
        with engine_of(workers, cluster) as engine:
            for split in splits:
                run = partial(_run, engine, (config, tuple(overrides)), progress, split)
                fill(split, run, accelerator, say=say)


def encode_part(
    config: Path,
    overrides: Sequence[str],
    part: Shard,
    *,
    workers: int = 1,
    say: Callable[[str], None],
    progress: Progress,
) -> None:
    """Encode a part of the shards of each split, without waiting for jobs that encode others."""
    _opened.cache_clear()
    with file_in_errors(config):
        splits, _ = _opened(config, tuple(overrides))
        with engine_of(workers) as engine:
            for split in splits:
                shards = part.of(split.shards)
                with reported_to_user(split.folder):
                    missing = [shard for shard in shards if shard.state() != "whole"]
                    split.begin()
                _run(engine, (config, tuple(overrides)), progress, split, missing)
                say(
                    f"shard {part} of {split}: encoded {len(missing)} of {len(shards)} files into {split.folder}; "
                    f"all shards make {len(split.shards)}"
                )


def _run(
    engine: Engine,
    experiment: tuple[Path, tuple[str, ...]],
    progress: Progress,
    split: LatentSplit,
    shards: Sequence[LatentShard],
) -> None:
    units = [(shard.path, *experiment) for shard in shards]
    for number, _ in enumerate(engine.in_order(encode_shard, units), start=1):
        progress(f"encoding {split}", number, len(units))


def encode_shard(path: Path, config: Path, overrides: tuple[str, ...]) -> None:
    """A unit of work: encode the examples of a shard, unless they are, in the process that is given it.

    Raises
    ------
    UserError
        If that process finds another autoencoder, dataset or cache than those of the shard.
    """
    split, shard = _found(path, config, overrides)
    with reported_to_user(split.folder), one_thread():
        if shard.state() != "whole":  # Dask repeats a unit if its worker ends before it is asked for the result
            split.encode(shard)


def _found(path: Path, config: Path, overrides: tuple[str, ...]) -> tuple[LatentSplit, LatentShard]:
    for _ in range(2):
        for split in _opened(config, overrides)[0]:
            for shard in split.shards:
                if shard.path == path:
                    return split, shard
        _opened.cache_clear()  # a worker of a cluster may have opened the file for an earlier command
    raise UserError(
        f"{path.parent}: a worker finds another autoencoder, dataset or cache folder for {config}; workers need the "
        "files and packages of the machine that runs this command, and a cache (data.loading.cache_dir) that all share"
    )


@lru_cache(maxsize=1)
def _opened(config: Path, overrides: tuple[str, ...]) -> tuple[tuple[LatentSplit, ...], Accelerator]:
    """The splits that a run reads, with the autoencoder on the device of the experiment."""
    check_trains(config)
    experiment = load_experiment(config, overrides)
    training, loading = experiment.training, experiment.data.loading
    if not experiment.model.autoencoder.cache_latents:
        raise UserError(
            "[model.autoencoder] cache_latents: false, so that runs of this experiment do not read cached latents; set "
            "it to true"
        )
    resolved = resolve(experiment, written_keys(config, overrides), expectations(config))
    assert resolved.autoencoder is not None
    paths = resolved.dataset.data.paths
    limits = {paths.train: loading.max_train_examples}
    if training.validation.enabled:
        limits[paths.val] = loading.max_val_examples
    dataset = checked(resolved.dataset, list(limits))
    # The autoencoder computes in fp32, whatever the precision of the run.
    training = dataclasses.replace(training, mixed_precision="no")
    accelerator = accelerator_of(dataclasses.replace(experiment, training=training))
    autoencoder = resolved.autoencoder.to(accelerator.device)
    splits = tuple(
        latent_split(dataset.examples(name, limit=limit, memory_limit_mb=0), name, dataset, autoencoder, accelerator)
        for name, limit in limits.items()
    )
    return splits, accelerator
