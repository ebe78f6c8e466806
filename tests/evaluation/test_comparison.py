"""A comparison gives values, floors, ratios and intervals, and says what cannot be computed."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import mne
import numpy as np
import pytest
from scipy.signal import lfilter

from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.comparison import compare_windows
from signal_diffusion.evaluation.controls import CONTROLS
from signal_diffusion.evaluation.evaluating import compare
from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.groups import draws, matched_groups
from signal_diffusion.evaluation.harmonising import harmonised
from signal_diffusion.evaluation.metrics import METRICS
from signal_diffusion.evaluation.report import Report
from signal_diffusion.evaluation.windows import Windows

SFREQ, CH_NAMES = 64.0, ("C3", "Cz", "C4")
SOME = ("lsd", "corrf", "eegnet-fd", "c2st", "copies", "tstr-label")
"""Metrics of different kinds: of bands, of electrodes, learned, of classifiers."""
MIXING = np.array([[1, 0.6, 0.3], [0.4, 1, 0.4], [0.3, 0.6, 1]])

pytestmark = pytest.mark.usefixtures("few_figures")


def eeg(people: range, *, windows: int = 14, samples: int = 320, **changes) -> Windows:
    """Windows of people with their own amplitude and alpha, half of them "rest" and half "task"."""
    signals, who, labels = [], [], []
    for person in people:
        own = np.random.default_rng(person)
        amplitude, frequency = np.exp(0.2 * own.standard_normal()), 10 + 0.5 * own.standard_normal()
        for index in range(windows):
            pink = lfilter([1], [1, -0.9], own.standard_normal((3, samples)), axis=-1)
            phase = own.uniform(0, 2 * np.pi, (3, 1))
            alpha = np.sin(2 * np.pi * frequency * np.arange(samples) / SFREQ + phase) * (1 + index % 2)
            signals.append(10 * amplitude * MIXING @ (pink - pink.mean(-1, keepdims=True) + alpha))
            who.append(f"p{person:02}")
            labels.append(("rest", "task")[index % 2])
    columns = {"subject": np.array(who), "label": np.array(labels)}
    made = Windows(signals=np.array(signals), sfreq=SFREQ, ch_names=CH_NAMES, columns=columns, name="eeg")
    return dataclasses.replace(made, **changes)


@pytest.fixture(autouse=True, scope="module")
def few_epochs() -> Iterator[None]:
    """Train EEGNet for two epochs, as a part of many comparisons."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("signal_diffusion.evaluation.utility.eegnet.MAX_EPOCHS", 2)
        yield


@pytest.fixture(scope="module")
def train() -> Windows:
    return eeg(range(10, 18), name="train")


@pytest.fixture(scope="module")
def report(train: Windows) -> Report:
    return compare_windows(eeg(range(8)), eeg(range(20, 28), name="fake"), train=train, controls=True)


def test_other_people_are_as_real_within_their_intervals(report: Report):
    within = []
    for result in report.results:
        if result.total is None:
            assert result.metric.question in ("copies", "conditions", "use") and result.missing
        elif result.interval is not None:
            within.append(result.interval[0] <= 1 <= result.interval[1])

    assert len(within) > 12
    assert np.mean(within) > 0.9  # of 95 % intervals


def test_controls_leave_the_floor_where_they_should(report: Report):
    ratios = {name: {key: each and each.ratio for key, each in row.items()} for name, row in report.controls.items()}

    assert ratios.keys() == CONTROLS.keys()
    assert ratios["copies + 10 % noise"]["copies"] > 2 * ratios["phases randomised, shared"]["copies"]
    assert ratios["amplitude × 1.3"]["amp-w1"] > ratios["copies + 10 % noise"]["amp-w1"]
    assert ratios["phases randomised per electrode"]["corrf"] > 5 * ratios["phases randomised, shared"]["corrf"]
    assert ratios["white noise"]["lsd"] > 3 > 1 > ratios["phases randomised, shared"]["lsd"]


def test_a_scaled_generator_differs_in_amplitude_and_not_in_space(train: Windows):
    fake = eeg(range(20, 28))
    report = compare_windows(
        eeg(range(8)), dataclasses.replace(fake, signals=3 * fake.signals), train=train, metrics=["amp-w1", "corrf"]
    )

    assert report["amp-w1"].verdict == "differs"
    assert report["corrf"].verdict != "differs"
    assert report.verdicts()["amplitude"][0] == "differs"
    assert report.verdicts()["amplitude"][1].startswith("Amp-W1, ratio ")


