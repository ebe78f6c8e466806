"""Layouts of folders as a hypothesis strategy: people, sessions and runs, flat or nested, with and without tables."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from hypothesis import strategies as st

# {person}, {session} and {run} are filled in; a form without {run} or {session} has one of them.
FORMS = {
    "bids": "sub-{person}/ses-{session}/eeg/sub-{person}_ses-{session}_task-rest_run-{run}_eeg.edf",
    "bids without sessions": "sub-{person}/eeg/sub-{person}_task-rest_run-{run}_eeg.edf",
    "like bids, no folder eeg": "sub-{person}/sub-{person}_task-rest_run-{run}_eeg.edf",
    "sessions above people": "ses-{session}/sub-{person}/eeg/sub-{person}_ses-{session}_run-{run}_eeg.edf",
    "names of bids in sessions": "ses-{session}/sub-{person}_task-rest_run-{run}_eeg.edf",
    "names of bids, flat": "sub-{person}_ses-{session}_run-{run}_eeg.edf",
    "folders of people": "p{person}/recording{session}_{run}.edf",
    "folders of people and sessions": "p{person}/ses-{session}/run-{run}.edf",
    "sessions and names": "session {session}/p{person}.edf",
    "entities without sub": "p{person}_ses-{session}_run-{run}.edf",
    "flat, one file each": "p{person}.edf",
    "flat, words": "proband {person}.edf",
    "flat, counted": "Subject{person}_{run}.edf",
    "flat, letters": "S{person}R0{run}.edf",
    "flat, sleep": "SC4{person}{run}E0-PSG.edf",
    "flat, sessions and runs": "s{person}_day{session}_{run}.edf",
    "label folders": "task{run}/p{person}.edf",
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A folder of recordings: empty files, of which only names and tables are read."""

    form: str
    people: tuple[int, ...]
    sessions: int
    runs: int
    has_table: bool
    """participants.tsv in a BIDS folder, else a table of files next to the folder."""

    @cached_property
    def person_of(self) -> dict[str, str]:
        """Recording → person."""
        return {
            FORMS[self.form].format(person=person, session=session, run=run): str(person)
            for person, session, run in itertools.product(
                self.people, range(1, self.sessions + 1), range(1, self.runs + 1)
            )
        }

    @property
    def left_out(self) -> set[str]:
        """Files that look like recordings and cannot be read."""
        return {str(PurePosixPath(next(iter(self.person_of))).parent / "streams.xdf")}

    @property
    def other_files(self) -> dict[str, str]:
        """File → content, of those that are no recordings."""
        files = {"notes.txt": ""}
        if self.form.startswith("bids"):
            files["dataset_description.json"] = "{}"
            if self.has_table:
                rows = [f"sub-{person}\t30\n" for person in self.people]
                files["participants.tsv"] = "participant_id\tage\n" + "".join(rows)
        elif self.has_table:
            rows = [f"{file}\t{person}\t30\n" for file, person in self.person_of.items()]
            files["../files.tsv"] = "file\tsubject\tage\n" + "".join(rows)
        return files

    def write(self, root: Path) -> Path | None:
        """Make the folder, with empty recordings; returns the table of files, if there is one."""
        for name, text in (dict.fromkeys([*self.person_of, *self.left_out], "") | self.other_files).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root.parent / "files.tsv" if "../files.tsv" in self.other_files else None

    def tree(self) -> str:
        """The folder as text, for counterexamples."""
        lines, before = [f"{self.form}:"], ()
        for name in sorted([*self.person_of, *self.left_out, *self.other_files]):
            parts = PurePosixPath(name).parts
            lines += ["    " * depth + part for depth, part in enumerate(parts, 1) if parts[:depth] != before[:depth]]
            before = parts
        return "\n".join(lines)


def layouts(form: str, has_table: bool) -> st.SearchStrategy[Layout]:
    """Layouts of a form, with three to six people, and two or three sessions and runs each."""
    return st.builds(
        Layout,
        form=st.just(form),
        people=st.lists(st.integers(10, 98), min_size=3, max_size=6, unique=True).map(tuple),
        sessions=st.integers(2, 3),
        runs=st.integers(2, 3),
        has_table=st.just(has_table),
    )
