"""Generated layouts of folders: whatever they look like, a person is one subject, and every file is used or counted."""

import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.preparing.inputs import collect_recordings
from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare
from signal_diffusion.data.preparing.splitting import split_subjects
from signal_diffusion.data.recordings.finding import Found
from signal_diffusion.data.recordings.identity import SubjectRule
from signal_diffusion.errors import UserError
from tests.data.preparing.layouts import FORMS, Layout, layouts
from tests.data.recordings.files import noise, write_edf

REFUSED = {"flat, counted", "flat, letters", "flat, sleep", "flat, sessions and runs"}


def assert_complete(layout: Layout, found: Found) -> None:
    """Each person is exactly one subject, in one split, and every file is used or counted."""
    subjects: dict[str, set[str]] = {}
    for recording in found.recordings:
        subjects.setdefault(layout.person_of[recording.recording], set()).add(recording.subject)
    assert all(len(names) == 1 for names in subjects.values())
    names = set().union(*subjects.values())
    assert len(names) == len(subjects) == len(layout.people)
    assert {recording.recording for recording in found.recordings} == set(layout.person_of)
    assert {line.split(": ")[0] for line in found.left_out} == layout.left_out
    split_of = split_subjects(dict.fromkeys(names, ""), (0.4, 0.3, 0.3), seed=0)
    splits = [{split_of[name] for name in each} for each in subjects.values()]
    assert all(len(each) == 1 for each in splits) and len(set().union(*splits)) == 3


@pytest.mark.parametrize("has_table", [False, True])
@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
@settings(derandomize=True, deadline=None, database=None, max_examples=2)
def test_no_person_is_two_subjects_in_any_layout(
    tmp_path_factory: pytest.TempPathFactory, form: str, has_table: bool, data: st.DataObject
):
    layout = data.draw(layouts(form, has_table))
    note(layout.tree())
    root = tmp_path_factory.mktemp("layout") / "lab"
    table = layout.write(root)

    def collect(rule: SubjectRule, subjects: Path | None = None) -> Found:
        return collect_recordings([root], subjects=subjects, folder_is_label=form == "label folders", rule=rule)

    if form in REFUSED:
        with pytest.raises(UserError, match="seem to be one person") as caught:
            collect(SubjectRule())
        assert len(caught.value.lines) == 1
        option = re.search(r"--subject-pattern ('[^']+'|\S+),", caught.value.lines[0])
        assert option is not None
        assert_complete(layout, collect(SubjectRule(pattern=shlex.split(option[1])[0])))
    else:
        assert_complete(layout, collect(SubjectRule()))
    if table is not None:
        assert_complete(layout, collect(SubjectRule(source="table"), table))


@pytest.mark.parametrize("form", ["names of bids in sessions", "like bids, no folder eeg", "flat, letters"])
def test_a_dataset_of_any_layout_has_each_person_in_one_split(tmp_path: Path, form: str):
    layout = Layout(form=form, people=(31, 12, 77, 45), sessions=2, runs=2, has_table=False)
    layout.write(tmp_path / "lab")
    for number, file in enumerate(layout.person_of):
        write_edf(tmp_path / "lab" / file, noise(["Fz", "Cz", "Pz"], seconds=4.0, seed=number))
    pattern = r"(S\d+)R" if form in REFUSED else None
    options = PrepareOptions(channels="Fz,Cz,Pz", window=256, splits=(0.4, 0.3, 0.3), subject_pattern=pattern)
    card = prepare([tmp_path / "lab"], tmp_path / "out", options)
    split_of: dict[str, set[str]] = {}
    for split in card.splits:
        for row in open_split(tmp_path / "out", split).remove_columns("image"):
            split_of.setdefault(layout.person_of[row["recording"]], set()).add(split)
    assert all(len(splits) == 1 for splits in split_of.values())
    assert split_of.keys() == set(layout.person_of.values()) and len(card.splits) == 3
    assert [line.split(": ")[0] for line in DatasetCard.load(tmp_path / "out").skipped] == sorted(layout.left_out)
