"""Older layouts: overrides, older keys in a file of the current layout, and warnings."""

from __future__ import annotations

import dataclasses
import logging
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from signal_diffusion.cli.config_migrate import migrated
from signal_diffusion.config.keys import known_keys
from signal_diffusion.config.layouts import is_older
from signal_diffusion.config.legacy.report import summary
from signal_diffusion.config.legacy.translation import STEPS, destinations
from signal_diffusion.config.sources import read_translation
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.dataset import check_expected
from signal_diffusion.experiment.loading import load_experiment
from tests.config import older_files
from tests.config.older_files import flat, lines_of, of_toml

SHIPPED = sorted((Path(__file__).parents[2] / "config").glob("*/*.toml"))


def test_an_override_can_give_an_older_key_an_effect(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(older_files.FLAT_YAML.format(root="/pictures"))
    overrides = ("model.diffusion.beta_schedule=linear", "model.diffusion.num_timesteps=1000")
    assert load_experiment(tmp_path / "old.yaml", overrides).model.diffusion.beta_end == 0.03


OVERRIDDEN = """
model: {num_classes: 2}
training:
  epochs: 10
  optimizer: adam
  learning_rate: 0.001
  scheduler: cosine
  scheduler_kwargs: {T_max: 10, eta_min: 1e-4}
  save_frequency: 5
generation: {samples_per_class: 4}
"""


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), {"training.validation.enabled": False, "training.scheduler.min_lr_ratio": 0.1}),
        (("training.checkpointing.interval=7",), {"training.checkpointing.unit": "steps"}),
        (("training.visualization.interval=7",), {"training.visualization.unit": "steps"}),
        (
            ("training.visualization.interval=7", "training.visualization.unit=epochs"),
            {"training.visualization.unit": "epochs"},
        ),
        (("data.paths.val=/v",), {"training.validation.enabled": True}),
        (("data.paths.root=/r",), {"training.validation.enabled": True}),
        (("training.optimizer.type=adamw",), {"training.optimizer.weight_decay": 0.01}),
        (("training.optimizer.learning_rate=0.01",), {"training.scheduler.min_lr_ratio": 0.1}),
        (("training.optimizer.learning_rate=1e-5", "training.scheduler.min_lr_ratio=0"), {}),
        (("training.epochs=20",), {"training.scheduler.T_max": None}),
        (("model.conditioning.num_classes=3",), {"training.visualization.num_samples": 8}),
        (("model.conditioning.type=none",), {"training.visualization.guidance_scale": 1.0}),
    ],
)
def test_an_override_replaces_what_is_translated_and_then_defaults_are_implied(
    overrides: tuple[str, ...], expected: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "old.yaml").write_text(OVERRIDDEN)
    experiment = load_experiment(tmp_path / "old.yaml", ("data.paths.train=/t", *overrides))
    assert flat(dataclasses.asdict(experiment)).items() >= expected.items()


def test_an_overridden_interval_counts_steps_in_the_current_layout_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "new.toml"
    path.write_text('[data]\nsource = "synthetic"\n[training.validation]\ninterval = 2\nunit = "epochs"')
    assert load_experiment(path, ("training.validation.interval=7",)).training.validation.unit == "steps"
    line = "unit: 'epochs' does not apply to --set training.validation.interval, which counts steps"
    assert caplog.messages == [f"{path}: [training.validation] {line}"]


