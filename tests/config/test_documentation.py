"""docs/configuration.md and the JSON Schemas list all keys with their values, and no others."""

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
from signal_diffusion.config.documentation import USUAL_KEYS, Key, configuration_markdown, tables_of
from signal_diffusion.config.json_schema import autoencoder_schema, experiment_schema
from signal_diffusion.config.keys import known_keys
from signal_diffusion.config.writing import to_toml
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
    """scripts/document_config.py on a copy of the files that it writes."""
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


def test_generated_documents_are_up_to_date(script: ModuleType) -> None:
    assert checked(script, "--check") == (0, "")


@pytest.mark.parametrize("name", ["docs/configuration.md", "docs/migration.md", "config/experiment.schema.json"])
def test_a_stale_document_is_reported_and_rewritten(name: str, script: ModuleType, tmp_path: Path) -> None:
    fresh = (tmp_path / name).read_text(encoding="utf-8")
    (tmp_path / name).write_text(fresh + "stale", encoding="utf-8")
    code, message = checked(script, "--check")
    assert code == 2 and f"{tmp_path / name}: out of date" in message
    assert checked(script) == (0, "")
    assert (tmp_path / name).read_text(encoding="utf-8") == fresh


def test_every_key_is_documented_once() -> None:
    documented = [f"{table.name}.{key.name}" for table in tables_of(SCHEMA) if not table.backbone for key in table.keys]
    tables = {key.rpartition(".")[0] for key in known_keys()}
    assert documented == [key for key in documented if key in known_keys()]
    assert set(documented) == {key for key in known_keys() if key not in tables} - {"model.architecture", "generation"}
    text = configuration_markdown(offer())
    for key in documented:
        table, _, name = key.rpartition(".")
        section = text.partition(f"## `[{table}]`")[2].partition("\n#")[0]
        assert section.count(f"\n| `{name}` ") == 1, key
    for backbone in offer().architectures:
        assert text.count(f"### `[model.architecture]` of `{backbone}`") == 1


def test_the_reference_opens_with_thirty_keys() -> None:
    before_tables = configuration_markdown(offer()).partition("## `[")[0]

    assert len(set(USUAL_KEYS)) == 30
    assert [line.split("`")[1] for line in before_tables.splitlines() if line.startswith("| `")] == list(USUAL_KEYS)


def test_tables_are_valid_markdown_without_html() -> None:
    rows = [line for line in configuration_markdown(offer()).splitlines() if line.startswith("| `")]
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
        ("model.conditioning.attributes", "", "list of strings, not empty; at least one", None),
        ("training.max_steps", "", "integer from 1 to 1,000,000,000", None),
        ("training.optimizer.betas", "", "list of 2 numbers ≥ 0 and < 1", [0.9, 0.999]),
        ("training.ema.enabled", "", "true, false", True),
        ("generation.output.formats", "", 'list of "npz", "parquet", "fif", "edf"', ["npz"]),
        ("model.architecture.patch_size", "dit", "list of 2 integers from 0 to 8,192", [4, 4]),
        ("model.architecture.attention_head_dim", "hourglass", "integer from 8 to 16,384, a multiple of 8", 64),
    ],
)
def test_the_values_of_a_key_are_described_in_words(dotted: str, backbone: str, values: str, default: Any) -> None:
    key = key_of(dotted, backbone)
    assert (key.values, key.default) == (values, default)


def test_keys_without_effect_on_autoencoders_are_marked() -> None:
    text = configuration_markdown(offer())
    assert "| `label` †" in text and "| `guidance_scale` †" in text
    assert text.count("`learning_rate` ") == 1 and "`learning_rate` †" not in text


@pytest.mark.parametrize("path", DIFFUSION, ids=lambda path: path.stem)
def test_the_schema_accepts_shipped_experiments_with_and_without_defaults(path: Path) -> None:
    for text in (path.read_text(encoding="utf-8"), to_toml(load_any_experiment(path))):
        assert list(refused(tomllib.loads(text), SCHEMA, SCHEMA["$defs"])) == []


@pytest.mark.parametrize("path", AUTOENCODERS, ids=lambda path: path.stem)
def test_the_autoencoder_schema_accepts_shipped_autoencoders(path: Path) -> None:
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
def test_files_that_the_schema_refuses_are_refused_by_the_reader(text: str, key: str, tmp_path: Path) -> None:
    tables = tomllib.loads(text)
    assert key in set(refused(tables, SCHEMA, SCHEMA["$defs"]))
    path = tmp_path / "experiment.toml"
    path.write_text(text if "data" in tables else HEADER + text)
    with pytest.raises(UserError):
        load_experiment(path)


def test_each_schema_refuses_the_other_kind_of_experiment() -> None:
    tables = tomllib.loads(to_toml(AutoencoderExperiment()))
    assert "model.name" in set(refused(tables, SCHEMA, SCHEMA["$defs"]))
    assert "model" in set(refused({}, AUTOENCODER_SCHEMA, {})) | set(refused({"model": {}}, AUTOENCODER_SCHEMA, {}))


def test_every_key_of_a_schema_has_a_description() -> None:
    for schema in (SCHEMA, AUTOENCODER_SCHEMA):
        for table in tables_of(schema):
            for key in table.keys:
                assert len(key.meaning) > 5, f"{table.name}.{key.name}"
    assert json.loads((ROOT / "config" / "experiment.schema.json").read_text(encoding="utf-8")) == SCHEMA
