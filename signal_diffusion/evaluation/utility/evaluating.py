"""Measure the utility of files, and draw what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from signal_diffusion.evaluation.evaluating import real_split
from signal_diffusion.evaluation.harmonising import harmonised
from signal_diffusion.evaluation.reading import read_dataset, read_windows, split_of
from signal_diffusion.evaluation.utility.classifiers import check_classifiers, require_extra
from signal_diffusion.evaluation.utility.measuring import OnFit, measure_utility
from signal_diffusion.evaluation.utility.result import Utility
from signal_diffusion.evaluation.utility.scores import SCORES
from signal_diffusion.figures.utility import draw_utility

__all__ = ["evaluate_utility", "save_figure"]


def evaluate_utility(
    synthetic: Path,
    real: str,
    *,
    train: str | None = None,
    task: str = "label",
    classifiers: Sequence[str] = ("logreg", "riemann"),
    seeds: int = 5,
    on_fit: OnFit | None = None,
) -> Utility:
    """Measure the utility of the windows in a folder (see `read_windows`) for a dataset; see `measure_utility`.

    `real` and `train` are "DATASET" or "DATASET:SPLIT": the people to test on, by default of the test split (or of
    validation), and those to train on, by default of the train split of `real`.
    """
    require_extra()
    check_classifiers(classifiers)
    tested = read_dataset(*real_split(real))
    root, split = split_of(train or str(split_of(real, "")[0]), "train")
    trained = read_dataset(root, split)
    made = read_windows(synthetic, seconds=trained.seconds)
    # What the last set lacks is left out of the first two as well.
    tested, trained, notes = harmonised(tested, trained)
    tested, made, more = harmonised(tested, made)
    tested, trained, last = harmonised(tested, trained)
    return measure_utility(
        trained,
        tested,
        made,
        task=task,
        classifiers=classifiers,
        seeds=seeds,
        notes=list(dict.fromkeys([*notes, *more, *last])),
        on_fit=on_fit,
    )


def save_figure(found: Utility, folder: Path) -> Path:
    """Write `utility.png`: score and gain against the share of the people."""

    panels = {}
    for classifier in found.classifiers:
        curves = found.curves(classifier)
        scores = {name: [(row.share, row.value, row.interval) for row in rows] for name, rows in curves.items()}
        gains = {name: [(row.share, row.gain, row.gain_interval) for row in rows] for name, rows in curves.items()}
        panels[classifier] = scores, gains
    path = folder / "utility.png"
    title = f"{found.task}: {found.about['windows']['synthetic']['name']}; bars: 95 % over people and seeds"
    draw_utility(path, panels, title=title, score=SCORES[found.scores[0]].title)
    return path
