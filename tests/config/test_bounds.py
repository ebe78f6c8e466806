"""Every integer of an experiment file has a maximum, and no number or file makes a command allocate or hang."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.loading import check_keys
from signal_diffusion.config.schema import Experiment
from signal_diffusion.errors import UserError
from signal_diffusion.models.registry import BACKBONES
from signal_diffusion.paths import expand_path

TABLES = [Experiment, AutoencoderExperiment, *(backbone.architecture for backbone in BACKBONES.values())]


def unbounded(node: Any, where: str) -> Iterator[str]:
    """Integers without a maximum, and lists of integers without a maximum length, in a JSON Schema."""
    if isinstance(node, list):
        for each in node:
            yield from unbounded(each, where)
    if not isinstance(node, dict):
        return
    if node.get("type") == "integer" and not {"maximum", "exclusiveMaximum"} & node.keys():
        yield where
    if node.get("items", {}).get("type") == "integer" and "maxItems" not in node:
        yield f"{where}: length"
    for key, each in node.items():
        yield from unbounded(each, f"{where}.{key}")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_integer_of_every_table_has_a_maximum(table: type) -> None:
    assert list(unbounded(TypeAdapter(table).json_schema(), table.__name__)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a" + ".b" * 100_000 + " = 1", "not valid TOML: a key of more than 64 parts"),
        ("[a" + ".b" * 100_000 + "]", "not valid TOML: a key of more than 64 parts"),
        ('"a" . ' * 1000 + "b = 1", "not valid TOML: a key of more than 64 parts"),
        ("a = " + "[" * 200_000, "not valid TOML: maximum recursion depth exceeded"),
        ("".join(f"k{i} = 1\n" for i in range(10_000)), "has 10,001 values; expected an experiment file, with at most"),
        ("#" * 300_000, "cannot read the experiment file: larger than 0.25 MiB"),
    ],
    ids=["dots", "table", "spaces", "brackets", "keys", "size"],
)
def test_a_file_that_would_take_minutes_is_refused_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        check_keys(path)
    [line] = caught.value.lines
    assert line.startswith(f"{path}: {expected}")


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "experiment.toml"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(UserError, match="cannot read the experiment file: not a regular file"):
            check_keys(path)


def test_many_words_with_dots_in_a_string_are_not_a_key(tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text(f'[output]\nbase_dir = "{"../" * 100}runs/{"v1.2 " * 100}"\n')
    check_keys(path)


@pytest.mark.parametrize(
    ("path", "reason"), [("x" * 300, "File name too long"), ("~nobody-here/x", "Could not determine home directory.")]
)
def test_an_impossible_path_is_one_line(path: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        expand_path(path, "[data.paths] root")
    assert caught.value.lines == (f"[data.paths] root: {path!r}: {reason}; use another path",)


@pytest.mark.parametrize(
    "override",
    [
        "generation.sampling.steps=1000000000",
        "model.diffusion.num_timesteps=1000000000",
        pytest.param("model.architecture.num_layers=1000000", marks=pytest.mark.slow),
        pytest.param("model.architecture.attention_head_dim=16384", marks=pytest.mark.slow),
    ],
)
def test_a_number_that_is_too_large_is_one_line_in_one_gib(override: str, experiment_file: Path) -> None:
    """One GiB of data: the private memory of the process, without the libraries that it maps."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30)); "
        "from signal_diffusion.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "config", "check", str(experiment_file), "--set", override]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ") and " expected a" in line
