"""BIDS: what is exported is read back by mne-bids, with signals, events, positions and people."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import mne
import mne_bids
import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.bids import export_bids
from signal_diffusion.data.bids_names import RecordingNames
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.edf_files import edf_step
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.stored_signals import open_signals
from signal_diffusion.errors import UserError
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.writing import SampleFiles, write_samples

COLUMNS = {
    "label": np.array(["alert", "", "bad_counter"]),
    "gender": np.array(["female", "male", ""]),
    "age": np.array([31.5, 72.0, np.nan]),
}
SIGNALS = np.random.default_rng(0).normal(0, 20, (3, 19, 2048)).astype(np.float32)
ABOUT = {"checkpoint": "runs/one/checkpoint-4", "num_samples": 3, "electrodes": 0}


@pytest.fixture(scope="session")
def samples(datasets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three windows of 19 electrodes, as `sample` writes them."""
    card = replace(
        DatasetCard.load(datasets["timeseries"]), preprocessing={"band": [0.5, 40.0], "reference": "average"}
    )
    generated = Samples(
        tensors=torch.zeros(3, *card.shape),
        latents=None,
        signals=torch.from_numpy(SIGNALS),
        columns=COLUMNS,
        card=card,
        representation=representation_of(card),
    )
    folder = tmp_path_factory.mktemp("generated") / "night 1"
    folder.mkdir()
    write_samples(folder, generated, files=SampleFiles(), about=ABOUT, title="")
    return folder


