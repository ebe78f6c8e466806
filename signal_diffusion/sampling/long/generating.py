"""Generate long recordings with a trained model, window by window, some recordings at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from signal_diffusion.errors import print_warning
from signal_diffusion.sampling.batch_size import BatchSize
from signal_diffusion.sampling.drawing import rounded_up
from signal_diffusion.sampling.filling import FillWindow
from signal_diffusion.sampling.given_windows import check_fills_windows, window_filler
from signal_diffusion.sampling.long.continuing import Continuation, continue_windows
from signal_diffusion.sampling.long.request import RecordingRequest
from signal_diffusion.sampling.trained import Trained

__all__ = ["generate_recordings"]


def generate_recordings(
    trained: Trained,
    request: RecordingRequest,
    signals: np.ndarray,
    batch: BatchSize,
    *,
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Write recordings to `signals`, (N, electrodes, samples) float32 µV; which have only finite values, (N,).

    Recording i depends only on the seed, i and the conditions of its windows so far, and by rounding on the batch size.
    Its first window is the sample i of `generate_samples`. Warns if the model was trained without masks.

    Parameters
    ----------
    on_window
        Called as `on_window(done, total)` with windows of all recordings; may raise.
    """
    check_fills_windows(trained)
    if len(request.windows) > 1:
        trained.generator.check_takes_given()
    if not trained.model.takes_known and len(request.windows) > 1:
        print_warning(
            f"{trained.checkpoint.name}: was trained without masks, so windows continue each other by replacement, "
            f"{trained.sampling.resampling_steps} times per step, and only approximately; models of [training.masking] "
            "do so exactly"
        )
    size, count, windows = batch.size, len(signals), len(request.windows)
    finite = np.ones(count, dtype=bool)
    for first in range(0, count, size):
        rows = range(first, min(first + size, count))

        def report(done: int, first: int = first, rows: range = rows) -> None:
            on_window(first * windows + done * len(rows), count * windows)

        filler = _Filler(trained, request, rows, size, batch, finite)
        continue_windows(signals[first : rows.stop], request.windows, request.window, filler, on_window=report)
    return finite


class _Filler:
    """From a window to what generates it for some recordings, and notes which of them are not finite.

    All batches have the same size, so that a recording does not depend on how many there are: missing recordings are
    copies of the last one.
    """

    def __init__(
        self,
        trained: Trained,
        request: RecordingRequest,
        rows: range,
        size: int,
        batch: BatchSize,
        finite: np.ndarray,
    ) -> None:
        self._trained, self._request, self._rows, self._batch, self._finite = trained, request, rows, batch, finite
        self._padded = [min(row, len(rows) - 1) for row in range(rounded_up(len(rows), size))]

    def __call__(self, window: Continuation) -> FillWindow:
        """What generates a window."""
        recordings = [self._rows[row] for row in self._padded]
        cond = self._request.conditions(window, recordings)

        def fill_window(values: np.ndarray, known: np.ndarray, *, number: int, start: int) -> np.ndarray:
            def generate(*, batch_size: int) -> np.ndarray:
                fill = window_filler(self._trained, lambda start: cond, recordings, batch_size=batch_size)
                return fill(values[self._padded], known, number=number, start=start)

            found = self._batch.fit(generate)[: len(self._rows)]
            self._finite[self._rows.start : self._rows.stop] &= np.isfinite(found).all(axis=(1, 2))
            return found

        return fill_window
