from pathlib import Path

import pytest

from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.subjects import described, other_columns, read_subjects, row_of
from signal_diffusion.errors import UserError


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def recording(**known: object) -> Recording:
    return Recording(path=Path("a.edf"), recording="a.edf", subject="sub-01", dataset="d", **known)


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("a.tsv", "participant_id\tage\tsite\nsub-01\t31\tBern\nsub-02\tn/a\tUlm\n", "utf-8"),
        ("a.csv", "Subject,Age,site\nsub-01,31,Bern\nsub-02,NA,Ulm\n", "utf-8-sig"),
        ("a.CSV", "age;site;ID\r\n31;Bern;sub-01\r\n;Ulm;sub-02\r\n\r\n", "utf-8"),
        ("a.csv", 'subject_id,age,site\n"sub-01",31,"Bern"\n sub-02 , nan ,Ulm', "utf-8"),
    ],
)
def test_tables_are_read_as_people_write_them(tmp_path: Path, name: str, text: str, encoding: str):
    rows = read_subjects(write(tmp_path / name, text, encoding))
    assert list(rows) == ["sub-01", "sub-02"]
    lower = [{key.lower(): value for key, value in row.items()} for row in rows.values()]
    assert [row.get("age") for row in lower] == ["31", None]
    assert [row["site"] for row in lower] == ["Bern", "Ulm"]


def test_sub_before_the_id_is_optional_on_either_side():
    table = {"sub-01": {"age": "31"}, "02": {"age": "32"}}
    assert row_of(table, "sub-01") == row_of(table, "01") == {"age": "31"}
    assert row_of(table, "sub-02") == row_of(table, "02") == {"age": "32"}
    assert row_of(table, "03") is None


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.tsv", "participant_id\tage\nsub-01\t1\nsub-02\t2\nsub-01\t3\n", "sub-01 stands in line 2 and in line 4"),
        ("a.csv", "id,age\n01,1\nsub-01,2\n", "sub-01 stands in line 2 and in line 3; keep one"),
        ("a.csv", "name,age\nanna,1\n", r"no column participant_id \(or subject, subject_id, id\), only name, age"),
        ("a.csv", "id,age\nanna,1\nbert,2,f\n", "line 3 has 3 fields and the first line 2"),
        ("a.csv", "id,age\nanna\n", "line 2 has 1 fields and the first line 2"),
        ("a.csv", "id,age\n,30\n", "line 2 has no id"),
        ("a.csv", "id,age,age\nanna,1,2\n", "two columns have one name"),
        ("a.csv", "", "is empty"),
        ("a.xlsx", "PK", r"a table of subjects is a \.csv or a \.tsv"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line_that_says_why(tmp_path: Path, name: str, text: str, complaint: str):
    path = write(tmp_path / name, text)
    with pytest.raises(UserError, match=complaint) as caught:
        read_subjects(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere\.csv: cannot be read \(No such file"):
        read_subjects(tmp_path / "nowhere.csv")
    with pytest.raises(UserError, match="not UTF-8"):
        read_subjects(write(tmp_path / "a.csv", "id,name\n1,Jörg\n", "latin-1"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"folder\.csv: cannot be read"):
        read_subjects(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    ("text", "gender"),
    [
        ("F", "female"),
        ("Female", "female"),
        ("W", "female"),
        ("Woman", "female"),
        ("m", "male"),
        ("MAN", "male"),
        ("X", "X"),
        ("1", "1"),
    ],
)
def test_gender_is_told_in_one_way_and_codes_are_not_guessed(text: str, gender: str):
    assert described(recording(), {"sex": text}).gender == gender
    assert described(recording(), {"Gender": text}).gender == gender


@pytest.mark.parametrize(
    ("text", "age"),
    [("31", 31.0), ("31.5", 31.5), ("31,5", 31.5), ("60Y", 60.0), ("89+", None), ("-3", None), ("inf", None)],
)
def test_age_is_years_or_nothing(text: str, age: float | None):
    assert described(recording(), {"age": text}).age == age


def test_health_is_taken_from_the_first_of_its_columns_that_has_a_value():
    row = {"status": "s", "diagnosis": "d", "group": "g"}
    assert described(recording(), row).health == "g"
    assert described(recording(), {"status": "s"}).health == "s"
    assert described(recording(), row | {"Health": "h"}).health == "h"


def test_what_a_row_does_not_say_stays_and_all_of_it_is_kept():
    known = recording(gender="male", age=40.0, health="ill", participant={"site": "Bern", "hand": "left"})
    now = described(known, {"id": "01", "age": "41", "hand": "right"})
    assert (now.gender, now.age, now.health) == ("male", 41.0, "ill")
    assert now.participant == {"site": "Bern", "hand": "right", "id": "01", "age": "41"}


def test_columns_that_are_used_for_nothing_else_are_told():
    assert other_columns(["id", "Sex", "age", "group", "site", "status"]) == ["site", "status"]
