"""Progress of a restoration, also within its windows."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["EvaluationProgress", "OnProgress"]

OnProgress = Callable[[int, int], None]
"""Called as `on_progress(done, total)` during the work and at its end; may raise."""


class EvaluationProgress:
    """Reports progress in evaluations of the network, of which a window takes about `each`."""

    def __init__(self, report: OnProgress, each: int) -> None:
        self._report, self._each = report, each
        self._window, self._windows, self._count = 0, 0, 0

    def on_window(self, done: int, total: int) -> None:
        """As `fill` calls it."""
        self._window, self._windows, self._count = done, total, 0
        self._report(done * self._each, total * self._each)

    def on_evaluation(self) -> None:
        """As `SampleGenerator.generate` calls it."""
        self._count = min(self._count + 1, self._each)
        self._report(self._window * self._each + self._count, self._windows * self._each)
