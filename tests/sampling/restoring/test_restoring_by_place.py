"""Models that know electrodes by place take electrodes that they were not trained on, and restore others."""

from __future__ import annotations

from typing import Any

import pytest

from signal_diffusion.data.recordings.channels import TEN_TWENTY
from signal_diffusion.errors import UserError
from signal_diffusion.pipeline import SignalDiffusionPipeline
from tests.sampling.restoring.conftest import ELECTRODES, recorded


def test_electrodes_of_the_recording_that_have_a_position_are_given(by_place: SignalDiffusionPipeline) -> None:
    raw = recorded(names=("Oz", "X1", "Cz", "C4", "Fz"))
    plan = by_place.restore(raw, draws=2).plan
    assert plan.given == ("Fz", "C4", "Cz", "Oz") and plan.restored == ("C3", "Pz")
    assert plan.left_out.unknown == ("X1",)


def test_any_electrode_with_a_position_can_be_added(by_place: SignalDiffusionPipeline) -> None:
    restoration = by_place.restore(recorded(), add=["FC1", "Oz"], bad=["C4"], draws=2)
    assert restoration.ch_names == (*ELECTRODES, "FC1", "Oz")
    assert restoration.plan.restored == ("C4", "FC1", "Oz")
    mean = restoration.mean
    assert (mean.get_data(picks=["FC1", "Oz"]).std(axis=1) > 0).all()
    positions = mean.get_montage().get_positions()["ch_pos"]
    assert positions["Oz"][1] < -0.05 < 0 < positions["FC1"][2]
    assert restoration.about["montage"].keys() == {*ELECTRODES, "FC1", "Oz"}


def test_a_whole_montage_is_restored_around_what_was_recorded(by_place: SignalDiffusionPipeline) -> None:
    restoration = by_place.restore(recorded(seconds=2.0), to="10-20", draws=2)
    assert set(restoration.ch_names) == set(TEN_TWENTY)
    assert restoration.plan.given == ELECTRODES and len(restoration.plan.restored) == 15


def test_the_order_of_new_electrodes_in_the_file_changes_nothing(by_place: SignalDiffusionPipeline) -> None:
    raw = recorded(names=(*ELECTRODES, "Oz", "Cz"), seconds=2.0)
    shuffled = raw.copy().reorder_channels(["Oz", "Pz", "Cz", "C4", "Fz", "C3"])
    one, other = (by_place.restore(each, bad=["C3"], draws=2) for each in (raw, shuffled))
    assert one.ch_names == other.ch_names
    assert (one.mean.get_data() == other.mean.get_data()).all()


def test_an_electrode_without_a_position_is_an_error(by_place: SignalDiffusionPipeline) -> None:
    with pytest.raises(UserError, match="add: Q7: no known position; use electrodes of the dataset"):
        by_place.restore(recorded(), add=["Q7"], draws=2)


def test_models_by_name_restore_only_the_electrodes_of_their_data(pipeline: SignalDiffusionPipeline) -> None:
    with pytest.raises(
        UserError, match="to Fp1: the model has no such electrode; it has Fz, C3, C4, Pz; for others, "
    ) as caught:
        pipeline.restore(recorded(), to="10-20", draws=2)
    assert str(caught.value).endswith("10-10 or 10-20, use a model with model.conditioning.electrodes = 'position'")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"bad": ["FC1"]}, "bad FC1: the recording has no such electrode; use add to restore what it lacks"),
        ({"bad": ["X1"]}, "bad X1: has no known position, so it is not used anyway"),
        ({"bad": ["A1"]}, "bad A1: in the recording this is a reference or not EEG, and is not used; leave it out of"),
        ({"add": ["A1"]}, "add A1: in the recording this is a reference or not EEG"),
        ({"to": ["Oz", "A1"]}, "to A1: in the recording this is a reference or not EEG"),
        ({"to": "banana"}, "to banana: no known position; use 10-10, 10-20, or electrodes of MNE's standard_1005"),
    ],
)
def test_electrodes_that_are_not_in_the_recording_or_not_used_are_one_line_errors(
    by_place: SignalDiffusionPipeline, arguments: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        by_place.restore(recorded(names=(*ELECTRODES, "A1", "X1")), draws=2, **arguments)
    [line] = caught.value.lines
    assert line.startswith(f"recording: {expected}")
