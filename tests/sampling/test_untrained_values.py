"""A category that training never saw cannot be requested without a warning that names it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.sampling.request_options import build_request, request_options


@pytest.fixture
def card(synthetic_dataset: Path) -> DatasetCard:
    """The dataset of two labels, with a third one in validation only."""
    card = DatasetCard.load(synthetic_dataset)
    names = [*card.columns["label"]["names"], "asleep"]
    marginals = card.splits["validation"]["marginals"]
    other = marginals | {"label": marginals["label"] | {"asleep": {"examples": 5, "share": 0.1}}}
    return replace(
        card,
        columns=card.columns | {"label": {"kind": "categorical", "names": names}},
        splits=card.splits | {"validation": card.splits["validation"] | {"marginals": other}},
    )


BY_AGE = ("model.conditioning.type=attributes", "model.conditioning.attributes=['age']")
WARNING = (
    "warning: label asleep: requested, but the model was trained on no such example; its samples mean nothing. It was "
    "trained on alert, relaxed\n"
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"label": "asleep"}, WARNING),
        ({"attributes": {"label": "asl"}}, WARNING),
        ({}, WARNING),  # all classes in turn
        ({"label": "relaxed"}, ""),
    ],
    ids=str,
)
def test_a_category_without_training_examples_is_named(
    options: Any, expected: str, card: DatasetCard, experiment_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = load_experiment(experiment_file, ["generation.sampling.num_samples=4"])
    build_request(request_options(**options), experiment, card)
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("age", "trained"),
    [("300", "18 to 38"), ("39", "18 to 38"), ("-1", "18 to 38"), ("38", ""), ("18", "")],
)
def test_a_number_outside_of_the_range_of_training_is_named(
    age: str, trained: str, card: DatasetCard, experiment_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = replace(card, splits=card.splits | {"train": card.splits["train"] | {"ranges": {"age": [18.0, 38.0]}}})
    build_request(request_options(attributes={"age": age}), load_experiment(experiment_file, BY_AGE), card)
    warning = (
        f"warning: age {age}: requested, but the model was trained on {trained}; what it generates outside of that is "
        "a guess\n"
    )
    assert capsys.readouterr().err == (warning if trained else "")


@pytest.mark.parametrize(("age", "warns"), [("300", True), ("60", False), ("", False)])
def test_without_a_range_in_the_card_a_number_far_from_the_mean_is_named(
    age: str, warns: bool, card: DatasetCard, experiment_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = {key: value for key, value in card.splits["train"].items() if key != "ranges"}
    columns = card.columns | {"age": {"kind": "numeric", "mean": 50.0, "std": 10.0}}
    card = replace(card, splits=card.splits | {"train": train}, columns=columns)
    wanted = request_options(attributes={"age": age}) if age else request_options()
    build_request(wanted, load_experiment(experiment_file, BY_AGE), card)
    err = capsys.readouterr().err
    assert ("the model was trained on numbers of mean 50 and standard deviation 10" in err) == warns == bool(err)


def test_cards_have_the_ranges_of_their_numbers(synthetic_dataset: Path) -> None:
    for split, stated in DatasetCard.load(synthetic_dataset).splits.items():
        ages = [age for age in open_split(synthetic_dataset, split)["age"] if age is not None]
        assert stated["ranges"] == {"age": pytest.approx([min(ages), max(ages)])}


def test_the_training_split_may_have_another_name(
    card: DatasetCard, experiment_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = replace(card, preprocessing={"splits": {"awake_and_asleep": "validation"}})
    experiment = load_experiment(experiment_file, ["data.paths.train=awake_and_asleep"])
    build_request(request_options(label="asleep"), experiment, card)
    assert capsys.readouterr().err == ""


def test_one_process_of_several_warns(
    card: DatasetCard, experiment_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    build_request(request_options(label="asleep"), load_experiment(experiment_file), card)
    assert capsys.readouterr().err == ""


def test_conditions_of_a_split_are_checked_too(
    card: DatasetCard, experiment_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = card.splits["train"]
    only = train["marginals"] | {"label": {"alert": {"examples": 228, "share": 1.0}}}
    card = replace(card, splits=card.splits | {"train": train | {"marginals": only}})
    experiment = load_experiment(experiment_file, ["generation.sampling.num_samples=30"])
    build_request(request_options(like="validation"), experiment, card)
    assert "label relaxed: requested, but the model was trained on no such example" in capsys.readouterr().err
