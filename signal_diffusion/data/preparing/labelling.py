"""Labels of windows: from the recording as a whole, or from its annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.spans import Span
from signal_diffusion.data.recordings.windows import label_windows
from signal_diffusion.errors import UserError

__all__ = ["Labelling"]


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """The option `--label`: `task`, `folder`, `annotation`, `annotation:A,B`, or a column of the subject table."""

    source: str
    names: tuple[str, ...] | None = None
    """Annotations to use; None = all."""

    @classmethod
    def parse(cls, text: str, recordings: Sequence[Recording]) -> Labelling:
        """Parse the option; raises `UserError` if no recording has such a column."""
        source, colon, names = text.partition(":")
        if colon and source == "annotation":
            chosen = tuple(name.strip() for name in names.split(",") if name.strip())
            if not chosen:
                raise UserError(f"label: no annotation named in {text!r}; write annotation, or annotation:rest,work")
            return cls(source=source, names=chosen)
        columns = sorted({name for recording in recordings for name in recording.participant})
        if text not in ("task", "folder", "annotation", *columns):
            raise UserError(
                f"label: the subject table has no column {text!r}; use task, folder, annotation"
                + (f", or one of: {', '.join(columns)}" if columns else "")
            )
        loose = [recording.recording for recording in recordings if recording.folder is None]
        if text == "folder" and loose:
            raise UserError(
                f"label: {loose[0]} is not in a subfolder; --label folder expects INPUT/LABEL/[SUBJECT/]FILE"
            )
        return cls(source=text)

    @property
    def by_window(self) -> bool:
        """Whether windows of one recording can have different labels; windows without a label are then rejected."""
        return self.source == "annotation"

    def of_recording(self, recording: Recording) -> str | None:
        """Label of all windows of a recording; None if unknown, or if labels are per window."""
        if self.by_window:
            return None
        if self.source in ("task", "folder"):
            return getattr(recording, self.source)
        return recording.participant.get(self.source)

    def of_windows(
        self, recording: Recording, starts: np.ndarray, window: int, sfreq: float, spans: Sequence[Span]
    ) -> list[str | None]:
        """Label of each window; None = unlabelled."""
        if self.by_window:
            return label_windows(starts, window, sfreq, spans, self.names)
        return [self.of_recording(recording)] * len(starts)
