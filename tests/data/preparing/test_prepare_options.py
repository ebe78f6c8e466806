"""Options of `prepare`: subject tables, labels, captions, reused splits, layouts, workers."""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.preparing.prepare import PrepareOptions, SyntheticOptions, prepare, prepare_synthetic
from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import PictureOptions
from signal_diffusion.data.verification.checks import check_dataset
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
def six_subjects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder with a folder per subject, and a subject table next to it."""
    root = tmp_path_factory.mktemp("plain") / "lab"
    table = ["id;Sex;Age;diagnosis;site;score"]
    for number in range(6):
        write_eeg(root / f"p{number}" / "one.edf", number)
        cells = (f"p{number}", "FM"[number > 3], 20 + number, "ok" if number % 2 else "", "xy"[number > 2], number / 2)
        table.append(";".join(map(str, cells)))
    (root.parent / "subjects.csv").write_text("\n".join(table) + "\n")
    return root


def rows_of(root: Path) -> list[dict]:
    card = DatasetCard.load(root)
    tensor = card.representation["column"]
    return [row for split in card.splits for row in open_split(root, split).remove_columns(tensor)]


def test_subject_table_gives_attributes_labels_and_extra_columns(six_subjects: Path, tmp_path: Path):
    table = six_subjects.parent / "subjects.csv"
    card = prepare([six_subjects], tmp_path / "out", replace(OPTIONS, subjects=table, label="site"))
    assert card.columns["label"] == {"kind": "categorical", "names": ["x", "y"]}
    assert card.columns["gender"]["names"] == ["female", "male"]
    assert card.columns["health"]["names"] == ["ok"]
    assert card.columns["site"] == {"kind": "categorical", "names": ["x", "y"]}
    assert card.columns["score"]["kind"] == "numeric"
    [row] = [row for row in rows_of(tmp_path / "out") if row["subject"] == "p4" and row["window"] == 0][:1]
    assert (row["gender"], row["age"], row["health"], row["site"], row["score"]) == ("male", 24.0, None, "y", 2.0)


def test_ages_that_cannot_be_read_are_in_the_card(six_subjects: Path, tmp_path: Path):
    table = tmp_path / "subjects.csv"
    ages = ["20", "89+", "18-38", "twenty", "50", '"1,234"']
    table.write_text("id,age\n" + "".join(f"p{number},{age}\n" for number, age in enumerate(ages)))
    options = replace(OPTIONS, subjects=table, skip_bad=True)
    card = prepare([six_subjects], tmp_path / "out", options)
    assert card.preprocessing["participants"][2] == (
        "subjects.csv: age: 2 values left out, not ages in years: 'twenty' (line 5), '1,234' (line 7)"
    )
    found = {row["subject"]: row["age"] for row in rows_of(tmp_path / "out")}
    assert found == {"p0": 20.0, "p1": 89.0, "p2": 28.0, "p3": None, "p4": 50.0, "p5": None}
    with pytest.raises(UserError, match=r"2 of 6 values are not ages .* leave such ages out with --skip-bad"):
        prepare([six_subjects], tmp_path / "other", replace(options, skip_bad=False))


def test_what_only_validation_has_is_described(six_subjects: Path, tmp_path: Path):
    table, splits = tmp_path / "subjects.csv", tmp_path / "splits.json"
    table.write_text(
        "id,kind,score\n" + "".join(f"p{number},{'ab'[number > 3]},{number or ''}\n" for number in range(6))
    )
    splits.write_text(json.dumps({"train": ["p0"], "validation": [f"p{number}" for number in range(1, 6)], "test": []}))
    options = replace(OPTIONS, splits=PrepareOptions.splits, splits_from=splits, subjects=table, label="kind")
    card = prepare([six_subjects], tmp_path / "out", options)
    assert card.columns["label"]["names"] == ["a", "b"] and set(card.splits["train"]["marginals"]["label"]) == {"a"}
    assert card.columns["score"] == {"kind": "numeric", "mean": 0.0, "std": 1.0}
    assert not [each.complaints for each in check_dataset(tmp_path / "out") if each.complaints]


def test_a_subject_without_a_row_is_a_one_line_error(six_subjects: Path, tmp_path: Path):
    table = tmp_path / "subjects.csv"
    table.write_text("id,sex\np0,F\n")
    with pytest.raises(UserError, match=r"subjects\.csv: has no row for p1, p2, p3, p4, p5; add one for each"):
        prepare([six_subjects], tmp_path / "out", replace(OPTIONS, subjects=table))


def test_captions_contain_the_known_attributes(six_subjects: Path, tmp_path: Path):
    table = six_subjects.parent / "subjects.csv"
    card = prepare([six_subjects], tmp_path / "one", replace(OPTIONS, subjects=table))
    assert "[ {age} year old]" in card.captions
    captions = {row["subject"]: row["caption"] for row in rows_of(tmp_path / "one")}
    assert captions["p1"] == "an EEG spectrogram of an ok 21 year old female subject"
    assert captions["p4"] == "an EEG spectrogram of a 24 year old male subject"
    own = replace(OPTIONS, subjects=table, captions="EEG of {site}")
    prepare([six_subjects], tmp_path / "two", own)
    assert {row["caption"] for row in rows_of(tmp_path / "two")} == {"EEG of x", "EEG of y"}
    assert "caption" not in prepare([six_subjects], tmp_path / "three", replace(OPTIONS, captions="")).columns
    with pytest.raises(UserError, match="unknown name sex"):
        prepare([six_subjects], tmp_path / "four", replace(OPTIONS, captions="{sex}"))


def test_subjects_keep_their_splits_with_splits_from(six_subjects: Path, tmp_path: Path):
    first = prepare([six_subjects], tmp_path / "images", replace(OPTIONS, seed=3))
    series = replace(
        OPTIONS, representation="timeseries", splits=PrepareOptions.splits, splits_from=tmp_path / "images"
    )
    second = prepare([six_subjects], tmp_path / "series", series)
    subjects = [[split["subjects"] for split in card.splits.values()] for card in (first, second)]
    assert subjects[0] == subjects[1]
    assert (tmp_path / "series" / "splits.json").read_bytes() == (tmp_path / "images" / "splits.json").read_bytes()


def test_subjects_missing_from_splits_from_are_named(six_subjects: Path, tmp_path: Path):
    (tmp_path / "splits.json").write_text('{"train": ["p0", "p1", "p2", "p3"]}')
    with pytest.raises(UserError, match="has no split for p4, p5; remove their recordings"):
        prepare(
            [six_subjects],
            tmp_path / "out",
            replace(OPTIONS, splits=PrepareOptions.splits, splits_from=tmp_path / "splits.json"),
        )
    assert not (tmp_path / "out").exists()


def test_split_by_keeps_each_site_in_one_split(six_subjects: Path, tmp_path: Path):
    table = six_subjects.parent / "subjects.csv"
    options = replace(OPTIONS, subjects=table, split_by="site", splits=(0.5, 0.5, 0.0))
    card = prepare([six_subjects], tmp_path / "out", options)
    groups = [set(split["subjects"]) for split in card.splits.values()]
    assert sorted(map(sorted, groups)) == [["p0", "p1", "p2"], ["p3", "p4", "p5"]]
    with pytest.raises(UserError, match="split_by: the subject table has no column 'window'; use subject"):
        prepare([six_subjects], tmp_path / "out2", replace(OPTIONS, split_by="window"))


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
    # Of 14 windows, 10 to 12 touch the movement, and the last one has no annotation.
    assert card.rejected == {"flat": 0, "amplitude": 0, "annotation": 9, "unlabelled": 3}
    chosen = prepare([tmp_path / "in"], tmp_path / "some", replace(OPTIONS, label="annotation:open"))
    assert chosen.columns["label"]["names"] == ["open"]
    with pytest.raises(UserError, match="no recording has an annotation asleep; found BAD_movement, closed, open"):
        prepare([tmp_path / "in"], tmp_path / "none", replace(OPTIONS, label="annotation:asleep"))


def test_label_can_be_the_folder(tmp_path: Path):
    for label in ("rest", "work"):
        for subject in ("a", "b", "c"):
            write_eeg(tmp_path / "in" / label / f"{subject}.edf", ord(subject))
    card = prepare([tmp_path / "in"], tmp_path / "out", replace(OPTIONS, label="folder"))
    assert card.columns["label"]["names"] == ["rest", "work"]
    assert sorted(subject for split in card.splits.values() for subject in split["subjects"]) == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"label: a\.edf is not in a subfolder"):
        prepare([tmp_path / "in" / "rest"], tmp_path / "none", replace(OPTIONS, label="folder"))


def test_number_of_workers_does_not_change_the_dataset(six_subjects: Path, tmp_path: Path):
    shutil.copytree(six_subjects, tmp_path / "lab")
    (tmp_path / "lab" / "p2" / "one.edf").write_bytes(b"")
    options = replace(OPTIONS, skip_bad=True)
    card = prepare([tmp_path / "lab"], tmp_path / "one", options)
    assert prepare([tmp_path / "lab"], tmp_path / "two", replace(options, workers=2)) == card
    assert card.skipped == ["p2/one.edf: the file is empty; fetch it again"]
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("name", ["db-only", "db-iq", "db-polar"])
def test_a_mosaic_has_one_image_per_window(tmp_path: Path, name: str):
    pictures = PictureOptions(layout="mosaic", size=64)
    card = prepare_synthetic(tmp_path / "out", name, SyntheticOptions(num_subjects=3, num_windows=2, pictures=pictures))
    assert card.shape[1:] == (64, 64)
    assert card.representation["layout"] == "mosaic" and card.representation["inverse"] == "none"
    assert "electrode" not in card.columns
    assert all(split["examples"] == split["windows"] for split in card.splits.values())
    assert representation_of(card).parameters() == card.representation["parameters"]
    assert "--layout mosaic --picture-size 64 --frequency linear" in card.command


def test_two_inputs_with_the_same_name_are_an_error(six_subjects: Path, tmp_path: Path):
    shutil.copytree(six_subjects, tmp_path / "other" / "lab")
    with pytest.raises(UserError, match="two inputs are named 'lab'"):
        prepare([six_subjects, tmp_path / "other" / "lab"], tmp_path / "out", OPTIONS)


def test_an_impossible_representation_is_an_error_before_reading(six_subjects: Path, tmp_path: Path):
    shutil.copytree(six_subjects, tmp_path / "lab")
    (tmp_path / "lab" / "p0" / "one.edf").write_bytes(b"")
    with pytest.raises(UserError, match="window: 250 samples are not a whole number of image columns"):
        prepare([tmp_path / "lab"], tmp_path / "out", replace(OPTIONS, window=250))


def test_nested_inputs_are_an_error(six_subjects: Path, tmp_path: Path):
    for inputs in ([six_subjects, six_subjects / "p0"], [six_subjects, six_subjects]):
        with pytest.raises(UserError, match="is given twice"):
            prepare(inputs, tmp_path / "out", OPTIONS)


def test_files_of_one_folder_are_one_input(six_subjects: Path, tmp_path: Path):
    for number in range(3):
        write_eeg(tmp_path / "in" / f"sub-{number}_eeg.edf", number)
    card = prepare(sorted((tmp_path / "in").iterdir()), tmp_path / "out", OPTIONS)
    assert [split["subjects"] for split in card.splits.values()] and len(card.sources) == 1
    assert {name for split in card.splits.values() for name in split["subjects"]} == {"sub-0", "sub-1", "sub-2"}


def test_a_table_row_matches_only_one_subject_of_several_inputs(tmp_path: Path):
    for seed, (dataset, number) in enumerate(itertools.product("AB", range(2))):
        write_eeg(tmp_path / dataset / f"p{number}" / "one.edf", seed)
    inputs = [tmp_path / "A", tmp_path / "B"]
    table = tmp_path / "subjects.csv"
    table.write_text("id,sex\np0,F\np1,M\n")
    with pytest.raises(UserError, match="one row matches several subjects, A/p0, B/p0"):
        prepare(inputs, tmp_path / "out", replace(OPTIONS, subjects=table))
    table.write_text("id,sex\nA/p0,F\nA/p1,M\nB/p0,M\nB/p1,M\n")
    prepare(inputs, tmp_path / "out", replace(OPTIONS, subjects=table))
    genders = {row["subject"]: row["gender"] for row in rows_of(tmp_path / "out")}
    assert genders == {"A/p0": "female", "A/p1": "male", "B/p0": "male", "B/p1": "male"}


def test_the_command_in_the_card_makes_the_same_dataset(six_subjects: Path, tmp_path: Path):
    prepare([six_subjects], tmp_path / "first", OPTIONS)
    for options in (
        replace(OPTIONS, splits=PrepareOptions.splits, splits_from=tmp_path / "first", captions="EEG of {dataset}"),
        replace(OPTIONS, notch=(50.0, 25.0), pictures=PictureOptions(layout="mosaic", db_limits=(-30.0, 30.0))),
    ):
        card = prepare([six_subjects], tmp_path / "by-options", options)
        folders = {"DIR": tmp_path / "by-command", "lab": six_subjects, "first": tmp_path / "first"}
        words = [str(folders.get(word, word)) for word in shlex.split(card.command)[1:]]
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0
        assert DatasetCard.load(tmp_path / "by-command").files == card.files
        shutil.rmtree(tmp_path / "by-options")
        shutil.rmtree(tmp_path / "by-command")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"reject_above": float("nan")}, "reject_above: nan"),
        ({"reject_flat": -1.0}, "reject_flat: -1.0"),
        ({"band": (1e-4, 60.0)}, "at least 0.01 Hz"),
    ],
)
def test_an_invalid_option_is_an_error_at_once(changes: dict, complaint: str):
    with pytest.raises(UserError, match=complaint):
        replace(OPTIONS, **changes)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"reference": "Cz"}, "reference: Cz minus itself is zero"),
        ({"reference": ","}, "reference: no channel named"),
        ({"notch": (62.4,)}, "no filter for .* at a rate of 125 Hz"),
    ],
)
def test_an_option_that_fits_no_recording_is_one_error(
    six_subjects: Path, tmp_path: Path, changes: dict, complaint: str
):
    with pytest.raises(UserError, match=complaint) as caught:
        prepare([six_subjects], tmp_path / "out", replace(OPTIONS, skip_bad=True, **changes))
    assert len(caught.value.lines) == 1


def test_numbers_may_have_decimal_commas_and_codes_are_categories(six_subjects: Path, tmp_path: Path):
    table = tmp_path / "subjects.csv"
    table.write_text("id;weight;code\n" + "".join(f"p{n};{60 + n},5;00{n}\n" for n in range(6)))
    card = prepare([six_subjects], tmp_path / "out", replace(OPTIONS, subjects=table))
    assert card.columns["weight"]["kind"] == "numeric"
    assert card.columns["code"] == {"kind": "categorical", "names": [f"00{n}" for n in range(6)]}
    assert {row["weight"] for row in rows_of(tmp_path / "out") if row["subject"] == "p3"} == {63.5}


def test_a_dataset_of_other_recordings_at_the_same_relative_path_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for folder in ("here", "there"):
        write_eeg(tmp_path / folder / "in" / "sub-1_eeg.edf", len(folder))
    monkeypatch.chdir(tmp_path / "here")
    prepare([Path("in")], tmp_path / "out", OPTIONS)
    prepare([tmp_path / "here" / "in"], tmp_path / "out", OPTIONS)
    monkeypatch.chdir(tmp_path / "there")
    with pytest.raises(UserError, match="made from other recordings"):
        prepare([Path("in")], tmp_path / "out", OPTIONS)


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["bdf", "brainvision", "edf", "eeglab", "fif", "tiny_bids"])
def test_every_format_can_be_prepared_with_the_same_options(real_data: Path, tmp_path: Path, folder: str):
    root = real_data / "formats" / folder
    options = PrepareOptions(
        representation="timeseries",
        channels="file",
        rate=100.0,
        window=40,
        overlap=0.0,
        band=(0.5, 45.0),
        reject_above=1e7,  # one of them has a wrong unit
        reject_flat=0.0,
    )
    inputs = [root] if folder == "tiny_bids" else [each.path for each in find(root).recordings]
    for number, path in enumerate(inputs):
        card = prepare([path], tmp_path / str(number), options)
        assert card.splits["train"]["examples"] > 0
        assert all(not each.complaints for each in check_dataset(tmp_path / str(number)))
