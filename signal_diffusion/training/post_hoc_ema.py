"""The two averages of the weights from which any other can be made after training: post-hoc EMA.

Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models",
https://arxiv.org/abs/2312.02696, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from signal_diffusion.errors import listed
from signal_diffusion.training.ema import Average
from signal_diffusion.training.power_profiles import exponent_of

__all__ = ["SIGMA_RELS", "PowerAverages"]

SIGMA_RELS = (0.05, 0.1)
"""σ_rel of the averages, as in the paper."""


class PowerAverages:
    """An average for each of some σ_rel; in a state, the name of a weight has the prefix "σ_rel/"."""

    def __init__(self, model: nn.Module, sigma_rels: tuple[float, ...] = SIGMA_RELS) -> None:
        self._averages = {f"{sigma_rel:g}/": _PowerAverage(model, sigma_rel) for sigma_rel in sigma_rels}

    @property
    def num_updates(self) -> int:
        """Optimizer steps that were averaged."""
        return next(iter(self._averages.values())).num_updates

    def update(self) -> None:
        """Update the averages after an optimizer step."""
        for average in self._averages.values():
            average.update()

    def state_dict(self) -> dict[str, Tensor]:
        """All averages by name."""
        return {
            prefix + name: value
            for prefix, average in self._averages.items()
            for name, value in average.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor], num_updates: int) -> None:
        """Load saved averages; raise a `KeyError` for a missing or surplus name, or another shape."""
        if surplus := [name for name in sorted(state) if not name.startswith(tuple(self._averages))]:
            raise KeyError(f"the averages do not match the model's parameters: {listed(surplus)}")
        for prefix, average in self._averages.items():
            own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            average.load_state_dict(own, num_updates)

    def restart(self) -> None:
        """Restart the averages: the next update forgets what they were."""
        for average in self._averages.values():
            average.restart()


class _PowerAverage(Average):
    """Average with a power function of time as its profile (see `power_profiles`).

    In update n, share = 1 - (1 - 1/n) ** (γ + 1): the first update forgets the initial weights.
    """

    def __init__(self, model: nn.Module, sigma_rel: float) -> None:
        super().__init__(model)
        self._exponent = exponent_of(sigma_rel)

    def update(self) -> None:
        """Update the average after an optimizer step."""
        self.num_updates += 1
        self._move(1.0 - (1.0 - 1.0 / self.num_updates) ** (self._exponent + 1.0))
