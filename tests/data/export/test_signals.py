"""Signals and metadata are checked against the card."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.mne_objects import to_mne
from signal_diffusion.data.export.signals import with_names
from signal_diffusion.errors import UserError


def test_codes_that_pandas_turned_into_floats_are_recognised() -> None:
    assert with_names(pd.Series([1.0, float("nan"), 0.0]), ["a", "b"]).tolist() == ["b", None, "a"]


@pytest.mark.parametrize(
    ("act", "complaint"),
    [
        (lambda card: to_mne(np.zeros((1, 7, 64)), card), "7 electrodes; the card has 19"),
        (lambda card: to_mne(np.zeros(64), card), "expected"),
        (lambda card: to_mne(np.zeros((2, 64)), card, {"label": ["alert"]}), "label has 1 values for 2 samples"),
    ],
)
def test_signals_and_metadata_that_do_not_fit_the_card_are_one_line_errors(
    card: DatasetCard, act: Any, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        act(card)
    assert len(caught.value.lines) == 1
