"""Generated layouts of folders: whatever they look like, a person is one subject, and every file is used or counted."""

import itertools
import random
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.preparing.inputs import collect_recordings
from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare
from signal_diffusion.data.recordings.finding import Found
from signal_diffusion.data.recordings.identity import SubjectRule
from signal_diffusion.errors import UserError
from tests.data.recordings.files import noise, write_edf

# {person}, {session} and {run} are filled in; a layout without {run} or {session} has one of them.
LAYOUTS = {
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
REFUSED = {"flat, counted", "flat, letters", "flat, sleep", "flat, sessions and runs"}
CASES = [
    (name, seed, table)
    for number, (name, seed) in enumerate(itertools.product(LAYOUTS, range(2)))
    for table in [bool(number % 3)]
]


@dataclass
class Made:
    """A generated folder: who is in which file, and the table of subjects."""

    root: Path
    person_of: dict[str, str]
    left_out: set[str]
    table: Path | None


def make(root: Path, name: str, seed: int, with_table: bool) -> Made:
    rng = random.Random(seed)
    people = rng.sample(range(10, 99), rng.randint(3, 6))
    sessions, runs = rng.randint(2, 3), rng.randint(2, 3)
    person_of = {
        LAYOUTS[name].format(person=f"{person:02d}", session=session, run=run): f"{person:02d}"
        for person, session, run in itertools.product(people, range(1, sessions + 1), range(1, runs + 1))
    }
    extra = {f"{Path(next(iter(person_of))).parent.as_posix()}/streams.xdf".removeprefix("./")}
    for each in [*person_of, *extra, "notes.txt"]:
        (root / each).parent.mkdir(parents=True, exist_ok=True)
        (root / each).touch()
    table = None
    if name.startswith("bids"):
        (root / "dataset_description.json").write_text("{}")
    if with_table and name.startswith("bids"):
        (root / "participants.tsv").write_text(
            "participant_id\tage\n" + "".join(f"sub-{each}\t30\n" for each in people)
        )
    elif with_table:
        table = root.parent / "files.tsv"
        rows = [f"{file}\t{person}\t30\n" for file, person in person_of.items()]
        table.write_text("file\tsubject\tage\n" + "".join(rows))
    return Made(root=root, person_of=person_of, left_out=extra, table=table)


def collect(made: Made, rule: SubjectRule) -> Found:
    table = made.table if rule.source == "table" else None
    return collect_recordings([made.root], subjects=table, folder_is_label=made.root.name == "labels", rule=rule)


def assert_complete(made: Made, found: Found) -> None:
    """Each person is exactly one subject, and every file is used or counted."""
    subjects: dict[str, set[str]] = {}
    for recording in found.recordings:
        subjects.setdefault(made.person_of[recording.recording], set()).add(recording.subject)
    assert all(len(names) == 1 for names in subjects.values())
    assert len(set().union(*subjects.values())) == len(subjects) == len(set(made.person_of.values()))
    assert {recording.recording for recording in found.recordings} == set(made.person_of)
    assert {line.split(": ")[0] for line in found.left_out} == made.left_out


@pytest.mark.parametrize(("name", "seed", "with_table"), CASES)
def test_no_person_is_two_subjects_in_any_layout(tmp_path: Path, name: str, seed: int, with_table: bool):
    made = make(tmp_path / ("labels" if name == "label folders" else "lab"), name, seed, with_table)
    if name in REFUSED:
        with pytest.raises(UserError, match="seem to be one person") as caught:
            collect(made, SubjectRule())
        assert len(caught.value.lines) == 1
        option = re.search(r"--subject-pattern ('[^']+'|\S+),", caught.value.lines[0])
        assert option is not None
        assert_complete(made, collect(made, SubjectRule(pattern=shlex.split(option[1])[0])))
    else:
        assert_complete(made, collect(made, SubjectRule()))
    if made.table is not None:
        assert_complete(made, collect(made, SubjectRule(source="table")))


@pytest.mark.parametrize("name", ["names of bids in sessions", "like bids, no folder eeg", "flat, letters"])
def test_a_dataset_of_any_layout_has_each_person_in_one_split(tmp_path: Path, name: str):
    made = make(tmp_path / "lab", name, seed=1, with_table=False)
    for number, file in enumerate(made.person_of):
        write_edf(made.root / file, noise(["Fz", "Cz", "Pz"], seconds=4.0, seed=number))
    pattern = r"(S\d+)R" if name in REFUSED else None
    options = PrepareOptions(channels="Fz,Cz,Pz", window=256, splits=(0.4, 0.3, 0.3), subject_pattern=pattern)
    card = prepare([made.root], tmp_path / "out", options)
    split_of: dict[str, set[str]] = {}
    for split in card.splits:
        for row in open_split(tmp_path / "out", split).remove_columns("image"):
            split_of.setdefault(made.person_of[row["recording"]], set()).add(split)
    assert all(len(splits) == 1 for splits in split_of.values())
    assert split_of.keys() == set(made.person_of.values()) and len(card.splits) == 3
    assert [line.split(": ")[0] for line in DatasetCard.load(tmp_path / "out").skipped] == sorted(made.left_out)
