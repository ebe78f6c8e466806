"""What a classifier predicts: one column of the windows, as classes or as a number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from signal_diffusion.errors import UserError, listed
from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.windows import Windows

__all__ = ["NUMBERS", "Task", "known_rows", "make_task", "rows_with"]

NUMBERS = ("age",)
"""Columns that are predicted as numbers, by regression; all others are classes."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The column that is predicted."""

    column: str
    classes: tuple[str, ...] = ()
    """Names of the classes, sorted; () for a number."""

    @property
    def is_number(self) -> bool:
        """Whether the column is predicted by regression."""
        return not self.classes

    def targets(self, windows: Windows | Features) -> np.ndarray:
        """Number of the class of each window, or the number itself, (N,); raises `UserError` for an unknown class."""
        if self.is_number:
            return _numbers(windows, self.column)
        texts = windows.column(self.column)
        assert texts is not None
        if unknown := sorted(set(texts.tolist()) - set(self.classes)):
            raise UserError(
                f"{windows.name}: {self.column} {listed(unknown)} is not in the training windows, which have "
                f"{listed(self.classes)}; leave these windows out"
            )
        return np.searchsorted(self.classes, texts)


def make_task(column: str, train: Windows) -> Task:
    """The task of predicting a column of the training windows, all of whose values are known.

    Raises
    ------
    UserError
        If all windows are of one class.
    """
    if column in NUMBERS:
        return Task(column=column)
    texts = train.column(column)
    assert texts is not None
    classes = tuple(np.unique(texts).tolist())
    if len(classes) < 2:
        raise UserError(f"{train.name}: all windows have {column} {classes[0]!r}; a task needs at least two classes")
    return Task(column=column, classes=classes)


def known_rows(windows: Windows, column: str) -> np.ndarray:
    """Rows of the windows whose value in a column is known; raises `UserError` if there are none."""
    if column not in windows.columns:
        raise UserError(
            f"{windows.name}: no column {column}, only {listed(sorted(windows.columns), 12) or 'signals'}; choose "
            "another --task"
        )
    if not len(rows := rows_with(windows, column)):
        raise UserError(f"{windows.name}: {column} is not known of any window; choose another --task")
    return rows


def rows_with(windows: Windows | Features, column: str) -> np.ndarray:
    """Rows of the windows whose value in a column is known; none without the column."""
    texts = windows.column(column)
    if texts is None:
        return np.arange(0)
    return np.flatnonzero(np.isfinite(_numbers(windows, column)) if column in NUMBERS else texts != "")


def _numbers(windows: Windows | Features, column: str) -> np.ndarray:
    try:
        return np.array([np.nan if each in ("", None) else float(each) for each in windows.columns[column]])
    except ValueError:
        raise UserError(f"{windows.name}: column {column} has values that are not numbers") from None
