"""Reads an experiment file of any layout, and overrides, as tables of today's layout.

Files of older layouts, in TOML or YAML, are translated (`legacy`), with one warning.
"""

from __future__ import annotations

import copy
import logging
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signal_diffusion.config.dotted import dotted, nested
from signal_diffusion.config.expectations import Expectation
from signal_diffusion.config.keys import destinations_of, is_todays, known_keys
from signal_diffusion.config.layouts import is_older
from signal_diffusion.config.overrides import override, parsed_override, unit_of
from signal_diffusion.config.plain import num_values, plain
from signal_diffusion.config.removed import drop_removed_keys
from signal_diffusion.config.toml_files import read_toml
from signal_diffusion.errors import UserError, log_once
from signal_diffusion.untrusted import read_content

if TYPE_CHECKING:
    from signal_diffusion.config.legacy.engine import File

__all__ = [
    "CONFIG_NAME",
    "Problem",
    "Source",
    "check_trains",
    "expectations",
    "line_of",
    "located_lines",
    "read_translation",
    "source_of",
    "written_keys",
]

CONFIG_NAME = "config.toml"
"""Name of the experiment file in a run and in a checkpoint."""
MAX_SIZE = 2**18
"""Bytes of an experiment file; the longest that `config new` writes has 20 KiB."""
MAX_VALUES = 2000
"""Values in an experiment file, which has about 150 keys; each unknown one is compared with all known ones."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """One mistake: its key, and a message with what was expected and found."""

    location: tuple[str, ...]
    message: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file in today's layout, with the overrides applied."""

    path: Path
    tables: dict[str, Any]
    overridden: Collection[tuple[str, ...]]
    problems: Sequence[Problem]
    translation: File | None
    """None for a file in today's layout."""
    older_keys: Collection[str]
    """Keys of older layouts in a file of today's, which are among the problems."""

    def warn(self) -> None:
        """Warn about what changed in a file of an older layout."""
        if self.translation:
            from signal_diffusion.config.legacy.report import warn_of_older_keys

            warn_of_older_keys(self.path, self.translation)


def source_of(path: Path, overrides: Sequence[str] = ()) -> Source:
    """Read a file and apply overrides; a `UserError` if one of them cannot be read."""
    given = dict(map(parsed_override, overrides))
    units = {unit: "steps" for unit in map(unit_of, given) if unit and unit not in given}
    given |= units  # an interval of --set counts steps, whatever the unit of the one that it replaces
    yaml = path.suffix in (".yaml", ".yml")
    tables, translation = _read(path, yaml=yaml), None
    older_keys: dict[str, str] = {}
    if yaml or is_older(tables):
        from signal_diffusion.config.legacy.translation import translated

        translation = translated(tables, known_keys(), given, yaml=yaml)
        tables, problems = copy.deepcopy(translation.tables), translation.problems
    else:
        tables, problems = plain(tables)
        drop_removed_keys(tables, path, quiet=path.name == CONFIG_NAME)  # an earlier version wrote the file of a run
        if older_keys := _older_keys(tables, path):
            tables = nested({key: value for key, value in dotted(tables) if key not in older_keys})
            problems += older_keys.items()
    for key, value in given.items():
        before = override(tables, key, value)
        if key in units and before not in (None, value):
            table = key.removesuffix(".unit")
            line = f"{path}: [{table}] unit: {before!r} does not apply to --set {table}.interval, which counts steps"
            log_once(logger, line)
    return Source(
        path=path,
        tables=tables,
        overridden={tuple(key.split(".")) for key in given},
        problems=[Problem(tuple(key.split(".")), message) for key, message in problems],
        translation=translation,
        older_keys=older_keys,
    )


def read_translation(path: Path) -> File | None:
    """Translate a file of an older layout, or with older keys, to today's; None if it has only today's keys.

    Raises
    ------
    UserError
        If it is neither valid TOML nor, by its extension, valid YAML. Other problems are listed in the translation.
    """
    source = source_of(path)
    if source.translation or not source.older_keys:
        return source.translation
    from signal_diffusion.config.legacy.translation import translated

    return translated(_read(path, yaml=False), known_keys(), is_older=False)


def check_trains(path: Path) -> None:
    """Refuse to train what a file of an older layout only generates from.

    Raises
    ------
    UserError
        With the command that generates, if the file says `mode: generate`.
    """
    translation = source_of(path).translation
    mode = translation.left.get("mode") if translation else None
    if mode and mode.is_lost:
        raise UserError(f"{path}: mode: generate: {mode.reason}, or set mode: train")


def expectations(path: Path) -> tuple[Expectation, ...]:
    """The sizes that a file of an older layout states, and that its dataset must have."""
    translation = source_of(path).translation
    return tuple(translation.expected) if translation else ()


def written_keys(path: Path, overrides: Sequence[str] = ()) -> set[str]:
    """The dotted keys that a file and its overrides set; all others have their defaults."""
    return set(dict(dotted(source_of(path, overrides).tables)))


def located_lines(path: Path, overrides: Sequence[str], findings: Iterable[tuple[str, str]]) -> list[str]:
    """Format (dotted key, message) pairs as lines that start with the location: the file or `--set`, table, key."""
    source = source_of(path, overrides)
    return [line_of(source, Problem(tuple(key.split(".")), message)) for key, message in findings]


def _older_keys(tables: Mapping[str, Any], path: Path) -> dict[str, str]:
    """The keys of older layouts in a file of today's, with messages that name today's."""
    strange = [key for key, _ in dotted(tables) if not is_todays(key)]
    found = {key: names for key in strange if (names := destinations_of(key)) is not None}
    command = f"`signal-diffusion config migrate {shlex.quote(str(path))}`"
    return {
        key: f"is now {names[0]}; {command} writes it" if names else f"has no effect any more; {command} removes it"
        for key, names in found.items()
    }


def _read(path: Path, *, yaml: bool) -> dict[str, Any]:
    form, parse = ("YAML", _read_yaml) if yaml else ("TOML", read_toml)
    try:
        text = read_content(path, MAX_SIZE).decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected a {form} file in UTF-8, found something else") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot read the experiment file: {reason}") from None
    try:
        tables = parse(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid {form}: {error}") from None
    if (count := num_values(tables)) > MAX_VALUES:
        raise UserError(f"{path}: has {count:,} values; expected an experiment file, with at most {MAX_VALUES:,}")
    return tables


def _read_yaml(text: str) -> dict[str, Any]:
    from signal_diffusion.config.legacy.yaml_files import read_yaml  # only older layouts are in YAML

    return read_yaml(text)


def line_of(source: Source, problem: Problem) -> str:
    """A problem as a line that starts with its location: the file or `--set`, table, key."""
    *tables, key = problem.location
    index = ""
    while key.isdigit() and tables:  # an element of a list: name the list
        index, key = f"[{key}]{index}", tables.pop()
    overridden = (*tables, key) in source.overridden
    table = f" [{'.'.join(tables)}]" if tables else ""
    old = source.translation.origins.get(".".join((*tables, key))) if source.translation and not overridden else None
    here = f" (in this file {old})" if old else ""
    return f"{'--set' if overridden else source.path}:{table} {key}{index}{here}: {problem.message}"
