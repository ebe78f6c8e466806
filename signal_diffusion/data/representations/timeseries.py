"""Signals as tensors: z-scored microvolts, one row per electrode."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from signal_diffusion.data.representations.kept_windows import EvenlyKept, spectrum_of
from signal_diffusion.data.representations.representation import (
    CONSTANT_SIGNALS,
    DEFAULT_PICTURES,
    Inverse,
    PictureOptions,
    Representation,
)
from signal_diffusion.data.representations.stft import STFT, decibels
from signal_diffusion.diffusion.normalisation import Normalisation
from signal_diffusion.errors import UserError

__all__ = ["TimeSeries"]

NEAREST = 4
"""Own electrodes that the scale of another is estimated from. Of each of eegmat's 19 electrodes, estimated from the
others, the standard deviation is 12 % off on average; the mean of all others is 18 % off."""


@dataclass(frozen=True, kw_only=True)
class TimeSeries(Representation):
    """All electrodes of a window as rows, 1 × electrodes × samples: ((x − mean) / std) / limit, clipped to [-1, 1].

    Rows of electrodes that a recording lacks are NaN in signals and tensors.

    Mean and standard deviation are computed per electrode over the training windows; the limit is the largest
    deviation in them, so that no training value is clipped.
    """

    name: ClassVar[str] = "timeseries"
    column: ClassVar[str] = "signal"

    sampling_rate: float
    """Hz."""
    window: int
    """Length of a window, samples."""
    mean: tuple[float, ...]
    """Mean of each electrode, µV."""
    std: tuple[float, ...]
    """Standard deviation of each electrode, µV."""
    limit: float
    """Number of standard deviations that becomes 1."""
    data_std: float = 1.0
    """Standard deviation of the values, 1/limit: with artefacts of 25 standard deviations, all else is within 0.04 of
    zero. Older cards do not have it; networks trained on them were trained without scaling, hence the default."""
    spectrum: tuple[float, ...] = ()
    """Standard deviations of the discrete cosine transform of the values ÷ data_std, over electrodes, (window,); older
    cards do not have it."""

    def __post_init__(self) -> None:
        numbers = (self.sampling_rate, self.window, self.limit, self.data_std, *self.std)
        if not (all(0 < each < math.inf for each in numbers) and all(map(math.isfinite, self.mean))):
            raise ValueError("rate, window, limit and std have to be positive and finite, mean finite")
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means but {len(self.std)} standard deviations")

    @property
    def layout(self) -> str:
        """`window`: one example per window."""
        return "window"

    @property
    def inverse(self) -> Inverse:
        """`exact`, to rounding."""
        return "exact"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one example: (1, electrodes, window)."""
        return (1, len(self.mean), self.window)

    def to_tensor(self, signal: Tensor) -> Tensor:
        """Turn µV (*, electrodes, window) into (*, 1, electrodes, window)."""
        mean, scale = self._moments(signal)
        return ((signal.float() - mean) / scale).clamp(-1, 1).unsqueeze(-3)

    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Turn (*, 1, electrodes, window) into µV (*, electrodes, window), exactly."""
        mean, scale = self._moments(tensor)
        return tensor.float().squeeze(-3) * scale + mean

    @property
    def normalisation(self) -> Normalisation:
        """Divided by the standard deviation of all values, and whitened."""
        return Normalisation(std=((self.data_std,),), spectrum=self.spectrum)

    def microvolts_of_x0(self) -> tuple[Tensor, Tensor]:
        """µV that one unit of `tensor / data_std` means, and µV of its zero, (electrodes,) each."""
        mean, scale = self._moments(torch.empty(0))
        return scale[:, 0] * self.data_std, mean[:, 0]

    def for_electrodes(self, own: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> Self:
        """The same for other electrodes, by the unit-sphere positions of its own, (H, 3), and of the others, (H', 3).

        Mean and standard deviation are known only at its own electrodes. Those of another are the averages of the four
        nearest, weighted by 1 / angle²; of one at the same place, they are the same to the bit.
        """
        here, there, mean, std = (
            torch.tensor(each, dtype=torch.float64) for each in (own, others, self.mean, self.std)
        )
        chords = (there[:, None] - here).norm(dim=-1)  # (H', H)
        angles, nearest = (chords / 2).clamp(max=1).asin().topk(min(NEAREST, len(here)), largest=False)
        weights = (angles[:, :1] / angles).square().nan_to_num(1.0)  # 0/0 at the place of an own electrode
        weights /= weights.sum(1, keepdim=True)
        mean, std = ((weights * each[nearest]).sum(1) for each in (mean, std))
        return replace(self, mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    def mean_spectrum(self, tensor: Tensor) -> tuple[Tensor, Tensor] | None:
        """Mean decibels of all electrodes: ascending frequencies, Hz, and dB re 1 µV; None below 64 samples.

        Uses the same transform as spectrograms; samples after its last whole hop are ignored, and so are electrodes
        that a window lacks.
        """
        whole = self.window - self.window % STFT.hop
        if whole < 2 * STFT.hop:
            return None
        stft = STFT(sampling_rate=self.sampling_rate, window=whole)
        signals = self.to_signal(tensor)[..., :whole]
        present = ~signals.isnan().all(-1)
        present |= ~present.any(-1, keepdim=True)  # a window without any electrode is not finite, which shall be seen
        levels = decibels(stft.forward(signals)).transpose(-1, -2)  # (*, electrodes, frames, frequencies)
        total = levels.masked_fill(~present[..., None, None], 0.0).flatten(0, -2).sum(0)
        return stft.frequencies.to(levels.device), total / (present.sum() * levels.shape[-2])

    @classmethod
    def fit(
        cls,
        signals: Iterable[Tensor],
        *,
        sampling_rate: float,
        window: int,
        pictures: PictureOptions = DEFAULT_PICTURES,
    ) -> Self:
        """Compute moments and extremes in one pass, in float64; over the windows that have an electrode.

        Each electrode has to be in some window.
        """
        cls.check(pictures, sampling_rate=sampling_rate, window=window, electrodes=0)
        total: Tensor | None = None
        kept = EvenlyKept()
        for signal in kept.passing(signals):  # (n, electrodes, window)
            values = signal.double().transpose(-1, -2).flatten(0, -2)  # (n · window, electrodes)
            absent = values.isnan()
            if total is None:
                total, squares, count = (torch.zeros_like(values[0]) for _ in range(3))
                lowest, highest = (torch.full_like(values[0], extreme) for extreme in (math.inf, -math.inf))
            count += (~absent).sum(0)
            total += values.masked_fill(absent, 0).sum(0)
            squares += values.masked_fill(absent, 0).square().sum(0)
            lowest = lowest.minimum(values.masked_fill(absent, math.inf).amin(0))
            highest = highest.maximum(values.masked_fill(absent, -math.inf).amax(0))
        assert total is not None, "a training split has windows"
        if (lowest == highest).all():
            raise UserError(CONSTANT_SIGNALS)
        mean = total / count
        # A constant electrode (such as the reference itself) has a standard deviation of 0.
        std = (squares / count - mean.square()).clamp(min=1e-12).sqrt()
        limit = torch.maximum((highest - mean) / std, (mean - lowest) / std).max()
        found = cls(
            sampling_rate=sampling_rate,
            window=window,
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            limit=limit.item(),
            data_std=1 / limit.item(),
        )
        scores = (found.normalisation.normalised(found.to_tensor(each))[0] for each in kept.windows)
        return replace(found, spectrum=spectrum_of(scores))

    def parameters(self) -> dict[str, Any]:
        """The fields, as JSON values."""
        return asdict(self)

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Self:
        """Rebuild from `parameters()`; JSON turns tuples into lists."""
        tuples: dict[str, Any] = {key: tuple(parameters.get(key, ())) for key in ("mean", "std", "spectrum")}
        return cls(**(parameters | tuples))

    def _moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and divisor (std · limit), µV (electrodes, 1)."""
        mean = torch.tensor(self.mean, dtype=torch.float32, device=like.device)
        std = torch.tensor(self.std, dtype=torch.float32, device=like.device)
        return mean[:, None], std[:, None] * self.limit
