import json
from pathlib import Path

import pytest

from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.data.preparing.splitting import (
    SPLITS_NAME,
    read_splits,
    split_groups,
    split_subjects,
    write_splits,
)
from signal_diffusion.errors import UserError


def test_splits_are_stratified_and_complete():
    strata = {f"s{i}": "patient" if i % 4 == 0 else "control" for i in range(40)}
    for seed in range(20):
        splits = split_subjects(strata, (0.8, 0.1, 0.1), seed)
        assert set(splits) == set(strata)
        for split, size in {"train": 32, "validation": 4, "test": 4}.items():
            members = [strata[subject] for subject in strata if splits[subject] == split]
            assert len(members) == size
            assert abs(members.count("patient") - size / 4) <= 1


@pytest.mark.parametrize(("num_subjects", "sizes"), [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (10, (8, 1, 1))])
def test_few_subjects_fill_training_first(num_subjects: int, sizes: tuple[int, ...]):
    splits = split_subjects({f"s{i}": "" for i in range(num_subjects)}, (0.8, 0.1, 0.1), 0)
    assert tuple(list(splits.values()).count(split) for split in ("train", "validation", "test")) == sizes


@pytest.mark.parametrize(
    ("num_subjects", "shares"), [(3, (0.05, 0.9, 0.05)), (4, (0.1, 0.8, 0.1)), (5, (0.1, 0.1, 0.8))]
)
def test_no_split_with_a_share_is_empty(num_subjects: int, shares: tuple[float, float, float]):
    splits = split_subjects({f"s{i}": "" for i in range(num_subjects)}, shares, 0)
    assert set(splits.values()) == {"train", "validation", "test"}


def test_families_stay_together():
    strata = {f"s{i}": "patient" if i % 4 == 0 else "control" for i in range(60)}
    families = {f"s{i}": f"family {i // 3}" if i < 45 else None for i in range(60)}
    for seed in range(10):
        splits = split_groups(strata, families, (0.6, 0.2, 0.2), seed)
        assert set(splits) == set(strata)
        for family in range(15):
            assert len({splits[f"s{3 * family + member}"] for member in range(3)}) == 1
        assert len({splits[f"s{i}"] for i in range(45, 60)}) > 1


def test_without_groups_subjects_are_assigned_individually():
    strata = {f"s{i}": "" for i in range(20)}
    splits = split_groups(strata, {}, (0.8, 0.1, 0.1), 3)
    assert sorted(splits.values()).count("train") == 16


def test_splits_file_round_trips(tmp_path: Path):
    write_splits(tmp_path, {"train": ["b", "a"], "test": ["c"]})
    expected = {"a": "train", "b": "train", "c": "test"}
    assert read_splits(tmp_path) == read_splits(tmp_path / SPLITS_NAME) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "missing; expected a dataset made by"),
        ("{", "cannot be read"),
        ("[]", "cannot be read .should be an object"),
        (json.dumps({"train": ["a"], "dev": ["b"]}), "expected lists of subjects under train, validation, test"),
        (json.dumps({"train": ["a", 3]}), "train.1: should be a valid string, found 3"),
        (json.dumps({"train": ["a", "b"], "test": ["b"]}), "b listed twice"),
    ],
)
def test_an_invalid_splits_file_is_a_one_line_error(tmp_path: Path, text: str | None, complaint: str):
    path = tmp_path / "splits.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=complaint) as caught:
        read_splits(path)
    assert len(caught.value.lines) == 1 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("people", "shares", "expected"),
    [
        (1, (0.8, 0.1, 0.1), ("validation and test", "1 subject", "1 0 0")),
        (2, (0.8, 0.1, 0.1), ("test", "2 subjects", "0.5 0.5 0")),
        (2, (0.5, 0.5, 0.0), None),
        (1, (1.0, 0.0, 0.0), None),
        (3, (0.8, 0.1, 0.1), None),
    ],
)
def test_a_split_that_stays_empty_is_one_line(
    people: int,
    shares: tuple[float, float, float],
    expected: tuple[str, str, str] | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    options = SyntheticOptions(num_subjects=people, num_windows=1, splits=shares)
    prepare_synthetic(tmp_path / "out", "timeseries", options)
    lines = [
        f"{splits}: no examples, because {who} with usable windows cannot be divided into 3 splits; add recordings of "
        f"other people, or leave out empty splits: --splits {remedy}"
        for splits, who, remedy in ([expected] if expected else [])
    ]
    assert caplog.messages == lines
