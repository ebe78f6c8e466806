"""The speed and memory of preparing recordings, on generated EEG."""

from __future__ import annotations

import cProfile
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from signal_diffusion.benchmarks.loading import loading_rows
from signal_diffusion.benchmarks.measuring import Row, row_of
from signal_diffusion.benchmarks.report import Report
from signal_diffusion.data import synthetic
from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare

__all__ = ["data_report", "preparation_steps", "write_recordings"]

RATE = 500  # Hz
CHANNELS = (*synthetic.POSITIONS, "A1")  # 20 channels: 19 electrodes and a reference

# Step → functions (end of the file's path, name) whose cumulative time counts; they do not call each other.
STEPS = {
    "decoding EDF": (("source.py", "microvolts"),),
    "finding flat seconds": (("blocks.py", "_flat"),),
    "resampling": (("", "upfirdn"),),
    "band-pass": (("", "fftconvolve"),),
    "cutting windows": (("windows.py", "cut"),),
    "fitting limits": (("spectrogram.py", "_measured"),),
    "computing tensors": (("", "to_tensor"),),
    "writing Parquet": (("", "write_table"), ("writing_splits.py", "_table"), ("integrity.py", "sha256_of")),
    "flushing to disk": (("publishing.py", "_flush"),),
}


def data_report(*, minutes: float, workers: int, rounds: int) -> Report:
    """Measure preparation and loading on recordings of so many minutes."""
    with tempfile.TemporaryDirectory() as folder:
        rows = list(_rows(Path(folder), minutes=minutes, workers=workers, rounds=rounds))
    return Report.of("data", rows)


def _rows(folder: Path, *, minutes: float, workers: int, rounds: int) -> Iterator[Row]:
    """Rows of preparing four recordings, of the steps of it, of loading batches, and of peak memory.

    Everything is written into `folder`. Preparing is measured once.
    """
    write_recordings(folder / "four", 4, minutes)
    for name in ("db-only", "db-iq"):
        for count in sorted({1, workers}):
            options = PrepareOptions(representation=name, workers=count)
            seconds = _seconds_of(partial(prepare, [folder / "four"], folder / f"{name}-{count}", options))
            speed = _eeg_seconds(folder / "four") / seconds
            case = f"preparing 4 recordings of {minutes:g} min"
            yield row_of(case, f"{name}, {count} worker(s)", [seconds], {"times_real_time": speed})
    steps = preparation_steps(folder / "four", folder / "profiled")
    total = sum(steps.values())
    for step, seconds in steps.items():
        yield row_of("preparing db-only, one process, profiled", step, [seconds], {"share": seconds / total})
    yield from loading_rows(folder / "db-iq-1", rounds=rounds)
    if sys.platform != "linux":  # the only system that reports it
        return
    for name, count, length in (("one", 1, 1), ("eight", 8, 1), ("long", 1, 8)):
        write_recordings(folder / name, count, length * minutes / 3)
        start = time.perf_counter()
        peak = _peak_memory(folder / name, folder / f"{name}-dataset")
        seconds = time.perf_counter() - start
        variant = f"{count} × {length * minutes / 3:g} min"
        yield row_of("preparing db-iq in a process of its own", variant, [seconds], {"peak_bytes": peak})


def write_recordings(folder: Path, count: int, minutes: float) -> None:
    """Write EDF files of 20 channels at 500 Hz, one subject each."""
    import mne

    folder.mkdir(parents=True, exist_ok=True)
    info = mne.create_info(list(CHANNELS), RATE, "eeg")
    for number in range(count):
        who = synthetic.person(0, number)
        samples = round(minutes * 60 * RATE)
        signal, _ = synthetic.simulate("relaxed", who, samples, RATE, seed=0, recording=0)
        microvolts = np.concatenate([signal, signal[-1:] / 2])
        raw = mne.io.RawArray(microvolts * 1e-6, info, verbose="ERROR")
        path = folder / f"subject-{number:02d}.edf"
        mne.export.export_raw(path, raw, physical_range=(-1000, 1000), overwrite=True, verbose="ERROR")


def preparation_steps(recordings: Path, output: Path) -> dict[str, float]:
    """Prepare db-only in one process under a profiler; returns seconds per step, the rest as "everything else"."""
    profile = cProfile.Profile()
    profile.enable()
    total = _seconds_of(partial(prepare, [recordings], output, PrepareOptions()))
    profile.disable()
    return _steps(profile, total)


def _seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peak_memory(recordings: Path, output: Path) -> int:
    """Prepare in a separate process; returns its peak memory in bytes, as Linux reports it."""
    code = (
        "import re, sys; from pathlib import Path; "
        "from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare; "
        "prepare([Path(sys.argv[1])], Path(sys.argv[2]), PrepareOptions(representation='db-iq')); "
        # Not `getrusage`: its maximum includes the parent process.
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    arguments = [sys.executable, "-c", code, str(recordings), str(output)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return 1024 * int(done.stdout.split()[-1])


def _eeg_seconds(recordings: Path) -> float:
    import mne

    files = sorted(recordings.glob("*.edf"))
    return sum(float(mne.io.read_raw_edf(path, verbose="ERROR").duration) for path in files)


def _steps(profile: cProfile.Profile, total: float) -> dict[str, float]:
    spent = {
        (where, name): cumulated
        for (where, _, name), (_, _, _, cumulated, _) in pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]
    }
    steps = {step: _spent(spent, functions) for step, functions in STEPS.items()}
    return steps | {"everything else": total - sum(steps.values())}


def _spent(spent: dict[tuple[str, str], float], functions: Sequence[tuple[str, str]]) -> float:
    return sum(
        cumulated
        for (where, name), cumulated in spent.items()
        if any(where.endswith(file) and (name == function or f"'{function}'" in name) for file, function in functions)
    )
