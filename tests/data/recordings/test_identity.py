import re
import shlex
from pathlib import Path, PurePosixPath

import pytest

from signal_diffusion.data.recordings.identity import SubjectRule, subjects_of
from signal_diffusion.errors import UserError

AUTOMATIC = SubjectRule()


def people(*names: str, rule: SubjectRule = AUTOMATIC, folder_is_label: bool = False) -> list[str]:
    return subjects_of(Path("lab"), [PurePosixPath(name) for name in names], rule, folder_is_label=folder_is_label)


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("sub-06_ses-01_task-rest_eeg.edf", "sub-06"),
        ("ses-01/sub-06_task-rest_eeg.edf", "sub-06"),
        ("patients/sub-06_rest.edf", "sub-06"),
        ("sub-06/ses-01/rest.edf", "sub-06"),
        ("ses-01/sub-06/rest.edf", "sub-06"),
        ("ses-01/anna/one.edf", "anna"),
        ("session 2/anna.edf", "anna"),
        ("run-1/task-rest/anna.edf", "anna"),
        ("anna_ses-1_run-2.edf", "anna"),
        ("ses-1_anna_task-rest_eeg.edf", "anna"),
        ("anna/run-1.edf", "anna"),
        ("anna/deep/one.fif.gz", "anna"),
        ("one_eeg.edf", "one_eeg"),
    ],
)
def test_names_with_sub_are_people_and_sessions_never_are(name: str, person: str):
    assert people(name) == [person]


def test_one_person_in_two_session_folders_is_one_person():
    assert set(people("ses-01/sub-06_eeg.edf", "ses-02/sub-06_eeg.edf")) == {"sub-06"}
    assert set(people("ses-01/anna.edf", "ses-02/anna.edf")) == {"anna"}


@pytest.mark.parametrize("name", ["sub-01/sub-02_eeg.edf", "ses-1/sub-01/sub-02_eeg.edf"])
def test_a_folder_and_a_name_that_contradict_each_other_are_refused_until_one_is_chosen(name: str):
    complaint = (
        r"the folder says sub-01, but the name says sub-02; .* use --subject-from name, or --subject-from folder"
    )
    with pytest.raises(UserError, match=complaint):
        people(name)
    assert people(name, rule=SubjectRule(source="name")) == ["sub-02"]
    assert people(name, rule=SubjectRule(source="folder")) == ["sub-01"]


def test_names_without_sub_contradict_a_folder_of_the_same_form():
    with pytest.raises(UserError, match=r"S001/S002R01\.edf: the folder says S001, but the name says S002"):
        people("S001/S001R01.edf", "S001/S002R01.edf")
    assert people("S01/S001R01.edf", "S02/S002R01.edf", "p3/rest.edf") == ["S01", "S02", "p3"]


FLAT = [
    (["Subject00_1", "Subject00_2"], ["Subject00"]),
    (["Subject00_1", "Subject00_2", "Subject01_1"], ["Subject00", "Subject01"]),
    (["S001R01", "S001R02", "S002R01"], ["S001", "S002"]),
    (["SC4001E0-PSG", "SC4002E0-PSG", "ST7011J0-PSG"], ["SC400", "ST701"]),
    (["A01T", "A01E"], ["A01"]),
    (["anna_1", "anna_2", "bert_1"], ["anna", "bert"]),
    (["anna", "anna_2"], ["anna"]),
    (["anna_rest", "anna_work", "bert_rest"], ["anna", "bert"]),
    (["anna_session1", "anna_session2"], ["anna"]),
    (["aaab_s001_t000", "aaab_s002_t000", "aaac_s001_t000"], ["aaab", "aaac"]),
    (["EEG_p01_1", "EEG_p01_2", "EEG_p02_1"], ["EEG_p01", "EEG_p02"]),
]


@pytest.mark.parametrize(("names", "expected"), FLAT)
def test_a_part_that_repeats_while_a_later_one_counts_is_refused_with_the_option_that_settles_it(
    names: list[str], expected: list[str]
):
    files = [f"{name}.edf" for name in names]
    with pytest.raises(UserError, match=f"seem to be one person, {expected[0]} ") as caught:
        people(*files)
    assert "\n" not in str(caught.value)
    found = re.search(r"--subject-pattern ('.*?'|\S+)", str(caught.value))
    assert found is not None
    (pattern,) = shlex.split(found[1])
    assert sorted(set(people(*files, rule=SubjectRule(pattern=pattern)))) == expected
    assert people(*files, rule=SubjectRule(one_person_per_file=True)) == names


