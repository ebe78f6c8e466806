"""Weights & Biases, by a stand-in for its package: asked for by a project's name alone, and gone on with."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from signal_diffusion.errors import UserError
from signal_diffusion.training.diffusion import train

SHORT = ("training.max_steps=2", "training.validation.interval=2", "data.loading.max_train_examples=32")
NAMED = (*SHORT, "logging.wandb_project=eeg", "logging.wandb_entity=lab", "logging.run_name=first")


class Wandb(ModuleType):
    """What is used of the package, and what it was told."""

    class Error(Exception):
        """As the package's own."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)  # which others look for
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.config: dict[str, Any] = {}
        self.num_finished = 0

    def init(self, **options: Any) -> SimpleNamespace:
        self.begun.append(options)
        return SimpleNamespace(log=self.log, config=self.config, finish=self.finish)

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.num_finished += 1

    def Image(self, path: str) -> str:  # noqa: N802, the name that the package gives it
        return f"image {path}"


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_nothing_imports_it_unless_a_project_is_named(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # whose import fails

    train(experiment_file, output_dir=tmp_path / "run", overrides=SHORT)

    assert (tmp_path / "run" / "checkpoint-2").is_dir() and not (tmp_path / "run" / "wandb-id").exists()


def test_where_it_is_missing_a_line_says_so_before_anything_is_written(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)

    with pytest.raises(UserError, match=r"\[logging\] wandb_project: wandb is not installed; .*`pip install wandb`"):
        train(experiment_file, output_dir=tmp_path / "run", overrides=NAMED)

    assert not (tmp_path / "run").exists()


def test_it_gets_metrics_pictures_and_the_experiment_in_the_order_of_the_steps(
    experiment_file: Path, tmp_path: Path, wandb: Wandb
) -> None:
    pictures = ("training.visualization.enabled=true", "training.visualization.num_samples=2")

    train(experiment_file, output_dir=tmp_path / "run", overrides=(*NAMED, *pictures))

    [options] = wandb.begun
    assert (options["project"], options["entity"], options["name"]) == ("eeg", "lab", "first")
    steps, values = zip(*wandb.logged, strict=True)
    assert list(steps) == sorted(steps) and steps[-1] == 2
    merged = {name: value for each in values for name, value in each.items()}
    assert {"train/loss", "validation/ema_loss"} <= merged.keys()
    assert merged["samples"] == f"image {tmp_path / 'run' / 'samples' / 'step-00000002.png'}"
    assert wandb.config["model.architecture.num_layers"] == 2 and wandb.num_finished == 1


def test_a_resumed_run_goes_on_under_its_id_and_a_new_one_has_another(
    experiment_file: Path, tmp_path: Path, wandb: Wandb
) -> None:
    train(experiment_file, output_dir=tmp_path / "run", overrides=NAMED)
    longer = (*NAMED, "training.max_steps=3")
    train(experiment_file, output_dir=tmp_path / "run", overrides=longer, resume="latest")
    train(experiment_file, output_dir=tmp_path / "other", overrides=NAMED)

    first, resumed, other = (options["id"] for options in wandb.begun)
    assert first == resumed != other and len(first) == 32
    assert {options["resume"] for options in wandb.begun} == {"allow"}


def test_what_it_refuses_is_one_line(experiment_file: Path, tmp_path: Path, wandb: Wandb) -> None:
    def refuse(**options: Any) -> None:
        raise wandb.Error("no API key\nconfigured")

    wandb.init = refuse  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"\[logging\] wandb_project: Weights & Biases: no API key configured; log in"):
        train(experiment_file, output_dir=tmp_path / "run", overrides=NAMED)
