"""Who is who in folders as data sets and laboratories have them: the table is the specification.

A layout is read without a word about people, or refused with options, each of which gives possible people, the first
the right ones.
"""

import itertools
import re
import shlex
from pathlib import Path, PurePosixPath

import pytest

from signal_diffusion.data.recordings.identity import SubjectRule, subjects_of
from signal_diffusion.errors import UserError


def each(form: str, **choices: str) -> list[str]:
    """Paths of all combinations of choices, given as words between spaces."""
    combined = itertools.product(*(words.split() for words in choices.values()))
    return [form.format(**dict(zip(choices, words, strict=True))) for words in combined]


def people(files: list[str], rule: SubjectRule | None = None, *, label: bool = False) -> list[str]:
    paths = [PurePosixPath(file) for file in files]
    return subjects_of(Path("lab"), paths, rule or SubjectRule(), folder_is_label=label)


READ = {
    "conditions in people": (each("{p}/{c}.edf", p="p01 p02", c="rest task"), "p01 p02"),
    "sessions that look like people, in people": (each("{p}/{s}.edf", p="sub1 sub2", s="S1 S2"), "sub1 sub2"),
    "runs in people": (each("{p}/run{r}.edf", p="p01 p02", r="1 2"), "p01 p02"),
    "eyes open in people": (each("{p}/eyes_open.edf", p="s1 s2"), "s1 s2"),
    "numbers in people": (each("{p}/{p}_{r}.edf", p="chb01 chb02", r="01 02 03"), "chb01 chb02"),
    "numbers in a person": (each("PN00/PN00-{r}.edf", r="1 2"), "PN00"),
    "motor imagery": (each("{p}/{p}R{r}.edf", p="S001 S002", r="01 02"), "S001 S002"),
    "numbers in numbers": (each("{p}/{r}.edf", p="1 2 3", r="1 2"), "1 2 3"),
    "letters and numbers": (each("{p}/EEG/raw/{c}.edf", p="NDARAA075AMK NDARAB055BPR", c="Rest Video1"), None),
    "people in days": (each("{d}/{p}.edf", d="20230105 20230207", p="P01 P02"), "P01 P02"),
    "people in dates": (each("{d}/{p}.edf", d="2023-01-05 2023-02-07", p="anna bert"), "anna bert"),
    "folders of people in dates": (each("{d}/{p}/x.edf", d="05.01.2023 07.02.2023", p="anna bert"), "anna bert"),
    "dates in people": (each("{p}/{d}.edf", p="P01 P02", d="2023-01-05 2023-02-07"), "P01 P02"),
    "one date each": (["2023-01-05_P01.edf", "2023-02-07_P02.edf"], "2023-01-05_P01 2023-02-07_P02"),
    "sessions above people": (each("session{s}/s{p}.edf", s="1 2", p="1 2"), "s1 s2"),
    "blocks above people": (each("block{s}/S{p}.edf", s="1 2", p="1 2"), "S1 S2"),
    "a folder of data": (each("data/sub{p}/ses{s}/rec.edf", p="1 2", s="1 2"), "sub1 sub2"),
    "a folder of edf": (each("edf/{p}/{c}.edf", p="anna bert", c="open closed"), "anna bert"),
    "a named folder of people": (each("my study/p{p}/rest.edf", p="01 02"), "p01 p02"),
    "TUSZ": (
        ["edf/train/aab/s001_2003/01_tcp_ar/aab_s001_t000.edf", "edf/dev/aac/s001_2004/01_tcp_ar/aac_s001_t000.edf"],
        "aab aac",
    ),
    "TUEG": (
        [
            *each("edf/000/{p}/{s}_2003/01_tcp_ar/{p}_{s}_t000.edf", p="aab aac", s="s001 s002"),
            *each("edf/001/{p}/{s}_2003_01_02/01_tcp_ar/{p}_{s}_t000.edf", p="aad aae", s="s001 s002"),
        ],
        "aab aac aad aae",
    ),
    "groups and numbers": (
        ["CTL_01.edf", "PAT_02.edf", "CTL_03.edf", "PAT_04.edf"],
        "CTL_01 PAT_02 CTL_03 PAT_04",
    ),
    "groups and numbers that repeat": (each("{g}_{p}.edf", g="HC MDD", p="01 02"), "HC_01 HC_02 MDD_01 MDD_02"),
    "groups, numbers and a condition": (["CTL-01-rest.edf", "PAT-02-rest.edf", "CTL-03-rest.edf"], None),
    "a study and numbers": (each("STUDY_2021_{p}.edf", p="001 002"), "STUDY_2021_001 STUDY_2021_002"),
    "TUH": (each("{p}/{s}_2003_01_02/{p}_{s}_t000.edf", p="aab aac", s="s001 s002"), "aab aac"),
    "recordings of one person": (each("anna/{c}.edf", c="memory1 memory2"), "anna"),
    "seizures of one person": (each("anna/sz{n}.edf", n="1 2 3"), "anna"),
    "a letter in people like visits": (each("{v}/a.edf", v="W1 W2"), "W1 W2"),
    "a condition and people": (each("rest_p{p}.edf", p="01 02"), "rest_p01 rest_p02"),
    "visits of one letter, which may be people": (each("{v}/{c}.edf", v="T01 T02", c="rest task"), "T01 T02"),
    "runs of people like visits": (each("{v}/run{r}.edf", v="V01 V02 W03", r="1 2"), "V01 V02 W03"),
    "days in people": (each("{p}/{d}.edf", p="anna bert", d="20240101 20240102"), "anna bert"),
    "groups with numbers": (["control1/rest.edf", "control2/rest.edf", "patient1/rest.edf"], None),
    "conditions with numbers in people": (each("{p}/level{n}.edf", p="anna bert", n="1 2"), "anna bert"),
    "a site around people": (each("site1/{p}/{c}.edf", p="p01 p02", c="rest task"), "p01 p02"),
    "seizures of people": (each("{p}/sz{n}.edf", p="chb01 chb02", n="1 2 3"), "chb01 chb02"),
    "sessions above people with sub": (each("{v}/sub-{p}_eeg.edf", v="T1 T2", p="1 2"), "sub-1 sub-2"),
    "people in dates, with their names": (each("P{p}/P{p}_2023-01-05.edf", p="1 2"), "P1 P2"),
    "words": (["cap_n1.edf", "cap_n2.edf"], "cap_n1 cap_n2"),
}  # fmt: skip

