import json
from pathlib import Path

import pytest

from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.subjects import other_columns, read_subjects, row_of, with_attributes
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
def test_common_table_formats_are_read(tmp_path: Path, name: str, text: str, encoding: str):
    rows = read_subjects(write(tmp_path / name, text, encoding))
    assert list(rows) == ["sub-01", "sub-02"]
    lower = [{key.lower(): value for key, value in row.items()} for row in rows.values()]
    assert [row.get("age") for row in lower] == ["31", None]
    assert [row["site"] for row in lower] == ["Bern", "Ulm"]


def test_sub_prefix_is_optional_in_table_and_query():
    table = {"sub-01": {"age": "31"}, "02": {"age": "32"}}
    assert row_of(table, "sub-01") == row_of(table, "01") == {"age": "31"}
    assert row_of(table, "sub-02") == row_of(table, "02") == {"age": "32"}
    assert row_of(table, "03") is None


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.tsv", "participant_id\tage\nsub-01\t1\nsub-02\t2\nsub-01\t3\n", "sub-01 is in line 2 and in line 4"),
        ("a.csv", "id,age\n01,1\nsub-01,2\n", "sub-01 is in line 2 and in line 3; keep one"),
        ("a.csv", "name,age\nanna,1\n", r"no column participant_id \(or subject, subject_id, id\), only name, age"),
        ("a.csv", "id,age\nanna,1\nbert,2,f\n", "line 3 has 3 fields, but the first line has 2"),
        ("a.csv", "id,age\nanna\n", "line 2 has 1 fields, but the first line has 2"),
        ("a.csv", "id,age\n,30\n", "line 2 has no id"),
        ("a.csv", "id,age,age\nanna,1,2\n", "two columns have the same name"),
        ("a.csv", "", "empty; expected a line"),
        ("a.xlsx", "PK", r"expected a subject table as \.csv or \.tsv"),
    ],
)
def test_an_invalid_table_is_a_one_line_error(tmp_path: Path, name: str, text: str, complaint: str):
    path = write(tmp_path / name, text)
    with pytest.raises(UserError, match=complaint) as caught:
        read_subjects(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_unreadable_table_is_a_one_line_error(tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere\.csv: cannot be read \(No such file"):
        read_subjects(tmp_path / "nowhere.csv")
    with pytest.raises(UserError, match="not UTF-8"):
        read_subjects(write(tmp_path / "a.csv", "id,name\n1,Jörg\n", "latin-1"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"folder\.csv: cannot be read"):
        read_subjects(tmp_path / "folder.csv")


def test_health_is_taken_from_the_first_column_with_a_value():
    row = {"status": "s", "diagnosis": "d", "group": "g"}
    assert with_attributes(recording(), row).health == "g"
    assert with_attributes(recording(), {"status": "s"}).health == "s"
    assert with_attributes(recording(), row | {"Health": "h"}).health == "h"


def test_known_attributes_are_kept_if_the_row_has_no_value():
    known = recording(health="ill", participant={"site": "Bern", "hand": "left"})
    merged = with_attributes(known, {"id": "01", "age": "41", "hand": "right"})
    assert merged.health == "ill"
    assert merged.participant == {"site": "Bern", "hand": "right", "id": "01", "age": "41"}


def test_codes_that_the_json_file_declares_are_replaced(tmp_path: Path):
    levels = {"0": {"Description": "Male"}, "1": "girl", "D": "divers"}
    (tmp_path / "participants.json").write_text(json.dumps({"sex": {"Levels": levels}}))
    table = write(tmp_path / "participants.tsv", "participant_id\tsex\tage\na\t0\t1\nb\t1\t1\nc\tD\t0\nd\tF\t0\n")
    assert [row["sex"] for row in read_subjects(table).values()] == ["Male", "girl", "D", "F"]
    (tmp_path / "participants.json").write_text("{")
    with pytest.raises(UserError, match=r"participants\.json: cannot be read .*; fix it"):
        read_subjects(table)


def test_other_columns_are_those_not_used_for_attributes():
    assert other_columns(["id", "Sex", "age", "group", "site", "status"]) == ["site", "status"]