@pytest.fixture(scope="session")
def exported(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples in BIDS."""
    output = tmp_path_factory.mktemp("bids") / "samples"
    export_bids(samples, output)
    return output


@pytest.fixture(scope="session")
def windows(datasets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A db-iq dataset of single electrodes in BIDS."""
    output = tmp_path_factory.mktemp("bids") / "windows"
    export_bids(datasets["db-iq"], output)
    return output


def read(root: Path, number: int = 0) -> mne.io.BaseRaw:
    paths = sorted(mne_bids.find_matching_paths(root, suffixes="eeg", extensions=".edf"), key=lambda path: path.fpath)
    with warnings.catch_warnings():
        warnings.filterwarnings("error")  # mne-bids warns about what it does not find or understand
        warnings.filterwarnings("ignore", message="Unable to map the following column")  # health, label, …
        return mne_bids.read_raw_bids(paths[number], verbose="error")


def changed(samples: Path, folder: Path, **changes: object) -> Path:
    """A copy of the samples with other arrays; None = without."""
    folder.mkdir()
    (folder / "samples.json").write_text((samples / "samples.json").read_text())
    with np.load(samples / "samples.npz") as file:
        arrays = dict(file) | changes
    np.savez(folder / "samples.npz", **{name: each for name, each in arrays.items() if each is not None})
    return folder


def test_generated_signals_are_read_back_to_half_a_step(exported: Path) -> None:
    for number, window in enumerate(SIGNALS):
        raw = read(exported, number)
        error = np.abs(raw.get_data()[:, :2048] * 1e6 - window)
        assert error.max() <= edf_step(window) / 2 * (1 + 1e-6)
        assert raw.info["sfreq"] == 125.0 and raw.info["highpass"] == 0.5 and raw.info["lowpass"] == 40.0


def test_a_label_is_the_event_at_the_onset_of_its_window(exported: Path) -> None:
    names = [read(exported, number).annotations[0]["description"] for number in range(3)]
    assert names == ["alert", "unlabelled", "label/bad_counter"]  # MNE drops data annotated with bad…
    raw = read(exported)
    events, codes = mne.events_from_annotations(raw, verbose="error")
    assert (events[0, 0], raw.annotations.duration[0], list(codes)) == (0, 2048 / 125, ["alert"])


def test_each_generated_window_is_a_person_with_the_attributes_asked_for(exported: Path) -> None:
    people = pd.read_csv(exported / "participants.tsv", sep="\t", keep_default_na=False)
    assert people.to_dict("list") == {
        "participant_id": ["sub-synth0001", "sub-synth0002", "sub-synth0003"],
        "window_label": ["alert", "n/a", "bad_counter"],
        "sex": ["F", "M", "n/a"],
        "age": ["31.5", "72", "n/a"],
    }
    described = json.loads((exported / "participants.json").read_text())
    assert set(described) == {"window_label", "sex", "age"} and described["age"]["Units"] == "year"
    assert read(exported).info["subject_info"]["sex"] == mne.io.constants.FIFF.FIFFV_SUBJ_SEX_FEMALE


def test_electrodes_have_the_positions_of_the_standard_montage(exported: Path, samples: Path) -> None:
    found = read(exported).get_montage().get_positions()["ch_pos"]
    card = open_signals(samples).card
    info = mne.create_info(list(card.channels), 125.0, "eeg")
    expected = info.set_montage("colin27_1020").get_montage().get_positions()["ch_pos"]
    assert list(found) == list(card.channels)
    assert all(np.allclose(found[name], expected[name], atol=1e-6) for name in found)


def test_the_dataset_says_that_it_is_generated_and_from_what(exported: Path) -> None:
    about = json.loads((exported / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative" and about["GeneratedBy"][0]["Name"] == "signal-diffusion"
    assert about["SourceDatasets"] == [{"Name": "synthetic", "Description": "generated by signal-diffusion"}]
    [sidecar] = (exported / "sub-synth0001" / "eeg").glob("*_task-generated_desc-synth_eeg.json")
    about = json.loads(sidecar.read_text())
    assert about["EEGReference"] == "average" and about["RecordingType"] == "continuous"
    assert about["SoftwareFilters"] == {"Band-pass, zero phase": {"edges in Hz": [0.5, 40.0]}}
    assert "nobody was recorded" in (exported / "README.md").read_text()


def test_no_file_names_a_folder_of_this_machine(exported: Path, windows: Path) -> None:
    texts = [path.read_text() for root in (exported, windows) for path in root.rglob("*.[jtm]*") if path.is_file()]
    assert len(texts) > 20 and not [text for text in texts if str(exported.parents[1]) in text]


def test_single_electrodes_of_a_dataset_become_whole_windows(datasets: dict[str, Path], windows: Path) -> None:
    recordings = {frame["recording"][0]: signals for signals, frame in open_signals(datasets["db-iq"]).recordings()}
    raw = read(windows, 1)
    expected = recordings["sub-000_task-relaxed"]
    assert expected.shape == (1, 19, 2048) and raw.filenames[0].name == "sub-000_task-relaxed_desc-windows_eeg.edf"
    assert np.abs(raw.get_data()[:, :2048] * 1e6 - expected[0]).max() <= edf_step(expected) / 2 * (1 + 1e-6)
    assert raw.annotations[0]["description"] == "relaxed"


def test_subjects_of_a_dataset_keep_their_names_and_attributes(datasets: dict[str, Path], windows: Path) -> None:
    people = pd.read_csv(windows / "participants.tsv", sep="\t")
    assert people["participant_id"].tolist() == ["sub-000", "sub-001", "sub-002"]
    assert {*people["sex"]} <= {"F", "M"} and people["age"].between(18, 90).all() and "window_label" not in people
    card = DatasetCard.load(datasets["db-iq"])
    assert all(who in card.splits[split]["subjects"] for who, split in people[["participant_id", "split"]].to_numpy())


def test_windows_that_do_not_follow_each_other_have_a_boundary(tmp_path: Path) -> None:
    options = SyntheticOptions(num_subjects=3, num_windows=3, window=250, overlap=0.5)
    prepare_synthetic(tmp_path / "data", "timeseries", options)
    summary = export_bids(tmp_path / "data", tmp_path / "bids")
    assert (len(summary.people), summary.recordings, summary.windows, summary.seconds, summary.notes) == (
        3,
        6,
        18,
        36,
        [],
    )
    raw = read(tmp_path / "bids")
    assert raw.n_times == 750
    onsets = {
        name: raw.annotations.onset[raw.annotations.description == name].tolist()
        for name in set(raw.annotations.description)
    }
    assert onsets == {"alert": [0.0, 2.0, 4.0], "BAD boundary": [2.0, 4.0], "EDGE boundary": [2.0, 4.0]}
    assert (
        mne.Epochs(raw, tmin=0, tmax=2 - 1 / 125, baseline=None, preload=True, verbose="error").get_data().shape[0] == 3
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"signals": None}, "samples.npz: has no signals, only tensors, "),
        (
            {"signals": np.full((3, 19, 2048), np.nan)},
            "sub-synth0001_task-generated_desc-synth: the samples have values that are not finite",
        ),
    ],
)
def test_samples_without_usable_signals_are_refused(
    samples: Path, tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        export_bids(changed(samples, tmp_path / "changed", **changes), tmp_path / "bids")
    assert len(caught.value.lines) == 1 and [path.name for path in tmp_path.iterdir()] == ["changed"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda root: (root / "samples.npz").unlink(), "samples.npz: missing; sample again with --format npz"),
        (lambda root: (root / "samples.npz").write_bytes(b"PK"), "samples.npz: cannot be read"),
        (
            lambda root: (root / "samples.json").write_text(json.dumps(ABOUT | {"dataset": {"format_version": 3}})),
            "samples.json: dataset missing or unknown entries: ",
        ),
        (lambda root: (root / "samples.json").write_text("[]"), "samples.json: cannot be read .should be an object"),
        (
            lambda root: (root / "samples.json").unlink(),
            r"neither a folder that `sample` wrote \(samples.json is missing\)",
        ),
        (
            lambda root: (root / "samples.json").write_text(json.dumps(ABOUT)),
            "there is no runs/one/checkpoint-4/signal_data",
        ),
    ],
)
def test_a_damaged_folder_is_a_one_line_error(samples: Path, tmp_path: Path, change: Any, complaint: str) -> None:
    change(root := changed(samples, tmp_path / "changed"))
    with pytest.raises(UserError, match=complaint) as caught:
        export_bids(root, tmp_path / "bids")
    assert len(caught.value.lines) == 1 and not (tmp_path / "bids").exists()


