"""Speed and memory of preparing recordings and of loading batches, measured on generated EEG."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signal_diffusion.data import synthetic
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.loaders import ExampleOrder, Examples, batches
from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare

__all__ = ["loading_speed", "peak_memory", "preparation_speed", "preparation_steps", "write_recordings"]

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


def preparation_speed(recordings: Path, output: Path, representation: str, workers: int) -> float:
    """Prepare a folder of `write_recordings` with half-overlapping windows; returns seconds of EEG per second."""
    start = time.perf_counter()
    prepare([recordings], output, PrepareOptions(representation=representation, workers=workers))
    return _eeg_seconds(recordings) / (time.perf_counter() - start)


def preparation_steps(recordings: Path, output: Path) -> dict[str, float]:
    """Prepare db-only in one process under a profiler; returns seconds per step, the rest as "everything else"."""
    profile = cProfile.Profile()
    profile.enable()
    start = time.perf_counter()
    prepare([recordings], output, PrepareOptions())
    total = time.perf_counter() - start
    profile.disable()
    return _steps(profile, total)


def loading_speed(root: Path, *, in_memory: bool, batch_size: int = 64, epochs: int = 5) -> float:
    """Load a dataset's training split for some epochs; returns the median of examples per second."""
    card = DatasetCard.load(root)
    columns = {name: (name, entry["names"]) for name, entry in card.columns.items() if name in ("label", "electrode")}
    examples = Examples(
        open_split(root, "train"),
        shape=card.shape,
        tensor=card.representation["column"],
        attributes=columns,
        memory_limit_mb=2**20 if in_memory else 0,
    )
    order = ExampleOrder(num_examples=len(examples), batch_size=batch_size)
    return statistics.median(_speed(examples, order) for _ in range(epochs))


def peak_memory(recordings: Path, output: Path) -> float:
    """Prepare in a separate process; returns its peak memory in MiB, as Linux reports it."""
    code = (
        "import re, sys; from pathlib import Path; "
        "from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare; "
        "prepare([Path(sys.argv[1])], Path(sys.argv[2]), PrepareOptions(representation='db-iq')); "
        # Not `getrusage`: its maximum includes the parent process.
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    arguments = [sys.executable, "-c", code, str(recordings), str(output)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) / 2**10


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


def _speed(examples: Examples, order: ExampleOrder) -> float:
    start = time.perf_counter()
    stream = batches(examples, order, 0, order.steps_per_epoch, num_workers=0, pin_memory=False)
    total = sum(len(x) for x, _ in stream)
    return total / (time.perf_counter() - start)