REFUSED = {
    "visits above folders of people": (each("{v}/{p}/rest.edf", v="T1 T2", p="S1 S2 S3"), "S1 S2 S3"),
    "visits above people": (each("{v}/{p}.edf", v="baseline week4", p="S1 S2 S3"), "S1 S2 S3"),
    "visits above names": (each("{v}/{p}.edf", v="T1 T2", p="anna bert"), "anna bert"),
    "SHHS": (each("edfs/{v}/{v}-{p}.edf", v="shhs1 shhs2", p="200001 200002 200003"), "200001 200002 200003"),
    "SHHS, a level less": (each("{v}/{v}-{p}.edf", v="shhs1 shhs2", p="200001 200002"), "200001 200002"),
    "SEED-IV": (
        ["1/1_20160518.edf", "1/2_20160519.edf", "2/1_20161125.edf", "2/2_20161126.edf"],
        "1 2",
    ),
    "years above people": (each("{v}/{p}.edf", v="2023 2024", p="anna bert"), "anna bert"),
    "short dates above people": (each("{v}/{p}.edf", v="230105 230207 230309", p="P01 P02"), "P01 P02"),
    "weekdays above people": (each("{v}/{p}.edf", v="Mon Tue", p="P01 P02"), "P01 P02"),
    "weekdays above numbers": (each("{v}/{p}.edf", v="pre_training post_training", p="1001 1002"), "1001 1002"),
    "experiments above people": (each("{v}/{p}/rest.edf", v="exp1 exp2", p="S1 S2"), "S1 S2"),
    "sites above people": (["site1/P01.edf", "site1/P02.edf", "site2/P03.edf"], "P01 P02 P03"),
    "unknown folders with numbers above people": (each("{v}/{p}.edf", v="X1 X2", p="S1 S2 S3"), "S1 S2 S3"),
    "visits before people": (each("{v}_{p}.edf", v="week4 baseline", p="P01 P02"), "P01 P02"),
    "visits with letters before people": (each("{v}_{p}.edf", v="T1 T2", p="S1 S2"), "S1 S2"),
    "people before conditions with numbers": (each("{v}_oddball{p}.edf", v="V01 V02", p="1 2"), "V01 V02"),
    "people before runs": (each("{v}_{p}.edf", v="T01 T02", p="1 2"), "T01 T02"),
    "before and after": (each("{v}/P{p}_{v}.edf", v="pre post", p="1 2"), "P1 P2"),
    "groups, dates and people": (
        ["control/2023-01-05/P01/eeg.edf", "control/2023-02-07/P02/eeg.edf", "patient/2023-01-05/P03/eeg.edf"],
        "P01 P02 P03",
    ),
    "TUAB": (
        each("{part}/normal/01_tcp_ar/{p}_{s}_t000.edf", part="train", p="aab aac", s="s001 s002")
        + each("{part}/abnormal/01_tcp_ar/{p}_{s}_t000.edf", part="eval", p="aad aae", s="s001 s002"),
        "aab aac aad aae",
    ),
    "parts of groups": (
        ["ADHD_part1/v10p.edf", "ADHD_part1/v12p.edf", "ADHD_part2/v231.edf", "Control_part1/v107.edf"],
        "v10p v12p v231 v107",
    ),
    "train and test": (each("{part}/{p}.edf", part="train test", p="1 2 3"), "1 2 3"),
    "Sleep-EDF": (
        ["sleep-cassette/SC4001E0-PSG.edf", "sleep-cassette/SC4002E0-PSG.edf", "sleep-cassette/SC4011E0-PSG.edf",
         "sleep-telemetry/ST7011J0-PSG.edf", "sleep-telemetry/ST7012J0-PSG.edf"],
        "SC400 SC401 ST701",
    ),
    "a part of Sleep-EDF": (
        ["sleep-cassette/SC4001E0-PSG.edf", "sleep-cassette/SC4002E0-PSG.edf", "sleep-cassette/SC4011E0-PSG.edf"],
        "SC400 SC401",
    ),
    "dates before people": (each("{d}_{p}.edf", d="2023-01-05 2023-02-07", p="P01 P02"), "P01 P02"),
    "days before people": (each("{d}_{p}.edf", d="20230105 20230207", p="anna bert"), "anna bert"),
    "conditions before people": (
        each("{c}_sub_{p}_trial{t}.edf", c="Arithmetic Relax", p="1 2 3", t="1 2"),
        "sub_1 sub_2 sub_3",
    ),
    "groups, people and conditions": (
        [f"{g} S{p} {c}.edf" for g in ("H", "MDD") for p in (1, 2) for c in ("EC", "EO")],
        "H S1,H S2,MDD S1,MDD S2",
    ),
    "BCI IV 2a": (each("A{p}{s}.edf", p="01 02 03", s="T E"), "A01 A02 A03"),
    "BCI IV 2b": (each("B{p}{s}.edf", p="01 02 03", s="01T 02T 03T 04E 05E"), "B01 B02 B03"),
    "two recordings of a person": (each("P{p}_{v}.edf", p="1 2", v="pre post"), "P1 P2"),
}  # fmt: skip


