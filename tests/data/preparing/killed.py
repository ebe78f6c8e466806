"""Reading recordings in a worker that is killed in the middle of one; workers import this module."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from signal_diffusion.data.recordings.reading import Reading, read_recording
from signal_diffusion.data.recordings.recording import Recording

__all__ = ["KilledWhileReading"]


@dataclass(frozen=True)
class KilledWhileReading:
    """`read_recording`, but the process dies with a half-written file at one of them."""

    folder: Path
    """Notes what was read, a file per attempt."""
    name: str
    """The recording that it dies at."""
    times: int = 1

    def __call__(self, recording: Recording, *, options: object, output: Path) -> Reading:
        attempt = len(list(self.folder.glob(f"{recording.recording.replace('/', '-')}.*")))
        (self.folder / f"{recording.recording.replace('/', '-')}.{attempt}").touch()
        reading = read_recording(recording, options, output)  # type: ignore[arg-type]
        if recording.recording.endswith(self.name) and attempt < self.times:
            with output.open("r+b") as file:
                file.truncate(output.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return reading