def test_an_overridden_dataset_path_is_a_local_folder(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text('[dataset]\nname = "someone/eeg"')
    data = load_experiment(tmp_path / "old.toml", ("data.paths.root=/here",)).data
    assert (data.source, data.paths.root) == ("dataset", "/here")


def test_an_override_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    assert lines_of(tmp_path / "a.toml", "", "model.name=\udcff")[0].startswith("--set 'model.name=\\udcff': expected")
    [line] = lines_of(tmp_path / "a.toml", '[data]\nsource = "synthetic"', "training.epochs=2020-01-01")
    assert line == "--set: [training] epochs: expected a valid integer, found '2020-01-01'"


def test_a_number_with_an_exponent_is_a_number_in_yaml(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("training: {learning_rate: 1e-4, max_steps: 10}\ndata: {train_path: /t}")
    assert load_experiment(tmp_path / "old.yaml").training.optimizer.learning_rate == 1e-4


def test_a_value_in_place_of_a_table_is_reported_once(tmp_path: Path) -> None:
    assert lines_of(tmp_path / "old.yaml", "training: 3\ndata: {train_path: /t}") == [
        "training: expected a table, found 3"
    ]


def test_an_override_of_an_older_key_names_the_current_one(tmp_path: Path) -> None:
    [line] = lines_of(tmp_path / "a.toml", "", "training.checkpoint_interval=3")
    assert line.endswith("is a key of an older layout; use training.checkpointing.interval")


# The current layout ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_file_of_the_current_layout_is_not_changed(path: Path) -> None:
    assert not is_older(tomllib.loads(path.read_text()))
    assert read_translation(path) is None


def test_a_single_current_table_does_not_make_an_older_file_current() -> None:
    old = '[model]\nconditioning = "classes"\nnum_classes = 5\n[optimizer]\nname = "sgd"'
    for text in (old, old + '\n[compute]\ndevice = "cpu"'):
        tables = flat(of_toml(text).tables)
        assert (
            tables.items() >= {"model.diffusion.method": "rectified_flow", "model.conditioning.num_classes": 5}.items()
        )


def test_each_older_key_becomes_existing_keys() -> None:
    old = {row.old for steps in STEPS.values() for rows in steps for row in rows}
    new = {key for each in old for key in destinations(each) or ()}
    architecture = {key for key in new if key.startswith("model.architecture.")}  # of a backbone, which checks them
    assert new - architecture - set(known_keys()) == {"training.optimizer.*", "training.scheduler.*"}


MIXED = """
[data.paths]
root = "/a"
[compute]
seed = 1
[output]
base_dir = "r"
[training.ema]
decay = 0.9
[dataset]
batch_size = 3  # small
[settings]
config = "a.toml"
[model]
conditioning = "classes"
[training]
checkpoint_interval = 4
"""


def test_an_older_key_in_a_file_of_todays_layout_is_an_error_that_names_the_new_one(tmp_path: Path) -> None:
    command = f"`signal-diffusion config migrate {tmp_path / 'mixed.toml'}`"
    assert set(lines_of(tmp_path / "mixed.toml", MIXED)) == {
        f"[dataset] batch_size: is now data.loading.batch_size; {command} writes it",
        f"[settings] config: has no effect any more; {command} removes it",
        f"[model] conditioning: is now model.conditioning.type; {command} writes it",
        f"[training] checkpoint_interval: is now training.checkpointing.interval; {command} writes it",
    }


# Warnings -------------------------------------------------------------------------------------------------------------


def test_the_warning_names_every_changed_key_once_and_counts_the_new_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "old.toml"
    path.write_text(older_files.FLAT_TOML.format(root="/a"))
    with caplog.at_level(logging.WARNING):
        load_experiment(path)
        load_experiment(path)
    first, *lines, last = caplog.messages
    assert first == f"{path}: has an older layout (flat TOML)"
    assert last == f"  21 keys have new names: `signal-diffusion config migrate {path}` writes them"
    told = "\n".join([*lines, *summary(of_toml(path.read_text()))[1]])
    written = set(flat(tomllib.loads(path.read_text())))
    same = {"model.name", "training.mixed_precision", "logging.tensorboard"}
    assert [key for key in written - same if told.count(f"  {key} ") != 1] == []


def test_a_file_without_renamed_keys_is_not_said_to_have_new_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("data: {paths: {train: /a}}")
    load_experiment(path)
    assert [line for line in caplog.messages if "new name" in line] == []


def test_epochs_next_to_a_number_of_steps_are_left_behind_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.toml"
    path.write_text("[dataset]\nname = '/a'\n[training]\nepochs = 50\nmax_train_steps = 7")
    load_experiment(path)
    line = "  training.epochs = 50: has no effect, because training.max_steps = 7 decides"
    assert [each for each in caplog.messages if "training.epochs" in each] == [line]
    caplog.clear()
    (tmp_path / "new.toml").write_text(migrated(path, "command") or "")
    assert line in capsys.readouterr().err.splitlines()
    assert load_experiment(tmp_path / "new.toml") == load_experiment(path)
    assert [each for each in caplog.messages if "new.toml" in each] == []


def card(name: str, *shape: int) -> SimpleNamespace:
    return SimpleNamespace(representation={"name": name}, shape=shape, channels=("Cz",) * 19, window=2048)


def test_sizes_in_an_older_file_are_checked_against_the_dataset() -> None:
    images, series = card("db-iq", 3, 64, 64), card("timeseries", 1, 19, 2048)
    iq, signals = '[data]\noutput_type = "db-iq"\n', '[data]\ndata_type = "timeseries"\n'
    right = "[dataset]\nresolution = 64\n[model]\nsample_size = [64, 64]\n[model.extras]\n"
    check_expected(of_toml(f"{iq}{right}in_channels = 3\nout_channels = 3").expected, images)
    right = "[dataset]\nresolution = 2048\n[dataset.extras]\nn_eeg_channels = 19\nsequence_length = 2048"
    check_expected(of_toml(signals + right).expected, series)
    wrong = "[dataset]\nresolution = 32\n[model.extras]\nin_channels = 1\n[dataset.extras]\nn_eeg_channels = 20"
    with pytest.raises(UserError) as caught:
        check_expected(of_toml(iq + wrong).expected, images)
    assert [line.split(", but the dataset has ")[0] for line in caught.value.lines] == [
        "[dataset] resolution: 32",
        "[dataset.extras] n_eeg_channels: 20",
        "[model.extras] in_channels: 1",
    ]


def test_the_size_of_a_latent_model_is_determined_by_its_autoencoder() -> None:
    translation = of_toml("[model]\nlatent_space = true\nsample_size = 8\n[model.extras]\nin_channels = 16")
    assert not translation.expected
    assert [each.reason for each in translation.left.values()] == ["determined by the autoencoder"] * 2