def test_values_are_by_band_electrode_and_class(report: Report):
    assert list(report["lsd"].bands) == ["delta", "theta", "alpha", "beta", "gamma"]
    assert list(report["lsd"].electrodes) == list(CH_NAMES)
    assert list(report["lsd"].classes) == ["rest", "task"]


def test_without_training_data_the_real_people_are_split_for_the_floor():
    report = compare_windows(eeg(range(8)), eeg(range(20, 28)), metrics=["lsd", "copies"])
    groups = report.groups

    assert groups.other is not None
    assert {*groups.real.windows.people} | {*groups.other.windows.people} == {f"p{i:02}" for i in range(8)}
    assert not {*groups.real.windows.people} & {*groups.other.windows.people}
    assert report["copies"].missing == "no training data is given; use --train"
    assert report["copies"].verdict == "missing"


@pytest.mark.parametrize(
    ("real", "reason"),
    [
        (eeg(range(3)), "no floor: 3 real people, and no training data; at least 4 people are needed"),
        (dataclasses.replace(eeg(range(5)), columns={}), "no floor: real windows have no column subject"),
    ],
)
def test_a_floor_that_cannot_be_had_is_said_and_has_no_ratio(real: Windows, reason: str):
    result = compare_windows(real, eeg(range(20, 24)), metrics=["lsd"])["lsd"]

    assert result.total is not None and result.total.value > 0
    assert result.total.floor is None and result.total.ratio is None and result.interval is None
    assert result.missing.startswith(reason)


@pytest.mark.parametrize("count", [1, 10])
def test_few_windows_have_reasons_instead_of_numbers(count: int):
    real, fake = eeg(range(8)), eeg(range(20, 28)).take(range(count))
    report = compare_windows(real, fake)

    missing = {result.metric.name: result.missing for result in report.results if result.total is None}
    assert missing["eeg-fd"] == f"{count} synthetic window{'s' * (count > 1)}; at least 65 are needed"
    assert all(missing.values())
    json.dumps(report.to_dict(), allow_nan=False)


def test_constant_windows_have_reasons_instead_of_numbers(train: Windows):
    flat = eeg(range(8))
    flat = dataclasses.replace(flat, signals=np.ones_like(flat.signals))
    report = compare_windows(flat, eeg(range(20, 28)), train=train)

    assert "flat" in report["amp-w1"].missing and "flat" in report["bp-w1"].missing
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize("which", ["real", "synthetic", "train"])
def test_a_constant_set_is_refused_by_name(which: str):
    sets = {
        name: eeg(range(first, first + 4), name=name) for name, first in (("real", 0), ("synthetic", 9), ("train", 20))
    }
    sets[which] = dataclasses.replace(sets[which], signals=np.full_like(sets[which].signals, 3.3))
    with pytest.raises(UserError, match=f"^{which}: all windows are constant, so no metric can be computed"):
        compare(**sets)


def test_one_person_has_no_intervals(train: Windows):
    report = compare_windows(eeg([0]), eeg([20]), train=train, metrics=["lsd"])

    assert report["lsd"].total is not None and report["lsd"].interval is None
    assert any("one person; there are no intervals" in note for note in report.notes)


def test_names_of_sets_are_printed_as_they_are():
    text = compare_windows(eeg(range(8), name="a:train:[b]"), eeg(range(20, 24)), metrics=["lsd"]).to_text()
    assert "(a:train:[b])" in text


def test_the_same_input_gives_the_same_report(report: Report, train: Windows):
    again = compare_windows(eeg(range(8)), eeg(range(20, 28), name="fake"), train=train, metrics=SOME, controls=True)

    first, second = (each.to_dict()["metrics"] for each in (report, again))
    assert second == {name: first[name] for name in METRICS if name in SOME}
    assert again.controls == {control: {name: row[name] for name in second} for control, row in report.controls.items()}


