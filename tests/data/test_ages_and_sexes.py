import pytest

from signal_diffusion.data.ages_and_sexes import read_ages, read_sexes
from signal_diffusion.errors import UserError


def age_of(value: object) -> float | None:
    (age,), _ = read_ages([("line 2", value)], table="t.tsv", column="age", skip_bad=True)
    return age


@pytest.mark.parametrize(
    ("written", "age"),
    [
        ("31", 31.0),
        ("31.5", 31.5),
        ("31,5", 31.5),
        ("0,125", 0.125),
        ("60Y", 60.0),
        (31, 31.0),
        (31.5, 31.5),
        ("89+", 89.0),
        ("18-38", 28.0),
        ("18 – 38", 28.0),  # an en dash
        ("n/a", None),
        (None, None),
    ],
)
def test_ages_are_read_as_they_are_written(written: object, age: float | None) -> None:
    assert age_of(written) == age


@pytest.mark.parametrize("written", ["twenty", "1,234", "-3", "inf", "38-18", "999", "1e3", "20-1,234", True])
def test_what_is_no_age_is_refused_or_left_out_and_counted(written: object) -> None:
    cells = [("line 2", "20"), ("line 3", written)]
    with pytest.raises(UserError, match=r"^t\.tsv: column 'Age': 1 of 2 values are not ages .*\(line 3\); expected"):
        read_ages(cells, table="t.tsv", column="Age")
    ages, notes = read_ages(cells, table="t.tsv", column="Age", skip_bad=True)
    assert ages == [20.0, None]
    assert notes == [f"Age: 1 value left out, not ages in years: {written!r} (line 3)"]


def test_each_kind_of_interpretation_is_one_note_with_count_and_first_example() -> None:
    cells = [(f"line {line}", age) for line, age in enumerate(["89+", "90+", "31", "18-38"], start=2)]
    assert read_ages(cells, table="t.tsv", column="age") == (
        [89.0, 90.0, 31.0, 28.0],
        [
            "age: 2 values such as '89+' (line 2) read as 89, the lower limit",
            "age: 1 value such as '18-38' (line 5) read as 28, the middle",
        ],
    )


def test_spellings_of_a_sex_are_one_category_and_other_values_stay() -> None:
    words = ["F", "Female", "f", "W", "woman", "M", "MAN", "male", "X", "n/a", None]
    categories, notes = read_sexes(words, column="sex")
    assert [categories.get(word) for word in words if word] == ["female"] * 5 + ["male"] * 3 + ["X", None]
    assert notes == []


def test_codes_1_and_2_are_sexes_only_in_a_column_of_sexes() -> None:
    categories, notes = read_sexes(["1", "2", "2", None, "n/a"], column="sex")
    assert (categories["1"], categories["2"]) == ("male", "female")
    assert notes == ["sex: 3 values read by the usual codes, 1 as male and 2 as female"]
    kept, notes = read_sexes(["1", "2", "3"], column="sex")
    assert kept == {"1": "1", "2": "2", "3": "3"}
    assert notes == ["sex: 2 values (1 and 2) not read as a sex, because of '3'"]
    mixed, _ = read_sexes(["F", "Female", "female", "f", "2", "1"], column="sex")
    assert set(mixed.values()) == {"female", "male"} and mixed["2"] == "female"
    assert read_sexes(["F", "x", "2"], column="sex")[0] == {"F": "female", "x": "x", "2": "female", "1": "male"}
