"""Timelines: what they mean, and what is refused, with the line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from signal_diffusion.errors import UserError
from signal_diffusion.sampling.long.timeline import read_timeline

HEADER = "onset\tduration\ttrial_type\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stages.tsv"


def test_rows_are_read_with_their_times_and_labels(path: Path) -> None:
    path.write_text(HEADER + "0\t30\twake\n30.0\t15.5\tn/a\n60\t5\tsleep\n")
    timeline = read_timeline(path, ["label"])
    assert [(row.onset, row.end, row.values["label"]) for row in timeline.rows] == [
        (0, 30, "wake"),
        (30, 45.5, ""),
        (60, 65, "sleep"),
    ]
    assert timeline.attributes == ("label",)
    assert timeline.rows[2].where == "stages.tsv line 4"


def test_columns_are_attributes_by_name(path: Path) -> None:
    path.write_text("onset\tduration\tgender\tage\ttrial_type\n0\t1\tfemale\t60\tx\n")
    timeline = read_timeline(path, ["gender", "age", "label"])
    assert dict(timeline.rows[0].values) == {"gender": "female", "age": "60", "label": "x"}


def test_trial_type_is_the_only_attribute_of_a_model(path: Path) -> None:
    path.write_text(HEADER + "0\t1\tan EEG at rest\n")
    assert read_timeline(path, ["caption"]).rows[0].values == {"caption": "an EEG at rest"}


def test_a_data_frame_is_a_timeline_too() -> None:
    table = pd.DataFrame({"onset": [0, 2.5], "duration": [2.5, 1], "age": [60.0, None]})
    timeline = read_timeline(table, ["gender", "age"])
    assert [row.values["age"] for row in timeline.rows] == ["60.0", ""]
    assert timeline.rows[1].where == "timeline row 1"


def test_other_columns_are_named(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text("onset\tduration\ttrial_type\tresponse_time\n0\t1\tx\t0.3\n")
    read_timeline(path, ["label"])
    assert capsys.readouterr().err == (
        "warning: stages.tsv: not used: response_time; the model's attributes are label\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "stages.tsv: No columns to parse"),
        (
            "onset,duration,trial_type\n0,1,x\n",
            "no column onset and duration, only onset,duration,trial_type;",
        ),
        (HEADER, "stages.tsv: 0 rows"),
        (HEADER + "0\t1\tx\n2\t1\ty\n1\t1\tx\n", "line 4: onset 1 s is before that of the row above; sort the rows"),
        (
            HEADER + "0\t1.5\tx\n1\t1\ty\n",
            "line 3: begins at 1 s, but the row above ends at 1.5 s; rows may",
        ),
        (HEADER + "0\t1.5\tx\n0\t1\ty\n", "line 3: begins at 0 s, but the row above ends at 1.5 s"),
        (HEADER + "-1\t1\tx\n", "stages.tsv line 2: onset = -1: expected seconds, 0 or more"),
        (HEADER + "0\tn/a\tx\n", "stages.tsv line 2: duration = n/a: expected seconds, 0 or more"),
        (HEADER + "0\tinf\tx\n", "stages.tsv line 2: duration = inf: expected seconds, 0 or more"),
        (HEADER + "0\t0\tx\n", "stages.tsv line 2: duration = 0: expected a stretch of time, more than 0 s"),
        ("onset\tduration\tstage\n0\t1\tx\n", "no column names an attribute of the model (label), only stage; rename"),
        ("onset\tduration\tlabel\ttrial_type\n0\t1\tx\tx\n", "columns trial_type and label mean the same"),
    ],
)
def test_mistakes_name_the_line(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_timeline(path, ["label"])
    assert message in str(caught.value)
    assert len(caught.value.lines) == 1


def test_there_is_nothing_to_set_in_an_unconditional_model(path: Path) -> None:
    path.write_text(HEADER + "0\t1\tx\n")
    with pytest.raises(UserError, match=r"stages\.tsv: the model is unconditional; leave --timeline out"):
        read_timeline(path, [])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--timeline .*none\.tsv: no such file"):
        read_timeline(tmp_path / "none.tsv", ["label"])


def test_rounded_times_do_not_overlap(path: Path) -> None:
    path.write_text(HEADER + "0.1\t0.2\tx\n0.3\t1\ty\n")  # 0.1 + 0.2 > 0.3 in floating point
    assert len(read_timeline(path, ["label"]).rows) == 2
