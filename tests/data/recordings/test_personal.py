import logging
from pathlib import Path

import pytest

from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.recordings.personal import with_ages_and_sexes
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.subjects import read_subjects, with_attributes
from signal_diffusion.errors import UserError

PARTICIPANTS = """participant_id\tage\tsex
sub-01\t20\tM
sub-02\t89+\tF
sub-03\t18-38\tm
sub-04\ttwenty\tfemale
sub-05\t50\tMale
sub-06\t1,234\tO
"""


def recordings(path: Path, text: str = PARTICIPANTS) -> list[Recording]:
    """Two recordings of each subject in the table."""
    path.write_text(text)
    return [
        with_attributes(Recording(path=Path("a.edf"), recording="a.edf", subject=name, dataset="d"), row)
        for name, row in read_subjects(path).items()
        for _ in range(2)
    ]


def test_ages_that_are_no_numbers_are_refused_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "participants.tsv"
    with pytest.raises(UserError) as caught:
        with_ages_and_sexes(recordings(path))
    assert str(caught.value) == (
        f"{path}: column 'age': 2 of 6 values are not ages in years: 'twenty' (line 5), '1,234' (line 7); expected "
        "numbers such as 31 or 31.5, 89+, or 18-38; correct them, empty the cells, or leave such ages out with "
        "--skip-bad"
    )


def test_skipped_ages_are_left_out_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found, notes = with_ages_and_sexes(recordings(tmp_path / "participants.tsv"), skip_bad=True)
    assert [each.age for each in found[::2]] == [20, 89, 28, None, 50, None]
    assert [each.gender for each in found[::2]] == ["male", "female", "male", "female", "male", "O"]
    assert [each.participant["sex"] for each in found[::2]] == [each.gender for each in found[::2]]
    assert notes == [
        "participants.tsv: age: 1 value such as '89+' (line 3) read as 89, the lower limit",
        "participants.tsv: age: 1 value such as '18-38' (line 4) read as 28, the middle",
        "participants.tsv: age: 2 values left out, not ages in years: 'twenty' (line 5), '1,234' (line 7)",
    ]
    assert [record.message for record in caplog.records] == [f"{tmp_path}/{note}" for note in notes]


def test_a_later_table_corrects_an_earlier_one(tmp_path: Path) -> None:
    earlier = recordings(tmp_path / "participants.tsv")
    table = tmp_path / "own.csv"
    table.write_text("id,Gender,age\nsub-04,M,20\nsub-06,F,44\n")
    rows = read_subjects(table)
    found, _ = with_ages_and_sexes([with_attributes(each, rows.get(each.subject, {})) for each in earlier])
    assert [(each.gender, each.age) for each in found[6::4]] == [("male", 20.0), ("female", 44.0)]
    assert found[0].gender == "male" and found[0].age == 20.0


def test_codes_of_one_table_say_nothing_about_another(tmp_path: Path) -> None:
    coded = recordings(tmp_path / "coded.tsv", "id\tsex\na\t1\nb\t2\n")
    other = recordings(tmp_path / "other.tsv", "id\tsex\na\t1\nb\t3\n")
    found, notes = with_ages_and_sexes([*coded, *other])
    assert [each.gender for each in found[::2]] == ["male", "female", "1", "3"]
    assert notes == [
        "coded.tsv: sex: 2 values read by the usual codes, 1 as male and 2 as female",
        "other.tsv: sex: 1 value (1) not read as a sex, because of '3'",
    ]


@pytest.mark.real_data
def test_ages_of_a_bids_folder_are_read_with_a_note_or_refused(cases: Path) -> None:
    found = find(cases / "ages" / "bids").recordings
    with pytest.raises(UserError, match=r"'twenty' \(line 5\), '1,234' \(line 7\)"):
        with_ages_and_sexes(found)
    read, notes = with_ages_and_sexes(found, skip_bad=True)
    assert {each.subject: each.age for each in read} == {
        **{"sub-01": 20, "sub-02": 89, "sub-03": 28, "sub-05": 50},
        **{"sub-04": None, "sub-06": None},
    }
    assert {each.gender for each in read} == {"male", "female", "O"} and len(notes) == 3
