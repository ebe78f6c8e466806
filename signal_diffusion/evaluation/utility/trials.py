"""Train and test classifiers, in this process or in others.

A unit of work is one share of the training people in one fold of one seed, or the synthetic windows in their place: its
classifiers share the augmented windows. Workers read all windows from a file, once each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from signal_diffusion.disks import writing
from signal_diffusion.evaluation.utility.arms import Arm, Fit, Plan, Sources
from signal_diffusion.evaluation.utility.classifiers import CLASSIFIERS
from signal_diffusion.evaluation.utility.people import Fold
from signal_diffusion.evaluation.utility.scores import Predictions
from signal_diffusion.evaluation.utility.tasks import Task
from signal_diffusion.evaluation.windows import SUBJECT, Windows
from signal_diffusion.executing.engine import engine_of
from signal_diffusion.executing.threads import one_thread
from signal_diffusion.untrusted import read_arrays

__all__ = ["Trial", "Workers", "run_unit", "trials"]

SETS = ("train", "real", "synthetic")
ADVICE = "run the command again"


@dataclass(frozen=True)
class Workers:
    """Processes that train classifiers; see `engine_of`."""

    count: int
    cluster: str | None
    folder: Path
    """A folder that all of them see, where the windows are meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A classifier, and what it predicts."""

    classifier: str
    seed: int
    people: int
    """Training people."""
    missing: str
    """Why it could not be trained; "" if it was."""
    tests: tuple[tuple[Arm, Predictions | None], ...]
    """What it predicts in each arm; None without windows to test on."""


def trials(
    sources: Sources,
    folds: Sequence[Sequence[Fold]],
    plan: Plan,
    classifiers: tuple[str, ...],
    workers: Workers | None = None,
) -> Iterator[Trial]:
    """Yield the trials of all seeds, whose `folds` are given, in the order of their units."""
    units = [
        (seed, number, fold, share)
        for seed, of_seed in enumerate(folds)
        for number, fold in enumerate(of_seed)
        for share in (None, *plan.shares)
    ]
    if workers is None:
        for unit in units:
            yield from _trained(sources, plan, classifiers, *unit)
        return
    workers.folder.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(prefix=".windows-", dir=workers.folder) as folder,
        engine_of(min(workers.count, len(units)), workers.cluster) as engine,
    ):
        path = Path(folder) / "windows.npz"
        _save(path, sources)
        work = partial(run_unit, task=sources.task, plan=plan, classifiers=classifiers)
        for found in engine.in_order(work, ((path, *unit) for unit in units)):
            yield from found


def run_unit(
    path: Path,
    seed: int,
    number: int,
    fold: Fold,
    share: float | None,
    *,
    task: Task,
    plan: Plan,
    classifiers: tuple[str, ...],
) -> list[Trial]:
    """A unit of work: the trials of one share (None = of synthetic windows) in fold `number` of a seed."""
    with one_thread():
        return list(_trained(_sources_in(path, task), plan, classifiers, seed, number, fold, share))


def _trained(
    sources: Sources,
    plan: Plan,
    classifiers: tuple[str, ...],
    seed: int,
    number: int,
    fold: Fold,
    share: float | None,
) -> Iterator[Trial]:
    for fit in sources.fits(fold, seed, plan, share):
        for name in filter(fit.is_for, classifiers):
            yield Trial(
                classifier=name,
                seed=seed,
                people=fit.people,
                missing=fit.missing,
                tests=tuple(_tested(name, fit, sources, seed, number)),
            )


def _tested(name: str, fit: Fit, sources: Sources, seed: int, fold: int) -> Iterator[tuple[Arm, Predictions | None]]:
    predict = None if fit.train is None else CLASSIFIERS[name](fit.train, sources.task, seed)
    for arm, test in fit.tests:
        found = None
        if predict is not None and len(test):
            found = Predictions(
                values=predict(test.parts[0]),
                targets=test.targets,
                people=sources.people_of(test),
                folds=np.full(len(test), fold),
            )
        yield arm, found


def _save(path: Path, sources: Sources) -> None:
    """Write the windows, with the columns that classifiers are trained on."""
    sets = zip(SETS, (sources.train, sources.real, sources.synthetic), strict=True)
    arrays: dict[str, np.ndarray] = {}
    for key, examples in sets:
        windows = examples.parts[0].windows
        known = {name: windows.column(name) for name in (SUBJECT, sources.task.column)}
        arrays |= {f"{key}/column {name}": values for name, values in known.items() if values is not None}
        arrays |= {f"{key}/signals": windows.signals, f"{key}/sfreq": np.array(windows.sfreq)}
        arrays |= {f"{key}/ch_names": np.array(windows.ch_names), f"{key}/name": np.array(windows.name)}
    with writing(path, "windows", needs=sum(each.nbytes for each in arrays.values())), path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its other argument is a bool


@lru_cache(maxsize=1)
def _sources_in(path: Path, task: Task) -> Sources:
    arrays = read_arrays(path, ADVICE)
    train, real, synthetic = (_windows(arrays, key, task) for key in SETS)
    return Sources.of(train, real, synthetic, task)


def _windows(arrays: Mapping[str, np.ndarray], key: str, task: Task) -> Windows:
    columns = {name: f"{key}/column {name}" for name in (SUBJECT, task.column)}
    return Windows(
        signals=arrays[f"{key}/signals"],
        sfreq=float(arrays[f"{key}/sfreq"]),
        ch_names=tuple(arrays[f"{key}/ch_names"].tolist()),
        columns={name: arrays[entry] for name, entry in columns.items() if entry in arrays},
        name=str(arrays[f"{key}/name"]),
    )
