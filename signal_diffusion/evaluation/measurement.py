"""What a metric gives, and how it is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from signal_diffusion.evaluation.features import Features

__all__ = ["QUESTIONS", "Better", "Measurement", "Metric", "Relate", "by_electrode"]

Better = Literal["smaller", "larger", "half"]
"""Which value is better; "half" is for an AUC, of which 0.5 is best."""
Relate = Callable[[Features], Callable[[Features], None]]
"""Training windows → a function that adds to the features of other windows how they relate to the training windows."""
QUESTIONS = {
    "hygiene": "Is every window usable?",
    "spectrum": "Does it have the spectrum of EEG?",
    "spectrogram": "Are its spectrograms like those of EEG?",
    "amplitude": "Does it have the amplitudes of EEG?",
    "rhythm": "Do its rhythms wax and wane like those of EEG?",
    "space": "Do its electrodes belong together like those of EEG?",
    "diversity": "Does it vary as people do?",
    "detection": "Can a classifier tell it from EEG?",
    "copies": "Does it repeat its training data?",
    "conditions": "Does it follow the conditions that were asked for?",
    "use": "Is it of use to a classifier?",
}
"""What metrics answer, in the order of a report."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The value of a metric, in total and by band, electrode or class."""

    value: float
    bands: Mapping[str, float] = field(default_factory=dict)
    electrodes: Mapping[str, float] = field(default_factory=dict)
    classes: Mapping[str, float] = field(default_factory=dict)
    chance: float | None = None
    """Value of a guess, if it depends on the windows; the ratio is of what is above it."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric: a function of two sets of windows, and what its values mean."""

    name: str
    """Short name, also on the command line, such as "lsd"."""
    title: str
    """Name in reports, such as "LSD"."""
    unit: str = ""
    question: str
    """One of `QUESTIONS`."""
    definition: str
    """One or two sentences that a reader can repeat the computation from."""
    better: Better = "smaller"
    quick: bool = False
    """Whether `--quick` computes it."""
    against_train: Relate | None = None
    """Compares windows with the training data instead of real ones, whose own value is then the floor; raises
    `Unavailable` if it cannot."""
    fitted_to_train: Relate | None = None
    """Gives windows features by a model of the training data, which are then compared like others; raises
    `Unavailable` if it cannot."""
    floor_of_train: bool = False
    """Whether the floor is the metric between real and training windows, of all people; without them, as usual."""
    chance: float | None = None
    """Value of a guess: the ratio is of what is above it."""
    least_floor: float | None = None
    """A smaller floor is too little to judge others by."""
    offset: float = 0.0
    """Added to value and floor before their ratio: differences below it do not matter."""
    of_spectrograms: bool = False
    """Whether it is of stored spectrograms; left out, unless it is named, if one of the sets has none."""
    least: int = 10
    """Windows that each group must have; fewer say nothing about a generator."""
    compute: Callable[[Features, Features], Measurement]
    """(real, synthetic) → value; raises `Unavailable` if these windows do not have it."""

    @property
    def relate(self) -> Relate | None:
        """What the metric needs of the training data."""
        return self.against_train or self.fitted_to_train

    def ratio(self, value: float, floor: float, chance: float | None = None) -> float | None:
        """How much worse a value is than its floor: 1 is as good as real; None if the floor is not positive.

        `chance` is that of a measurement, None = the metric's own.
        """
        chance = self.chance if chance is None else chance
        if self.better == "half":
            value, floor = max(value, 0.5), max(floor, 0.5)
        if chance is not None:
            value, floor = (max(each - chance, 0.0) for each in (value, floor))
        value, floor = value + self.offset, floor + self.offset
        if self.better == "larger":
            value, floor = floor, value
        return value / floor if floor > 0 else None


def by_electrode(features: Features, values: np.ndarray) -> dict[str, float]:
    """Values (C,) by the name of their electrode."""
    return dict(zip(features.ch_names, values.tolist(), strict=True))
