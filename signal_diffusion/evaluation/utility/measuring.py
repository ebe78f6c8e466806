"""Measure utility: train with and without synthetic windows, test on people who were not trained on.

TRTR is trained on real and tested on real windows, TSTR trained on synthetic and tested on real, TRTS trained on real
and tested on synthetic ones (Esteban et al., arXiv:1706.02633, 2017). The gain of an arm is its score minus that of the
same training people with nothing added. Folds, people and seeds are the same for all arms, so that gains are paired.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.utility.arms import FULL, QUICK, Arm, Sources
from signal_diffusion.evaluation.utility.classifiers import check_classifiers, require_extra
from signal_diffusion.evaluation.utility.examples import Examples
from signal_diffusion.evaluation.utility.outcomes import Outcome, rows_of
from signal_diffusion.evaluation.utility.people import make_folds
from signal_diffusion.evaluation.utility.result import Utility
from signal_diffusion.evaluation.utility.tasks import Task, known_rows, make_task
from signal_diffusion.evaluation.utility.trials import Workers, trials
from signal_diffusion.evaluation.windows import Windows
from signal_diffusion.executing.threads import one_thread

__all__ = ["measure_utility"]

FEW_PEOPLE = 10
"""Test people below which intervals come with a note."""
FEW_SEEDS = 5
OnFit = Callable[[int, int], None]
"""Called with the number of classifiers that are trained, and of all."""
OnPlan = Callable[[str], None]


def measure_utility(
    train: Windows,
    real: Windows,
    synthetic: Windows,
    *,
    task: str = "label",
    classifiers: Sequence[str] = ("logreg", "riemann"),
    seeds: int = 5,
    quick: bool = False,
    notes: Sequence[str] = (),
    workers: Workers | None = None,
    on_plan: OnPlan | None = None,
    on_fit: OnFit | None = None,
) -> Utility:
    """Measure what synthetic windows are worth to classifiers that are tested on people they were not trained on.

    Parameters
    ----------
    train, real, synthetic
        Training windows (of the people that the model was trained on), windows of the people to test on, and synthetic
        ones. If `train` and `real` have the same people, there are five folds by person. Synthetic windows whose
        column `subject` names a training person are only used together with that person.
    task
        Column to predict: a number by regression if it is `age`, otherwise classes.
    classifiers
        Names in `CLASSIFIERS`.
    seeds
        Repetitions with other folds, people, synthetic windows and augmentations.
    quick
        Whether to measure only the arms of `QUICK`, not all of `FULL`.
    notes
        Sentences that the result repeats.
    workers
        Processes that train the classifiers, of which the result does not depend; None = this one.
    on_plan
        Called with a sentence on what is going to be trained, before that.

    Raises
    ------
    UserError
        If electrodes, rates or lengths differ, a column or people are missing, or the extra `evaluation` is not
        installed.
    """
    require_extra()
    check_classifiers(classifiers)
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: expected at least 1")
    _check_alike(train, real, synthetic)
    known = [(each, known_rows(each, task)) for each in (train, real, synthetic)]
    train, real, synthetic = (each if len(rows) == len(each) else each.take(rows) for each, rows in known)
    what = make_task(task, train)
    folds = [make_folds(train, real, what, seed) for seed in range(seeds)]
    sources, plan = Sources.of(train, real, synthetic, what), QUICK if quick else FULL
    fits = {name: seeds * len(folds[0]) * plan.fits(name) for name in classifiers}
    outcomes: defaultdict[tuple[str, Arm], Outcome] = defaultdict(Outcome)
    with one_thread():
        if on_plan:
            on_plan(_planned(fits, sources.train, what))
        found = trials(sources, folds, plan, tuple(classifiers), workers)
        for done, trial in enumerate(found, start=1):
            for arm, predictions in trial.tests:
                outcome = outcomes[trial.classifier, arm]
                outcome.trained_people.append(trial.people)
                if trial.missing:
                    outcome.missing = trial.missing
                elif predictions is not None:
                    outcome.add(trial.seed, predictions)
            if on_fit:
                on_fit(done, sum(fits.values()))
    return Utility(
        task=task,
        classes=what.classes,
        about=_about(train, real, synthetic, seeds, len(folds[0])),
        rows=rows_of(outcomes, what),
        notes=[*notes, *_notes(task, known, sources, seeds)],
    )


def _planned(fits: Mapping[str, int], train: Examples, task: Task) -> str:
    """How many classifiers are trained, and how long EEGNet takes at most."""
    words = "training " + ", ".join(f"{count} × {name}" for name, count in fits.items())
    if "eegnet" not in fits:
        return words
    from signal_diffusion.evaluation.utility.eegnet import longest_seconds

    seconds = longest_seconds(train, task)
    minutes = max(1, round(seconds * fits["eegnet"] / 60))
    return f"{words}; eegnet takes up to {max(1, seconds):.0f} s each on a core of this machine, {minutes} min in all"


def _check_alike(*sets: Windows) -> None:
    first = sets[0]
    for other in sets[1:]:
        for what, one, two in (
            ("electrodes", ", ".join(first.ch_names), ", ".join(other.ch_names)),
            ("sampling rate", f"{first.sfreq:g} Hz", f"{other.sfreq:g} Hz"),
            ("samples per window", first.signals.shape[-1], other.signals.shape[-1]),
        ):
            if one != two:
                raise UserError(f"{other.name}: {what}: {two}, but {first.name} has {one}; prepare both alike")


def _about(train: Windows, real: Windows, synthetic: Windows, seeds: int, folds: int) -> dict[str, object]:
    sets = {"train": train, "real": real, "synthetic": synthetic}
    return {
        "windows": {
            key: {"name": each.name, "windows": len(each), "people": len(each.people) or None}
            for key, each in sets.items()
        },
        "seeds": seeds,
        "folds": folds,
    }


def _notes(task: str, known: Sequence[tuple[Windows, np.ndarray]], sources: Sources, seeds: int) -> list[str]:
    notes = [
        f"{windows.name}: {len(windows) - len(rows)} of {len(windows)} windows are left out; their {task} is not known"
        for windows, rows in known
        if len(rows) < len(windows)
    ]
    if not sources.is_of_people:
        notes.append(
            "synthetic windows are from a model of all training people; for smaller shares, their gain includes that"
        )
    if (people := len(np.unique(sources.real.people))) < FEW_PEOPLE:
        notes.append(f"people to test on: {people}; intervals of fewer than {FEW_PEOPLE} are too narrow")
    if seeds < FEW_SEEDS:
        notes.append(f"--seeds {seeds}; use at least {FEW_SEEDS}")
    return notes
