"""`signal-diffusion config new` and `config diff`."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.config.legacy.migrating import notes_in
from signal_diffusion.config.templates import template
from signal_diffusion.config.writing import to_toml
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment, offer
from tests.config import older_files
from tests.config.test_shipped_files import BACKBONES, REPRESENTATIONS, written

CONFIG = Path(__file__).parents[2] / "config"
DIT = CONFIG / "diffusion" / "dit-db-iq.toml"
AUTOENCODER = CONFIG / "autoencoder" / "eeg-db-iq.toml"


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `signal-diffusion config`."""
    result = CliRunner().invoke(app, ["config", *map(str, arguments)])
    if isinstance(result.exception, UserError):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def new(backbone: str, representation: str, *more: str | Path) -> tuple[int, str, str]:
    return run("new", "--backbone", backbone, "--representation", representation, *more)


@pytest.mark.parametrize(("backbone", "data"), product(BACKBONES, REPRESENTATIONS))
def test_a_new_file_has_the_values_of_the_shipped_one(backbone: str, data: str, tmp_path: Path) -> None:
    shipped, mine = CONFIG / "diffusion" / f"{backbone}-{data}.toml", tmp_path / "mine.toml"
    code, printed, messages = new(backbone, data, "--output", mine)
    assert (code, printed, messages) == (0, "", f"wrote {mine}\n")
    assert list(written(mine).items()) == list(written(shipped).items())
    assert load_experiment(mine) == load_experiment(shipped)


@pytest.mark.parametrize(("backbone", "data"), product(offer().architectures, offer().representations))
def test_a_new_file_loads_for_every_backbone_and_representation(backbone: str, data: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(template(backbone, data, offer()), encoding="utf-8")
    experiment = load_experiment(tmp_path / "mine.toml")
    assert (experiment.model.name, experiment.data.representation) == (backbone, data)


def test_a_backbone_without_a_shipped_file_gets_its_defaults(tmp_path: Path) -> None:
    code, printed, _ = new("unet", "image")
    (tmp_path / "mine.toml").write_text(printed, encoding="utf-8")
    experiment = load_experiment(tmp_path / "mine.toml")
    assert code == 0
    assert experiment.model.architecture == offer().architectures["unet"]()
    assert experiment.model.conditioning.type == "none"


def test_a_comment_above_each_key_gives_its_meaning_and_values() -> None:
    comments = notes_in(new("sd35", "timeseries")[1])
    assert all(lines for lines in comments.above.values())
    assert comments.above["training.epochs"] == [
        "# Passes through the training split, unless `max_steps` is given.",
        "#     integer from 1 to 1,000,000,000; default 100",
    ]
    assert max(map(len, [line for lines in comments.above.values() for line in lines] + comments.head)) <= 120


def test_new_does_not_overwrite_a_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("mine")
    with pytest.raises(UserError, match="already exists; choose another name"):
        new("dit", "db-iq", "--output", mine)
    assert mine.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize(
    ("backbone", "data", "message"),
    [
        ("ditt", "db-iq", "--backbone: expected one of dit, hourglass, localmamba, sd35, unet, found 'ditt'"),
        ("dit", "db", "--representation: expected one of db-only, db-iq, db-polar, timeseries, image, found 'db'"),
    ],
)
def test_an_unknown_name_is_reported_in_one_line(backbone: str, data: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        new(backbone, data)
    assert caught.value.lines == (message,)


def differences(first: Path, second: Path) -> list[list[str]]:
    """The rows of `config diff` below the header, as columns."""
    code, printed, _ = run("diff", first, second)
    header, *lines = [re.split(" {2,}", line.strip()) for line in printed.splitlines()]
    assert code == 1 and header == [str(first), str(second)]
    return lines


def test_diff_shows_each_key_with_both_values_in_the_order_of_the_file(tmp_path: Path) -> None:
    changed = tmp_path / "changed.toml"
    text = DIT.read_text().replace("learning_rate = 1e-4", "learning_rate = 3e-4\nbetas = [0.9, 0.95]")
    changed.write_text(text.replace("epochs = 100", "max_steps = 7").replace("num_layers = 12", "num_layers = 6"))
    assert differences(DIT, changed) == [
        ["model.architecture.num_layers", "12", "6"],
        ["training.max_steps", "–", "7"],
        ["training.optimizer.learning_rate", "0.0001", "0.0003"],
        ["training.optimizer.betas", "[0.9, 0.999]", "[0.9, 0.95]"],
    ]


def test_diff_ignores_whether_a_default_is_written(tmp_path: Path) -> None:
    (tmp_path / "explicit.toml").write_text(to_toml(load_experiment(DIT)))
    code, printed, _ = run("diff", DIT, tmp_path / "explicit.toml")
    assert (code, printed) == (0, f"{DIT} and {tmp_path / 'explicit.toml'} are the same experiment\n")


def test_diff_reads_runs_and_checkpoints(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    (tmp_path / "run" / "config.toml").write_text(to_toml(load_experiment(DIT)))
    (checkpoint / "config.toml").write_text(to_toml(load_experiment(DIT, ["compute.seed=3"])))
    assert run("diff", DIT, tmp_path / "run")[0] == 0
    assert differences(tmp_path / "run", checkpoint) == [["compute.seed", "0", "3"]]


def test_diff_reads_older_layouts(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(older_files.FLAT_YAML.format(root="/data"))
    (tmp_path / "current.toml").write_text(to_toml(load_experiment(tmp_path / "old.yaml")))
    other = older_files.FLAT_YAML.replace("ema_decay: 0.99", "ema_decay: 0.9")
    (tmp_path / "other.yaml").write_text(other.format(root="/data"))
    assert run("diff", tmp_path / "old.yaml", tmp_path / "current.toml")[0] == 0
    assert differences(tmp_path / "other.yaml", tmp_path / "current.toml") == [["training.ema.decay", "0.9", "0.99"]]


def test_diff_of_a_diffusion_model_and_an_autoencoder_shows_tables_that_only_one_has() -> None:
    rows = differences(DIT, AUTOENCODER)
    assert ["model.name", '"dit"', '"autoencoder_kl"'] in rows
    assert ["model.loss.stft_weight", "–", "0.01"] in rows
    assert ["generation.sampling.steps", "50", "–"] in rows


def test_diff_reports_a_folder_without_an_experiment(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config.toml; expected an experiment file, a run or a checkpoint"):
        run("diff", DIT, tmp_path)
