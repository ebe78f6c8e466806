"""What `prepare` makes of its options: subject tables, labels, captions, others' splits, layouts, workers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.prepare import PrepareOptions, SyntheticOptions, prepare, prepare_synthetic
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import PictureOptions
from signal_diffusion.errors import UserError

OPTIONS = PrepareOptions(channels="Fz,Cz,Pz", window=256, splits=(0.6, 0.2, 0.2))


def write_eeg(path: Path, seed: int, annotations: mne.Annotations | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    microvolts = 20 * np.random.default_rng(seed).standard_normal((3, 125 * 16))
    raw = mne.io.RawArray(microvolts * 1e-6, mne.create_info(["Fz", "Cz", "Pz"], 125.0, "eeg"), verbose="ERROR")
    if annotations is not None:
        raw.set_annotations(annotations)
    mne.export.export_raw(path, raw, physical_range=(-300, 300), overwrite=True, verbose="ERROR")


@pytest.fixture(scope="session")
def six_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder with a folder per person, and a table beside it."""
    root = tmp_path_factory.mktemp("plain") / "lab"
    table = ["id;Sex;Age;diagnosis;site;score"]
    for number in range(6):
        write_eeg(root / f"p{number}" / "one.edf", number)
        cells = (f"p{number}", "FM"[number > 3], 20 + number, "ok" if number % 2 else "", "xy"[number > 2], number / 2)
        table.append(";".join(map(str, cells)))
    (root.parent / "people.csv").write_text("\n".join(table) + "\n")
    return root


def rows_of(root: Path) -> list[dict]:
    card = DatasetCard.load(root)
    tensor = card.representation["column"]
    return [row for split in card.splits for row in open_split(root, split).remove_columns(tensor)]


def test_a_table_of_subjects_gives_attributes_labels_and_further_columns(six_people: Path, tmp_path: Path):
    table = six_people.parent / "people.csv"
    card = prepare([six_people], tmp_path / "out", replace(OPTIONS, subjects=table, label="site"))
    assert card.columns["label"] == {"kind": "categorical", "names": ["x", "y"]}
    assert card.columns["gender"]["names"] == ["female", "male"]
    assert card.columns["health"]["names"] == ["ok"]
    assert card.columns["site"] == {"kind": "categorical", "names": ["x", "y"]}
    assert card.columns["score"]["kind"] == "numeric"
    [row] = [row for row in rows_of(tmp_path / "out") if row["subject"] == "p4" and row["window"] == 0][:1]
    assert (row["gender"], row["age"], row["health"], row["site"], row["score"]) == ("male", 24.0, None, "y", 2.0)


def test_a_person_without_a_row_is_one_line(six_people: Path, tmp_path: Path):
    table = tmp_path / "people.csv"
    table.write_text("id,sex\np0,F\n")
    with pytest.raises(UserError, match=r"people\.csv: has no row for p1, p2, p3, p4, p5; add them"):
        prepare([six_people], tmp_path / "out", replace(OPTIONS, subjects=table))


def test_captions_say_what_is_known(six_people: Path, tmp_path: Path):
    table = six_people.parent / "people.csv"
    card = prepare([six_people], tmp_path / "one", replace(OPTIONS, subjects=table))
    assert "[ {age} year old]" in card.captions
    captions = {row["subject"]: row["caption"] for row in rows_of(tmp_path / "one")}
    assert captions["p1"] == "an EEG spectrogram of an ok 21 year old female subject"
    assert captions["p4"] == "an EEG spectrogram of a 24 year old male subject"
    own = replace(OPTIONS, subjects=table, captions="EEG of {site}")
    prepare([six_people], tmp_path / "two", own)
    assert {row["caption"] for row in rows_of(tmp_path / "two")} == {"EEG of x", "EEG of y"}
    assert "caption" not in prepare([six_people], tmp_path / "three", replace(OPTIONS, captions="")).columns
    with pytest.raises(UserError, match="there is no sex to put in"):
        prepare([six_people], tmp_path / "four", replace(OPTIONS, captions="{sex}"))


def test_the_people_of_one_dataset_keep_their_splits_in_another(six_people: Path, tmp_path: Path):
    first = prepare([six_people], tmp_path / "pictures", replace(OPTIONS, seed=3))
    series = replace(
        OPTIONS, representation="timeseries", splits=PrepareOptions.splits, splits_from=tmp_path / "pictures"
    )
    second = prepare([six_people], tmp_path / "series", series)
    subjects = [[split["subjects"] for split in card.splits.values()] for card in (first, second)]
    assert subjects[0] == subjects[1]
    assert (tmp_path / "series" / "splits.json").read_bytes() == (tmp_path / "pictures" / "splits.json").read_bytes()


def test_people_who_are_not_in_the_file_of_splits_are_named(six_people: Path, tmp_path: Path):
    (tmp_path / "splits.json").write_text('{"train": ["p0", "p1", "p2", "p3"]}')
    with pytest.raises(UserError, match="has no p4, p5; leave these people out"):
        prepare(
            [six_people],
            tmp_path / "out",
            replace(OPTIONS, splits=PrepareOptions.splits, splits_from=tmp_path / "splits.json"),
        )
    assert not (tmp_path / "out").exists()


