"""What captions say of windows becomes their columns, so that samples of caption models have condition adherence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.preparing.captions import caption_of
from signal_diffusion.evaluation.reading import windows_of_card


def test_captions_by_the_template_become_columns_and_others_do_not(synthetic_dataset: Path) -> None:
    card = DatasetCard.load(synthetic_dataset)
    gender = card.columns["gender"]["names"][0]
    texts = [caption_of(card.captions, {"gender": gender, "age": 61.0}), "somebody who thinks", ""]

    windows = windows_of_card(np.zeros((3, 64)), card, pd.DataFrame({"caption": texts}), name="samples")

    assert windows.columns["gender"].tolist() == [gender, "", ""]
    assert windows.columns["age"].tolist() == ["61", "", ""]
    assert "label" not in windows.columns


def test_columns_of_the_samples_come_before_what_captions_say(synthetic_dataset: Path) -> None:
    card = DatasetCard.load(synthetic_dataset)
    frame = pd.DataFrame({"caption": [caption_of(card.captions, {"age": 61.0})], "age": [40.0]})

    assert windows_of_card(np.zeros((1, 64)), card, frame, name="samples").columns["age"].tolist() == [40.0]
