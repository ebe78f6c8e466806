"""Checkpoints written beside training: a thread writes what the training loop has copied."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

from signal_diffusion import checkpoints
from signal_diffusion.training.snapshots import Snapshot

__all__ = ["CheckpointWriter"]


class CheckpointWriter:
    """Writes checkpoints into a folder, one at a time, in a thread; its context ends when the last one is written.

    Like those that are written at once, a checkpoint exists from the moment when its folder is renamed into place.
    """

    def __init__(self, parent: Path, limit: int | None) -> None:
        """Keep the newest `limit` checkpoints of `parent`; None = all."""
        self._parent, self._limit = parent, limit
        self._thread: Thread | None = None
        self._written: Path | None = None
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None or isinstance(error, Exception):  # a KeyboardInterrupt does not wait
            self._join()

    def start(
        self,
        step: int,
        writers: Mapping[str, checkpoints.Writer],
        *,
        keep: Collection[int | None],
        snapshot: Snapshot | None = None,
    ) -> None:
        """Start to write the snapshot, then `checkpoint-<step>`, and to remove old ones except of the steps `keep`.

        `writers` must not read anything that training changes. The checkpoint before must have been `collect`ed.
        """
        self._thread = Thread(target=self._write, args=(step, writers, keep, snapshot), name="checkpoint", daemon=True)
        self._thread.start()

    def prune(self, step: int, *, keep: Collection[int | None]) -> list[str]:
        """Remove old checkpoints as after `checkpoint-<step>` was written; returns the names of later ones.

        EMA snapshots are removed only if they are later.
        """
        later = checkpoints.prune(self._parent, self._limit, newest=step, keep=keep)
        checkpoints.remove_later_snapshots(self._parent, step)
        return later

    @property
    def has_failed(self) -> bool:
        """Whether `collect` will raise."""
        return self._error is not None

    def collect(self, *, wait: bool) -> Path | None:
        """The checkpoint that was completed since the last call, if any; `wait` waits for the one being written.

        Raises
        ------
        UserError
            If it could not be written; earlier ones are untouched.
        """
        if wait:
            self._join()
        error, self._error = self._error, None
        if error:
            raise error
        written, self._written = self._written, None
        return written

    def _join(self) -> None:
        if self._thread:
            self._thread.join()

    def _write(
        self,
        step: int,
        writers: Mapping[str, checkpoints.Writer],
        keep: Collection[int | None],
        snapshot: Snapshot | None,
    ) -> None:
        try:
            if snapshot:
                snapshot.write(self._parent)
            written = checkpoints.write_checkpoint(self._parent, step, writers)
            self.prune(step, keep=keep)
            self._written = written
        except Exception as error:  # raised by `collect`, in the thread of the training loop
            self._error = error