def test_both_readings_are_given_if_conditions_may_come_before_people() -> None:
    files = [f"{condition}_{person}.edf" for condition in ("closed", "open") for person in ("anna", "bert", "carl")]
    with pytest.raises(
        UserError, match=r"one person, closed .*, or closed_anna.edf and open_anna.edf seem to be"
    ) as caught:
        people(*files)
    patterns = re.findall(r"--subject-pattern ('.*?'|\S+)", str(caught.value))
    found = [set(people(*files, rule=SubjectRule(pattern=shlex.split(pattern)[0]))) for pattern in patterns]
    assert found == [{"closed", "open"}, {"anna", "bert", "carl"}]


@pytest.mark.parametrize(
    "names",
    [
        ["p01", "p02", "p03"],
        ["p1", "p10", "p11"],
        ["anna", "bert"],
        ["anna_rest", "bert_rest"],
        ["EEG_p01", "EEG_p02"],
        ["S001R01", "S002R01"],
        ["SC4001E0-PSG", "SC4011E0-PSG"],
        ["sub-01_run-1", "sub-01_run-2"],
        ["Proband 1", "Proband 2"],
        ["test_overlapping", "test_reduced", "nihon_kohden"],
    ],
)
def test_names_in_which_nothing_repeats_are_people(names: list[str]):
    assert len(people(*[f"{name}.edf" for name in names])) == len(names)


def test_the_suggested_pattern_also_fits_the_files_in_folders():
    names = ["more/S003R01.edf", "S001R01.edf", "S001R02.edf"]
    with pytest.raises(UserError, match=re.escape(r"--subject-pattern '(S\d+)R'")):
        people(*names)
    with pytest.raises(UserError, match="--subject-from table --subjects TABLE"):
        people("calibration.edf", *names)


def test_files_without_any_name_of_a_person_are_refused():
    with pytest.raises(UserError, match=r"2 files name no person: ses-1/run-1\.edf, ses-2/run-1_eeg\.edf; put"):
        people("ses-1/run-1.edf", "ses-2/run-1_eeg.edf")
    assert people("task-rest_eeg.edf") == ["task-rest_eeg"]


def test_a_pattern_has_to_find_a_person_in_each_file():
    with pytest.raises(UserError, match=r"--subject-pattern 'p\(\.\)' finds nobody in 1 of 2 files: x\.edf"):
        people("p1.edf", "x.edf", rule=SubjectRule(pattern="p(.)"))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"pattern": "("}, r"subject_pattern: '\(' is not a regular expression"),
        ({"pattern": "S"}, "subject_pattern: 'S' has no group"),
        ({"pattern": "(S)", "source": "name"}, "cannot be combined"),
        ({"source": "nose"}, "subject_from: 'nose'; expected folder, name or table"),
    ],
)
def test_an_impossible_rule_is_a_one_line_error(options: dict, complaint: str):
    with pytest.raises(UserError, match=complaint):
        SubjectRule(**options)


def test_files_outside_of_folders_are_named_if_folders_are_people():
    with pytest.raises(UserError, match=r"1 files are in no folder of a person: ses-1/x\.edf"):
        people("anna/x.edf", "ses-1/x.edf", rule=SubjectRule(source="folder"))


def test_people_in_folders_that_look_alike_are_warned_about(caplog: pytest.LogCaptureFixture):
    people("anna_1/x.edf", "anna_2/x.edf", "bert_1/x.edf")
    assert "lab: folders anna_1 and anna_2 are taken as two people" in caplog.text
    people("siteA/sub-01_eeg.edf", "siteB/sub-01_eeg.edf")
    assert "lab: 1 people are in several folders, such as sub-01 in siteA, siteB" in caplog.text


def test_label_folders_are_not_people():
    assert people("rest/anna.edf", "work/anna/x.edf", "work/sub-1_eeg.edf", folder_is_label=True) == [
        "anna",
        "anna",
        "sub-1",
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["pre/p01.edf", "pre/p02.edf", "post/p01.edf", "post/p02.edf"],
        ["EO/S01/rec.edf", "EC/S01/rec.edf", "EC/S02/rec.edf"],
        ["alpha/c1.edf", "alpha/c2.edf", "beta/x1.edf", "beta/x2.edf"],
        ["before/anna.edf", "after/anna.edf"],
    ],
)
def test_folders_of_conditions_are_no_people(names: list[str]) -> None:
    files = [PurePosixPath(name) for name in names]
    with pytest.raises(
        UserError, match="seem to be conditions or groups, not 2 people; if so use --label folder"
    ) as error:
        subjects_of(Path("in"), files, SubjectRule(), folder_is_label=False)
    pattern = shlex.split(str(error.value).split("--subject-pattern ")[1].split(", or")[0])
    found = subjects_of(Path("in"), files, SubjectRule(pattern=pattern[0]), folder_is_label=False)
    assert found == [re.split(r"[/.]", name)[1] for name in names]
    assert len(set(subjects_of(Path("in"), files, SubjectRule(source="folder"), folder_is_label=False))) == 2
    assert subjects_of(Path("in"), files, SubjectRule(), folder_is_label=True) == found


