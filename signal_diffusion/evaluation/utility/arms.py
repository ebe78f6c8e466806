"""Ways to train a classifier: which windows of which people, and what they are tested on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from signal_diffusion.errors import UserError, listed
from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.utility.augmentations import AUGMENTATIONS, Augmented
from signal_diffusion.evaluation.utility.examples import Examples
from signal_diffusion.evaluation.utility.people import Fold, class_of_people, people_of_share
from signal_diffusion.evaluation.utility.tasks import Task
from signal_diffusion.evaluation.windows import Windows

__all__ = ["FULL", "QUICK", "Arm", "Fit", "Plan", "Sources"]

SLOW = ("eegnet",)
"""Classifiers that augmentations are only measured with at a ratio of 1, as tables and figures show them."""
MOST_TESTED = 1000
"""Synthetic windows that TRTS tests on."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which arms are measured."""

    shares: tuple[float, ...]
    """Shares of the training people."""
    ratios: tuple[float, ...]
    """Windows added ÷ training windows."""
    augmentations: tuple[str, ...]
    """Names in `AUGMENTATIONS`."""

    def fits(self, classifier: str) -> int:
        """Classifiers to train in a fold."""
        augmented = len(self.augmentations) * (1 if classifier in SLOW else len(self.ratios))
        return 1 + len(self.shares) * (1 + len(self.ratios) + augmented)


FULL = Plan(shares=(0.1, 0.25, 0.5, 1.0), ratios=(0.5, 1.0, 2.0), augmentations=tuple(AUGMENTATIONS))
QUICK = Plan(shares=(0.25, 1.0), ratios=(1.0,), augmentations=("FTSurrogate",))


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train and test."""

    name: str
    """ "TRTR", "TSTR", "TRTS", "T", or "T + " and what is added."""
    added: str = ""
    ratio: float = 0.0
    share: float = 1.0

    @property
    def baseline(self) -> Arm:
        """What it is compared with."""
        return Arm(name="T", share=self.share) if self.name.startswith("T +") else Arm(name="TRTR")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A classifier to train, and the arms that it belongs to."""

    train: Examples | None
    missing: str = ""
    """Why there is nothing to train on."""
    people: int
    """Training people."""
    tests: tuple[tuple[Arm, Examples], ...]

    def is_for(self, classifier: str) -> bool:
        """Whether a classifier is measured with it."""
        arm = self.tests[0][0]
        return classifier not in SLOW or arm.added in ("", "S") or arm.ratio == 1


class Sources:
    """Training, real and synthetic windows, and what is drawn from them."""

    def __init__(self, train: Examples, real: Examples, synthetic: Examples, task: Task) -> None:
        self.train, self.real, self.task = train, real, task
        names, people, tested = (set(each.people.tolist()) for each in (synthetic, train, real))
        # Of synthetic windows with the name of a training person, only those of a fold's and a share's people are used.
        self.is_of_people, self._is_folded = names <= people, people == tested
        self._check(synthetic.parts[0].windows.name, names & tested)
        self.synthetic = synthetic if self.is_of_people else synthetic.without_people()
        rows = np.random.default_rng(0).permutation(len(synthetic))[:MOST_TESTED]
        self._tested = self.synthetic.take(np.sort(rows))

    @classmethod
    def of(cls, train: Windows, real: Windows, synthetic: Windows, task: Task) -> Sources:
        """The windows with the targets of a task."""
        trained, tested, added = (Examples.of(Features(each), task.targets(each)) for each in (train, real, synthetic))
        return cls(trained, tested, added, task)

    def _check(self, name: str, tested: set[str]) -> None:
        if self._is_folded and not self.is_of_people:
            raise UserError(
                f"{name}: the person of each synthetic window is needed, since the same people are trained and tested "
                "on, in folds by person; or give training and real windows without common people"
            )
        if not self._is_folded and tested:
            raise UserError(f"{name}: windows of people who are tested on ({listed(sorted(tested))}); leave them out")

    def people_of(self, tested: Examples) -> np.ndarray:
        """Number of the person of each example among all people of the set that it is from, (n,)."""
        whole = self._tested if tested.parts[0].root is self._tested.parts[0].root else self.real
        return np.searchsorted(np.unique(whole.people), tested.people)

    def fits(self, fold: Fold, seed: int, plan: Plan, share: float | None) -> Iterator[Fit]:
        """Yield the classifiers to train in a fold: on a share of its people or, for None, on synthetic windows."""
        train = self.train.of_people(fold.train)
        if share is None:
            yield self._of_synthetic(fold, len(train), seed)
            return
        chosen = people_of_share(class_of_people(train.people, train.targets, self.task), share, seed)
        yield from self._of_share(train.of_people(chosen), chosen, share, fold, seed, plan)

    def _of_synthetic(self, fold: Fold, count: int, seed: int) -> Fit:
        pool = self._synthetic_of(fold.train)
        return self._fit(
            pool.take(_drawn(len(pool), count, seed)), 0, [(Arm(name="TSTR"), self.real.of_people(fold.test))]
        )

    def _of_share(
        self, train: Examples, people: list[str], share: float, fold: Fold, seed: int, plan: Plan
    ) -> Iterator[Fit]:
        real = self.real.of_people(fold.test)
        tests = [(Arm(name="T", share=share), real)]
        if share == 1:
            synthetic = self._tested.of_people(fold.test) if self._is_folded else self._tested
            tests += [(Arm(name="TRTR"), real), (Arm(name="TRTS"), synthetic)]
        yield self._fit(train, len(people), tests)
        pool = self._synthetic_of(people)
        extra = {"S": pool} | {
            name: Augmented(train, name, round(max(plan.ratios) * len(train)), seed) for name in plan.augmentations
        }
        for ratio in plan.ratios:
            count = round(ratio * len(train))
            for name, source in extra.items():
                arm = Arm(name=f"T + {ratio:g} {name}", added=name, ratio=ratio, share=share)
                if isinstance(source, Augmented):
                    yield self._fit(train + source.first(count), len(people), [(arm, real)])
                elif count <= len(source):
                    more = source.take(_drawn(len(source), count, seed))
                    yield self._fit(train + more, len(people), [(arm, real)])
                else:
                    missing = f"{count} synthetic windows are needed for {len(people)} people, there are {len(source)}"
                    yield Fit(train=None, missing=missing, people=len(people), tests=((arm, real),))

    def _synthetic_of(self, people: Sequence[str]) -> Examples:
        return self.synthetic.of_people(people) if self.is_of_people else self.synthetic

    def _fit(self, train: Examples, people: int, tests: list[tuple[Arm, Examples]]) -> Fit:
        found = np.unique(train.targets)
        if len(found) > 1:
            return Fit(train=train, people=people, tests=tuple(tests))
        value = "no windows" if not len(found) else f"only {self.task.column} {self._value(found[0])}"
        return Fit(train=None, missing=f"{value} to train {tests[0][0].name} on", people=people, tests=tuple(tests))

    def _value(self, target: float) -> str:
        return f"{target:g}" if self.task.is_number else self.task.classes[int(target)]


def _drawn(size: int, count: int, seed: int) -> np.ndarray:
    """At most `count` of `size` rows at random; smaller counts of the same seed are part of larger ones."""
    return np.random.default_rng(seed).permutation(size)[:count]