def test_files_have_all_values(report: Report, tmp_path: Path):
    report.save(tmp_path / "report")
    stored = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "report" / "report.csv").read_text("utf-8"))))

    assert list(stored["metrics"]) == [name for name, metric in METRICS.items() if not metric.of_spectrograms]
    assert stored["metrics"]["lsd"]["value"] == report["lsd"].total.value
    assert stored["windows"]["real"] == {"windows": 112, "people": 8}
    [total] = [row for row in rows if row["metric"] == "lsd" and row["part"] == "total"]
    assert float(total["ratio"]) == report["lsd"].total.ratio
    assert {row["name"] for row in rows if row["metric"] == "lsd" and row["part"] == "label"} == {"rest", "task"}


def test_people_in_both_sets_are_refused_or_said(train: Windows):
    real = eeg(range(8))

    with pytest.raises(
        UserError, match="eeg and train have the same people, p17; judge by people whom the model was not"
    ):
        compare_windows(eeg(range(17, 20)), real, train=train, metrics=["lsd"])
    itself = compare_windows(real, real.take(range(60)), metrics=["lsd"])
    assert itself.notes == ("eeg has people of eeg, p00, p01, p02, p03, p04: it is judged by itself",)


def test_flat_and_huge_windows_are_unusable(train: Windows):
    fake = eeg(range(20, 28))
    signals = fake.signals.copy()
    signals[:20, 1] = 3.0
    signals[30, 0, 5] = 9000
    report = compare_windows(
        eeg(range(8)), dataclasses.replace(fake, signals=signals), train=train, metrics=["unusable"]
    )

    assert report["unusable"].total.value == pytest.approx(100 * 21 / 112)
    assert report["unusable"].electrodes["Cz"].value == pytest.approx(100 * 20 / 112)
    assert report.verdicts()["hygiene"][0] == "differs"


def test_a_collapsed_generator_differs(train: Windows):
    one = eeg(range(20, 21)).take([0] * 112)
    noise = 0.5 * np.random.default_rng(0).standard_normal(one.signals.shape)
    report = compare_windows(
        eeg(range(8)),
        dataclasses.replace(one, signals=one.signals + noise, columns={}),
        train=train,
        metrics=["coverage"],
    )

    assert report["coverage"].verdict == "differs"


def test_the_usual_spelling_of_electrodes_is_compared():
    old = eeg(range(2), ch_names=("EEG C3-REF", "CZ", "c4"), name="fake")
    first, second, notes = harmonised(eeg(range(2)), old)

    assert first.ch_names == second.ch_names == CH_NAMES
    assert notes == []


def test_the_text_has_every_metric_and_verdict(report: Report):
    text = report.to_text()

    assert "real: 112 windows of 8 people (eeg)" in text
    assert "Does it have the spectrum of EEG?" in text
    for metric in METRICS.values():
        assert (metric.title in text) is not metric.of_spectrograms  # signals have none


def test_a_draw_has_no_window_twice_and_groups_have_one_size():
    groups = matched_groups(Features(eeg(range(8))), Features(eeg(range(20, 28))), None, most=1000)

    for each in draws(groups, 5):
        sets = [each.real, each.synthetic, each.other]
        assert len({len(features) for features in sets}) == 1
        for features in sets:
            assert len(np.unique(features.windows.signals[:, 0, 0])) == len(features)


def test_groups_have_as_many_windows_as_the_smallest_and_as_many_people():
    groups = matched_groups(
        Features(eeg(range(4))), Features(eeg(range(20, 28)).take(range(30))), Features(eeg(range(10, 18))), most=25
    )

    assert [len(each) for each in (groups.real, groups.synthetic, groups.other)] == [25, 25, 25]
    assert len(groups.other.windows.people) == 4
    assert len(groups.real.windows.people) == 4


