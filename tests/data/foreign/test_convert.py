"""Datasets that `prepare` did not make are converted once, also from the Hub."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from signal_diffusion.data.card import CARD_NAME
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from tests.data.foreign.folders import (
    opened,
    pixels,
    root_of,
    save,
)


def test_conversion_runs_once_and_again_after_a_change(folder: Path) -> None:
    root, _, _ = opened(paths=root_of(folder))
    before = (root / CARD_NAME).stat().st_mtime_ns
    again, _, _ = opened(paths=root_of(folder))
    assert again == root and (root / CARD_NAME).stat().st_mtime_ns == before
    assert opened(paths=root_of(folder), image_size=8)[0] != root
    save(folder / "train" / "0.png", pixels(7, 16, 16))
    assert opened(paths=root_of(folder))[0] != root


def test_prepared_dataset_on_the_hub_is_used_without_conversion(
    synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[Any] = []

    def download(name: str, **options: Any) -> str:
        requests.append((name, options))
        return str(synthetic_dataset)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    root, card, _ = opened(source="hub", paths=root_of("me/eeg@v1"), representation="db-only")
    assert root == synthetic_dataset and card.shape == (1, 64, 64)
    assert requests == [
        ("me/eeg", {"repo_type": "dataset", "revision": "v1", "allow_patterns": None, "ignore_patterns": None})
    ]


def test_foreign_dataset_on_the_hub_is_converted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *arguments, **options: str(folder))
    _, card, _ = opened(source="hub", paths=root_of("me/pictures"))
    assert card.sources[0]["name"] == "me/pictures" and card.splits["train"]["examples"] == 3


def test_hub_without_network_is_a_one_line_error() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(
        UserError, match=r"^\[data.paths\] root: nobody/nothing: could not be downloaded from the Hub"
    ) as caught:
        opened(source="hub", paths=root_of("nobody/nothing"))
    assert len(str(caught.value).splitlines()) == 1


def test_image_size_for_a_prepared_dataset_is_an_error(synthetic_dataset: Path) -> None:
    with pytest.raises(UserError, match=r"\[data\] image_size: has no effect on"):
        opened(paths=root_of(synthetic_dataset), representation="db-only", image_size=32)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["data.source=hub"], "[data.paths] root: expected a Hub id, 'owner/name' or 'owner/name@revision'"),
        (["data.source=hub", "data.paths.root=name"], "found 'name'"),
        (["data.image_size=0"], "[data] image_size: expected a number greater than or equal to 1"),
        (["data.sampling_rate=100.0"], "has no effect with data.representation = 'db-only'; it needs 'timeseries'"),
        (["data.representation=timeseries", "data.image_size=8"], "[data] image_size: has no effect"),
        (["data.source=synthetic", "data.paths.root=", "data.representation=image"], "the synthetic dataset is EEG"),
    ],
)
def test_conflicting_keys_are_errors_when_the_experiment_is_loaded(
    overrides: list[str], complaint: str, experiment_file: Path
) -> None:
    with pytest.raises(UserError) as caught:
        load_experiment(experiment_file, overrides)
    assert complaint in str(caught.value) and len(caught.value.lines) == 1


def test_conversion_is_logged_at_its_start(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        root, _, _ = opened(paths=root_of(folder))
    assert [record.message for record in caplog.records] == [f"converting pictures into {root}"]
