"""Restored recordings: what is given is unchanged, what is missing depends on it and on nothing else."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest

from signal_diffusion.data.recordings.read_options import ReadOptions
from signal_diffusion.data.recordings.reading import read_recording
from signal_diffusion.errors import UserError
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.sampling.request_options import RequestOptions
from signal_diffusion.sampling.restoring.draws import draws_on_disk
from signal_diffusion.sampling.restoring.given import as_recording
from signal_diffusion.sampling.restoring.job import restore
from signal_diffusion.sampling.restoring.options import RestoreOptions
from signal_diffusion.sampling.restoring.plan import plan_of
from tests.sampling.restoring.conftest import ELECTRODES, MASKS, SFREQ, recorded, trained

READ = ReadOptions(
    channels=ELECTRODES,
    reference="average",
    band=(1.0, 25.0),
    notch=(),
    sampling_rate=SFREQ,
    min_samples=1,
    flat_below=0.1,
)


def microvolts(raw: mne.io.BaseRaw) -> np.ndarray:
    return (raw.get_data() * 1e6).astype(np.float32)


def read(raw: mne.io.BaseRaw, output: Path, **changes: object) -> np.ndarray:
    with as_recording(raw) as recording:
        read_recording(recording, replace(READ, **changes), output)
    return np.load(output)


def test_given_electrodes_come_back_to_the_bit_referenced_to_their_own_average(
    pipeline: SignalDiffusionPipeline, tmp_path: Path
) -> None:
    raw = recorded()
    restoration = pipeline.restore(raw, bad=["C4"], draws=3)
    expected = read(raw, tmp_path / "read.npy", channels=("Fz", "C3", "Pz"))
    for each in (restoration.mean, *restoration.draws):
        assert each.ch_names == list(ELECTRODES)
        assert (microvolts(each)[[0, 1, 3]] == expected).all()
        assert microvolts(each)[2].std() > 0
    assert np.abs(expected.mean(axis=0)).max() < 1e-4
    assert (restoration.std.get_data()[[0, 1, 3]] == 0).all()
    assert (restoration.std.get_data()[2] > 0).all()


def test_guidance_is_off_unless_it_is_asked_for(experiment_file: Path, dataset: Path, tmp_path: Path) -> None:
    run = trained(experiment_file, dataset, tmp_path / "run", *MASKS, "training.checkpointing.interval=1")
    guide = {"guidance_type": "autoguidance", "guidance_checkpoint": "checkpoint-1", "guidance_scale": 4}
    overrides = [f"generation.sampling.{key}={value}" for key, value in guide.items()]
    guided = SignalDiffusionPipeline.from_pretrained(run, overrides=overrides)
    default, off, on = (
        guided.restore(recorded(), bad=["C4"], draws=2, **scale).mean.get_data()
        for scale in ({}, {"guidance_scale": 1}, {"guidance_scale": 4})
    )
    assert (default == off).all() and (default != on).any()


def test_a_gap_and_the_time_after_the_end_are_restored_and_nothing_else(
    pipeline: SignalDiffusionPipeline, tmp_path: Path
) -> None:
    raw = recorded()
    restoration = pipeline.restore(raw, gaps=[(4.0, 4.5)], extend=1.5, draws=2)
    expected = read(raw, tmp_path / "read.npy", gaps=((4.0, 4.5),))
    missing = np.zeros(round(11.5 * SFREQ), bool)
    missing[256:288] = missing[640:] = True
    assert (restoration.missing == missing).all()
    mean, known = microvolts(restoration.mean), ~missing
    assert (mean[:, known] == expected[:, known[:640]]).all()
    assert (restoration.std.get_data()[:, missing] > 0).all()


def test_the_mean_and_standard_deviation_are_those_of_the_draws(pipeline: SignalDiffusionPipeline) -> None:
    restoration = pipeline.restore(recorded(), bad=["Pz"], draws=4)
    draws = np.stack([each.get_data() for each in restoration.draws])
    assert restoration.mean.get_data() == pytest.approx(draws.mean(axis=0), abs=1e-11)
    assert restoration.std.get_data() == pytest.approx(draws.std(axis=0, ddof=1), abs=1e-11)


def test_a_draw_does_not_depend_on_how_many_there_are(pipeline: SignalDiffusionPipeline) -> None:
    few, many = (pipeline.restore(recorded(), bad=["Pz"], draws=draws) for draws in (2, 5))
    assert few.draw(1).get_data() == pytest.approx(many.draw(1).get_data(), abs=1e-10)  # 0.0001 µV
    assert not np.allclose(many.draw(1).get_data(), many.draw(2).get_data(), atol=1e-7)


def test_the_order_of_channels_in_the_file_changes_nothing(pipeline: SignalDiffusionPipeline) -> None:
    raw = recorded(names=(*ELECTRODES, "Oz"))
    shuffled = raw.copy().reorder_channels(["Oz", "Pz", "C4", "Fz", "C3"])
    one, other = (pipeline.restore(each, bad=["C3"], draws=2) for each in (raw, shuffled))
    assert one.plan.left_out.unknown == ("Oz",)
    assert (one.mean.get_data() == other.mean.get_data()).all()


def test_restored_stretches_are_annotated_with_their_electrodes(pipeline: SignalDiffusionPipeline) -> None:
    raw = recorded().set_annotations(mne.Annotations([2.0], [1.5], ["eyes; closed"]))
    marks = pipeline.restore(raw, bad=["C3"], gaps=[(5.0, 5.5)], extend=1.0, draws=2).mean.annotations
    found = [(mark["onset"], mark["duration"], mark["description"], mark["ch_names"]) for mark in marks]
    assert sorted(found) == [
        (0.0, 11.0, "restored", ("C3",)),
        (2.0, 1.5, "eyes; closed", ()),
        (5.0, 0.5, "restored", ()),
        (10.0, 1.0, "restored", ()),
    ]


def test_the_recordings_annotations_keep_their_electrodes_and_its_date_is_kept(
    pipeline: SignalDiffusionPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = recorded(names=("Fz", "EEG C3-REF", "C4", "PZ", "Oz"))
    names = [("PZ", "EEG C3-REF"), ("Oz", "C4"), ("Oz",), ()]
    raw.set_meas_date(datetime(2021, 5, 4, 12, 30, 15, tzinfo=UTC))
    raw.set_annotations(mne.Annotations([2.0, 3.0, 4.0, 5.0], 0.5, ["two", "one", "none", "all"], ch_names=names))
    raw.crop(1.0)
    mean = pipeline.restore(raw, extend=1.0, draws=2).mean
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("annotations of channels that are left out are not kept: 1, the first at 3 s")
    mean.save(tmp_path / "a_raw.fif", verbose="error")
    mean.export(tmp_path / "a.edf", verbose="error")
    files = (mne.io.read_raw(path, verbose="error") for path in sorted(tmp_path.iterdir()))
    for each in (mean, *files):
        assert each.info["meas_date"] == datetime(2021, 5, 4, 12, 30, 16, tzinfo=UTC)
        marks = {
            (float(mark["onset"]), mark["description"], name)
            for mark in each.annotations
            for name in mark["ch_names"] or ("",)
        }
        assert marks == {
            (1.0, "two", "C3"), (1.0, "two", "Pz"), (2.0, "one", "C4"), (4.0, "all", ""), (9.0, "restored", ""),
        }  # fmt: skip


@pytest.mark.parametrize(("year", "kept"), [(1969, False), (1985, True), (2037, True), (2038, False)])
def test_a_date_that_files_cannot_store_is_left_out(pipeline: SignalDiffusionPipeline, year: int, kept: bool) -> None:
    raw = recorded(seconds=2.0).set_meas_date(datetime(year, 1, 1, tzinfo=UTC))
    plan = plan_of(raw, pipeline.trained.card, RestoreOptions(bad=("Pz",)))
    assert (plan.start is not None) == kept


def test_electrodes_that_the_recording_lacks_are_restored_unless_others_are_named(
    pipeline: SignalDiffusionPipeline,
) -> None:
    raw = recorded(names=("C4", "Fz"))
    everything = pipeline.restore(raw, draws=2)
    assert everything.plan.restored == ("C3", "Pz") and everything.ch_names == ELECTRODES
    one = pipeline.restore(raw, add=["pz"], draws=2)
    assert one.ch_names == ("Fz", "C4", "Pz") and one.plan.lacking == ("C3",)
    assert (microvolts(one.mean)[2] == microvolts(everything.mean)[3]).all()


def test_the_recordings_own_bads_are_restored_when_asked_and_never_used(pipeline: SignalDiffusionPipeline) -> None:
    raw = recorded()
    raw.info["bads"] = ["C4"]
    with pytest.raises(UserError, match=r"^recording: the recording marks C4 as bad; add bads_from_file to"):
        pipeline.restore(raw, draws=2)
    marked = pipeline.restore(raw, bads_from_file=True, draws=2)
    raw.info["bads"] = []
    named = pipeline.restore(raw, bad=["C4"], draws=2)
    assert (marked.mean.get_data() == named.mean.get_data()).all()


def test_what_is_restored_depends_on_what_is_given(pipeline: SignalDiffusionPipeline) -> None:
    raw = recorded()
    other = raw.copy()
    other._data[0] *= -1
    one, changed = (pipeline.restore(each, bad=["Pz"], draws=2).draw(0).get_data()[3] for each in (raw, other))
    assert (one != changed).mean() > 0.9


def test_the_draws_are_removed_with_the_result(
    pipeline: SignalDiffusionPipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    restoration = pipeline.restore(recorded(), bad=["Pz"], draws=2)
    [folder] = tmp_path.iterdir()
    del restoration
    assert not folder.exists()


def test_only_what_is_missing_is_stored(tmp_path: Path) -> None:
    given = np.arange(30, dtype=np.float32).reshape(3, 10)
    known = np.ones((3, 10), bool)
    known[1, 4:6] = False
    draws = draws_on_disk(tmp_path / "draws.npy", given, known, 2)
    draws[:, :, 3:7] = np.full((2, 3, 4), 7.0)
    assert np.load(tmp_path / "draws.npy", mmap_mode="r").shape == (2, 1, 10)
    assert (draws[:, :, 0:10][:, known] == given[known]).all()
    assert (draws[:, :, 0:10][:, ~known] == 7).all()


def test_statistics_take_one_part_of_the_recording_after_the_other(
    pipeline: SignalDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoration = pipeline.restore(recorded(), bad=["Pz"], draws=2)
    at_once = restoration.mean.get_data()
    monkeypatch.setattr("signal_diffusion.sampling.restoring.result.CHUNK", 8 * 100)
    assert max(span.stop - span.start for span in restoration.parts()) == 100
    assert (restoration.mean.get_data() == at_once).all()


def test_epochs_and_other_arguments_are_one_line_errors(pipeline: SignalDiffusionPipeline) -> None:
    epochs = mne.make_fixed_length_epochs(recorded(), 2.0, verbose="error")
    with pytest.raises(UserError, match=r"^recording: found Epochs; expected a path or an mne\.io\.Raw$"):
        pipeline.restore(epochs, draws=2)
    with pytest.raises(UserError, match=r"^num_samples: use the argument draws instead$"):
        pipeline.restore(recorded(), num_samples=3)
    with pytest.raises(UserError, match=r"^draws 1: has no spread; expected at least 2$"):
        pipeline.restore(recorded(), draws=1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"bad": "T7"}, "bad: 'T7'; expected a list of electrodes, such as ['T7', 'O2']"),
        ({"bad": None}, "bad: None; expected a list of electrodes"),
        ({"bad": [3]}, "bad: [3]; expected a list of electrodes"),
        ({"add": "Pz"}, "add: 'Pz'; expected a list of electrodes"),
        ({"to": 10}, "to: 10; expected a list of electrodes"),
        ({"gaps": (12.0, 14.5)}, "gaps: (12.0, 14.5); expected a list of pairs of seconds, such as [(12.0, 14.5)]"),
        ({"gaps": [(1, 2, 3)]}, "gaps: [(1, 2, 3)]; expected a list of pairs of seconds"),
        ({"gaps": [("1", "2")]}, "gaps: [('1', '2')]; expected a list of pairs of seconds"),
        ({"gaps": 3.0}, "gaps: 3.0; expected a list of pairs of seconds"),
        ({"extend": "30"}, "extend: '30'; expected a number of seconds"),
        ({"units": "banana"}, "units: 'banana'; use one of V, mV, uV, nV"),
    ],
)
def test_arguments_of_another_type_are_one_line_errors_that_name_the_argument(
    pipeline: SignalDiffusionPipeline, arguments: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        pipeline.restore(recorded(), draws=2, **arguments)
    [line] = caught.value.lines
    assert line.startswith(expected)


def test_all_channels_that_are_not_used_are_named_each_with_its_reason(pipeline: SignalDiffusionPipeline) -> None:
    names = ("EEG A2-A1", "Fz", "Pz", "PZ-REF", "VEOG", "Oz", "C3", "M2", "C4", "ECG", "STI 014")
    raw = recorded(names=names).set_channel_types({"ECG": "ecg", "STI 014": "stim"}, verbose="error")
    restoration = pipeline.restore(raw, bad=["C4"], draws=2)
    left_out = restoration.plan.left_out
    assert left_out.unknown == ("Oz",) and left_out.repeated == ("PZ-REF",)
    assert left_out.other == ("EEG A2-A1", "VEOG", "M2", "ECG", "STI 014")
    assert restoration.about["left_out"] == asdict(left_out)


def test_stretches_annotated_as_bad_are_used_with_a_warning_that_offers_a_gap(
    pipeline: SignalDiffusionPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    marks = mne.Annotations([6.0, 2.0, 4.0], [0.5, 0.25, 0.1], ["BAD_blink", "bad move", "BAD_blink"])
    raw = recorded().set_annotations(marks)
    pipeline.restore(raw, bad=["Pz"], draws=2)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "annotated as bad, but used: bad move (1), BAD_blink (2), the first at 2 s; restore a stretch with --gap 2 2.25"
    )
    pipeline.restore(raw, gaps=[(2.0, 2.25), (4.0, 4.2), (5.9, 6.5)], draws=2)
    assert not capsys.readouterr().err


def test_interruptions_and_flat_electrodes_are_warned_about(
    pipeline: SignalDiffusionPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = recorded().set_annotations(mne.Annotations([4.0], [0.0], ["BAD boundary"]))
    raw._data[1] = 0
    pipeline.restore(raw, bad=["Pz"], draws=2)
    flat, interrupted = capsys.readouterr().err.splitlines()
    assert "flat in more than half of the recording, but used: C3; name them with --bad" in flat
    assert "interrupted 1 times, the first at 4 s" in interrupted


def test_progress_never_goes_back_and_ends_complete(pipeline: SignalDiffusionPipeline) -> None:
    calls: list[tuple[int, int]] = []
    options = RestoreOptions(bad=("Pz",), draws=2)
    with as_recording(recorded(seconds=3.0)) as recording:
        restore(
            pipeline.trained,
            recording,
            options,
            RequestOptions(),
            on_progress=lambda done, total: calls.append((done, total)),
        )
    done = [each for each, _ in calls]
    assert done == sorted(done) and len(set(done)) > 6 and {total for _, total in calls} == {done[-1]}