def test_epochs_and_arrays_of_any_generator_are_compared():
    real = eeg(range(8))
    info = mne.create_info(["C3", "Cz", "C4", "STI"], SFREQ, ["eeg"] * 3 + ["stim"])
    volts = np.concatenate([real.signals * 1e-6, np.zeros((len(real), 1, real.signals.shape[-1]))], 1)
    events = np.stack([np.arange(len(real)), np.zeros(len(real), int), np.tile([1, 2], len(real) // 2)], 1)
    epochs = mne.EpochsArray(volts, info, events, event_id={"rest": 1, "task": 2}, verbose="error")
    fake = eeg(range(20, 28), columns={})

    report = compare(epochs, fake.signals, sfreq=SFREQ, ch_names=CH_NAMES, subjects=real.subjects, metrics=["lsd"])
    direct = compare(real, fake, metrics=["lsd"])

    assert report["lsd"].total.value == pytest.approx(direct["lsd"].total.value, rel=1e-5)
    with pytest.raises(UserError, match="real: is an array; give its sampling rate"):
        compare(real.signals, fake.signals)


def test_electrodes_are_brought_into_order_and_what_one_set_lacks_is_left_out():
    real = eeg(range(2))
    other = Windows(
        signals=np.concatenate([real.signals[:, [2, 0]], real.signals[:, :1]], 1),
        sfreq=SFREQ,
        ch_names=("C4", "C3", "Oz"),
        name="fake",
    )
    first, second, notes = harmonised(real, other)

    assert first.ch_names == second.ch_names == ("C3", "C4")
    assert np.array_equal(first.signals, second.signals)
    assert notes == [
        "eeg: left out Cz, which fake lacks",
        "fake: left out Oz, which eeg lacks",
        "fake: electrodes were brought into the order of eeg",
    ]


def test_rate_and_length_are_harmonised_and_said():
    real, fast = eeg(range(2)), eeg(range(20, 22), samples=1000, sfreq=2 * SFREQ, name="fake")
    first, second, notes = harmonised(real, fast)

    assert first.sfreq == second.sfreq == SFREQ
    assert first.signals.shape[-1] == second.signals.shape[-1] == 320
    assert notes == ["fake: resampled from 128 to 64 Hz", "fake: windows of 7.8125 s were cut to 5 s"]


def test_synthetic_windows_become_like_the_training_windows_too():
    """Otherwise windows of 5 s are compared with real ones of 4 s, or three electrodes with two."""
    real, fake, train = eeg(range(8)), eeg(range(20, 28), name="fake"), eeg(range(10, 18), samples=256, name="train")
    train = dataclasses.replace(train, signals=train.signals[:, :2], ch_names=CH_NAMES[:2])
    report = compare(real, fake, train=train, metrics=["lsd", "corrf", "copies"])
    assert {each.windows.signals.shape[1:] for each in report.features.values()} == {(2, 256)}
    assert {"fake: windows of 5 s were cut to 4 s", "fake: left out C4, which eeg lacks"} <= {*report.notes}
    assert not any(result.missing for result in report.results)


def test_real_windows_in_volts_are_refused():
    volts = dataclasses.replace(eeg(range(2)), signals=1e-6 * eeg(range(2)).signals)
    with pytest.raises(UserError, match=r"eeg: the median standard deviation is \S+ µV; expected µV, not volts"):
        harmonised(volts, dataclasses.replace(volts, name="fake"))


def test_single_electrodes_are_compared_with_single_electrodes():
    real = eeg(range(2))
    single = Windows(
        signals=real.signals[:, :1], sfreq=SFREQ, ch_names=("EEG",), columns={"electrode": np.full(28, "Cz")}
    )
    first, _, notes = harmonised(real, single)

    assert np.array_equal(first.signals[:, 0], real.signals[:, 1])
    assert "samples are single electrodes" in notes[0]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ch_names": ("O1", "Oz", "O2")}, "fake: electrodes O1, Oz, O2, of which eeg has none"),
        ({"made": {"reference": "none"}}, "fake: reference none, but average in eeg; prepare both with the same --ref"),
        ({"ch_names": ("C3", "C3", "C4")}, "fake: electrodes C3, C3, C4: a name occurs twice"),
        ({"tmin": -0.5}, "fake: windows begin at -0.5 s of their event, but at 0 s in eeg"),
        ({"signals": 1e-6 * eeg(range(2)).signals}, "fake: the median standard deviation is .*; expected µV"),
    ],
)
def test_what_cannot_be_harmonised_is_refused_by_name(changes: dict, complaint: str):
    real = eeg(range(2), made={"reference": "average"}, tmin=0.0)

    with pytest.raises(UserError, match=complaint):
        harmonised(real, eeg(range(2), name="fake", **changes))


def test_labels_of_an_unknown_set_are_refused() -> None:
    with pytest.raises(UserError, match="labels: unknown fake; expected some of real, synthetic, train"):
        compare(np.zeros((1, 1, 8)), np.zeros((1, 1, 8)), sfreq=8, labels={"fake": ["a"]})
