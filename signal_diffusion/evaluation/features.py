"""Features of windows, computed once per set of windows and shared by all metrics and draws."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from signal_diffusion.data.bands import BANDS
from signal_diffusion.evaluation.feature_cache import from_cache, key_of, key_of_spectrograms
from signal_diffusion.evaluation.people import OfPeople
from signal_diffusion.evaluation.per_spectrogram import OF_SPECTROGRAMS
from signal_diffusion.evaluation.per_window import COMPUTE, KEPT
from signal_diffusion.evaluation.stored_spectrograms import Spectrograms
from signal_diffusion.evaluation.windows import SEGMENT, Unavailable, Windows

__all__ = ["BANDS", "Features", "Unavailable"]

CHUNK = 128
"""Windows that are transformed at a time, which bounds memory."""


class Features(OfPeople):
    """Arrays (N, …) with one entry per window, by name, computed when they are first asked for.

    With `is_cached`, those that take seconds are kept in the cache for the next comparison with the same windows.
    """

    def __init__(
        self,
        windows: Windows | None,
        parent: Features | None = None,
        rows: np.ndarray | None = None,
        *,
        is_cached: bool = False,
    ) -> None:
        self._windows, self._parent = windows, parent
        self._rows = np.arange(len(self.windows)) if rows is None else np.asarray(rows)
        self._key = key_of(self.windows) if is_cached else ""
        self._known: dict[str, np.ndarray] = {}
        self._shared: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def windows(self) -> Windows:
        """The windows; those of `take` are copied when they are first asked for. Metrics do not need them."""
        if self._windows is None:
            assert self._parent is not None
            self._windows = self._parent.windows.take(self._rows)
        return self._windows

    @property
    def key(self) -> str:
        """Hash of the signals; "" if nothing is kept in the cache."""
        return self._key

    @property
    def sfreq(self) -> float:
        """Sampling rate, Hz."""
        return self.root.windows.sfreq

    @property
    def ch_names(self) -> tuple[str, ...]:
        """Electrodes, in order."""
        return self.root.windows.ch_names

    @property
    def name(self) -> str:
        """What messages call the windows."""
        return self.root.windows.name

    @property
    def samples(self) -> int:
        """Samples of a window."""
        return self.root.windows.signals.shape[-1]

    @property
    def seconds(self) -> float:
        """Length of a window."""
        return self.root.windows.seconds

    @property
    def spectrograms(self) -> Spectrograms:
        """The stored spectrograms of all windows that these are some of; raises `Unavailable` if there are none."""
        stored = self.root.windows.spectrograms
        if stored is None:
            raise Unavailable(f"{self.name}: has no spectrograms, or others than the windows that it is compared with")
        return stored

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The columns of the windows."""
        rows = self.rows_of_root
        return {name: np.asarray(values)[rows] for name, values in self.root.windows.columns.items()}

    def column(self, name: str) -> np.ndarray | None:
        """A column of texts, (N,), "" where unknown; None if there is none."""
        values = self.root.once(f"column {name}", lambda root: root.windows.column(name))
        return None if values is None else values[self.rows_of_root]

    @property
    def rows_of_root(self) -> np.ndarray:
        """Which of the windows of `root` these are, (N,)."""
        return self._rows if self._parent is None else self._parent.rows_of_root[self._rows]

    def take(self, rows: np.ndarray) -> Features:
        """The features of some of the windows, without computing anything again."""
        return Features(None, self, rows)

    def __getattr__(self, name: str) -> np.ndarray:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._known:
            if self._parent is not None:
                self._known[name] = getattr(self._parent, name)[self._rows]
            elif name in COMPUTE or name in OF_SPECTROGRAMS:
                self._known[name] = np.ascontiguousarray(self._computed(name))  # one order of sums, cached or not
            else:
                raise AttributeError(name)
        return self._known[name]

    def _computed(self, name: str) -> np.ndarray:
        if name in COMPUTE:
            compute, key = partial(COMPUTE[name], self), self._key if name in KEPT else ""
        else:
            compute, key = partial(OF_SPECTROGRAMS[name], self), self._key_of_spectrograms
        return from_cache(key, name, compute) if key else compute()

    @property
    def _key_of_spectrograms(self) -> str:
        if not self._key:
            return ""
        return self.once("key of spectrograms", lambda root: key_of_spectrograms(root.spectrograms, root._key))

    @property
    def root(self) -> Features:
        """The features of all windows that these are some of."""
        return self if self._parent is None else self._parent.root

    def once(self, name: str, compute: Callable[[Features], Any]) -> Any:
        """What is computed once of all windows that these are some of, such as a projection fitted to them."""
        root = self.root
        if name not in root._shared:
            root._shared[name] = compute(root)
        return root._shared[name]

    def know(self, name: str, values: np.ndarray) -> None:
        """Add an array (N, …) that depends on other data than these windows."""
        self._known[name] = values

    @property
    def frequencies(self) -> np.ndarray:
        """Frequencies of `spectrum`, Hz, (F,)."""
        return np.fft.rfftfreq(self.segment, 1 / self.sfreq)

    @property
    def segment(self) -> int:
        """Samples of a segment of Welch's method; whole windows if they are shorter."""
        return min(round(SEGMENT * self.sfreq), self.samples)

    def map(self, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Apply a function of (n, C, L) float64 without means to a few windows at a time."""
        parts = []
        for start in range(0, len(self), CHUNK):
            x = self.windows.signals[start : start + CHUNK].astype(np.float64)
            parts.append(compute(x - x.mean(-1, keepdims=True)).astype(np.float32))
        return np.concatenate(parts)
