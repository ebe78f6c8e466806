"""Moving averages of the weights, in fp32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.errors import listed
from signal_diffusion.models.sharding import local, split_like

__all__ = ["Average", "Ema"]


class Average:
    """Moving average of a model's trained parameters: average ← average + share · (weights - average).

    Under FSDP, each process averages its parts of the weights.
    """

    def __init__(self, model: nn.Module) -> None:
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._names = list(trained)
        self._weights: list[Tensor] = list(trained.values())
        self._average = [weight.detach().clone() for weight in self._weights]
        self.num_updates = 0

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(zip(self._names, self._average, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor], num_updates: int) -> None:
        """Load saved averages; raise a `KeyError` for a missing or surplus name, or another shape."""
        own = self.state_dict()
        wrong = sorted(own.keys() ^ state.keys()) or [name for name in own if state[name].shape != own[name].shape]
        if wrong:
            raise KeyError(f"the averages do not match the model's parameters: {listed(wrong)}")
        for average, name in zip(self._average, self._names, strict=True):
            average.copy_(split_like(state[name], average))
        self.num_updates = num_updates

    @torch.no_grad()
    def restart(self) -> None:
        """Restart the average from the current weights."""
        self._copy_weights()
        self.num_updates = 0

    @torch.no_grad()
    def _copy_weights(self) -> None:
        torch._foreach_copy_(local(self._average), local(self._weights))

    @torch.no_grad()
    def _move(self, share: float) -> None:
        torch._foreach_lerp_(local(self._average), local(self._weights), share)


class Ema(Average):
    """Exponential moving average: share = 1 - decay.

    During warm-up the decay is at most 1 - (1 + n / inv_gamma) ** -power after n updates, so that the average
    soon forgets the initial random weights.
    """

    def __init__(self, model: nn.Module, config: schema.Ema) -> None:
        super().__init__(model)
        self._config = config

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average after optimizer step `step` (from 1), if an update is due.

        Until the first update the average is a copy of the weights: otherwise a short run would average in random ones.
        """
        due = step % self._config.update_every == 0
        if step <= self._config.update_after_step or (self.num_updates == 0 and not due):
            self._copy_weights()
            return
        if not due:
            return
        self.num_updates += 1
        self._move(1.0 - self.decay)

    @property
    def decay(self) -> float:
        """Decay of the latest update."""
        if not self._config.warmup:
            return self._config.decay
        warm = 1.0 - (1.0 + self.num_updates / self._config.inv_gamma) ** -self._config.power
        return min(self._config.decay, warm)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged weights into the model inside this context, and restore its own exactly afterwards."""
        with torch.no_grad():
            own = [weight.detach().clone() for weight in local(self._weights)]
            torch._foreach_copy_(local(self._weights), local(self._average))
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(local(self._weights), own)
