import pickle
from pathlib import Path

import pytest

from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.recordings.identity import SubjectRule
from signal_diffusion.data.recordings.personal import with_ages_and_sexes
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.errors import UserError
from tests.data.recordings.files import noise, staged, write_edf, write_fif

EEG = noise(["Fz", "Cz", "Pz"])


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(root: Path, **options: bool) -> dict[str, Recording]:
    return {recording.recording: recording for recording in find(root, **options).recordings}


def test_in_a_plain_folder_the_subject_is_the_folder_or_the_file_name(tmp_path: Path):
    recordings = found(write(tmp_path, "alone.edf", "anna/one.BDF", "anna/deep/two.vhdr", "notes.txt"))
    assert {name: each.subject for name, each in recordings.items()} == {
        "alone.edf": "alone",
        "anna/one.BDF": "anna",
        "anna/deep/two.vhdr": "anna",
    }
    assert recordings["alone.edf"].folder is None
    assert recordings["anna/deep/two.vhdr"].folder == "anna"


def test_with_label_folders_the_subject_is_the_folder_below_or_the_file_name(tmp_path: Path):
    write(tmp_path, "alone.edf", "rest/anna.edf", "work/anna.edf", "work/bert/one.edf", "work/bert/deep/two.edf")
    recordings = found(tmp_path, folder_is_label=True)
    assert {name: (each.folder, each.subject) for name, each in recordings.items()} == {
        "alone.edf": (None, "alone"),
        "rest/anna.edf": ("rest", "anna"),
        "work/anna.edf": ("work", "anna"),
        "work/bert/one.edf": ("work", "bert"),
        "work/bert/deep/two.edf": ("work", "bert"),
    }


def test_label_folders_in_bids_are_an_error(tmp_path: Path):
    write(tmp_path, "dataset_description.json")
    with pytest.raises(UserError, match="in a BIDS folder, folders are subjects, not labels; use --label task"):
        find(tmp_path, folder_is_label=True)


def test_hidden_files_and_derivatives_are_left_out(tmp_path: Path):
    write(tmp_path, "a/one.edf", "a/._one.edf", ".trash/two.edf", "derivatives/three.edf")
    assert list(found(tmp_path)) == ["a/one.edf", "derivatives/three.edf"]


def test_a_bids_folder_inside_a_plain_one_is_an_error(tmp_path: Path):
    write(tmp_path, "a/one.edf", "bids/participants.tsv", "bids/sub-01/eeg/sub-01_task-rest_eeg.edf")
    with pytest.raises(UserError, match=r"contains the BIDS folder .*bids; give BIDS folders as separate inputs"):
        find(tmp_path)


def test_bids_like_names_give_subject_and_task(tmp_path: Path):
    write(tmp_path, "sub-01_task-rest_eeg.edf", "sub-01_task-work_eeg.edf", "sub-02_ses-1_eeg.edf", "s3.fif.gz")
    recordings = found(tmp_path)
    assert {name: (each.subject, each.task) for name, each in recordings.items()} == {
        "s3.fif.gz": ("s3", None),
        "sub-01_task-rest_eeg.edf": ("sub-01", "rest"),
        "sub-01_task-work_eeg.edf": ("sub-01", "work"),
        "sub-02_ses-1_eeg.edf": ("sub-02", None),
    }


def test_files_treated_as_separate_subjects_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    find(write(tmp_path, "p01.edf", "p02.edf"))
    assert "treating each of 2 files as a separate subject, such as p01" in caplog.text


def test_recordings_without_a_bids_name_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write(tmp_path, "dataset_description.json", "sub-01/eeg/sub-01_task-rest_eeg.edf", "sub-02/eeg/sub-02_rest.EDF")
    assert list(found(tmp_path)) == ["sub-01/eeg/sub-01_task-rest_eeg.edf"]
    assert "ignored 1 recordings" in caplog.text and "sub-02_rest.EDF" in caplog.text


