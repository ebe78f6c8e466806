"""Weights & Biases, with a stand-in for its package: used only with a project, and resumed."""

from __future__ import annotations

import errno
import logging
import sys
from importlib.machinery import ModuleSpec
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from signal_diffusion.errors import UserError
from signal_diffusion.training.diffusion import train

SHORT = ("training.max_steps=2", "training.validation.interval=2", "data.loading.max_train_examples=32")
NAMED = (*SHORT, "logging.wandb_project=eeg", "logging.wandb_entity=lab", "logging.run_name=first")


class Wandb(ModuleType):
    """A stand-in for the parts of the package that are used; records its calls."""

    class Error(Exception):
        """Like the package's own."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)  # other packages look for it
        self.started: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.config: dict[str, Any] = {}
        self.num_finished = 0

    def init(self, **options: Any) -> SimpleNamespace:
        self.started.append(options)
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


def test_wandb_is_not_imported_without_a_project(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # its import fails

    train(experiment_file, output_dir=tmp_path / "run", overrides=SHORT)

    assert (tmp_path / "run" / "checkpoint-2").is_dir() and not (tmp_path / "run" / "wandb-id").exists()


def test_a_missing_wandb_is_refused_before_anything_is_written(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)

    with pytest.raises(UserError, match=r"\[logging\] wandb_project: wandb is not installed; .*`pip install wandb`"):
        train(experiment_file, output_dir=tmp_path / "run", overrides=NAMED)

    assert not (tmp_path / "run").exists()


def test_wandb_gets_metrics_images_and_the_experiment_in_the_order_of_steps(
    experiment_file: Path, tmp_path: Path, wandb: Wandb
) -> None:
    previews = ("training.visualization.enabled=true", "training.visualization.num_samples=2")

    train(experiment_file, output_dir=tmp_path / "run", overrides=(*NAMED, *previews))

    [options] = wandb.started
    assert (options["project"], options["entity"], options["name"]) == ("eeg", "lab", "first")
    steps, values = zip(*wandb.logged, strict=True)
    assert list(steps) == sorted(steps) and steps[-1] == 2
    merged = {name: value for each in values for name, value in each.items()}
    assert {"train/loss", "validation/ema_loss"} <= merged.keys()
    assert merged["samples"] == f"image {tmp_path / 'run' / 'samples' / 'step-00000002.png'}"
    assert wandb.config["model.architecture.num_layers"] == 2 and wandb.num_finished == 1


def test_a_resumed_run_keeps_its_wandb_id_and_a_new_run_gets_another(
    experiment_file: Path, tmp_path: Path, wandb: Wandb
) -> None:
    train(experiment_file, output_dir=tmp_path / "run", overrides=NAMED)
    longer = (*NAMED, "training.max_steps=3")
    train(experiment_file, output_dir=tmp_path / "run", overrides=longer, resume="latest")
    train(experiment_file, output_dir=tmp_path / "other", overrides=NAMED)

    first, resumed, other = (options["id"] for options in wandb.started)
    assert first == resumed != other and len(first) == 32
    assert {options["resume"] for options in wandb.started} == {"allow"}


def test_an_error_when_wandb_starts_is_one_line_and_the_run_goes_on(
    experiment_file: Path, tmp_path: Path, wandb: Wandb, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**options: Any) -> None:
        raise wandb.Error("no API key\nconfigured")

    wandb.init = refuse  # type: ignore[method-assign]
    assert train(experiment_file, output_dir=tmp_path / "run", overrides=NAMED)
    line = "warning: Weights & Biases: no API key configured; the run goes on without it (log in with `wandb login`"
    assert capsys.readouterr().err.count(line) == 1 and not wandb.logged


class FullDisk(StringIO):
    """A file of wandb's own log."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_for_wandb_and_its_own_log_is_one_line_without_advice_to_log_in(
    experiment_file: Path,
    tmp_path: Path,
    wandb: Wandb,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    own_log = logging.getLogger("wandb.of.the.test")
    own_log.addHandler(logging.StreamHandler(FullDisk()))

    def log(values: dict[str, Any], step: int) -> None:
        own_log.warning("logged")
        raise OSError(errno.ENOSPC, "No space left on device")

    wandb.log = log  # type: ignore[method-assign]
    assert train(experiment_file, output_dir=tmp_path / "run", overrides=NAMED)
    shown = capsys.readouterr().err
    line = "warning: Weights & Biases: [Errno 28] No space left on device; the run goes on without it\n"
    assert shown.count(line) == shown.count("Weights & Biases") == 1
    assert "Traceback" not in shown and "Logging error" not in shown


def test_wandb_itself_keeps_a_run_on_this_machine_when_offline(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", exc_type=ImportError)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert train(experiment_file, output_dir=tmp_path / "run", overrides=NAMED)
    [stored] = tmp_path.glob("run/wandb/offline-run-*/run-*.wandb")
    assert b"train/loss" in stored.read_bytes()
