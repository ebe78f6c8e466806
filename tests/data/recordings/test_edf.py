from pathlib import Path

import edfio
import mne
import numpy as np
import pytest

from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.recordings.opening import open_recording
from signal_diffusion.errors import UserError
from tests.data.recordings.files import noise, staged, the_recording, write_edf, write_fif

NAMES = ["Fz", "Cz", "Pz"]


def write_records(path: Path, raw: mne.io.Raw, onsets: list[float], *marks: tuple[float, float, str]) -> Path:
    """Write an EDF+D with records of one second; `onsets` are when they start, and marks are by the clock."""
    sfreq = raw.info["sfreq"]
    signals = [
        edfio.EdfSignal(row, sfreq, label=name, physical_dimension="uV", physical_range=(-600, 600))
        for name, row in zip(raw.ch_names, raw.get_data() * 1e6, strict=True)
    ]
    room = edfio.EdfAnnotation(0, None, "x" * 60)  # so that every record has room for longer times
    annotations = [room, *[edfio.EdfAnnotation(*mark) for mark in marks]]
    edfio.Edf(signals, data_record_duration=1, annotations=annotations).write(path)
    contents = bytearray(path.read_bytes().replace(b"EDF+C", b"EDF+D"))
    header = int(contents[184:192])
    size = (len(contents) - header) // len(onsets)
    for number, onset in enumerate(onsets):
        first, last = header + number * size + 2 * 3 * int(sfreq), header + (number + 1) * size
        room_bytes = b"+0\x14" + b"x" * 60 + b"\x14\x00"
        found = (
            bytes(contents[first:last])
            .replace(room_bytes, b"")
            .replace(b"+%d\x14\x14\x00" % number, b"")
            .rstrip(b"\x00")
        )
        found = f"+{onset:g}\x14\x14\x00".encode() + found + b"\x00"
        contents[first:last] = found.ljust(last - first, b"\x00")
    path.write_bytes(bytes(contents))
    return path


def test_records_that_follow_each_other_are_read_as_they_are(tmp_path: Path):
    raw = noise(NAMES, 250.0, 20.0)
    path = write_records(tmp_path / "a.edf", raw, list(range(20)), (3.0, 2.0, "task"))
    signal, made = staged(path, tmp_path / "x.npy")
    whole, _ = staged(write_edf(tmp_path / "b.edf", raw), tmp_path / "y.npy")
    assert np.abs(signal - whole).max() < 0.1
    assert [(span.onset, span.end, span.description) for span in made.spans] == [(3.0, 5.0, "task")]


def test_stretches_between_gaps_are_filtered_separately_and_marks_follow_their_samples(tmp_path: Path):
    raw = noise(NAMES, 250.0, 20.0)
    raw._data[:, 2000:] += 300e-6  # after the gap, which a filter across it would smear
    onsets = [*range(8), *(100 + number for number in range(12))]
    marks = [(3.0, 2.0, "before"), (50.0, 10.0, "within"), (101.0, 2.0, "after"), (7.0, 95.0, "across")]
    path = write_records(tmp_path / "a.edf", raw, onsets, *marks)
    signal, made = staged(path, tmp_path / "x.npy")
    for part, stretch in (
        (raw.copy().crop(0, 8, include_tmax=False), signal[:, :1000]),
        (raw.copy().crop(8), signal[:, 1000:]),
    ):
        separate, _ = staged(write_fif(tmp_path / "part_raw.fif", part), tmp_path / "y.npy")
        assert np.abs(separate - stretch).max() < 0.1
    assert {(span.description, span.onset, span.end) for span in made.spans if not span.interruption} == {
        ("before", 3.0, 5.0), ("after", 9.0, 11.0), ("across", 7.0, 10.0),
    }  # fmt: skip
    assert [span.onset for span in made.spans if span.interruption] == [8.0]


def test_times_of_events_tsv_count_the_gaps_of_an_edf_d(tmp_path: Path):
    onsets = [0.25 + number for number in [*range(8), *range(100, 112)]]
    path = tmp_path / "in" / "sub-01" / "eeg" / "sub-01_task-x_eeg.edf"
    path.parent.mkdir(parents=True)
    write_records(path, noise(NAMES, 250.0, 20.0), onsets, (3.25, 0.0, "other"))
    (tmp_path / "in" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    path.with_name("sub-01_task-x_events.tsv").write_text(
        "onset\tduration\ttrial_type\n3\t2\tgo\n50\t1\tgo\n101.5\t2\tgo\n7\t94\tblock\n"
    )
    _, made = staged(tmp_path / "in", tmp_path / "x.npy", events=frozenset({"go"}))
    assert [(event.onset, event.codes) for event in made.events if event.codes == ("go",)] == [
        (3.0, ("go",)), (9.5, ("go",)),
    ]  # fmt: skip
    assert {(span.description, span.onset, span.end) for span in made.spans if not span.interruption} == {
        ("go", 3.0, 5.0), ("go", 9.5, 11.5), ("block", 7.0, 9.0),
    }  # fmt: skip


def test_records_out_of_order_are_an_error(tmp_path: Path):
    path = write_records(tmp_path / "a.edf", noise(NAMES, 250.0, 4.0), [0, 1, 0.5, 3])
    with pytest.raises(UserError, match="record 3 of an EDF\\+D starts before record 2 ends; sort or repair the file"):
        staged(path, tmp_path / "x.npy")


def test_a_file_of_annotations_says_so(tmp_path: Path):
    edfio.Edf([], annotations=[edfio.EdfAnnotation(0, 30, "W")]).write(tmp_path / "stages.edf")
    with pytest.raises(UserError, match=r"stages\.edf: holds annotations but no signals; remove it, or name it"):
        staged(tmp_path / "stages.edf", tmp_path / "x.npy")


@pytest.mark.real_data
def test_a_nihon_kohden_edf_d_without_gaps_is_read(cases: Path):
    root = cases / "edf_d_contiguous"
    raw = open_recording(the_recording(find(root).recordings[0].path))
    assert raw.n_times == 29 * 200
    assert "EDGE boundary" not in raw.annotations.description