def test_broken_links_count_as_recordings_only_where_bids_expects_eeg(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    names = ["sub-01/eeg/sub-01_task-rest_eeg.edf", "sub-02/ses-1/eeg/sub-02_ses-1_task-rest_eeg.edf"]
    write(tmp_path, "dataset_description.json", "sub-03/eeg/sub-03_task-work_eeg.edf", "sub-01/meg/sub-01_meg.json")
    for name in (*names, "sub-01/meg/sub-01_task-rest_meg.fif", "sourcedata/sub-01/eeg/sub-01_task-rest_eeg.edf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    recordings = found(tmp_path)
    assert list(recordings) == [*names, "sub-03/eeg/sub-03_task-work_eeg.edf"]
    assert [(recordings[name].subject, recordings[name].task) for name in names] == [
        ("sub-01", "rest"),
        ("sub-02", "rest"),
    ]
    assert not [record for record in caplog.records if "sub-01_task-rest_eeg" in record.getMessage()]


def test_only_bids_eeg_files_are_found_in_a_bids_folder(tmp_path: Path):
    write(tmp_path, "dataset_description.json", "sub-01/eeg/sub-01_task-rest_eeg.edf")
    write(tmp_path, "sub-01/eeg/._sub-01_task-rest_eeg.edf", "derivatives/x/sub-01/eeg/sub-01_task-rest_eeg.edf")
    write(tmp_path, "sourcedata/sub-01/eeg/sub-01_task-rest_eeg.edf", "sub-01/eeg/sub-01_task-rest_split-02_eeg.edf")
    assert list(found(tmp_path)) == ["sub-01/eeg/sub-01_task-rest_eeg.edf"]


@pytest.mark.parametrize("naming", ["neuromag", "bids"])
def test_continuation_files_of_a_split_fif_are_not_listed(tmp_path: Path, naming: str):
    long = noise([f"E{number}" for number in range(60)], 1000.0, seconds=20.0)
    long.save(tmp_path / "long_raw.fif", split_size="3MB", split_naming=naming, verbose="ERROR")
    write_fif(tmp_path / "other_raw.fif", EEG)
    write_fif(tmp_path / "other_raw-1.fif", EEG)  # looks like a continuation, but is not
    write(tmp_path, "orphan_raw-3.fif")
    assert len(list(tmp_path.iterdir())) > 4
    each_name = SubjectRule(one_person_per_file=True)
    (first, *others) = [each.recording for each in find(tmp_path, rule=each_name).recordings]
    assert first in ("long_raw.fif", "long_split-01_raw.fif")
    assert others == ["orphan_raw-3.fif", "other_raw-1.fif", "other_raw.fif"]
    assert staged(tmp_path / first, tmp_path / "x.npy", channels=("E3",))[0].shape == (1, 2500)


def test_bids_participants_get_standard_attributes(tmp_path: Path):
    write_edf(tmp_path / "sub-01" / "eeg" / "sub-01_task-rest_eeg.edf", EEG)
    (tmp_path / "participants.tsv").write_text(
        "\ufeffparticipant_id\tage\tsex\tgroup\thand\nsub-01\t31\tF\tcontrol\tn/a\n", encoding="utf-8"
    )
    (recording,), _ = with_ages_and_sexes(find(tmp_path).recordings)
    assert (recording.subject, recording.task, recording.folder) == ("sub-01", "rest", None)
    assert (recording.gender, recording.age, recording.health) == ("female", 31.0, "control")
    assert "hand" not in recording.participant


def test_bids_events_become_annotations(tmp_path: Path):
    path = write_edf(tmp_path / "sub-01" / "eeg" / "sub-01_task-rest_eeg.edf", EEG)
    (tmp_path / "dataset_description.json").write_text("{}")
    path.with_name("sub-01_task-rest_events.tsv").write_text(
        "onset\tduration\ttrial_type\n1.0\t2.5\teyes closed\n4.0\t0\tflash\n"
    )
    _, made = staged(tmp_path, tmp_path / "x.npy")
    assert [(span.onset, span.end, span.description) for span in made.spans] == [
        (1.0, 3.5, "eyes closed"),
        (4, 4, "flash"),
    ]


def test_an_input_without_recordings_is_a_one_line_error(tmp_path: Path):
    with pytest.raises(UserError, match=r"no recordings found; supported formats are \.edf"):
        find(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        find(tmp_path / "nowhere")


def test_entities_of_names_and_folders_are_attributes_of_a_recording(tmp_path: Path):
    write(tmp_path, "ses-2/anna_task-rest_acq-dry_run-3.edf")
    (recording,) = find(tmp_path).recordings
    assert (recording.subject, recording.task, recording.session, recording.run, recording.acquisition) == (
        "anna", "rest", "2", "3", "dry",
    )  # fmt: skip


@pytest.mark.parametrize("folder", ["sub-01/eeg", "sub-01", "sub-01/ses-1/eeg", "sub-01/ses-1"])
def test_a_tree_like_bids_is_read_with_its_events_and_channels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, folder: str
):
    name = "sub-01_ses-1_task-rest" if "ses" in folder else "sub-01_task-rest"
    path = write_edf(tmp_path / folder / f"{name}_eeg.edf", EEG)
    path.with_name(f"{name}_events.tsv").write_text("onset\tduration\ttrial_type\n1.0\t2.5\teyes closed\n")
    path.with_name(f"{name}_channels.tsv").write_text(
        "name\ttype\tunits\tstatus\nFz\tEEG\tµV\tgood\nCz\tEEG\tµV\tbad\nPz\tEEG\tµV\tgood\n"
    )
    (recording,) = find(tmp_path).recordings
    assert "read as BIDS (1 recordings, with their events.tsv and channels.tsv)" in caplog.text
    assert pickle.loads(pickle.dumps(recording)) == recording  # it is sent to the workers
    _, made = staged(tmp_path, tmp_path / "x.npy")
    assert [(span.onset, span.end, span.description) for span in made.spans] == [(1.0, 3.5, "eyes closed")]
    assert "channels marked as bad, but used: Cz" in caplog.text


def test_a_bids_folder_and_name_that_contradict_each_other_are_an_error(tmp_path: Path):
    write(tmp_path, "dataset_description.json", "sub-01/eeg/sub-02_task-rest_eeg.edf")
    with pytest.raises(UserError, match="the folder says sub-01, but the name says sub-02; rename the one"):
        find(tmp_path)


def test_people_without_a_row_and_rows_without_a_recording_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write(tmp_path, *[f"sub-0{number}/eeg/sub-0{number}_task-rest_eeg.edf" for number in (1, 2, 3)])
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-02\t30\nsub-07\t40\n")
    assert [each.participant.get("age") for each in find(tmp_path).recordings] == [None, "30", None]
    assert "participants.tsv: no row for 2 of 3 people" in caplog.text and "unknown: sub-01, sub-03;" in caplog.text
    assert "participants.tsv: 1 of 2 rows have no recording: sub-07" in caplog.text


def test_entries_of_bidsignore_and_files_outside_of_subjects_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    names = [f"sub-0{number}/eeg/sub-0{number}_task-rest_eeg.edf" for number in (1, 2, 3, 4)]
    write(tmp_path, "dataset_description.json", "extra/one.edf", "sourcedata/two.edf", *names)
    (tmp_path / ".bidsignore").write_text("# comment\nsub-01/\n*sub-02_task-rest_eeg*\n/sub-03/eeg/*.edf\n")
    found = find(tmp_path)
    assert [each.recording for each in found.recordings] == names[3:]
    assert found.left_out == [
        "extra/one.edf: no BIDS name for EEG",
        *[f"{name}: listed in .bidsignore" for name in names[:3]],
    ]
    assert ".bidsignore: leaves out 3 of 4 recordings" in caplog.text
    assert "ignored 1 recordings without a BIDS name" in caplog.text
