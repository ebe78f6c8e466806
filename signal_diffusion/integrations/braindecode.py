"""Synthetic windows in braindecode: as a dataset, and as an augmentation of the batches of another dataset."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.errors import UserError, listed
from signal_diffusion.evaluation.reading import read_windows
from signal_diffusion.evaluation.utility.tasks import NUMBERS, known_rows, make_task
from signal_diffusion.evaluation.windows import Windows
from signal_diffusion.sampling.samples import Samples

if TYPE_CHECKING:
    import mne

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that MNE will change, within braindecode
        from braindecode.augmentation import Transform
        from braindecode.datasets import BaseConcatDataset, WindowsDataset
except ImportError as error:
    raise UserError("braindecode not installed; install the extra: uv sync --extra evaluation") from error

__all__ = ["Source", "SyntheticAugmentation", "to_braindecode"]

Source: TypeAlias = "Samples | Windows | mne.BaseEpochs | str | Path"
"""Samples of a pipeline, windows, MNE epochs, or "PATH[:SPLIT]" of samples, a dataset or recordings."""


def to_braindecode(source: Source, *, target: str = "label", classes: Sequence[str] | None = None) -> BaseConcatDataset:
    """Convert windows to a dataset of braindecode: one `WindowsDataset` per person, or one if people are unknown.

    Values are in µV, also in the epochs within, which MNE takes for volts; braindecode trains on them as they are.
    Columns of the windows are columns of the metadata, and the column `subject` is in the description.

    Parameters
    ----------
    target
        Column that becomes the target: the number of the class, or the value if it is `age`.
    classes
        Names of the classes, in the order of their numbers; None = those of the windows, sorted.

    Raises
    ------
    UserError
        If the column is missing or unknown of some windows, or has a class that is not in `classes`.
    """
    windows = _windows(source)
    targets = _targets(windows, target, classes)
    people = windows.subjects
    sets = [np.arange(len(windows))] if people is None else [np.flatnonzero(people == each) for each in windows.people]
    return BaseConcatDataset([_dataset(windows.take(rows), targets[rows]) for rows in sets])


class SyntheticAugmentation(Transform):
    """Replace windows of a batch by synthetic windows with the same target, each with a probability.

    Batches need the electrodes, rate, length and unit (µV) of the synthetic windows.

    Parameters
    ----------
    probability
        Probability that a window is replaced.
    source
        The synthetic windows, as for `to_braindecode`.
    target, classes
        As in `to_braindecode`; the numbers of the classes must be those of the batches.
    random_state
        Seed, or a generator of NumPy.

    Raises
    ------
    UserError
        If a batch has no targets, another shape, or a target without synthetic windows.
    """

    def __init__(
        self,
        probability: float,
        source: Source,
        *,
        target: str = "label",
        classes: Sequence[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(probability=probability, random_state=random_state)
        windows = _windows(source)
        if target in NUMBERS:
            raise UserError(f"target {target!r}: windows with the same target are drawn, so it must be classes")
        targets = _targets(windows, target, classes)
        self._name, self._signals = windows.name, torch.from_numpy(windows.signals)
        self._rows = {int(each): np.flatnonzero(targets == each) for each in np.unique(targets)}

    def forward(self, X: Tensor, y: Tensor | None = None) -> Any:  # noqa: N803 (braindecode's name)
        """Transform a batch (B, electrodes, samples) with targets (B,)."""
        if y is None:
            raise UserError("SyntheticAugmentation: batches need targets, to draw windows with the same ones")
        return super().forward(X, y)

    def get_augmentation_params(self, *batch: Tensor) -> dict[str, Tensor]:
        """Draw a synthetic window for each window of the batch."""
        x, y = batch
        if x.shape[1:] != self._signals.shape[1:]:
            shapes = [" × ".join(map(str, each.shape[1:])) for each in (x, self._signals)]
            raise UserError(f"{self._name}: windows of {shapes[1]}, but the batch has {shapes[0]}; prepare both alike")
        wanted = [int(each) for each in y.tolist()]
        if missing := sorted({*wanted} - {*self._rows}):
            raise UserError(f"{self._name}: no synthetic windows with target {listed([str(each) for each in missing])}")
        rows = [int(self.rng.choice(self._rows[each])) for each in wanted]
        return {"drawn": self._signals[rows].to(x.device)}

    @staticmethod
    def operation(X: Tensor, y: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803 (braindecode's name)
        """The drawn windows, with the targets of those that they replace."""
        return drawn, y


def _windows(source: Source) -> Windows:
    if isinstance(source, Windows):
        return source
    if isinstance(source, Samples):
        return source.to_windows()
    if isinstance(source, str | Path):
        return read_windows(source)
    return Windows.from_epochs(source)


def _targets(windows: Windows, target: str, classes: Sequence[str] | None) -> np.ndarray:
    if (unknown := len(windows) - len(known_rows(windows, target))) > 0:
        raise UserError(f"{windows.name}: {target} is not known of {unknown} windows; leave them out")
    task = make_task(target, windows)
    if classes is None or task.is_number:
        return task.targets(windows)
    if other := sorted({*task.classes} - {*classes}):
        raise UserError(f"{windows.name}: {target} {listed(other)} is not one of classes: {listed(list(classes), 12)}")
    return np.array([classes.index(name) for name in task.classes])[task.targets(windows)]


def _dataset(windows: Windows, targets: np.ndarray) -> WindowsDataset:
    import mne
    import pandas as pd

    length = windows.signals.shape[-1]
    columns = {key: np.asarray(values) for key, values in windows.columns.items() if key != "target"}
    metadata = pd.DataFrame(columns).assign(
        i_window_in_trial=0, i_start_in_trial=0, i_stop_in_trial=length, target=targets
    )
    info = mne.create_info(list(windows.ch_names), windows.sfreq, "eeg")
    epochs = mne.EpochsArray(windows.signals, info, tmin=windows.tmin or 0.0, metadata=metadata, verbose="error")
    people = windows.people
    return WindowsDataset(epochs, description={"subject": people[0]} if people else {"name": windows.name})
