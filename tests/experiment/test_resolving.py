"""What an experiment names is looked up once, when a run starts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.experiment import checkpoint, dataset, network, pretrained
from signal_diffusion.paths import expand_path
from signal_diffusion.training.diffusion import train


def test_a_start_expands_each_path_and_reads_each_card_and_experiment_once(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ("training.max_steps=1", "training.validation.interval=1")
    train(experiment_file, output_dir=tmp_path / "first", overrides=short)
    start = tmp_path / "first" / "checkpoint-1"
    seen: Counter[str] = Counter()

    def expand(text: str, key: str) -> Path:
        seen[key] += 1
        return expand_path(text, key)

    for module in (dataset, network, pretrained):
        monkeypatch.setattr(module, "expand_path", expand)
    for name, module, kind in (("load", DatasetCard, "card"), ("load_experiment", checkpoint, "experiment")):
        original = getattr(module, name)

        def counted(path: Path, original=original, kind=kind):  # type: ignore[no-untyped-def]
            seen[
                f"{kind} of {path.relative_to(tmp_path).parts[0] if path.is_relative_to(tmp_path) else 'dataset'}"
            ] += 1
            return original(path)

        monkeypatch.setattr(module, name, counted)

    train(experiment_file, output_dir=tmp_path / "second", overrides=(*short, f"model.pretrained={start}"))

    assert seen.keys() == {
        "[data.paths] root", "[model] pretrained", "card of dataset", "card of first", "experiment of first"
    }  # fmt: skip
    assert set(seen.values()) == {1}
