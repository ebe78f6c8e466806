"""`scripts/migrate_config_v1_to_v2.py`: an older file and its migration are the same experiment."""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.config.dotted import dotted
from signal_diffusion.config.legacy.migrating import notes_in
from signal_diffusion.config.sources import read_translation
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.training.diffusion import train
from tests.config import older_files
from tests.config.test_legacy import MIXED
from tests.training.runs import metrics_of

ROOT = Path(__file__).parents[2]
OLDER = {
    "flat.toml": older_files.FLAT_TOML,
    "flat.yaml": older_files.FLAT_YAML,
    "grouped.yml": older_files.GROUPED_YAML,
}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def command() -> Iterator[typer.Typer]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(script("migrate_config_v1_to_v2").main)
    yield app


def migrated(command: typer.Typer, source: Path, target: Path, *options: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    result = CliRunner().invoke(command, ["--input", str(source), "--output", str(target), *options])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("name", OLDER)
def test_a_migrated_file_is_the_same_experiment(name: str, command: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / name).write_text(OLDER[name].format(root="/data"))
    code, _, messages = migrated(command, tmp_path / name, tmp_path / "new.toml")
    assert code == 0 and messages.endswith(f"wrote {tmp_path / 'new.toml'}\n") and "to rewrite it" not in messages
    assert load_experiment(tmp_path / "new.toml") == load_experiment(tmp_path / name)
    assert read_translation(tmp_path / "new.toml") is None


@pytest.mark.slow
def test_a_migrated_file_trains_to_the_same_losses(
    command: typer.Typer, synthetic_dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "old.toml").write_text(older_files.FLAT_TOML.format(root=synthetic_dataset))
    assert migrated(command, tmp_path / "old.toml", tmp_path / "new.toml")[0] == 0
    for name in ("old", "new"):
        overrides = ("compute.device=cpu", "generation.sampling.steps=2")
        train(tmp_path / f"{name}.toml", output_dir=tmp_path / name, overrides=overrides)
    assert [row["train/loss"] for row in metrics_of(tmp_path / "old") if "train/loss" in row][1] > 0
    assert metrics_of(tmp_path / "old") == metrics_of(tmp_path / "new")


def test_comments_move_with_their_keys_and_dropped_keys_are_at_the_end(command: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text(older_files.FLAT_TOML.format(root="/data"))
    code, printed, _ = migrated(command, tmp_path / "old.toml", tmp_path / "new.toml", "--dry-run")
    assert code == 0 and not (tmp_path / "new.toml").exists()
    assert printed == EXPECTED


EXPECTED = """\
# A small transformer.
# Of one evening.
# Written by scripts/migrate_config_v1_to_v2.py from old.toml (flat TOML)

[compute]
seed = 5

[data]
representation = "db-only"

[data.paths]
# Where it is.
root = "/data"  # made by `prepare` #1

[data.columns]
label = "label"

[data.loading]
batch_size = 8  # Reduce for smaller GPU, increase for larger GPU
drop_last = false
max_train_examples = 48

[model]
name = "dit"

[model.architecture]
# One is enough.
num_layers = 1
num_attention_heads = 2
attention_head_dim = 8
patch_size = [16, 16]

[model.diffusion]
method = "rectified_flow"
prediction = "velocity"

[model.conditioning]
type = "class"
num_classes = 2
cfg_dropout = 0.1  # 0.0 = disabled, 0.1-0.2 = typical

[training]
max_steps = 2
mixed_precision = "no"
log_interval = 1

[training.optimizer]
type = "adamw"
learning_rate = 1e-3
betas = [
    0.9,                   # momentum
    0.95,
]  # both

[training.scheduler]
type = "constant"
warmup_steps = 0

[training.ema]
decay = 0.9
update_every = 1
warmup = true

[training.checkpointing]
interval = 2

[training.validation]
interval = 2
at_start = true
num_examples = 0
num_generated = 16  # some

[training.visualization]
enabled = false

[logging]
tensorboard = false

# Keys of the older file that this one does not have:
#   settings.config = "config/default.toml": the file is given on the command line
#   settings.trainer = "diffusion": determined by the command
#   objective.flow_match_timesteps = 1000: times are continuous
#   logging.wandb_entity = "lab": has no effect without logging.wandb_project
#   dataset.resolution = 64: derived from the dataset
#   model.extras.in_channels = 1: derived from the dataset
# The end.
"""


def test_older_keys_in_a_file_of_todays_layout_are_rewritten_without_defaults_of_an_older_one(
    command: typer.Typer, tmp_path: Path
) -> None:
    (tmp_path / "mixed.toml").write_text(MIXED)
    code, printed, messages = migrated(command, tmp_path / "mixed.toml", tmp_path / "new.toml", "--dry-run")
    assert code == 0, messages
    assert dict(dotted(tomllib.loads(printed))) == {
        "compute.seed": 1,
        "data.paths.root": "/a",
        "data.loading.batch_size": 3,
        "model.conditioning.type": "class",
        "training.checkpointing.interval": 4,
        "training.ema.decay": 0.9,
        "output.base_dir": "r",
    }
    assert "batch_size = 3  # small" in printed
    assert '  settings.config = "a.toml": the file is given on the command line' in messages.splitlines()


def test_migrating_a_file_of_todays_layout_drops_no_older_key(command: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "mixed.toml"
    path.write_text(MIXED + "[data.loading]\nbatch_size = 5\n[dataset.extras]\nnoise = 1\n[model.architecture]")
    code, _, messages = migrated(command, path, tmp_path / "new.toml")
    assert (code, messages.splitlines()) == (
        2,
        [
            f"error: {path}: [data.loading] batch_size: 5 as data.loading.batch_size and 3 as dataset.batch_size "
            "conflict; remove one of the two",
            f"error: {path}: [dataset.extras] noise: unknown key",
        ],
    )
    assert not (tmp_path / "new.toml").exists()


@pytest.mark.parametrize(("old", "new"), [("a.yaml", "a.toml"), ("b.toml", "b-migrated.toml")])
def test_config_migrate_writes_next_to_the_file_and_never_over_another(old: str, new: str, tmp_path: Path) -> None:
    (tmp_path / old).write_text(
        {"a.yaml": older_files.FLAT_YAML, "b.toml": older_files.FLAT_TOML}[old].format(root="/a")
    )
    result = CliRunner().invoke(app, ["config", "migrate", str(tmp_path / old)])
    assert result.exit_code == 0 and (tmp_path / new).read_text().count("signal-diffusion config migrate") == 1
    assert load_experiment(tmp_path / new) == load_experiment(tmp_path / old)
    again = CliRunner().invoke(app, ["config", "migrate", str(tmp_path / old)])
    assert isinstance(again.exception, UserError) and "already exists; choose another name" in str(again.exception)


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text("[data]\nsource = 'synthetic'  # mine")
    result = CliRunner().invoke(app, ["config", "migrate", str(tmp_path / "new.toml")])
    assert (result.exit_code, result.stderr) == (0, f"{tmp_path / 'new.toml'}: already has today's layout\n")
    assert list(tmp_path.iterdir()) == [tmp_path / "new.toml"]


def test_comments_are_distinguished_from_strings() -> None:
    text = """# head

# of the table
[a] # on the line of the table
b = "no # comment" # yes # all of it
c = '''
# no comment
''' # of c
d = [ # of d
  1, "#", # of one
]
"e.f" = 1
# tail"""
    notes = notes_in(text)
    assert (notes.head, notes.tail) == (["# head"], ["# tail"])
    assert notes.above == {"a.b": ["# of the table", "# on the line of the table"], "a.c": [], "a.d": [], "a.e.f": []}
    assert notes.inline == {
        "a.b": "# yes # all of it",
        "a.c": "# of c",
        "a.d": "",
        "a.e.f": "",
    }
    assert "# of d" in notes.items["a.d"].as_string() and "# of one" in notes.items["a.d"].as_string()


UNUSUAL = """
dataset.name = "/a" # dotted of one
dataset.extras = { gaussian_noise_std = 0.1 } # inline of one
data.output_type = 'db-iq'
[optimizer]
betas = [0.9, # array of one
 0.95]
[model]
name = "hourglass"
[model.extras]
widths = [64, 128, 256]
[[model.extras.self_attns]]
type = "neighborhood"
[[model.extras.self_attns]]
type = "global"
[[model.extras.self_attns]]
type = "global"
[training]
"seed" = 0x3
ema_decay = 9_99e-3
output_dir = '''a'''
"""


def test_comments_of_unusual_toml_are_kept(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_bytes(UNUSUAL.replace("\n", "\r\n").encode())
    result = CliRunner().invoke(app, ["config", "migrate", str(tmp_path / "old.toml"), "--dry-run"])
    assert [f"# {what} of one" in result.stdout for what in ("inline", "dotted", "array")] == [True] * 3
    (tmp_path / "new.toml").write_text(result.stdout)
    assert load_experiment(tmp_path / "new.toml") == load_experiment(tmp_path / "old.toml")


def test_comments_of_merged_keys_are_all_kept(command: typer.Typer, tmp_path: Path) -> None:
    text = "[dataset]\nname = '/a'  # a\n# above\x0bit\nidentifier = '/a'  # b\n"
    (tmp_path / "old.toml").write_text(text.replace("\x0b", "\u2028"))
    _, printed, _ = migrated(command, tmp_path / "old.toml", tmp_path / "new.toml", "--dry-run")
    assert "# above\u2028it\nroot = '/a'  # a  # b\n" in printed


def test_no_partial_file_remains_if_the_target_cannot_be_replaced(command: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text(older_files.FLAT_TOML.format(root="/data"))
    (tmp_path / "new.toml").mkdir()
    assert migrated(command, tmp_path / "old.toml", tmp_path / "new.toml", "--force")[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.toml", "old.toml"]


def test_a_file_is_only_overwritten_with_force(command: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text(older_files.FLAT_TOML.format(root="/data"))
    (tmp_path / "new.toml").write_text("mine")
    code, _, messages = migrated(command, tmp_path / "old.toml", tmp_path / "new.toml")
    assert code == 2 and "already exists; choose another name, or use --force" in messages
    assert (tmp_path / "new.toml").read_text() == "mine"
    assert migrated(command, tmp_path / "old.toml", tmp_path / "new.toml", "--force")[0] == 0
    assert "[data.loading]" in (tmp_path / "new.toml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.toml", "old.toml"]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("dataset = 3", "new.toml", "error: {old}: dataset: unknown key"),
        ("[dataset]\nname = '/a'", "new.yaml", "today's layout is TOML; expected a name that ends in .toml"),
        ("a = [", "new.toml", "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_migrated_is_reported_in_one_line(
    source: str, target: str, message: str, command: typer.Typer, tmp_path: Path
) -> None:
    old = tmp_path / "old.toml"
    old.write_text(source)
    code, _, messages = migrated(command, old, tmp_path / target)
    assert code == 2 and message.format(old=old) in messages
    assert not (tmp_path / target).exists()
