import shutil
import subprocess
import sys
from pathlib import Path

import mne
import numpy as np
import pytest

from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.overview import describe
from signal_diffusion.data.preparing import building
from signal_diffusion.data.preparing.prepare import PrepareOptions, SyntheticOptions, prepare, prepare_synthetic
from signal_diffusion.errors import UserError
from tests.data.preparing.options import OPTIONS

TINY = SyntheticOptions(num_subjects=3, num_windows=1, window=256)


def write_eeg(path: Path, microvolts: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = mne.io.RawArray(microvolts * 1e-6, mne.create_info(["Fz", "Cz", "Pz"], 125.0, "eeg"), verbose="ERROR")
    mne.export.export_raw(path, raw, physical_range=(-3000, 3000), overwrite=True, verbose="ERROR")


def eeg(seed: int, seconds: int = 8) -> np.ndarray:
    return 20 * np.random.default_rng(seed).standard_normal((3, 125 * seconds))


@pytest.fixture(scope="session")
def ten_subjects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bids") / "ten_subjects"
    lines = ["participant_id\tage\tsex\tgroup"]
    for subject in range(10):
        for number, task in enumerate(("rest", "work")):
            name = f"sub-{subject:02d}_task-{task}_eeg.edf"
            write_eeg(root / f"sub-{subject:02d}" / "eeg" / name, eeg(10 * subject + number))
        age = "n/a" if subject == 3 else str(20 + subject)
        lines.append(f"sub-{subject:02d}\t{age}\t{'F' if subject < 6 else 'M'}\t{'ab'[subject % 2]}")
    (root / "participants.tsv").write_text("\n".join(lines) + "\n")
    (root / "dataset_description.json").write_text('{"Name": "Ten subjects", "License": "CC0"}')
    return root


@pytest.fixture
def bids(ten_subjects: Path, tmp_path: Path) -> Path:
    """Copy of ten subjects at rest and at work, six of them women; the age of sub-03 is unknown."""
    return Path(shutil.copytree(ten_subjects, tmp_path / "ten_subjects"))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_each_subject_is_in_exactly_one_split(bids: Path, tmp_path: Path):
    card = prepare([bids], tmp_path / "out", OPTIONS)
    subjects = [subject for split in card.splits.values() for subject in split["subjects"]]
    assert sorted(subjects) == [f"sub-{subject:02d}" for subject in range(10)]
    assert [len(split["subjects"]) for split in card.splits.values()] == [8, 1, 1]


def test_preparing_twice_writes_the_same_bytes(bids: Path, tmp_path: Path):
    prepare([bids], tmp_path / "one", OPTIONS)
    prepare([bids], tmp_path / "two", OPTIONS)
    first = contents(tmp_path / "one")
    assert first == contents(tmp_path / "two")
    prepare([bids], tmp_path / "one", OPTIONS)  # replaces the first
    assert first == contents(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "ten_subjects", "two"]


def test_another_seed_gives_other_splits(bids: Path, tmp_path: Path):
    cards = [
        prepare([bids], tmp_path / str(seed), PrepareOptions(channels="Fz,Cz,Pz", window=256, seed=seed))
        for seed in range(3)
    ]
    assert len({card.splits["test"]["subjects"][0] for card in cards}) > 1


def test_statistics_depend_only_on_the_training_split(bids: Path, tmp_path: Path):
    card = prepare([bids], tmp_path / "one", OPTIONS)
    for seed, split in ((98, "validation"), (99, "test")):
        (subject,) = card.splits[split]["subjects"]
        write_eeg(bids / subject / "eeg" / f"{subject}_task-rest_eeg.edf", 5 * eeg(seed))
    other = prepare([bids], tmp_path / "two", OPTIONS)
    assert other.representation == card.representation
    assert other.files["test/00000.parquet"] != card.files["test/00000.parquet"]
    subject = card.splits["train"]["subjects"][0]
    write_eeg(bids / subject / "eeg" / f"{subject}_task-rest_eeg.edf", 5 * eeg(97))
    assert prepare([bids], tmp_path / "three", OPTIONS).representation != card.representation


def test_age_statistics_are_of_training_examples_and_age_may_be_unknown(bids: Path, tmp_path: Path):
    card = prepare([bids], tmp_path / "out", OPTIONS)
    ages = [20 + int(subject[-2:]) for subject in card.splits["train"]["subjects"] if subject != "sub-03"]
    assert card.columns["age"] == {
        "kind": "numeric",
        "mean": np.mean(ages),
        "std": pytest.approx(np.std(ages)),
    }
    rows = [row for split in card.splits for row in open_split(tmp_path / "out", split).remove_columns("image")]
    assert {row["age"] for row in rows if row["subject"] == "sub-03"} == {None}
    assert {row["age"] for row in rows if row["subject"] == "sub-04"} == {24.0}


def test_attributes_and_labels_come_from_the_bids_folder(bids: Path, tmp_path: Path):
    card = prepare([bids], tmp_path / "out", OPTIONS)
    assert card.columns["label"]["names"] == ["rest", "work"]
    assert card.columns["gender"]["names"] == ["female", "male"]
    assert card.columns["health"]["names"] == ["a", "b"]
    assert card.sources == [{"name": "ten_subjects", "license": "CC0", "description": "Ten subjects"}]
    assert "license: cc0-1.0" in (tmp_path / "out" / "README.md").read_text()


def test_label_can_be_a_column_of_participants_tsv(bids: Path, tmp_path: Path):
    by_group = PrepareOptions(channels="Fz,Cz,Pz", window=256, label="group", splits=(0.6, 0.2, 0.2))
    card = prepare([bids], tmp_path / "out", by_group)
    assert card.columns["label"]["names"] == ["a", "b"]
    assert all(len(split["marginals"]["label"]) == 2 for split in card.splits.values())  # stratified
    wrong = PrepareOptions(channels="Fz,Cz,Pz", window=256, label="grup")
    with pytest.raises(
        UserError,
        match=r"no column 'grup'; use task, .*, annotation, or one of: age, group",
    ):
        prepare([bids], tmp_path / "out2", wrong)


def test_flat_and_large_windows_are_counted_in_the_card(bids: Path, tmp_path: Path):
    flat, large = eeg(0), eeg(1)
    flat[1, :250] = 0  # of the windows at 0, 128, … 640, affects those at 0 and 128
    large[2, 700] = 2000  # affects those at 512 and 640
    write_eeg(bids / "sub-00" / "eeg" / "sub-00_task-rest_eeg.edf", flat)
    write_eeg(bids / "sub-01" / "eeg" / "sub-01_task-rest_eeg.edf", large)
    card = prepare([bids], tmp_path / "out", OPTIONS)
    assert card.rejected == {"flat": 2, "amplitude": 2, "annotation": 0, "unlabelled": 0}
    assert sum(split["windows"] for split in card.splits.values()) == 20 * 6 - 4


def test_a_bad_file_is_an_error_unless_skipped(bids: Path, tmp_path: Path):
    bad = bids / "sub-00" / "eeg" / "sub-00_task-rest_eeg.edf"
    bad.write_bytes(b"")
    with pytest.raises(UserError, match=r"sub-00_task-rest_eeg\.edf: the file is empty"):
        prepare([bids], tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()
    skipping = PrepareOptions(channels="Fz,Cz,Pz", window=256, skip_bad=True)
    card = prepare([bids], tmp_path / "out", skipping)
    assert card.skipped == ["sub-00/eeg/sub-00_task-rest_eeg.edf: the file is empty; fetch it again"]
    assert sum(split["windows"] for split in card.splits.values()) == 19 * 6


def test_recordings_without_windows_are_reported_with_the_reason(
    bids: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    flat = eeg(0)
    flat[1, :950] = 0
    for task in ("rest", "work"):
        write_eeg(bids / "sub-00" / "eeg" / f"sub-00_task-{task}_eeg.edf", flat)
    card = prepare([bids], tmp_path / "out", OPTIONS)
    why = "no window is left (6 flat)"
    names = [f"sub-00/eeg/sub-00_task-{task}_eeg.edf: {why}" for task in ("rest", "work")]
    assert card.skipped == names
    assert f"2 of 20 recordings have no usable window: {', '.join(names)}" in caplog.text
    rows = describe(DatasetCard.load(tmp_path / "out"))
    assert rows[-3:] == [("recordings without examples", "2"), ("", names[0]), ("", names[1])]


def test_subjects_of_two_inputs_are_distinct(bids: Path, tmp_path: Path):
    bids.rename(tmp_path / "first")
    write_eeg(tmp_path / "second" / "sub-00.edf", eeg(7))
    write_eeg(tmp_path / "second" / "sub-01.edf", eeg(7) * 100)
    card = prepare([tmp_path / "first", tmp_path / "second"], tmp_path / "out", OPTIONS)
    assert card.skipped == ["second/sub-01.edf: no window is left (6 amplitude)"]
    subjects = {subject for split in card.splits.values() for subject in split["subjects"]}
    assert {"first/sub-00", "second/sub-00"} < subjects
    assert card.columns["dataset"]["names"] == ["first", "second"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"band": (0.5, 70.0)}, "band: 0.5 to 70 Hz"),
        ({"notch": (100.0,)}, "notch"),
        ({"overlap": 1.0}, "overlap"),
        ({"splits": (0.5, 0.1, 0.1)}, "splits"),
        ({"rate": 0.0}, "rate"),
    ],
)
def test_an_option_out_of_range_is_a_one_line_error(changes: dict, complaint: str):
    with pytest.raises(UserError, match=complaint):
        PrepareOptions(**changes)


