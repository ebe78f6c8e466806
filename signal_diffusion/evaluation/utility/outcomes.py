"""What was predicted in an arm, and its scores and gains with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from signal_diffusion.evaluation.bootstrap import DRAWS, LEAST_PEOPLE, draws_of_people, estimate_of
from signal_diffusion.evaluation.utility.arms import Arm
from signal_diffusion.evaluation.utility.result import Row
from signal_diffusion.evaluation.utility.scores import SCORES, Predictions, scores_of
from signal_diffusion.evaluation.utility.tasks import Task

__all__ = ["Outcome", "rows_of"]


class Outcome:
    """Predictions of one arm in all folds and seeds."""

    def __init__(self) -> None:
        self.missing = ""
        self.trained_people: list[int] = []
        self._parts: dict[int, list[Predictions]] = defaultdict(list)

    def add(self, seed: int, found: Predictions) -> None:
        """Add the predictions of a fold."""
        self._parts[seed].append(found)

    @property
    def is_complete(self) -> bool:
        """Whether there are predictions of all seeds."""
        return bool(self._parts) and not self.missing

    def totals(self, task: Task) -> dict[str, np.ndarray]:
        """Values of each score, (DRAWS + 1,): first the mean over seeds, then that of each draw of people and seeds."""
        people = 1 + max(int(part.people.max()) for parts in self._parts.values() for part in parts)
        drawn = draws_of_people(people, DRAWS, 0)
        found = [scores_of(_joined(parts), task, drawn) for _, parts in sorted(self._parts.items())]
        seeds = draws_of_people(len(found), DRAWS, 1)
        values = {name: np.stack([each[name] for each in found]) for name in found[0]}  # (seeds, DRAWS + 1)
        totals = {name: np.take_along_axis(each, seeds.T, 0).mean(0) for name, each in values.items()}
        if people < LEAST_PEOPLE:
            for each in totals.values():
                each[1:] = np.nan
        return totals


def rows_of(outcomes: Mapping[tuple[str, Arm], Outcome], task: Task) -> list[Row]:
    """Scores and gains of all arms; the draws of people and seeds are the same for an arm and its baseline."""
    totals = {key: each.totals(task) for key, each in outcomes.items() if each.is_complete}
    names = ("spearman", "mae") if task.is_number else ("auc", "balanced accuracy")
    return [
        _row(name, outcome, classifier, arm, totals.get((classifier, arm)), totals.get((classifier, arm.baseline)))
        for (classifier, arm), outcome in outcomes.items()
        for name in names
    ]


def _row(
    score: str,
    outcome: Outcome,
    classifier: str,
    arm: Arm,
    totals: Mapping[str, np.ndarray] | None,
    baselines: Mapping[str, np.ndarray] | None,
) -> Row:
    value, interval = (None, None) if totals is None else estimate_of(totals[score])
    gain, gain_interval = None, None
    if totals is not None and baselines is not None and arm.name not in ("T", "TRTR"):
        sign = 1 if SCORES[score].larger_is_better else -1
        gain, gain_interval = estimate_of(sign * (totals[score] - baselines[score]))
    return Row(
        classifier=classifier,
        arm=arm.name,
        added=arm.added,
        ratio=arm.ratio,
        share=arm.share,
        people=round(float(np.mean(outcome.trained_people))),
        score=score,
        value=value,
        interval=interval,
        gain=gain,
        gain_interval=gain_interval,
        missing=outcome.missing or ("" if value is not None else f"{SCORES[score].title} needs test {_needed(score)}"),
    )


def _needed(score: str) -> str:
    return "people who differ in it" if score == "spearman" else "windows of every class"


def _joined(parts: list[Predictions]) -> Predictions:
    names = ("values", "targets", "people", "folds")
    return Predictions(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
