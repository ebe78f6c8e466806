"""Reads an experiment from a TOML file and overrides; reports all mistakes of a file at once, one line each.

Files of older layouts, in TOML or YAML, are first translated to today's (`legacy`), with one warning.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tomli_w
from pydantic import TypeAdapter, ValidationError

from signal_diffusion.config import rules, schema
from signal_diffusion.config.autoencoder_tables import AUTOENCODER, AutoencoderExperiment
from signal_diffusion.config.dotted import dotted, nested
from signal_diffusion.config.expectations import Expectation
from signal_diffusion.config.hints import did_you_mean, nearest_key
from signal_diffusion.config.layouts import is_older
from signal_diffusion.config.plain import MAX_DEPTH, is_plain, num_values, plain
from signal_diffusion.config.removed import REMOVED, drop_removed_keys
from signal_diffusion.config.schema import Experiment
from signal_diffusion.config.toml_files import read_toml
from signal_diffusion.errors import UserError, log_once
from signal_diffusion.untrusted import read_content

if TYPE_CHECKING:
    from signal_diffusion.config.legacy.translation import Translation

__all__ = [
    "CONFIG_NAME",
    "Offer",
    "Problem",
    "WrongKindError",
    "check_keys",
    "check_trains",
    "expectations",
    "is_autoencoder_file",
    "known_keys",
    "located_lines",
    "read_autoencoder_experiment",
    "read_experiment",
    "read_translation",
    "to_toml",
    "written_keys",
]

CONFIG_NAME = "config.toml"
"""Name of the experiment file in a run and in a checkpoint."""
MAX_SIZE = 2**18
"""Bytes of an experiment file; the longest that `config new` writes has 20 KiB."""
MAX_VALUES = 2000
"""Values in an experiment file, which has about 150 keys; each unknown one is compared with all known ones."""

logger = logging.getLogger(__name__)

Location = tuple[str, ...]
AnyExperiment = TypeVar("AnyExperiment", Experiment, AutoencoderExperiment)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The names that an experiment file may use, passed in by the caller so that `config` needs no other subpackage."""

    architectures: Mapping[str, type]
    representations: Collection[str]
    methods: Collection[str]
    predictions: Collection[str]
    samplers: Collection[str]
    time_grids: Collection[str]
    check: Callable[[Experiment], Iterable[tuple[str, str]]]
    """Further checks of an experiment, which need the other subpackages; yields (dotted key, message)."""
    check_schedule: Callable[[Experiment], Iterable[tuple[str, str]]]
    """The same, but in a file of an older layout they are only warnings."""

    @property
    def names(self) -> dict[str, Collection[str]]:
        """The allowed names of each of these dotted keys."""
        return {
            "model.name": self.architectures,
            "data.representation": self.representations,
            "model.diffusion.method": self.methods,
            "model.diffusion.prediction": self.predictions,
            "generation.sampling.sampler": self.samplers,
            "generation.sampling.time_grid": self.time_grids,
        }


class WrongKindError(UserError):
    """The file is of a diffusion model and not of an autoencoder as expected, or the other way round."""


@dataclass(frozen=True)
class Problem:
    """One mistake: its key, and a message with what was expected and found."""

    location: Location
    message: str