def test_an_existing_output_is_an_error_and_is_not_touched(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match="exists, but is not a dataset"):
        prepare_synthetic(tmp_path / "mine", "db-only", TINY)
    assert contents(tmp_path / "mine") == {"thesis.txt": b"all of it"}
    prepare_synthetic(tmp_path / "made", "db-only", TINY)
    before = contents(tmp_path / "made")
    with pytest.raises(UserError, match="made from other recordings or with other options"):
        prepare_synthetic(tmp_path / "made", "db-only", SyntheticOptions(num_subjects=4, num_windows=1, window=256))
    assert contents(tmp_path / "made") == before


def test_an_interrupted_command_leaves_only_the_old_dataset(tmp_path: Path, monkeypatch):
    prepare_synthetic(tmp_path / "old", "db-only", TINY)
    before = contents(tmp_path / "old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "write_readme", interrupt)
    for name in ("old", "new"):
        with pytest.raises(KeyboardInterrupt):
            prepare_synthetic(tmp_path / name, "db-only", TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert contents(tmp_path / "old") == before


@pytest.mark.slow
def test_a_killed_command_leaves_no_dataset_and_the_next_one_completes_it(tmp_path: Path):
    killed = f"""
import os, signal
from pathlib import Path
from signal_diffusion.data.preparing import prepare
from signal_diffusion.data.preparing import building
building.write_readme = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
tiny = prepare.SyntheticOptions(num_subjects=3, num_windows=1)
prepare.prepare_synthetic(Path({str(tmp_path / "out")!r}), "db-only", tiny)
"""
    assert subprocess.run([sys.executable, "-c", killed]).returncode == -9
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob(CARD_NAME))
    prepare_synthetic(tmp_path / "out", "db-only", TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_split_share_of_zero_omits_the_split(bids: Path, tmp_path: Path):
    options = PrepareOptions(channels="Fz,Cz,Pz", window=256, splits=(0.9, 0.1, 0.0))
    assert list(prepare([bids], tmp_path / "out", options).splits) == ["train", "validation"]


@pytest.mark.real_data
def test_eegmat_can_be_prepared(real_data: Path, tmp_path: Path):
    few = tmp_path / "eegmat"
    few.mkdir()
    for name in ("participants.tsv", "dataset_description.json", "sub-00", "sub-01", "sub-02"):
        (few / name).symlink_to(real_data / "eegmat" / name)
    card = prepare([few], tmp_path / "out", PrepareOptions())
    assert [len(split["subjects"]) for split in card.splits.values()] == [1, 1, 1]
    # Recordings of 182 s and 62 s have 21 and 6 windows at half overlap.
    assert sum(split["windows"] for split in card.splits.values()) + sum(card.rejected.values()) == 3 * (21 + 6)
    assert set(card.splits["train"]["marginals"]["label"]) == {"arithmetic", "rest"}
    assert -60 < card.representation["parameters"]["db_min"] < -20
    assert 15 < card.representation["parameters"]["db_max"] < 45