@pytest.mark.parametrize(
    "names",
    [
        ["anna/rec1.edf", "anna/rec2.edf", "bert/rec1.edf"],
        ["anna/run1.edf", "bert/run1.edf", "bert/run2.edf"],
        ["S01/EO/rec.edf", "S01/EC/rec.edf", "S02/EO/rec.edf"],
        ["anna/open.edf", "anna/closed.edf", "bert/open.edf"],
    ],
)
def test_folders_of_people_are_people(names: list[str]) -> None:
    files = [PurePosixPath(name) for name in names]
    found = subjects_of(Path("in"), files, SubjectRule(), folder_is_label=False)
    assert found == [name.split("/")[0] for name in names]


@pytest.mark.parametrize(
    "names",
    [
        ["alpha/anna.edf", "alpha/bert.edf", "beta/anna.edf", "beta/bert.edf"],
        ["alpha/anna.edf", "alpha/bert.edf", "alpha/carl.edf", "beta/anna.edf", "beta/bert.edf"],
        ["alpha/anna m/rest.edf", "alpha/bert k/rest.edf", "beta/anna m/rest.edf", "beta/bert k/rest.edf"],
    ],
)
def test_folders_with_the_same_names_inside_are_refused_with_both_readings(names: list[str]) -> None:
    with pytest.raises(UserError, match=r"folders alpha, beta contain the same names, anna.*, bert") as caught:
        people(*names)
    [line] = caught.value.lines
    [pattern] = shlex.split(line.split("--subject-pattern ")[1].split(", or")[0])
    within = [re.split(r"[/.]", name)[1] for name in names]
    assert people(*names, rule=SubjectRule(pattern=pattern)) == within
    assert people(*names, folder_is_label=True) == within
    assert people(*names, rule=SubjectRule(source="folder")) == [name.split("/")[0] for name in names]


@pytest.mark.parametrize(
    "inside",
    [
        ["rest.edf"],
        ["run1.edf", "run2.edf"],
        ["1.edf", "2.edf"],
        ["eyes_open.edf", "eyes_closed.edf"],
        ["Music.edf", "Silence.edf"],
        ["left hand.edf", "right hand.edf"],
        ["anna.edf", "rest.edf"],
        ["morning/raw.edf", "evening/raw.edf"],
        ["EO_raw.fif", "EC_raw.fif"],
        ["20240101.edf", "20240102.edf"],
    ],
)
@pytest.mark.parametrize("folders", [("p01", "p02"), ("s1", "s2"), ("anna", "bert"), ("AB", "CD", "EF")])
def test_the_same_recordings_of_each_person_need_no_option(
    folders: tuple[str, ...], inside: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"{folder}/{name}" for folder in folders for name in inside]
    assert people(*names) == [name.split("/")[0] for name in names]
    assert caplog.messages == []


def test_folders_with_a_number_are_people_whatever_is_inside() -> None:
    assert people("p01/aa.edf", "p01/bb.edf", "p02/aa.edf", "p02/bb.edf") == ["p01", "p01", "p02", "p02"]


def test_a_single_name_in_several_folders_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    assert people("alpha/anna.edf", "beta/anna.edf") == ["alpha", "beta"]
    assert caplog.messages == [
        "lab: folders alpha, beta are taken as 2 people; if the person is anna, use --label folder"
    ]


def test_people_who_differ_in_case_are_refused() -> None:
    files = [PurePosixPath("Sub-01/Sub-01_eo.edf"), PurePosixPath("Sub-01/sub-01_ec.edf")]
    with pytest.raises(UserError, match="Sub-01 and sub-01 differ only in upper and lower case"):
        subjects_of(Path("in"), files, SubjectRule(), folder_is_label=False)
    found = subjects_of(Path("in"), files, SubjectRule(source="folder"), folder_is_label=False)
    assert found == ["Sub-01", "Sub-01"]
