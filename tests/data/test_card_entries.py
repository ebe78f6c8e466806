"""A card with entries of another type or with impossible values is one line for every command that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data import card_entries
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.errors import UserError

Edit = Callable[[dict[str, Any]], object]
DAMAGES: dict[str, tuple[Edit, str]] = {
    "rate 0": (lambda card: card.update(sampling_rate=0), "sampling_rate: expected a positive number of Hz"),
    "rate -1": (lambda card: card.update(sampling_rate=-1.0), "sampling_rate: expected a positive number of Hz"),
    "rate nan": (lambda card: card.update(sampling_rate=float("nan")), "sampling_rate: expected a positive number"),
    "rate text": (lambda card: card.update(sampling_rate="125"), "sampling_rate: expected .*, found '125'"),
    "window 0": (lambda card: card.update(window=0), "window: expected a positive number of samples"),
    "window 1.5": (lambda card: card.update(window=1.5), "window: expected a positive number of samples"),
    "window true": (lambda card: card.update(window=True), "window: expected a positive number of samples"),
    "captions": (lambda card: card.update(captions=["{label}"]), "captions: expected text"),
    "shape": (lambda card: card.update(shape=[1, 64, -64]), "shape: expected three positive whole numbers"),
    "channels": (lambda card: card.update(channels=[1, 2]), "channels: expected a list of names"),
    "positions": (lambda card: card.update(positions={"Cz": [0, 1]}), "positions: expected three numbers"),
    "names": (lambda card: card["columns"]["label"].update(names=[1, None]), "label: names: expected a list of names"),
    "std": (lambda card: card["columns"]["age"].update(std=0), "age: std: expected a positive number, found 0"),
    "kind": (lambda card: card["columns"]["age"].update(kind=["numeric"]), "age: expected a kind"),
    "examples": (lambda card: card["splits"]["train"].update(examples="228"), "train: examples: expected a count"),
    "subjects": (lambda card: card["splits"]["train"].update(subjects="all"), "train: subjects: expected a list"),
    "marginals": (lambda card: card["splits"]["train"]["marginals"].update(label=3), "train: marginals: expected"),
    "no split": (lambda card: card.update(splits={}), "splits: expected a table of splits, found {}"),
    "sources": (lambda card: card.update(sources=[{"name": "x"}]), "sources: expected a list of tables with name"),
    "skipped": (lambda card: card.update(skipped={"a": 1}), "skipped: expected a list of texts"),
    "digest": (lambda card: card["files"].update({"train/00000.parquet": 7}), "files: train/00000.parquet: expected"),
    "path": (
        lambda card: card["files"].update({"../other.parquet": "0"}),
        r"files: \.\./other\.parquet: expected a path",
    ),
    "montages": (
        lambda card: card["preprocessing"].update(montages=[{"absent": ["Cz"], "subjects": 3, "examples": {}}]),
        "preprocessing: expected a table, with absent, subjects and examples",
    ),
    "inverse": (lambda card: card["representation"].update(inverse=None), "representation: expected name, layout"),
}


def test_every_entry_of_a_card_is_checked() -> None:
    """An entry that is added to `DatasetCard` needs a line in card_entries.py."""
    assert card_entries._EXPECTED.keys() == {entry.name for entry in fields(DatasetCard)} - {"format_version"}


def damaged(root: Path, folder: Path, edit: Edit) -> Path:
    entries = json.loads((root / CARD_NAME).read_text(encoding="utf-8"))
    edit(entries)
    (folder / CARD_NAME).write_text(json.dumps(entries), encoding="utf-8")
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_impossible_entry_is_one_line(damage: str, synthetic_dataset: Path, tmp_path: Path) -> None:
    edit, expected = DAMAGES[damage]
    with pytest.raises(UserError, match=rf"{CARD_NAME}: .*{expected}") as caught:
        DatasetCard.load(damaged(synthetic_dataset, tmp_path, edit))
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_no_card_lists_are_an_entry_left_out(synthetic_dataset: Path, tmp_path: Path) -> None:
    assert DatasetCard.load(damaged(synthetic_dataset, tmp_path, lambda card: card.pop("files"))).files == {}


@pytest.mark.parametrize("command", ["check", "show"])
def test_the_commands_show_it(command: str, synthetic_dataset: Path, tmp_path: Path) -> None:
    folder = damaged(synthetic_dataset, tmp_path, lambda card: card.update(sampling_rate=0))
    with pytest.raises(UserError, match=r"sampling_rate: expected .*, found 0; make the dataset again"):
        CliRunner().invoke(app, ["data", command, str(folder)], catch_exceptions=False)


@pytest.mark.parametrize("parameters", [{}, {"sampling_rate": "fast"}, {"n_fft": 0}], ids=str)
def test_impossible_parameters_of_a_representation_are_one_line(
    parameters: dict[str, Any], synthetic_dataset: Path, tmp_path: Path
) -> None:
    def edit(card: dict[str, Any]) -> None:
        card["representation"]["parameters"] = parameters

    card = DatasetCard.load(damaged(synthetic_dataset, tmp_path, edit))
    with pytest.raises(UserError, match="the card has invalid parameters for db-only") as caught:
        representation_of(card)
    assert len(str(caught.value).splitlines()) == 1


CONTRADICTIONS: dict[str, tuple[str, Edit, str]] = {
    "window": ("db-only", lambda card: card.update(window=1024), "window 1024, but the parameters of db-only say 2048"),
    "rate": ("timeseries", lambda card: card.update(sampling_rate=250.0), "sampling_rate 250.0, but .* say 125.0"),
    "shape": (
        "db-only",
        lambda card: card.update(shape=[1, 64, 32]),
        r"shape \(1, 64, 32\), but its parameters give \(1, 64, 64\)",
    ),
    "number": (
        "timeseries",
        lambda card: card.update(channels=card["channels"][1:]),
        "18 channels, but the parameters of timeseries are those of 19",
    ),
    "names": (
        "db-only",
        lambda card: card.update(channels=["Oz", *card["channels"][1:]]),
        "channels Oz, Fp2, .*, but its column electrode names Fp1",
    ),
    "positions": (
        "timeseries",
        lambda card: card.update(channels=["Oz", *card["channels"][1:]]),
        "channels Oz, Fp2, .*, but its entry positions names Fp1",
    ),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_a_card_that_contradicts_its_parameters_or_electrodes_is_one_line(
    what: str, datasets: dict[str, Path], tmp_path: Path
) -> None:
    name, edit, expected = CONTRADICTIONS[what]
    representation_of(DatasetCard.load(datasets[name]))
    with pytest.raises(UserError, match=f"^the card says {expected}; make the dataset again$") as caught:
        representation_of(DatasetCard.load(damaged(datasets[name], tmp_path, edit)))
    assert len(caught.value.lines) == 1


@pytest.mark.parametrize(
    "change", [{"std": [0.0, 1.0]}, {"limit": -1.0}, {"mean": ["x", 0.0]}, {"std": [1.0]}], ids=str
)
def test_impossible_parameters_of_time_series_are_refused(change: dict[str, Any]) -> None:
    good = {"sampling_rate": 125.0, "window": 256, "mean": [0.0, 0.0], "std": [1.0, 1.0], "limit": 8.0}
    assert TimeSeries.from_parameters(good).shape == (1, 2, 256)
    with pytest.raises((ValueError, TypeError)):  # `representation_of` says it in one line
        TimeSeries.from_parameters({**good, **change})
