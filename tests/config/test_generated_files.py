"""Generated files of each older layout: whatever documented values they combine, they load or say what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import yaml
from hypothesis import given, note, settings
from hypothesis import strategies as st

from signal_diffusion.cli.config_migrate import migrated
from signal_diffusion.config.dotted import dotted, nested
from signal_diffusion.config.legacy.report import summary
from signal_diffusion.config.sources import read_translation
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from tests.config import older_values

LAYOUTS = {
    "toml": older_values.FLAT_TOML,
    "yaml": older_values.FLAT_YAML,
    "yml": older_values.GROUPED_YAML,
}
FEW = settings(derandomize=True, deadline=None, database=None, max_examples=12)
MANY = settings(FEW, max_examples=100)


def write(folder: Path, suffix: str, data: st.DataObject) -> tuple[Path, dict[str, Any]]:
    """A random file of a layout, and its values by dotted key."""
    each = {key: st.sampled_from(values) for key, values in LAYOUTS[suffix].items()}
    must = {key: each.pop(key) for key in older_values.MUST & set(each)}
    values = data.draw(st.fixed_dictionaries(must, optional=each))
    path = folder / f"old.{suffix}"
    path.write_text(tomli_w.dumps(nested(values)) if suffix == "toml" else yaml.safe_dump(nested(values)))
    note(path.read_text())
    return path, values


def is_told(key: str, value: Any, told: str, unchanged: dict[str, Any]) -> bool:
    return (
        value is None
        or unchanged.get(key) == value
        or re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.])", told) is not None
    )


def check(folder: Path, suffix: str, data: st.DataObject) -> None:
    path, values = write(folder, suffix, data)
    translation = read_translation(path)
    assert translation is not None
    told = "\n".join([*(line for lines in summary(translation) for line in lines), *map(str, translation.problems)])
    unchanged = dict(dotted(translation.tables))
    assert [key for key, value in values.items() if not is_told(key, value, told, unchanged)] == []
    try:
        experiment = load_experiment(path)
    except UserError as error:
        places = [line.split(": ")[1] for line in error.lines]
        assert all("\n" not in line for line in error.lines) and len(places) == len(set(places))
        return
    try:
        text = migrated(path, "test")
    except UserError as error:  # the one thing that today's layout refuses
        assert "of the data at the last step" in str(error)
        return
    assert text is not None
    (folder / "new.toml").write_text(text)
    assert load_experiment(folder / "new.toml") == experiment
    assert read_translation(folder / "new.toml") is None


@pytest.mark.parametrize("suffix", LAYOUTS)
@given(data=st.data())
@FEW
def test_a_generated_file_loads_or_is_refused_key_by_key_and_is_the_same_after_migration(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    check(tmp_path_factory.mktemp("generated"), suffix, data)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", LAYOUTS)
@given(data=st.data())
@MANY
def test_many_generated_files(tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject) -> None:
    check(tmp_path_factory.mktemp("generated"), suffix, data)