def test_a_site_is_never_in_two_splits(six_people: Path, tmp_path: Path):
    table = six_people.parent / "people.csv"
    options = replace(OPTIONS, subjects=table, split_by="site", splits=(0.5, 0.5, 0.0))
    card = prepare([six_people], tmp_path / "out", options)
    groups = [set(split["subjects"]) for split in card.splits.values()]
    assert sorted(map(sorted, groups)) == [["p0", "p1", "p2"], ["p3", "p4", "p5"]]
    with pytest.raises(UserError, match="split_by: people are never in two splits"):
        prepare([six_people], tmp_path / "out2", replace(OPTIONS, split_by="window"))


def test_windows_are_labelled_by_the_annotation_that_covers_most_of_them(tmp_path: Path):
    # Windows of 2.048 s, every 1.024 s: eyes closed from 0 to 6 s, open until 12 s, then movement.
    annotations = mne.Annotations([0, 6, 12], [6, 6, 1], ["closed", "open", "BAD_movement"])
    for name in ("a", "b", "c"):
        write_eeg(tmp_path / "in" / f"{name}.edf", ord(name), annotations)
    card = prepare([tmp_path / "in"], tmp_path / "out", replace(OPTIONS, label="annotation"))
    assert card.columns["label"]["names"] == ["closed", "open"]
    labels = {row["window"]: row["label"] for row in rows_of(tmp_path / "out")}
    assert {window: ["closed", "open"][label] for window, label in labels.items()} == {
        0: "closed", 1: "closed", 2: "closed", 3: "closed", 4: "closed",
        5: "open", 6: "open", 7: "open", 8: "open", 9: "open",
    }  # fmt: skip
    # Of 14 windows, 10 to 12 touch the movement, and nothing is said of the last one.
    assert card.rejected == {"flat": 0, "amplitude": 0, "annotation": 9, "unlabelled": 3}
    chosen = prepare([tmp_path / "in"], tmp_path / "some", replace(OPTIONS, label="annotation:open"))
    assert chosen.columns["label"]["names"] == ["open"]
    with pytest.raises(UserError, match="annotations are: BAD_movement, closed, open"):
        prepare([tmp_path / "in"], tmp_path / "none", replace(OPTIONS, label="annotation:asleep"))


def test_the_label_can_be_the_folder(tmp_path: Path):
    for label in ("rest", "work"):
        for person in ("a", "b", "c"):
            write_eeg(tmp_path / "in" / label / f"{person}.edf", ord(person))
    card = prepare([tmp_path / "in"], tmp_path / "out", replace(OPTIONS, label="folder"))
    assert card.columns["label"]["names"] == ["rest", "work"]
    assert sorted(subject for split in card.splits.values() for subject in split["subjects"]) == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"label: a\.edf lies in no folder"):
        prepare([tmp_path / "in" / "rest"], tmp_path / "none", replace(OPTIONS, label="folder"))


def test_workers_make_the_same_dataset_and_tell_of_the_same_files(six_people: Path, tmp_path: Path):
    shutil.copytree(six_people, tmp_path / "lab")
    (tmp_path / "lab" / "p2" / "one.edf").write_bytes(b"")
    options = replace(OPTIONS, skip_bad=True)
    card = prepare([tmp_path / "lab"], tmp_path / "one", options)
    assert prepare([tmp_path / "lab"], tmp_path / "two", replace(options, workers=2)) == card
    assert card.skipped == ["p2/one.edf"]
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("name", ["db-only", "db-iq", "db-polar"])
def test_a_mosaic_has_one_picture_per_window(tmp_path: Path, name: str):
    pictures = PictureOptions(layout="mosaic", size=64)
    card = prepare_synthetic(tmp_path / "out", name, SyntheticOptions(num_subjects=3, num_windows=2, pictures=pictures))
    assert card.shape[1:] == (64, 64)
    assert card.representation["layout"] == "mosaic" and card.representation["inverse"] == "none"
    assert "electrode" not in card.columns
    assert all(split["examples"] == split["windows"] for split in card.splits.values())
    assert representation_of(card).parameters() == card.representation["parameters"]
    assert "--layout mosaic --picture-size 64 --frequency linear" in card.command


def test_two_inputs_of_one_name_are_refused(six_people: Path, tmp_path: Path):
    shutil.copytree(six_people, tmp_path / "other" / "lab")
    with pytest.raises(UserError, match="two inputs are named 'lab'"):
        prepare([six_people, tmp_path / "other" / "lab"], tmp_path / "out", OPTIONS)


def test_a_representation_that_cannot_be_is_told_before_anything_is_read(six_people: Path, tmp_path: Path):
    shutil.copytree(six_people, tmp_path / "lab")
    (tmp_path / "lab" / "p0" / "one.edf").write_bytes(b"")
    with pytest.raises(UserError, match="window: 250 samples do not make whole columns"):
        prepare([tmp_path / "lab"], tmp_path / "out", replace(OPTIONS, window=250))
