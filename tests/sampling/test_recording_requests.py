"""Requests for long recordings: blocks of samples with their conditions, from options and a timeline."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.sampling.long.request import RecordingRequest, build_recording_request
from signal_diffusion.sampling.request_options import request_options

SFREQ, WINDOW = 125.0, 2048


@pytest.fixture(scope="module")
def root(datasets: dict[str, Path]) -> Path:
    return datasets["timeseries"]


def requested(
    experiment_file: Path,
    root: Path,
    conditioning: str,
    rows: list[dict[str, Any]] | None,
    *,
    duration: float | None = None,
    num: int = 1,
    **options: Any,
) -> tuple[RecordingRequest, list[str]]:
    overrides = [f"data.paths.root={root}", "data.representation=timeseries", "model.architecture.patch_size=[1,64]"]
    overrides += [f"model.conditioning.{each}" for each in conditioning.split()]
    experiment = load_experiment(experiment_file, [*overrides, f"generation.sampling.num_samples={num}"])
    timeline = None if rows is None else pd.DataFrame(rows)
    return build_recording_request(
        request_options(**options), experiment, DatasetCard.load(root), duration=duration, timeline=timeline
    )


def row(onset: float, duration: float, **values: object) -> dict[str, object]:
    return {"onset": onset, "duration": duration, **values}


def test_blocks_are_the_rows_and_the_gaps_between_them(experiment_file: Path, root: Path) -> None:
    rows = [row(4, 10, trial_type="alert"), row(14, 6, trial_type="relaxed"), row(22, 2, trial_type="n/a")]
    request, _ = requested(experiment_file, root, "type=class", rows, duration=30)
    assert [(block.start / SFREQ, block.stop / SFREQ, block.values.get("label", "")) for block in request.blocks] == [
        (0, 4, ""),
        (4, 14, "alert"),
        (14, 20, "relaxed"),
        (20, 22, ""),
        (22, 24, ""),
        (24, 30, ""),
    ]
    assert [block.codes["label"].item() for block in request.blocks] == [-1, 0, 1, -1, -1, -1]
    assert request.samples == 30 * SFREQ


def test_attributes_of_the_timeline_change_and_others_last(experiment_file: Path, root: Path) -> None:
    rows = [row(0, 10, age=30), row(12, 8, age=50.5)]
    conditioning = "type=attributes attributes=['gender','age']"
    request, _ = requested(experiment_file, root, conditioning, rows, num=3, attributes={"gender": "F"})
    found = {}
    for window in request.windows:
        cond = request.conditions(window, [0, 2])
        assert cond.attributes["gender"].tolist() == [0, 0]
        found[window.block] = cond.attributes["age"].tolist()
    assert found[0] == [30, 30] and found[2] == [50.5, 50.5]
    assert all(map(math.isnan, found[1]))


def test_captions_of_the_timeline_are_embedded_with_the_others(experiment_file: Path, root: Path) -> None:
    rows = [row(0, 10, trial_type="eyes closed"), row(10, 8, trial_type="eyes open"), row(18, 2, trial_type="")]
    conditioning = "type=caption text_encoder=somewhere"
    request, captions = requested(experiment_file, root, conditioning, rows)
    assert captions == ["eyes closed", "eyes open"]  # the empty one is the first of the model's
    assert [block.codes["caption"].item() for block in request.blocks] == [1, 2, -1]


def test_recordings_of_one_class_each_without_a_timeline(experiment_file: Path, root: Path) -> None:
    request, _ = requested(experiment_file, root, "type=class", None, duration=20, num=3)
    assert request.conditions(request.windows[0], range(3)).attributes["label"].tolist() == [0, 1, 0]
    assert [block.stop for block in request.blocks] == [20 * SFREQ]


def test_an_unconditional_model_has_no_timeline(experiment_file: Path, root: Path) -> None:
    request, _ = requested(experiment_file, root, "type=none", None, duration=20)
    assert request.conditions(request.windows[0], [0]).attributes == {}
    with pytest.raises(UserError, match="timeline: the model is unconditional; leave --timeline out"):
        requested(experiment_file, root, "type=none", [row(0, 20, trial_type="x")])


def test_values_that_were_not_trained_are_warned_about(
    experiment_file: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requested(experiment_file, root, "type=attributes attributes=['age']", [row(0, 20, age=500)])
    err = capsys.readouterr().err
    assert err.startswith("warning: age 500: requested, but the model was trained on") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("rows", "duration", "message"),
    [
        ([row(0, 5, trial_type="alert")], None, "timeline: ends at 5 s; expected at least a window of the model"),
        ([row(0, 1e6, trial_type="alert")], None, "timeline: ends at 1e+06 s; expected at most a day, 86400 s"),
        ([row(0, 21, trial_type="alert")], 20, "timeline row 0: ends at 21 s, after --duration 20; use a longer one"),
        ([row(0, 20, trial_type="tired")], None, "timeline row 0: label = tired: expected one of alert, relaxed"),
    ],
)  # fmt: skip
def test_timelines_that_do_not_fit(
    experiment_file: Path, root: Path, rows: list[dict[str, object]], duration: float | None, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        requested(experiment_file, root, "type=class", rows, duration=duration)
    assert str(caught.value).startswith(message)


def test_a_timeline_ends_within_half_a_sample_of_the_duration(experiment_file: Path, root: Path) -> None:
    rows = [row(0, 20.003, trial_type="alert")]
    assert requested(experiment_file, root, "type=class", rows, duration=20)[0].samples == 2500
