"""Conditions with the marginals of a split, row by row."""

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
from signal_diffusion.sampling.requests import with_values
from tests import text_encoders

NAMES = ("electrode", "gender", "age")
DRAWN = 4000


@pytest.fixture(scope="module")
def experiment(experiment_file: Path) -> schema.Experiment:
    conditioning = ("model.conditioning.type=attributes", f"model.conditioning.attributes={list(NAMES)}")
    return load_experiment(experiment_file, conditioning)


@pytest.fixture(scope="module")
def split(synthetic_dataset: Path) -> pd.DataFrame:
    """The rows of the validation split, electrodes by name."""
    rows: pd.DataFrame = open_split(synthetic_dataset, "validation").select_columns(list(NAMES)).to_pandas()
    electrodes = DatasetCard.load(synthetic_dataset).columns["electrode"]["names"]
    return rows.assign(electrode=[electrodes[code] for code in rows["electrode"]])


@pytest.fixture(scope="module")
def drawn(experiment: schema.Experiment) -> pd.DataFrame:
    return pd.DataFrame(values_like(experiment, NAMES, "validation", DRAWN, seed=0))


@pytest.mark.parametrize("name", NAMES)
def test_the_marginals_are_those_of_the_split(drawn: pd.DataFrame, split: pd.DataFrame, name: str) -> None:
    shares = (frame[name].value_counts(normalize=True) for frame in (drawn, split))
    found, expected = (each.sort_index() for each in shares)
    assert found.index.tolist() == expected.index.tolist()
    five_deviations = 5 * (expected * (1 - expected) / DRAWN) ** 0.5
    assert ((found - expected).abs() <= five_deviations).all()


def test_rows_are_drawn_whole(drawn: pd.DataFrame, split: pd.DataFrame) -> None:
    there = set(split.itertuples(index=False, name=None))
    assert set(drawn.itertuples(index=False, name=None)) <= there


def test_a_row_depends_on_its_number_and_the_seed_alone(experiment: schema.Experiment, drawn: pd.DataFrame) -> None:
    few = pd.DataFrame(values_like(experiment, NAMES, "validation", 7, seed=0))
    other = pd.DataFrame(values_like(experiment, NAMES, "validation", 7, seed=1))
    assert few.equals(drawn.head(7)) and not other.equals(few)


def test_a_model_is_asked_for_what_was_drawn(
    experiment: schema.Experiment, drawn: pd.DataFrame, synthetic_dataset: Path
) -> None:
    card = DatasetCard.load(synthetic_dataset)
    request, captions = build_request(RequestOptions(like="validation"), experiment, card)
    names = card.columns["electrode"]["names"]
    assert captions == [] and len(request) == 64
    assert [names[code] for code in request.cond.attributes["electrode"]] == drawn["electrode"].head(64).tolist()
    assert request.cond.attributes["age"].tolist() == drawn["age"].head(64).tolist()


def with_root(experiment: schema.Experiment, root: Path) -> schema.Experiment:
    paths = dataclasses.replace(experiment.data.paths, root=str(root))
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, paths=paths))


def test_a_dataset_that_has_gone_is_missed(experiment: schema.Experiment, tmp_path: Path) -> None:
    gone = with_root(experiment, tmp_path / "gone")
    with pytest.raises(
        UserError,
        match=r"^--like validation: \[data.paths\] root: .*/gone does not exist; if the dataset has been moved",
    ):
        values_like(gone, NAMES, "validation", 3, seed=0)


def test_a_category_that_the_model_has_not_seen_is_blamed_on_the_split() -> None:
    with pytest.raises(UserError, match=r"^--like: label = asleep: expected one of alert, relaxed$"):
        with_values([Categorical("label", ("alert", "relaxed"))], {"label": ["alert", "asleep"]})


def test_an_unconditional_model_is_like_nothing(experiment: schema.Experiment) -> None:
    with pytest.raises(UserError, match="--like validation: the model is unconditional"):
        values_like(experiment, (), "validation", 3, seed=0)


@pytest.fixture(scope="module")
def of_captions(
    experiment_file: Path, synthetic_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> schema.Experiment:
    encoder = text_encoders.clip(tmp_path_factory.mktemp("encoders") / "clip")
    overrides = ("model.conditioning.type=caption", f"model.conditioning.text_encoder={encoder}")
    return load_experiment(experiment_file, overrides)


def test_the_captions_drawn_are_those_that_the_model_has_to_be_loaded_with(
    of_captions: schema.Experiment, synthetic_dataset: Path
) -> None:
    card = DatasetCard.load(synthetic_dataset)
    request, captions = build_request(RequestOptions(like="validation"), of_captions, card)
    expected: list[Any] = values_like(of_captions, ("caption",), "validation", 64, seed=0)["caption"]
    there = Counter(open_split(synthetic_dataset, "validation")["caption"])
    assert set(captions) == set(expected) <= there.keys()
    assert [captions[index - 1] for index in request.cond.attributes["caption"]] == expected