def test_samples_of_an_older_version_use_the_card_of_the_checkpoint(
    samples: Path, datasets: dict[str, Path], tmp_path: Path
) -> None:
    root = changed(samples, tmp_path / "old")
    (root / "samples.json").write_text(json.dumps(ABOUT | {"checkpoint": str(datasets["timeseries"])}))
    assert export_bids(root, tmp_path / "bids").windows == 3


def test_an_existing_folder_is_refused_and_unchanged(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids" / "mine.txt").touch()
    with pytest.raises(UserError, match="already exists; choose another --output"):
        export_bids(samples, tmp_path / "bids")
    assert [path.name for path in (tmp_path / "bids").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("people", "complaint"),
    [
        (["a-1", "a1"], "subjects a-1 and a1 would both be sub-a1, since names of BIDS have letters and digits only"),
        (["Bob", "bob"], "subjects Bob and bob would both be sub-bob"),
        (["Ж"], "subject Ж: 'Ж' has no letters and digits"),
    ],
)
def test_subjects_that_would_be_one_in_bids_are_refused(people: list[str], complaint: str) -> None:
    names = RecordingNames()
    with pytest.raises(UserError, match=complaint):
        [names.next(pd.DataFrame({"subject": [who], "recording": [f"{who}.edf"]})) for who in people]


@pytest.mark.parametrize(
    ("subject", "recording", "stem"),
    [
        (
            "sub-01",
            "sub-01/ses-2/eeg/sub-01_ses-2_task-rest_acq-a_run-03_eeg.edf",
            "sub-01_ses-2_task-rest_acq-a_run-03",
        ),
        ("eegmat/sub-01", "sub-01/eeg/sub-01_task-rest_eeg.edf", "sub-eegmat01_task-rest"),
        ("Subject00", "Subject00_1.edf", "sub-Subject00_task-unspecified_run-1"),
        ("p1", "p1/one_run-x.edf", "sub-p1_task-unspecified_run-1"),
    ],
)
def test_a_recording_keeps_its_bids_name_or_gets_a_number(subject: str, recording: str, stem: str) -> None:
    frame = pd.DataFrame({"subject": [subject], "recording": [recording]})
    assert RecordingNames().next(frame).stem == f"{stem}_desc-windows"


def test_recordings_without_a_bids_name_are_numbered_and_renamed_subjects_are_counted() -> None:
    names = RecordingNames()
    frames = [pd.DataFrame({"subject": ["p_1"], "recording": [f"p_1/{each}.edf"]}) for each in ("one", "two")]
    assert [names.next(frame).run for frame in frames] == ["1", "2"]
    assert names.notes() == ["names of BIDS have letters and digits only, so 1 subjects were renamed: p_1 is sub-p1"]


def test_two_recordings_of_one_name_are_refused() -> None:
    names = RecordingNames()
    for folder in ("a", "b"):
        frame = pd.DataFrame({"subject": ["sub-1"], "recording": [f"{folder}/sub-1_task-rest_eeg.edf"]})
        if folder == "a":
            names.next(frame)
    with pytest.raises(UserError, match=r"recordings a/.* and b/sub-1_task-rest_eeg.edf would both be"):
        names.next(frame)


def test_the_command_says_what_it_wrote_and_how_to_read_it(samples: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export-bids", str(samples), "--output", str(tmp_path / "bids")])
    assert result.exit_code == 0
    assert "bids: 3 subjects, 3 recordings, 3 windows, 49 s" in result.stdout
    assert "mne_bids.read_raw_bids(paths[0])" in result.stdout


@pytest.mark.slow
def test_the_bids_validator_finds_no_error(exported: Path, windows: Path) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    for root in (exported, windows):
        run = subprocess.run([validator, root, "--json"], capture_output=True, text=True)
        found = json.loads(run.stdout)["issues"]["issues"]
        assert [issue for issue in found if issue["severity"] == "error"] == [] and run.returncode == 0, run.stdout


def test_an_event_is_at_its_time_in_the_window(samples: Path, tmp_path: Path) -> None:
    root = changed(samples, tmp_path / "around")
    about = json.loads((root / "samples.json").read_text())
    about["dataset"]["tmin"] = -0.5
    (root / "samples.json").write_text(json.dumps(about))
    export_bids(root, tmp_path / "bids")
    events, codes = mne.events_from_annotations(read(tmp_path / "bids"), verbose="error")
    assert events[:, 0].tolist() == [62] and list(codes) == ["alert"]  # round(0.5 s · 125 Hz)
    [sidecar] = (tmp_path / "bids" / "sub-synth0001").rglob("*_events.json")
    assert "begins -0.5 s from its event" in sidecar.read_text()


def test_a_changed_dataset_is_refused(tmp_path: Path) -> None:
    prepare_synthetic(tmp_path / "data", "timeseries", SyntheticOptions(num_subjects=3, num_windows=1, window=125))
    file = tmp_path / "data" / "train" / "00000.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"train/00000.parquet changed since the dataset was made"):
        export_bids(tmp_path / "data", tmp_path / "bids")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sampling_rate": 102.4}, "EDF needs a whole number of Hz, found 102.4 Hz; BIDS stores EEG as EDF"),
        ({"channels": ("Fpµ1",)}, "channel Fpµ1 has characters that are not ASCII"),
        ({"sampling_rate": None}, "cannot be turned into signals; BIDS stores EEG as EDF"),
    ],
)
def test_what_does_not_fit_edf_is_refused_before_the_work(
    datasets: dict[str, Path], tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    replace(DatasetCard.load(datasets["timeseries"]), **changes).save(tmp_path)
    with pytest.raises(UserError, match=complaint):
        export_bids(tmp_path, tmp_path / "bids")


def test_an_electrode_without_a_name_has_no_position(samples: Path, tmp_path: Path) -> None:
    root = changed(samples, tmp_path / "single", signals=SIGNALS[:, 0], electrode=np.array(["O1", "", "O2"]))
    export_bids(root, tmp_path / "bids")
    assert [read(tmp_path / "bids", number).ch_names for number in range(3)] == [["O1"], ["EEG"], ["O2"]]
    found = sorted(path.parts[-3] for path in (tmp_path / "bids").rglob("*_electrodes.tsv"))
    assert found == ["sub-synth0001", "sub-synth0003"]
