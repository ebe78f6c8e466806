"""Units of work of array jobs: `prepare --shard 3/64` reads a part of the recordings, `prepare --merge` does the rest.

Units are in a hidden folder next to the output, on a file system that all jobs share, each under a hash of its files
and of everything that it depends on. So a job that is repeated does only what is missing, whatever was killed, and
units of other settings or of older files are not used.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.data.preparing.staged import Progress
from signal_diffusion.data.preparing.units import DAMAGED, read_unit, result_path, run_unit
from signal_diffusion.data.recordings.companions import companions_of
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.errors import UserError, listed
from signal_diffusion.executing.engine import engine_of
from signal_diffusion.executing.shard import Shard
from signal_diffusion.untrusted import read_json

if TYPE_CHECKING:
    from signal_diffusion.data.preparing.building import Source

__all__ = ["remove_shards", "stage_shard", "units_of_shards"]

_FORMAT = 1
"""Increase it with every change to what a unit holds or how recordings are read."""
_ENDING = re.compile(r"[-_](raw|eeg|ieeg|meg)$", re.IGNORECASE)


def stage_shard(source: Source, output: Path, shard: Shard, progress: Progress) -> int:
    """Read the recordings of a shard, as far as they are not; returns their number.

    Raises `UserError` if one of them cannot be used, unless `source.skip_bad`.
    """
    paths = _paths(source, output)
    units = shard.of(list(zip(source.recordings, paths, strict=True)))
    if not units:
        return 0
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    with engine_of(min(source.workers, len(units))) as engine:
        work = partial(run_unit, staging=source.staging, note={"number": shard.number, "count": shard.count})
        for number, ((recording, path), _) in enumerate(zip(units, engine.in_order(work, units), strict=True)):
            progress("reading", number, len(units))
            found = read_unit(recording, path, source.staging)
            if isinstance(found, UserError) and not source.skip_bad:
                result_path(path).unlink()  # the file may be mended
                raise UserError(*found.lines, "skip such files with --skip-bad")
    progress("reading", len(units), len(units))
    return len(units)


def units_of_shards(source: Source, output: Path) -> list[Path]:
    """The units of all recordings; raises a `UserError` that names the shards that are missing."""
    paths = _paths(source, output)
    missing = [number for number, path in enumerate(paths) if not result_path(path).exists()]
    if not missing:
        return paths
    own = [document for path in paths if (document := result_path(path)).exists()]
    notes = [read_json(path, dict, DAMAGED)["note"] for path in own or _folder(output).glob("*.json")]
    found = [Shard(each["number"], each["count"]) for each in notes]
    if not found:
        raise UserError(f"merge: no shard of {output} is there; run this command with --shard 1/N to N/N first")
    problem = (
        f"merge: {len(missing)} of {len(paths)} recordings have not been read with these options, or have changed since"
    )
    counts = sorted({each.count for each in found})
    if len(counts) > 1:
        examples = [str(next(each for each in found if each.count == count)) for count in counts]
        raise UserError(
            f"{problem}, and shards of different numbers were read ({listed(examples)}); run --shard 1/N to N/N with "
            "one N: what was read is not read again"
        )
    shards = [str(Shard(number, counts[0])) for number in sorted({number % counts[0] + 1 for number in missing})]
    raise UserError(f"{problem}; repeat --shard {listed(shards, 20)}")


def remove_shards(output: Path) -> None:
    """Remove the units of all shards, after they were merged."""
    shutil.rmtree(_folder(output), ignore_errors=True)


def _folder(output: Path) -> Path:
    output = output.resolve()
    return output.with_name(f".{output.name}.units")


def _paths(source: Source, output: Path) -> list[Path]:
    folder = _folder(output)
    settings = [_FORMAT, source.made_from, repr(source.staging.labelling), repr(source.staging.events)]
    names = {at: sorted(path.name for path in at.iterdir()) for at in {each.path.parent for each in source.recordings}}
    return [
        folder / f"{_hash([*settings, repr(each), _versions(each, names[each.path.parent])])}.npy"
        for each in source.recordings
    ]


def _versions(recording: Recording, names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a recording's files: those of `names` next to it that start alike."""
    stem = _ENDING.sub("", recording.path.stem)
    own = [recording.path.parent / name for name in names if name.startswith(stem)]
    status = {path: path.stat() for path in [*own, *companions_of(recording.path)] if path.exists()}
    return [(path.name, each.st_size, each.st_mtime_ns) for path, each in status.items()]


def _hash(content: list[object]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
