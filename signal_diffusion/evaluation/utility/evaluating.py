"""Measure the utility of files, and draw what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from signal_diffusion.evaluation.evaluating import real_split
from signal_diffusion.evaluation.harmonising import harmonised
from signal_diffusion.evaluation.reading import read_dataset, read_windows, split_of
from signal_diffusion.evaluation.utility.classifiers import check_classifiers, require_extra
from signal_diffusion.evaluation.utility.measuring import OnFit, OnPlan, measure_utility
from signal_diffusion.evaluation.utility.result import Utility
from signal_diffusion.evaluation.utility.trials import Workers
from signal_diffusion.evaluation.windows import Windows
from signal_diffusion.figures.utility import utility_figure

__all__ = ["evaluate_utility", "save_figure", "train_split"]


def evaluate_utility(
    synthetic: Path | Windows,
    real: str,
    *,
    train: str | None = None,
    task: str = "label",
    classifiers: Sequence[str] = ("logreg", "riemann"),
    seeds: int = 5,
    quick: bool = False,
    workers: Workers | None = None,
    on_plan: OnPlan | None = None,
    on_fit: OnFit | None = None,
) -> Utility:
    """Measure the utility of the windows in a folder (see `read_windows`) for a dataset; see `measure_utility`.

    `real` and `train` are "DATASET" or "DATASET:SPLIT": the people to test on, by default of the test split (or of
    validation), and those to train on, by default of the train split of `real`.
    """
    require_extra()
    check_classifiers(classifiers)
    tested = read_dataset(*real_split(real))
    trained = read_dataset(*train_split(real, train), electrodes=tested.ch_names)
    made = synthetic if isinstance(synthetic, Windows) else read_windows(synthetic, seconds=trained.seconds)
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
        quick=quick,
        workers=workers,
        on_plan=on_plan,
        on_fit=on_fit,
    )


def train_split(real: str, train: str | None) -> tuple[Path, str]:
    """The folder and the split of the people to train on; None = the train split of `real`."""
    return split_of(train or str(split_of(real, "")[0]), "train")


def save_figure(found: Utility, folder: Path) -> Path:
    """Write `utility.png`: score and gain against the share of the people."""
    path = folder / "utility.png"
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{found.task}: {found.about['windows']['synthetic']['name']}; bars: 95 % over people and seeds"
    utility_figure(found.panels(), title=title, score=found.score_title).savefig(path, dpi=110)
    return path
