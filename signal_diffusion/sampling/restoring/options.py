"""What to restore, as a command or a call in Python asks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from signal_diffusion.data.recordings.arrays import volts_per_unit
from signal_diffusion.errors import UserError
from signal_diffusion.sampling.given_windows import MAX_DRAWS
from signal_diffusion.sampling.options import whole_number

__all__ = ["RestoreOptions"]

FEWEST_DRAWS = 2
LONGEST_EXTENSION = 86400.0
"""A day, s."""
UNGUIDED = "generation.sampling.guidance_scale=1"
"""Override of restorations: guided draws are more typical than what was recorded."""


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """What to restore."""

    bad: Sequence[str] = ()
    """Electrodes whose signals are not used, but restored."""
    bads_from_file: bool = False
    """Whether those that the recording marks as bad are restored too."""
    add: Sequence[str] | None = None
    """Of the model's electrodes that the recording lacks, those to restore; None = all."""
    to: Sequence[str] = ()
    """Electrodes, of which those that the recording lacks are restored, as if `add` named them."""
    gaps: Sequence[tuple[float, float]] = ()
    """Start and end of stretches that are restored in all electrodes, s."""
    extend: float = 0.0
    """Seconds to generate after the end."""
    draws: int = 16
    """How often what is missing is generated."""
    units: str | None = None
    """Unit of the numbers in a recording that has a wrong one, as in `prepare`; None = that of the file."""

    @property
    def adds_all(self) -> bool:
        """Whether all electrodes of the model that the recording lacks are restored."""
        return self.add is None and not self.to

    def __post_init__(self) -> None:
        for option, names in (("--bad", self.bad), ("--add", self.add), ("--to", self.to)):
            if not (_is_list(names, str) or (option == "--add" and names is None)):
                raise UserError(f"{option}: {names!r}; expected a list of electrodes, such as ['T7', 'O2']")
        if whole_number("--draws", self.draws, MAX_DRAWS) < FEWEST_DRAWS:
            raise UserError(f"--draws {self.draws}: has no spread; expected at least {FEWEST_DRAWS}")
        if not isinstance(self.extend, Real):
            raise UserError(f"--extend: {self.extend!r}; expected a number of seconds")
        if not 0 <= self.extend <= LONGEST_EXTENSION:
            raise UserError(f"--extend {self.extend:g}: expected seconds, at most {LONGEST_EXTENSION:g}")
        if not _is_list(self.gaps) or not all(_is_list(gap, Real) and len(gap) == 2 for gap in self.gaps):
            raise UserError(f"--gaps: {self.gaps!r}; expected a list of pairs of seconds, such as [(12.0, 14.5)]")
        for start, stop in self.gaps:
            if not 0 <= start < stop < math.inf:
                raise UserError(f"--gap {start:g} {stop:g}: expected the start and the end of a gap in seconds")
        try:
            volts_per_unit(self.units)
        except UserError as error:
            raise UserError(f"--{error}") from None


def _is_list(values: object, kind: type = object) -> bool:
    """Whether this is a list, tuple or array of values of a kind."""
    return isinstance(values, list | tuple | np.ndarray) and all(isinstance(value, kind) for value in values)
