"""Style of the files in config/: no needless defaults, comments where needed, and the same keys in all sixteen.

Other tests read, train and resume every file.
"""

from __future__ import annotations

import tomllib
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from signal_diffusion.config.autoencoder_tables import AUTOENCODER
from signal_diffusion.config.documentation import tables_of
from signal_diffusion.config.dotted import dotted
from signal_diffusion.config.json_schema import autoencoder_schema, experiment_schema
from signal_diffusion.config.legacy.migrating import notes_in
from signal_diffusion.experiment.loading import offer

CONFIG = Path(__file__).parents[2] / "config"
SHIPPED = sorted(CONFIG.glob("*/*.toml"))
BACKBONES = ("dit", "hourglass", "localmamba", "sd35")
REPRESENTATIONS = ("db-only", "db-iq", "db-polar", "timeseries")

# The key settings of an experiment, written even if they are the default: network size, rate, precision, batch.
WRITTEN_EVEN_IF_DEFAULT = {
    "data.representation", "model.name", "data.loading.batch_size", "training.mixed_precision",
    "training.optimizer.learning_rate",
    *(f"model.architecture.{key}" for key in ("num_layers", "num_attention_heads", "depths", "widths", "dims")),
}  # fmt: skip
# Numbers that need no comment.
OBVIOUS = WRITTEN_EVEN_IF_DEFAULT - {"training.optimizer.learning_rate"} | {"training.max_steps"}
SIXTEEN_FILES = [CONFIG / "diffusion" / f"{name}-{data}.toml" for name, data in product(BACKBONES, REPRESENTATIONS)]
KEYS_OF_THE_SIXTEEN = [
    "data.representation", "data.paths.root", "data.loading.batch_size", "model.name", "model.diffusion.method",
    "model.conditioning.type", "training.epochs", "training.mixed_precision", "training.gradient_checkpointing",
    "training.optimizer.learning_rate",
]  # fmt: skip
OF_THE_BACKBONE = ("model.architecture.", "model.pretrained", "model.autoencoder.")
OF_LARGE_PATCHES = (
    "model.architecture.patch_overlap", "model.architecture.input_power", "model.diffusion.prediction",
    "model.diffusion.loss",
)  # fmt: skip

files = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)


def written(path: Path) -> dict[str, Any]:
    """The values of a file by dotted key, in order."""
    return dict(dotted(tomllib.loads(path.read_text(encoding="utf-8"))))


def uncommented(path: Path) -> set[str]:
    inline = notes_in(path.read_text(encoding="utf-8")).inline
    return {key for key in written(path) if not inline[key]}


def defaults(path: Path) -> dict[str, Any]:
    """The default of every key for this file's kind of experiment, in the order of the experiment file."""
    return defaults_with(written(path)["model.name"])


@cache
def defaults_with(name: str) -> dict[str, Any]:
    schema = autoencoder_schema(offer()) if name == AUTOENCODER else experiment_schema(offer())
    tables = [table for table in tables_of(schema) if table.backbone in ("", name)]
    return {f"{table.name}.{key.name}": key.default for table in tables for key in table.keys}


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float, list)) and not isinstance(value, bool)


@files
def test_no_default_is_repeated_without_a_reason(path: Path) -> None:
    known, values = defaults(path), written(path)
    repeated = {key for key, value in values.items() if value == known[key]}
    assert repeated & uncommented(path) <= WRITTEN_EVEN_IF_DEFAULT


@files
def test_a_number_that_is_not_obvious_has_a_comment_on_its_line(path: Path) -> None:
    numbers = {key for key, value in written(path).items() if is_number(value)}
    without_comment = {"training.optimizer.learning_rate"} if path in SIXTEEN_FILES else set()
    assert numbers & uncommented(path) <= OBVIOUS | without_comment


@files
def test_keys_are_in_the_order_of_the_experiment_file(path: Path) -> None:
    values = written(path)
    assert list(values) == [key for key in defaults(path) if key in values]


@files
def test_the_first_line_names_the_schema_for_editors(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    kind = "autoencoder" if written(path)["model.name"] == AUTOENCODER else "experiment"
    assert first == f"#:schema ../{kind}.schema.json"
    assert (path.parent / first.partition(" ")[2]).is_file()


def test_the_sixteen_have_the_same_keys_in_the_same_order() -> None:
    for path in SIXTEEN_FILES:
        keys = [key for key in written(path) if key not in OF_LARGE_PATCHES or "timeseries" not in path.stem]
        assert [key for key in keys if not key.startswith(OF_THE_BACKBONE)] == KEYS_OF_THE_SIXTEEN
        assert keys == list(written(path.with_stem(f"{path.stem.partition('-')[0]}-db-only")))


def test_both_autoencoders_of_a_representation_have_the_same_keys_in_the_same_order() -> None:
    for data in REPRESENTATIONS:
        keys = list(written(CONFIG / "autoencoder" / f"eeg-{data}.toml"))
        assert keys == list(written(CONFIG / "autoencoder" / f"eeg-{data}-x4.toml"))
