"""docs/configuration.md and the JSON Schemas: all keys, what each may be, and nothing that is not read."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.documentation import Key, configuration, tables_of
from signal_diffusion.config.json_schema import autoencoder_schema, experiment_schema
from signal_diffusion.config.loading import known_keys, to_toml
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_any_experiment, load_experiment, offer
from tests.config.json_schemas import refused

ROOT = Path(__file__).parents[2]
DIFFUSION = sorted((ROOT / "config" / "diffusion").glob("*.toml"))
AUTOENCODERS = sorted((ROOT / "config" / "autoencoder").glob("*.toml"))
SCHEMA = experiment_schema(offer())
AUTOENCODER_SCHEMA = autoencoder_schema(offer())
HEADER = '[data.paths]\nroot = "x"\n'


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/document_config.py on a copy of what it writes."""
    spec = importlib.util.spec_from_file_location("document_config", ROOT / "scripts" / "document_config.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path in module.documents():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def checked(script: ModuleType, *options: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(script.main)
    result = CliRunner().invoke(app, list(options))
    return result.exit_code, result.stderr


def test_what_is_in_the_tree_is_what_the_code_says(script: ModuleType) -> None:
    assert checked(script, "--check") == (0, "")


@pytest.mark.parametrize("name", ["docs/configuration.md", "docs/migration.md", "config/experiment.schema.json"])
def test_a_stale_document_is_told_and_written_anew(name: str, script: ModuleType, tmp_path: Path) -> None:
    fresh = (tmp_path / name).read_text(encoding="utf-8")
    (tmp_path / name).write_text(fresh + "stale", encoding="utf-8")
    code, told = checked(script, "--check")
    assert code == 2 and f"{tmp_path / name}: out of date" in told
    assert checked(script) == (0, "")
    assert (tmp_path / name).read_text(encoding="utf-8") == fresh


def test_every_key_that_is_read_is_told_of_once() -> None:
    told = [f"{table.name}.{key.name}" for table in tables_of(SCHEMA) if not table.backbone for key in table.keys]
    tables = {key.rpartition(".")[0] for key in known_keys()}
    assert told == [key for key in told if key in known_keys()]
    assert set(told) == {key for key in known_keys() if key not in tables} - {"model.architecture", "generation"}
    text = configuration(offer())
    for key in told:
        table, _, name = key.rpartition(".")
        section = text.partition(f"## `[{table}]`")[2].partition("\n#")[0]
        assert section.count(f"\n| `{name}` ") == 1, key
    for backbone in offer().architectures:
        assert text.count(f"### `[model.architecture]` of `{backbone}`") == 1


def test_tables_are_tables_of_markdown_without_html() -> None:
    rows = [line for line in configuration(offer()).splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    for row in rows:
        assert row.replace("\\|", "").count("|") == 5, row
        assert "<" not in row.replace("\\<", "").replace("< ", "").replace("<=", ""), row


def key_of(dotted: str, backbone: str = "") -> Key:
    table, _, name = dotted.rpartition(".")
    [found] = (each for each in tables_of(SCHEMA) if (each.name, each.backbone) == (table, backbone))
    return next(key for key in found.keys if key.name == name)


@pytest.mark.parametrize(
    ("dotted", "backbone", "values", "default"),
    [
        ("compute.seed", "", "integer ≥ 0", 0),
        ("data.augmentation.rotation_degrees", "", "number from 0 to 180", 0.0),
        ("model.diffusion.beta_end", "", "number > 0 and < 1", 0.02),
        ("model.diffusion.prediction", "", '"epsilon", "sample", "v", "velocity"', None),
        ("model.conditioning.attributes", "", "list of texts, not empty; at least one", None),
        ("training.max_steps", "", "integer ≥ 1", None),
        ("training.optimizer.betas", "", "list of 2 numbers ≥ 0 and < 1", [0.9, 0.999]),
        ("training.ema.enabled", "", "true, false", True),
        ("generation.output.formats", "", 'list of "npz", "parquet", "fif", "edf"', ["npz"]),
        ("model.architecture.patch_size", "dit", "list of 2 integers ≥ 1", [4, 4]),
        ("model.architecture.attention_head_dim", "hourglass", "integer ≥ 8, a multiple of 8", 64),
    ],
)
def test_what_a_key_may_be_is_said_in_words(dotted: str, backbone: str, values: str, default: Any) -> None:
    key = key_of(dotted, backbone)
    assert (key.values, key.default) == (values, default)


def test_keys_that_autoencoders_do_not_read_are_marked() -> None:
    text = configuration(offer())
    assert "| `label` †" in text and "| `guidance_scale` †" in text
    assert text.count("`learning_rate` ") == 1 and "`learning_rate` †" not in text


@pytest.mark.parametrize("path", DIFFUSION, ids=lambda path: path.stem)
def test_the_schema_takes_shipped_experiments_and_all_that_they_come_to(path: Path) -> None:
    for text in (path.read_text(encoding="utf-8"), to_toml(load_any_experiment(path))):
        assert list(refused(tomllib.loads(text), SCHEMA, SCHEMA["$defs"])) == []


@pytest.mark.parametrize("path", AUTOENCODERS, ids=lambda path: path.stem)
def test_the_schema_of_autoencoders_takes_theirs(path: Path) -> None:
    for text in (path.read_text(encoding="utf-8"), to_toml(load_any_experiment(path))):
        assert list(refused(tomllib.loads(text), AUTOENCODER_SCHEMA, {})) == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[model]\nname = 'ditt'", "model.name"),
        ("[model.architecture]\ndepths = [1]", "model.architecture.depths"),
        ("[model]\nname = 'hourglass'\n[model.architecture]\nnum_layers = 3", "model.architecture.num_layers"),
        ("[model.architecture]\npatch_size = [4]", "model.architecture.patch_size"),
        ("[model]\nname = 'localmamba'\n[model.architecture]\nscan_directions = ['x']", "model.architecture"),
        ("[model.diffusion]\nmethod = 'flow'", "model.diffusion.method"),
        ("[model.diffusion]\nprediction = ''", "model.diffusion.prediction"),
        ("[data]\nrepresentation = 'db'", "data.representation"),
        ("[generation.sampling]\nsampler = 'eulr'", "generation.sampling.sampler"),
        ("[training]\nmax_steps = 0", "training.max_steps"),
        ("[training]\nmax_steps = '5'", "training.max_steps"),
        ("[training.optimizer]\nlearning_rate = 0.0", "training.optimizer.learning_rate"),
        ("[training.optimizer]\nbetas = [0.9, 1.0]", "training.optimizer.betas"),
        ("[training.optimizer]\nlearning_rat = 0.1", "training.optimizer.learning_rat"),
        ("[training]\nema = true", "training.ema"),
        ("[trainin]\nepochs = 1", "trainin"),
        ("[output.subdirs]\nlogs = ''", "output.subdirs.logs"),
    ],
)
def test_what_the_schema_refuses_the_reader_refuses(text: str, key: str, tmp_path: Path) -> None:
    tables = tomllib.loads(text)
    assert key in set(refused(tables, SCHEMA, SCHEMA["$defs"]))
    path = tmp_path / "experiment.toml"
    path.write_text(text if "data" in tables else HEADER + text)
    with pytest.raises(UserError):
        load_experiment(path)


def test_an_editor_is_not_told_of_an_autoencoder_that_it_is_a_diffusion_model() -> None:
    tables = tomllib.loads(to_toml(AutoencoderExperiment()))
    assert "model.name" in set(refused(tables, SCHEMA, SCHEMA["$defs"]))
    assert "model" in set(refused({}, AUTOENCODER_SCHEMA, {})) | set(refused({"model": {}}, AUTOENCODER_SCHEMA, {}))


def test_every_key_of_a_schema_says_what_it_means() -> None:
    for schema in (SCHEMA, AUTOENCODER_SCHEMA):
        for table in tables_of(schema):
            for key in table.keys:
                assert len(key.meaning) > 5, f"{table.name}.{key.name}"
    assert json.loads((ROOT / "config" / "experiment.schema.json").read_text(encoding="utf-8")) == SCHEMA
