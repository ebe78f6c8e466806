"""Say what a dataset loses, if it is more than a tenth, and what to do about it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from signal_diffusion.errors import listed

__all__ = ["Losses", "amplitude_that_keeps"]

logger = logging.getLogger(__name__)

_LOSS = 0.1
_REMEDIES = {
    "flat": "leave flat electrodes out with --channels, or use a smaller --reject-flat",
    "annotation": "they touch annotations that start with BAD, or interruptions; use a smaller --window",
    "unlabelled": "check --label and the lengths of the annotations, or use a smaller --window",
    "tied": "two annotations cover them equally, so they have no label; move the borders of windows with --window or "
    "--overlap, or name the annotations to use: --label annotation:A,B",
    "outside": "their events are too close to an end; use a smaller --tmax or a larger --tmin",
}


def amplitude_that_keeps(extents: np.ndarray, share: float = 1 - _LOSS) -> float:
    """Smallest peak-to-peak amplitude in whole µV that keeps a share of windows; `extents` (n,) are theirs, µV."""
    return float(np.ceil(np.quantile(extents, share, method="inverted_cdf"))) if len(extents) else 0.0


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Windows that are rejected, and the amplitudes that explain it."""

    rejected: Mapping[str, int]
    """Number of rejected windows, by reason."""
    extents: np.ndarray
    """Peak-to-peak amplitudes of the windows that are kept or rejected by their amplitude alone, (n,) µV."""
    reject_above: float
    """µV."""

    def warn_of_windows(self, kept: int) -> None:
        """Warn about each reason by which more than a tenth of the windows is rejected."""
        total = kept + sum(self.rejected.values())
        for reason, count in self.rejected.items():
            if count > _LOSS * total:
                logger.warning(
                    "%d of %d windows (%.0f %%) are rejected as %s; %s",
                    count, total, 100 * count / total, reason, self._remedy(reason),
                )  # fmt: skip

    def warn_of_subjects(self, rejected: Mapping[str, Counter[str]], left: Collection[str]) -> None:
        """Warn if more than a tenth of the subjects has no window left; `rejected` are the windows of all of them."""
        lost = sorted(rejected.keys() - set(left))
        if len(lost) <= _LOSS * len(rejected):
            return
        counts = sum((rejected[subject] for subject in lost), Counter[str]())
        reason = counts.most_common(1)[0][0] if counts.total() else None
        why = (
            "their files are skipped; see above"
            if reason is None
            else f"most of their windows are rejected as {reason}: {self._remedy(reason)}"
        )
        logger.warning("%d of %d subjects have no window left: %s; %s", len(lost), len(rejected), listed(lost), why)

    def _remedy(self, reason: str) -> str:
        if reason != "amplitude":
            return _REMEDIES[reason]
        enough = amplitude_that_keeps(self.extents)
        if enough <= self.reject_above:
            return f"only these are above {self.reject_above:g} µV; check the recordings"
        return f"--reject-above {enough:g}, or auto, would keep 90 % of the windows instead of {self.reject_above:g}"