@pytest.mark.parametrize("layout", READ)
def test_people_are_read(layout: str) -> None:
    files, expected = READ[layout]
    found = people(files)
    if expected is None:
        assert len(set(found)) == len({file.split("/")[0] for file in files})
    else:
        assert set(found) == set(expected.split())


@pytest.mark.parametrize("layout", REFUSED)
def test_people_are_offered(layout: str) -> None:
    files, expected = REFUSED[layout]
    with pytest.raises(UserError) as caught:
        people(files)
    (line,) = caught.value.lines
    patterns = re.findall(r"--subject-pattern ('.*?'|\S+)", line)
    right = set(expected.split(",") if "," in expected else expected.split())
    found = people(files, SubjectRule(pattern=shlex.split(patterns[0])[0].rstrip(",")))
    assert set(found) == right
    if "--label folder" in line:
        assert set(people(files, label=True)) == right


@pytest.mark.parametrize(
    "files",
    [
        each("{d}/{c}.edf", d="2023-01-05 2023-02-07", c="rest task"),
        each("{d}/{c}.edf", d="2023-01-05 2023-02-07", c="1 2"),
        each("rec_2023_05_{d}.edf", d="01 02 03"),
        each("2023-05-{d}.edf", d="01 02 03"),
    ],
)
def test_dates_are_nobody(files: list[str]) -> None:
    with pytest.raises(UserError, match=f"{len(files)} files name no person"):
        people(files)


VISITS = (
    "T1 T2", "baseline week4", "pre post", "Day1 Day2", "2023-01-05 2023-02-07", "20230105 20230207", "2023 2024",
    "230105 230207", "Mon Tue", "V1 V2", "wave_1 wave_2", "EO EC", "session_1 session_2", "Session1_pre Session2_post",
)  # fmt: skip
PEOPLE = ("P01,P02,P03", "S1,S2,S3", "sub01,sub02,sub03", "anna,bert,carl", "VP001,VP002,VP003", "H01,H02,H03")
FORMS = ("{v}/{p}.edf", "{v}/{p}/rest.edf", "{v}/{p}_{v}.edf", "{v}/{v}_{p}.edf", "{p}/{v}.edf", "{p}/{v}/rest.edf",
         "{p}/{p}_{v}.edf", "{p}_{v}.edf", "{v}_{p}.edf", "data/{v}/{p}_rest.edf", "data/{p}/{v}.edf")  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("visits", VISITS)
def test_no_person_is_two_whatever_visits_and_people_are_called(form: str, visits: str) -> None:
    """The layout is read right, or refused with an option that reads it right."""
    for names in PEOPLE:
        person_of = {form.format(v=visit, p=name): name for visit in visits.split() for name in names.split(",")}
        files = list(person_of)
        try:
            readings = [people(files)]
        except UserError as error:
            patterns = re.findall(r"--subject-pattern ('.*?'|\S+)", str(error))
            rules = [SubjectRule(pattern=shlex.split(pattern)[0].rstrip(",")) for pattern in patterns]
            readings = [people(files, rule) for rule in rules]
        pairs = [set(zip(person_of.values(), reading, strict=True)) for reading in readings]
        assert any(len(found) == 3 == len({person for _, person in found}) for found in pairs), names
