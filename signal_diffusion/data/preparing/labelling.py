"""Labels of windows, from a template: entities of the recording, columns of its table, the window's annotation."""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.spans import Span
from signal_diffusion.data.recordings.windows import label_windows
from signal_diffusion.errors import UserError, listed

__all__ = ["Labelling", "label_notes"]
ENTITIES = ("task", "session", "run", "acquisition", "folder")


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """The option `--label`: a source, or a template of several: `task`, `annotation:A,B`, `{task}/{annotation}`.

    A source is one of `ENTITIES`, `annotation` (the event, if windows are cut around events), or a column of the
    subject table.
    """

    parts: tuple[tuple[str, str | None], ...]
    """Text, and the source that follows it; None = nothing follows."""
    names: tuple[str, ...] | None = None
    """Annotations to use; None = all."""

    @classmethod
    def parse(cls, text: str, recordings: Sequence[Recording]) -> Labelling:
        """Parse the option; raises `UserError` if no recording has such a column."""
        parts = []
        names = None
        fields = _fields(text)
        for literal, source, chosen in fields:
            if chosen is not None:
                names = tuple(name.strip() for name in chosen.split(",") if name.strip())
                if not names:
                    raise UserError(
                        f"label: no annotation named in {text!r}; write annotation, or annotation:rest,work"
                    )
            if source is not None:
                _check_source(source, recordings)
            if len(fields) > 1 and source in ENTITIES and all(_value(each, source) is None for each in recordings):
                raise UserError(f"label: no recording has a {source}, which {text!r} needs; use another template")
            parts.append((literal, source))
        return cls(parts=tuple(parts), names=names)

    @property
    def by_window(self) -> bool:
        """Whether windows of one recording can have different labels; windows without a label are then rejected."""
        return any(source == "annotation" for _, source in self.parts)

    def annotations_of(
        self, starts: np.ndarray, window: int, sfreq: float, spans: Sequence[Span]
    ) -> tuple[list[str | None], np.ndarray]:
        """Annotation of each window that starts at a sample of `starts`, and whether two cover it equally (n,).

        None if there is none, or none is needed; see `windows.label_windows`.
        """
        if not self.by_window:
            return [None] * len(starts), np.zeros(len(starts), dtype=bool)
        return label_windows(starts, window, sfreq, spans, self.names)

    def of_windows(self, recording: Recording, annotations: Sequence[str | None]) -> list[str | None]:
        """Label of windows with these annotations; None = unlabelled."""
        label_of = {name: self._label(recording, name) for name in dict.fromkeys(annotations)}
        return [label_of[name] for name in annotations]

    def _label(self, recording: Recording, annotation: str | None) -> str | None:
        words = []
        for literal, source in self.parts:
            value = annotation if source == "annotation" else "" if source is None else _value(recording, source)
            if value is None:
                return None
            words.append(literal + value)
        return "".join(words)


def label_notes(
    lengths: Mapping[str, float], given: Collection[str], instants: int, window: float, tied: int = 0
) -> list[str]:
    """Describe annotations that are the label of no window, and events without a duration.

    `lengths` are the longest stretches of the annotations, s; `given` those that some window of `window` s has; `tied`
    the number of windows that two annotations cover equally.
    """
    notes = []
    if instants:
        notes.append(
            f"{instants} annotations have no duration; each lasts until the next one, the last for the median interval "
            "between them (0 s if it is the only one); limit them with --event-duration"
        )
    never = {name: length for name, length in lengths.items() if name not in given}
    problems = []
    if never:
        each = [f"{name} (at most {length:.4g} s)" for name, length in never.items()]
        problems.append(f"{len(never)} of {len(lengths)} annotations are the label of no window: {listed(each)}")
    if lengths and window > max(lengths.values()):
        problems.append(f"no annotation is as long as a window (the longest has {max(lengths.values()):.4g} s)")
    if not problems:
        return notes
    problems.append(f"a window of {window:.4g} s has the label that covers at least half of it")
    long = [name for name, length in never.items() if length >= window]  # a shorter window would not help these
    if long and tied:
        problems.append(
            f"two annotations cover {tied} windows equally: use one of {listed(long)}, as in --label "
            f"'annotation:{long[0]}'"
        )
    elif long:
        problems.append(f"check which others, or rejected stretches, cover the time of {listed(long)}")
    short = [name for name in never if name not in long]
    if short or not never:
        whose = f"for {listed(short)} " if long else ""
        problems.append(f"{whose}use a shorter --window, or --events for windows around events")
    return [*notes, "; ".join(problems)]


def _fields(text: str) -> list[tuple[str, str | None, str | None]]:
    """Split a label option into (text, source that follows, annotations to use)."""
    if "{" not in text:
        source, colon, chosen = text.partition(":")
        return [("", source, chosen)] if colon and source == "annotation" else [("", text, None)]
    try:
        return [(literal, source, chosen or None) for literal, source, chosen, _ in string.Formatter().parse(text)]
    except ValueError as error:
        raise UserError(f"label: {text!r} is not a template ({error}); write {{task}}/{{annotation}}") from error


def _value(recording: Recording, source: str) -> str | None:
    known = getattr(recording, source) if source in ENTITIES else None
    return recording.participant.get(source) if known is None and source not in ("task", "folder") else known


def _check_source(source: str, recordings: Sequence[Recording]) -> None:
    columns = sorted({name for recording in recordings for name in recording.participant})
    if source not in (*ENTITIES, "annotation", *columns):
        raise UserError(
            f"label: the subject table has no column {source!r}; use {', '.join((*ENTITIES, 'annotation'))}"
            + (f", or one of: {', '.join(columns)}" if columns else "")
        )
    loose = [recording.recording for recording in recordings if recording.folder is None]
    if source == "folder" and loose:
        raise UserError(f"label: {loose[0]} is not in a subfolder; --label folder expects INPUT/LABEL/[SUBJECT/]FILE")
