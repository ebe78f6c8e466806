"""Conditions that are sampled row by row from a split."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.models.conditioning.attributes import Categorical
from signal_diffusion.sampling.dataset_conditions import values_like
from signal_diffusion.sampling.request_options import RequestOptions, build_request
from signal_diffusion.sampling.requests import request_rows
from tests import text_encoders

NAMES = ("electrode", "gender", "age")
NUM_ROWS = 4000


@pytest.fixture(scope="module")
def experiment(experiment_file: Path) -> schema.Experiment:
    conditioning = ("model.conditioning.type=attributes", f"model.conditioning.attributes={list(NAMES)}")
    return load_experiment(experiment_file, conditioning)


@pytest.fixture(scope="module")
def split(synthetic_dataset: Path) -> pd.DataFrame:
    """The rows of the validation split, with names of electrodes."""
    rows: pd.DataFrame = open_split(synthetic_dataset, "validation").select_columns(list(NAMES)).to_pandas()
    electrodes = DatasetCard.load(synthetic_dataset).columns["electrode"]["names"]
    return rows.assign(electrode=[electrodes[code] for code in rows["electrode"]])


@pytest.fixture(scope="module")
def sampled(experiment: schema.Experiment) -> pd.DataFrame:
    return pd.DataFrame(values_like(experiment, NAMES, "validation", NUM_ROWS, seed=0))


@pytest.mark.parametrize("name", NAMES)
def test_the_marginals_are_those_of_the_split(sampled: pd.DataFrame, split: pd.DataFrame, name: str) -> None:
    shares = (frame[name].value_counts(normalize=True) for frame in (sampled, split))
    found, expected = (each.sort_index() for each in shares)
    assert found.index.tolist() == expected.index.tolist()
    five_deviations = 5 * (expected * (1 - expected) / NUM_ROWS) ** 0.5
    assert ((found - expected).abs() <= five_deviations).all()


def test_combinations_of_attributes_are_those_of_rows(sampled: pd.DataFrame, split: pd.DataFrame) -> None:
    rows = set(split.itertuples(index=False, name=None))
    assert set(sampled.itertuples(index=False, name=None)) <= rows


def test_a_row_depends_only_on_its_number_and_the_seed(experiment: schema.Experiment, sampled: pd.DataFrame) -> None:
    few = pd.DataFrame(values_like(experiment, NAMES, "validation", 7, seed=0))
    other = pd.DataFrame(values_like(experiment, NAMES, "validation", 7, seed=1))
    assert few.equals(sampled.head(7)) and not other.equals(few)


def test_the_request_has_the_sampled_conditions(
    experiment: schema.Experiment, sampled: pd.DataFrame, synthetic_dataset: Path
) -> None:
    card = DatasetCard.load(synthetic_dataset)
    request, captions = build_request(RequestOptions(like="validation"), experiment, card)
    names = card.columns["electrode"]["names"]
    assert captions == [] and len(request) == 64
    assert [names[code] for code in request.cond.attributes["electrode"]] == sampled["electrode"].head(64).tolist()
    assert request.cond.attributes["age"].tolist() == sampled["age"].head(64).tolist()


def with_root(experiment: schema.Experiment, root: Path) -> schema.Experiment:
    paths = dataclasses.replace(experiment.data.paths, root=str(root))
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, paths=paths))


def test_the_error_about_a_missing_dataset_says_how_to_set_its_folder(
    experiment: schema.Experiment, tmp_path: Path
) -> None:
    gone = with_root(experiment, tmp_path / "gone")
    with pytest.raises(
        UserError,
        match=r"^--like validation: \[data.paths\] root: .*/gone does not exist; if you moved the dataset",
    ):
        values_like(gone, NAMES, "validation", 3, seed=0)


def test_the_error_about_an_unknown_category_names_the_split() -> None:
    with pytest.raises(UserError, match=r"^--like: label = asleep: expected one of alert, relaxed$"):
        request_rows([Categorical("label", ("alert", "relaxed"))], {"label": ["alert", "asleep"]})


def test_like_is_refused_for_an_unconditional_model(experiment: schema.Experiment) -> None:
    with pytest.raises(UserError, match="--like validation: the model is unconditional"):
        values_like(experiment, (), "validation", 3, seed=0)


@pytest.fixture(scope="module")
def caption_experiment(
    experiment_file: Path, synthetic_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> schema.Experiment:
    encoder = text_encoders.clip(tmp_path_factory.mktemp("encoders") / "clip")
    overrides = ("model.conditioning.type=caption", f"model.conditioning.text_encoder={encoder}")
    return load_experiment(experiment_file, overrides)


def test_sampled_captions_are_returned_for_loading_the_model(
    caption_experiment: schema.Experiment, synthetic_dataset: Path
) -> None:
    card = DatasetCard.load(synthetic_dataset)
    request, captions = build_request(RequestOptions(like="validation"), caption_experiment, card)
    expected: list[Any] = values_like(caption_experiment, ("caption",), "validation", 64, seed=0)["caption"]
    available = Counter(open_split(synthetic_dataset, "validation")["caption"])
    assert set(captions) == set(expected) <= available.keys()
    assert [captions[index - 1] for index in request.cond.attributes["caption"]] == expected


def test_a_dataset_that_was_made_again_is_named(
    experiment: schema.Experiment, synthetic_dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    card = DatasetCard.load(synthetic_dataset)
    values_like(experiment, NAMES, "validation", 1, seed=0, before=card)
    assert caplog.text == ""
    changed = dict.fromkeys(card.files, "0" * 64)
    values_like(experiment, NAMES, "validation", 1, seed=0, before=dataclasses.replace(card, files=changed))
    assert "was made again since the run was trained on it" in caplog.text
    assert "validation/00000.parquet differs" in caplog.text
