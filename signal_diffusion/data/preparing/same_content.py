"""Find recordings with the same samples: two people cannot share one, and one person's copy repeats its windows."""

from __future__ import annotations

import logging

from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.errors import UserError, listed

__all__ = ["SameContent"]

logger = logging.getLogger(__name__)


class SameContent:
    """Recordings by their samples, in the order in which they are added."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, Recording]] = {}
        self._copies: list[str] = []

    def add(self, name: str, recording: Recording, digest: str) -> None:
        """Add a recording; raises a `UserError` if one of another person has the same digest of its samples.

        An empty digest is of no recording in a file.
        """
        if not digest:
            return
        other, first = self._first.setdefault(digest, (name, recording))
        if first.subject != recording.subject:
            raise UserError(
                f"{other} (subject {first.subject}) and {name} (subject {recording.subject}) have the same samples; "
                "remove the copy, or name the same subject for both with "
                "--subject-pattern or --subject-from table; nothing was written"
            )
        if other != name:
            self._copies.append(f"{name} (as {other})")

    def warn(self) -> None:
        """Name the recordings that repeat another one of the same person."""
        if self._copies:
            logger.warning(
                "%d recordings have the same samples as another one of the same subject, so their windows occur twice: "
                "%s; remove the copies", len(self._copies), listed(self._copies),
            )  # fmt: skip
