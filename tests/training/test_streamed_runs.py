"""Runs whose training split stays on the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from signal_diffusion.cli.evaluated_model import real_of
from signal_diffusion.evaluation.reading import read_dataset
from signal_diffusion.training.diffusion import train
from tests.data.hub_folder import Requests, dataset_on_hub
from tests.training.runs import largest_difference, metrics_of
from tests.training.test_resume import killed_after


def test_a_streamed_run_resumes_to_the_bit(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_on_hub(tmp_path, monkeypatch)
    streaming = ["data.source=hub", "data.paths.root=me/eeg", "data.streaming=true", "training.max_steps=6"]
    streaming += [f"data.loading.cache_dir={tmp_path / 'cache'}"]
    train(experiment_file, output_dir=tmp_path / "whole", overrides=streaming)
    run = killed_after(4, tmp_path / "whole", tmp_path / "run")
    train(experiment_file, output_dir=run, overrides=streaming, resume="latest")
    assert largest_difference(run / "checkpoint-6", tmp_path / "whole" / "checkpoint-6") == 0
    assert metrics_of(run)[-1] == metrics_of(tmp_path / "whole")[-1]
    assert Requests.opened and not list((tmp_path / "snapshots").rglob("train"))


def test_judging_a_streamed_run_downloads_what_it_was_trained_on(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_on_hub(tmp_path, monkeypatch)
    streaming = ["data.source=hub", "data.paths.root=me/eeg", "data.streaming=true", "training.max_steps=1"]
    streaming += [f"data.loading.cache_dir={tmp_path / 'cache'}", "training.validation.enabled=false"]
    train(experiment_file, output_dir=tmp_path / "run", overrides=streaming)

    root = real_of(tmp_path / "run", None)

    assert len(read_dataset(Path(root), "train")) == 3 * 2 * 2  # people × labels × windows
