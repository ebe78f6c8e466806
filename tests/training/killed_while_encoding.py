"""Encoding shards in a worker that is killed in the middle of one; workers import this module."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from signal_diffusion.training import latent_shards
from signal_diffusion.training.encoding import encode_shard

__all__ = ["KilledWhileEncoding"]


@dataclass(frozen=True)
class KilledWhileEncoding:
    """`encode_shard`, but the process dies before it renames the first shard that has a name."""

    folder: Path
    """Notes what was encoded, a file per attempt at a shard that was not there."""
    name: str
    bytes_per_shard: int

    def __call__(self, path: Path, config: Path, overrides: tuple[str, ...]) -> None:
        latent_shards.BYTES_PER_SHARD = self.bytes_per_shard
        first = not any(self.folder.glob(f"*{self.name}.*"))
        attempts = len(list(self.folder.glob(f"{path.parent.name}-{path.name}.*")))
        if not path.exists():
            (self.folder / f"{path.parent.name}-{path.name}.{attempts}").touch()
        if path.name == self.name and first:
            Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign, assignment]
        encode_shard(path, config, overrides)
