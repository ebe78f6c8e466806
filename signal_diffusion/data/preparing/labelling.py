"""Where the label of an example comes from: the recording as a whole, or an annotation in it."""

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
    """What `--label` says: `task`, `folder`, `annotation`, `annotation:A,B`, or a column of the subject table."""

    source: str
    names: tuple[str, ...] | None = None
    """Of the annotations to use; None = all."""

    @classmethod
    def parse(cls, text: str, recordings: Sequence[Recording]) -> Labelling:
        """Read the option; `UserError` where no recording has such a column."""
        source, colon, names = text.partition(":")
        if colon and source == "annotation":
            chosen = tuple(name.strip() for name in names.split(",") if name.strip())
            if not chosen:
                raise UserError(f"label: {text!r} names no annotation; write annotation, or annotation:rest,work")
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
                f"label: {loose[0]} lies in no folder; with --label folder expected INPUT/LABEL/[SUBJECT/]FILE"
            )
        return cls(source=text)

    @property
    def by_window(self) -> bool:
        """Whether two windows of a recording can have different labels; one without a label is then left out."""
        return self.source == "annotation"

    def of_recording(self, recording: Recording) -> str | None:
        """The label that all windows of a recording share."""
        if self.by_window:
            return None
        if self.source in ("task", "folder"):
            return getattr(recording, self.source)
        return recording.participant.get(self.source)

    def of_windows(
        self, recording: Recording, starts: np.ndarray, window: int, sfreq: float, spans: Sequence[Span]
    ) -> list[str | None]:
        """The label of each window, None where it has none."""
        if self.by_window:
            return label_windows(starts, window, sfreq, spans, self.names)
        return [self.of_recording(recording)] * len(starts)
