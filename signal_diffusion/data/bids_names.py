"""Names of subjects and recordings in BIDS: letters and digits only, and no two the same."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from signal_diffusion.errors import UserError, listed

__all__ = ["GeneratedNames", "RecordingName", "RecordingNames"]


@dataclass(frozen=True, kw_only=True)
class RecordingName:
    """Entities of a file's name, each letters and digits only."""

    subject: str
    session: str | None = None
    task: str
    acquisition: str | None = None
    run: str | None = None
    description: str

    @property
    def person(self) -> str:
        """Name in participants.tsv: sub-01."""
        return f"sub-{self.subject}"

    @property
    def visit(self) -> str:
        """Beginning of the names of files that all recordings of a folder share: sub-01_ses-1."""
        return self.person + (f"_ses-{self.session}" if self.session else "")

    @property
    def folder(self) -> str:
        """Folder of the recording: sub-01/ses-1/eeg."""
        return f"{self.visit.replace('_', '/')}/eeg"

    @property
    def stem(self) -> str:
        """Name of its files, without suffix: sub-01_ses-1_task-rest_run-2_desc-windows."""
        entities = {"task": self.task, "acq": self.acquisition, "run": self.run, "desc": self.description}
        return "_".join([self.visit, *(f"{key}-{value}" for key, value in entities.items() if value)])


class GeneratedNames:
    """Numbers of generated windows, each a subject: synth0001, synth0002, …"""

    def __init__(self, num_windows: int) -> None:
        self._digits, self._number = max(4, len(str(num_windows))), 0

    def next(self, frame: pd.DataFrame) -> RecordingName:
        """Name the next window."""
        self._number += 1
        return RecordingName(subject=f"synth{self._number:0{self._digits}d}", task="generated", description="synth")

    def notes(self) -> list[str]:
        """No notes: nothing had a name before."""
        return []


class RecordingNames:
    """Names of a dataset's recordings, from its columns `subject` and `recording`."""

    def __init__(self) -> None:
        self._subjects: dict[str, str] = {}  # name in BIDS, in lower case since file systems may ignore it → subject
        self._recordings: dict[str, str] = {}  # stem, in lower case → recording
        self._runs: dict[str, int] = {}  # subject → recordings without a name of BIDS
        self._renamed: dict[str, str] = {}

    def next(self, frame: pd.DataFrame) -> RecordingName:
        """Keep session, task, acquisition and run of a name of BIDS; other recordings of a subject are numbered.

        Raises `UserError` if a name has no letters and digits, or the result is the name of something else.
        """
        subject, recording = str(frame["subject"].iloc[0]), str(frame["recording"].iloc[0])
        label = _label(subject.replace("sub-", ""), f"subject {subject}")
        if (other := self._subjects.setdefault(label.lower(), subject)) != subject:
            raise UserError(_same("subjects", other, subject, f"sub-{label}"))
        if subject not in (label, f"sub-{label}"):
            self._renamed[subject] = f"sub-{label}"
        found = dict(re.findall(r"(?:^|_)(ses|task|acq|run)-([^_.]+)", recording.rpartition("/")[2]))
        if "task" not in found:
            self._runs[subject] = self._runs.get(subject, 0) + 1
            found |= {"task": "unspecified", "run": f"{self._runs[subject]}"}
        entities = {key: _label(value, f"recording {recording}") for key, value in found.items()}
        name = RecordingName(
            subject=label,
            session=entities.get("ses"),
            task=entities["task"],
            acquisition=entities.get("acq"),
            run="".join(re.findall(r"\d", entities.get("run", ""))),
            description="windows",
        )
        if other := self._recordings.get(name.stem.lower(), ""):
            raise UserError(_same("recordings", other, recording, name.stem))
        self._recordings[name.stem.lower()] = recording
        return name

    def notes(self) -> list[str]:
        """How many subjects got another name, and which."""
        if not self._renamed:
            return []
        names = listed([f"{subject} is {name}" for subject, name in self._renamed.items()])
        return [f"names of BIDS have letters and digits only, so {len(self._renamed)} subjects were renamed: {names}"]


def _label(text: str, where: str) -> str:
    label = re.sub(r"[^A-Za-z0-9]", "", text)
    if not label:
        raise UserError(f"{where}: {text!r} has no letters and digits (A-Z, 0-9), of which BIDS makes names; rename it")
    return label


def _same(what: str, one: str, other: str, name: str) -> str:
    return (
        f"{what} {one} and {other} would both be {name}, since names of BIDS have letters and digits only; rename one "
        "of them and prepare the dataset again"
    )