def read_experiment(path: Path, offer: Offer, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file.

    Parameters
    ----------
    path
        TOML file in the layout of `schema`, or a file of an older layout.
    offer
        The backbones, representations, methods, predictions, samplers and time grids that a file may name.
    overrides
        `table.key=value` pairs that override the file; values are TOML, or else plain text.

    Raises
    ------
    UserError
        With one line per mistake: unknown keys, wrong types, values out of range, conflicting settings.
    WrongKindError
        If the file is of an autoencoder.
    """
    source = _source(path, overrides)
    if _name(source.tables) == AUTOENCODER:
        raise WrongKindError(f"{path}: is an autoencoder experiment; expected a diffusion experiment")

    def parse(tables: dict[str, Any]) -> tuple[Experiment | None, list[Problem]]:
        return _parse(tables, offer)

    def check(experiment: Experiment) -> Iterator[tuple[str, str]]:
        yield from offer.check(experiment)
        yield from offer.check_schedule(experiment) if source.translation is None else ()

    experiment = _checked(source, parse, check)
    if source.translation:
        for key, message in offer.check_schedule(experiment):
            log_once(logger, _line(source, Problem(tuple(key.split(".")), message)))
    return experiment


def read_autoencoder_experiment(
    path: Path, backbones: Collection[str], representations: Collection[str], overrides: Sequence[str] = ()
) -> AutoencoderExperiment:
    """Read the experiment file of an autoencoder for one of the `representations`.

    Raises
    ------
    UserError
        With one line per mistake, as `read_experiment`.
    WrongKindError
        If the file is of a diffusion model: it names one of the `backbones`, or no model.
    """
    source = _source(path, overrides)
    if (name := _name(source.tables)) is None or name in backbones:
        found = f"found {name!r}" if name else "found none"
        raise WrongKindError(
            f"{path}: is a diffusion experiment; expected an autoencoder experiment, with [model] name = "
            f"{AUTOENCODER!r}, {found}"
        )

    def parse(tables: dict[str, Any]) -> tuple[AutoencoderExperiment | None, list[Problem]]:
        experiment, problems = _validate(AutoencoderExperiment, tables, ())
        return experiment, [*problems, *_unknown(tables, {("data", "representation"): representations})]

    def check(experiment: AutoencoderExperiment) -> Iterator[tuple[str, str]]:
        for each in source.translation.expected if source.translation else ():
            yield each.key, "is determined by the dataset; remove it"

    return _checked(source, parse, check)


def check_keys(path: Path, overrides: Sequence[str] = ()) -> None:
    """Check what the tables themselves tell about a file: unknown keys, wrong types and values out of range.

    Takes a fraction of a second, while names and architectures can only be checked after importing PyTorch. The reading
    functions check all of this again.

    Raises
    ------
    UserError
        With one line per mistake.
    """
    source = _source(path, overrides)
    kind = AutoencoderExperiment if _name(source.tables) == AUTOENCODER else Experiment
    problems = [*source.problems, *_validate(kind, _without(source.tables, source.problems), ())[1]]
    if problems:
        source.warn()
        raise UserError(*(_line(source, problem) for problem in problems))


def is_autoencoder_file(path: Path, overrides: Sequence[str] = ()) -> bool:
    """Whether an experiment file is of an autoencoder."""
    return _name(_source(path, overrides).tables) == AUTOENCODER


def _name(tables: Mapping[str, Any]) -> str | None:
    """The `[model] name`; None if it is missing, "" if it is not a string."""
    model = tables.get("model", {})
    name = model.get("name") if isinstance(model, dict) else ""
    return name if name is None or isinstance(name, str) else ""


def read_translation(path: Path) -> Translation | None:
    """Translate a file of an older layout, or with older keys, to today's; None if it has only today's keys.

    Raises
    ------
    UserError
        If it is neither valid TOML nor, by its extension, valid YAML. Other problems are listed in the translation.
    """
    source = _source(path, ())
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
    translation = _source(path, ()).translation
    mode = translation.left.get("mode") if translation else None
    if mode and mode.is_lost:
        raise UserError(f"{path}: mode: generate: {mode.reason}, or set mode: train")


def expectations(path: Path) -> tuple[Expectation, ...]:
    """The sizes that a file of an older layout states, and that its dataset must have."""
    translation = _source(path, ()).translation
    return translation.expected if translation else ()


@cache
def known_keys() -> tuple[str, ...]:
    """The dotted keys and tables of a diffusion experiment, in order; without the keys of architectures."""
    return tuple(".".join(location) for location in _known_keys(Experiment, ()))


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A file in today's layout, with the overrides applied."""

    path: Path
    tables: dict[str, Any]
    overridden: Collection[Location]
    problems: Sequence[Problem]
    translation: Translation | None
    """None for a file in today's layout."""
    older_keys: Collection[str]
    """Keys of older layouts in a file of today's, which are among the problems."""

    def warn(self) -> None:
        """Warn about what changed in a file of an older layout."""
        if self.translation:
            from signal_diffusion.config.legacy.report import warn_of_older_keys

            warn_of_older_keys(self.path, self.translation)


def _source(path: Path, overrides: Sequence[str]) -> _Source:
    given = dict(map(_parsed_override, overrides))
    units = {unit: "steps" for unit in map(_unit_of, given) if unit and unit not in given}
    given |= units  # an interval of --set counts steps, whatever the unit of the one that it replaces
    yaml = path.suffix in (".yaml", ".yml")
    tables, translation = _read(path, yaml=yaml), None
    older_keys: dict[str, str] = {}
    if yaml or is_older(tables):
        from signal_diffusion.config.legacy.translation import translated

        translation = translated(tables, known_keys(), given, yaml=yaml)
        tables, problems = copy.deepcopy(translation.tables), list(translation.problems)
    else:
        tables, problems = plain(tables)
        drop_removed_keys(tables, path, quiet=path.name == CONFIG_NAME)  # an earlier version wrote the file of a run
        if older_keys := _older_keys(tables, path):
            tables = nested({key: value for key, value in dotted(tables) if key not in older_keys})
            problems += older_keys.items()
    for key, value in given.items():
        before = _override(tables, key, value)
        if key in units and before not in (None, value):
            table = key.removesuffix(".unit")
            line = f"{path}: [{table}] unit: {before!r} does not apply to --set {table}.interval, which counts steps"
            log_once(logger, line)
    return _Source(
        path=path,
        tables=tables,
        overridden={tuple(key.split(".")) for key in given},
        problems=[Problem(tuple(key.split(".")), message) for key, message in problems],
        translation=translation,
        older_keys=older_keys,
    )


def _older_keys(tables: Mapping[str, Any], path: Path) -> dict[str, str]:
    """The keys of older layouts in a file of today's, with messages that name today's."""
    strange = [key for key, _ in dotted(tables) if not _is_todays(key)]
    found = {key: names for key in strange if (names := _destinations(key)) is not None}
    command = f"`signal-diffusion config migrate {shlex.quote(str(path))}`"
    return {
        key: f"is now {names[0]}; {command} writes it" if names else f"has no effect any more; {command} removes it"
        for key, names in found.items()
    }


def _unit_of(key: str) -> str:
    """The key of the unit of an interval, which --set counts in steps; "" if there is none."""
    unit = f"{key.removesuffix('.interval')}.unit"
    return unit if key.endswith(".interval") and unit in known_keys() else ""


def _checked(
    source: _Source,
    parse: Callable[[dict[str, Any]], tuple[AnyExperiment | None, list[Problem]]],
    check: Callable[[AnyExperiment], Iterable[tuple[str, str]]],
) -> AnyExperiment:
    """The experiment, or a `UserError` with all problems: those of single keys, of combinations, and of `check`."""
    tables = source.tables
    source.warn()
    problems = [*source.problems]
    experiment, found_here = parse(_without(tables, problems))
    problems += found_here
    if problems:  # without these keys, the rest of the file may have further mistakes
        experiment, further = parse(_without(tables, problems))
        problems += [problem for problem in further if problem not in problems]
    written = set(dict(dotted(_without(tables, problems))))
    found: list[tuple[str, str]] = []
    if experiment is not None:
        mistaken = {".".join(problem.location) for problem in problems}
        found += rules.check(experiment, written, mistaken, {".".join(key) for key in source.overridden})
        found += () if problems else check(experiment)
    first = dict(reversed(found))  # one line per key
    problems += [Problem(tuple(key.split(".")), first.pop(key)) for key, _ in found if key in first]
    if experiment is None or problems:
        raise UserError(*(_line(source, problem) for problem in problems))
    _warn_of_unused_epochs(source, experiment.training)
    return experiment


def _warn_of_unused_epochs(source: _Source, training: schema.Training) -> None:
    """Warn if `epochs` is given next to `max_steps`, which decides; not if only `max_steps` is from --set: a trial."""
    overridden = {key for key in ("epochs", "max_steps") if ("training", key) in source.overridden}
    if source.translation:
        in_file = "training.epochs" in source.translation.sources
    else:
        in_file = source.path.name != CONFIG_NAME and "epochs" in source.tables.get("training", {})
    if training.max_steps is None or overridden == {"max_steps"} or not (in_file or overridden):
        return
    message = f"{training.epochs} has no effect, because max_steps = {training.max_steps} decides; remove one of them"
    log_once(logger, _line(source, Problem(("training", "epochs"), message)))


def _without(tables: dict[str, Any], problems: Sequence[Problem]) -> dict[str, Any]:
    """The tables without the keys that have problems."""
    kept = copy.deepcopy(tables)
    for problem in problems:
        table: Any = kept
        for part in problem.location[:-1]:
            if not isinstance(table.get(part), dict):  # the problem is in an element of a list, or a whole table
                break
            table = table[part]
        else:
            part = problem.location[-1]
        table.pop(part, None)
    return kept


def written_keys(path: Path, overrides: Sequence[str] = ()) -> set[str]:
    """The dotted keys that a file and its overrides set; all others have their defaults."""
    return set(dict(dotted(_source(path, overrides).tables)))


def located_lines(path: Path, overrides: Sequence[str], findings: Iterable[tuple[str, str]]) -> list[str]:
    """Format (dotted key, message) pairs as lines that start with the location: the file or `--set`, table, key."""
    source = _source(path, overrides)
    return [_line(source, Problem(tuple(key.split(".")), message)) for key, message in findings]


def to_toml(experiment: Experiment | AutoencoderExperiment) -> str:
    """The text of a file that reads back as an equal experiment; keys without a value or effect are left out."""
    return tomli_w.dumps(_resolved(dataclasses.asdict(experiment), "", rules.without_effect(experiment)))


def _resolved(tables: dict[str, Any], prefix: str, without_effect: Collection[str]) -> dict[str, Any]:
    return {
        key: _resolved(value, f"{prefix}{key}.", without_effect) if isinstance(value, dict) else value
        for key, value in tables.items()
        if value is not None and f"{prefix}{key}" not in without_effect
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


def _parsed_override(override: str) -> tuple[str, Any]:
    """The dotted key and the value of `table.key=value`."""
    key, equals, text = override.partition("=")
    location = tuple(part.strip() for part in key.split("."))
    if not equals or not all(location):
        raise UserError(f"--set {override}: expected table.key=value, such as training.max_steps=100")
    if any("\ud800" <= letter <= "\udfff" for letter in override) or len(location) > MAX_DEPTH:
        raise UserError(f"--set {override!r}: expected UTF-8 text, and a key in at most {MAX_DEPTH - 1} nested tables")
    name = ".".join(location)
    if not _is_todays(name) and (names := _destinations(name)):
        raise UserError(f"--set {override}: is a key of an older layout; use {names[0]}")
    if name in REMOVED:
        raise UserError(f"--set {override}: was removed: {REMOVED[name]}; leave it out")
    try:
        value = read_toml(f"value = {text}")["value"] if "\n" not in text else text
    except (ValueError, RecursionError):
        value = text
    return name, value if is_plain(value) else text  # a date, say: then the type check reports it as it was typed


def _is_todays(key: str) -> bool:
    """Whether a file of today's layout may have a key; those of a network are checked with its architecture."""
    return key in _keys_with_values() or key.startswith("model.architecture.")


@cache
def _keys_with_values() -> frozenset[str]:
    """The keys of both kinds of experiments, without tables."""
    known = {*known_keys(), *(".".join(location) for location in _known_keys(AutoencoderExperiment, ()))}
    return frozenset(known - {key.rpartition(".")[0] for key in known})


def _destinations(key: str) -> tuple[str, ...] | None:
    """The names today of a key of an older layout; None if it is none."""
    from signal_diffusion.config.legacy.translation import destinations

    return destinations(key)


def _override(tables: dict[str, Any], key: str, value: Any) -> Any:
    """Set a key of the tables of a file to the value of --set, and return the value before, or None."""
    *above, last = key.split(".")
    table = tables
    for part in above:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {key}: {part} is a value, not a table")
    before, table[last] = table.get(last), value
    return before


def _parse(tables: dict[str, Any], offer: Offer) -> tuple[Experiment | None, list[Problem]]:
    problems: list[Problem] = []
    experiment, found = _validate(schema.Experiment, tables, ())
    problems += found
    model = tables.get("model")
    model = model if isinstance(model, dict) else {}
    problems += _unknown(tables, {tuple(key.split(".")): names for key, names in offer.names.items()})
    architecture = offer.architectures.get(str(model.get("name", schema.Model().name)))
    if architecture is not None:
        table, found = _validate(architecture, model.get("architecture", {}), ("model", "architecture"))
        problems += found
        if experiment is not None and table is not None:
            experiment = dataclasses.replace(
                experiment, model=dataclasses.replace(experiment.model, architecture=table)
            )
    return (None if problems else experiment), problems


def _validate(kind: type, table: object, location: Location) -> tuple[Any, list[Problem]]:
    try:
        # Via JSON, where pydantic takes a list for a tuple even in strict mode.
        return TypeAdapter(kind).validate_json(json.dumps(table)), []
    except ValidationError as error:
        return None, [
            Problem((*location, *map(str, item["loc"])), _message(kind, location, item))
            for item in error.errors(include_url=False)
        ]


def _message(kind: type, root: Location, item: Mapping[str, Any]) -> str:
    where = tuple(map(str, item["loc"]))
    if item["type"] == "unexpected_keyword_argument":
        return "unknown key" + nearest_key((*root, *where), _known_keys(kind, root))
    expected = item["msg"].replace("Input should be ", "expected ").replace("Field required", "expected a value")
    expected = expected.replace("an object", "a table").replace("expected greater", "expected a number greater")
    expected = expected.replace("expected less", "expected a number less").replace("instance of Any", "value")
    if item["type"] == "literal_error":
        return f"{expected}, found {item['input']!r}" + did_you_mean(
            str(item["input"]), [name.strip(" '") for name in expected[9:].replace(" or ", ",").split(",")]
        )
    return f"{expected}, found {item['input']!r}"


def _unknown(tables: Mapping[str, Any], choices: Mapping[Location, Collection[str]]) -> list[Problem]:
    """Problems for values at these locations that are not one of the allowed names."""
    problems = []
    for location, names in choices.items():
        value: Any = tables
        for part in location:
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str) and value and value not in names:
            expected = ", ".join(map(repr, names))
            more = (AUTOENCODER,) if location == ("model", "name") else ()  # trained by another command
            hint = did_you_mean(value, (*names, *more))
            problems.append(Problem(location, f"expected one of {expected}, found {value!r}{hint}"))
    return problems


def _known_keys(kind: type, root: Location) -> list[Location]:
    known: list[Location] = []
    for member in dataclasses.fields(kind):
        known.append((*root, member.name))
        if dataclasses.is_dataclass(member.default_factory):
            known += _known_keys(member.default_factory, (*root, member.name))
    return known


def _line(source: _Source, problem: Problem) -> str:
    *tables, key = problem.location
    index = ""
    while key.isdigit() and tables:  # an element of a list: name the list
        index, key = f"[{key}]{index}", tables.pop()
    overridden = (*tables, key) in source.overridden
    table = f" [{'.'.join(tables)}]" if tables else ""
    old = source.translation.origins.get(".".join((*tables, key))) if source.translation and not overridden else None
    here = f" (in this file {old})" if old else ""
    return f"{'--set' if overridden else source.path}:{table} {key}{index}{here}: {problem.message}"
