"""Text → an experiment: TOML, overrides, and every mistake of a file in one go, each in one line.

Older layouts, in TOML or YAML, are put into today's first (`legacy`), and told of once.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import TypeAdapter, ValidationError

from signal_diffusion.config import rules, schema
from signal_diffusion.config.autoencoder_tables import AUTOENCODER, AutoencoderExperiment
from signal_diffusion.config.dotted import dotted
from signal_diffusion.config.legacy.plain import DEEPEST, is_plain
from signal_diffusion.config.legacy.report import warn_of_older_keys
from signal_diffusion.config.legacy.rows import ROWS
from signal_diffusion.config.legacy.translation import Translation, translated
from signal_diffusion.config.legacy.yaml_files import read_yaml
from signal_diffusion.config.schema import Experiment
from signal_diffusion.errors import UserError

__all__ = [
    "Offer",
    "Problem",
    "WrongKindError",
    "is_of_autoencoder",
    "known_keys",
    "lines_of",
    "read_autoencoder_experiment",
    "read_experiment",
    "to_toml",
    "translation_of",
    "written_keys",
]

Location = tuple[str, ...]
AnyExperiment = TypeVar("AnyExperiment", Experiment, AutoencoderExperiment)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the other rooms have to offer, by name; handed in, so that this room imports none of them."""

    architectures: Mapping[str, type]
    representations: Collection[str]
    methods: Collection[str]
    predictions: Collection[str]
    samplers: Collection[str]
    check: Callable[[Experiment], Iterable[tuple[str, str]]]
    """What only they can tell of an experiment, as (dotted key, message)."""

    @property
    def names(self) -> dict[str, Collection[str]]:
        """The names that each of these dotted keys takes."""
        return {
            "model.name": self.architectures,
            "data.representation": self.representations,
            "model.diffusion.method": self.methods,
            "model.diffusion.prediction": self.predictions,
            "generation.sampling.sampler": self.samplers,
        }


class WrongKindError(UserError):
    """A file of a diffusion model where one of an autoencoder is expected, or the other way round."""


@dataclass(frozen=True)
class Problem:
    """One mistake: the key that it is at, and what was expected and found there."""

    location: Location
    message: str


def read_experiment(path: Path, offer: Offer, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file.

    Parameters
    ----------
    path
        TOML file in the layout of `schema`, or a file of an older layout.
    offer
        The backbones, representations, methods, predictions and samplers that a file may name.
    overrides
        `table.key=value` pairs that win over the file; values are TOML, or else plain text.

    Raises
    ------
    UserError
        With one line per mistake: unknown keys, wrong types, values out of range, tables that contradict.
    WrongKindError
        Where the file is of an autoencoder.
    """
    source = _source(path, overrides)
    if _name(source.tables) == AUTOENCODER:
        raise WrongKindError(f"{path}: is an experiment of an autoencoder; expected one of a diffusion model")

    def parse(tables: dict[str, Any]) -> tuple[Experiment | None, list[Problem]]:
        return _parse(tables, offer)

    return _checked(source, parse, offer.check)


def read_autoencoder_experiment(
    path: Path, backbones: Collection[str], representations: Collection[str], overrides: Sequence[str] = ()
) -> AutoencoderExperiment:
    """Read the experiment file of an autoencoder, of one of the `representations` that there are.

    Raises
    ------
    UserError
        With one line per mistake, as `read_experiment`.
    WrongKindError
        Where the file is of a diffusion model: names one of the `backbones`, or no model.
    """
    source = _source(path, overrides)
    if (name := _name(source.tables)) is None or name in backbones:
        found = f"is {name!r}" if name else "is not given"
        raise WrongKindError(
            f"{path}: is an experiment of a diffusion model; expected one of an autoencoder, whose [model] name, which "
            f"here {found}, is {AUTOENCODER!r}"
        )

    def parse(tables: dict[str, Any]) -> tuple[AutoencoderExperiment | None, list[Problem]]:
        experiment, problems = _validate(AutoencoderExperiment, tables, ())
        return experiment, [*problems, *_unknown(tables, {("data", "representation"): representations})]

    def check(experiment: AutoencoderExperiment) -> Iterator[tuple[str, str]]:
        for each in source.translation.expected:
            yield each.key, "follows from the dataset; leave it out"

    return _checked(source, parse, check)


def is_of_autoencoder(path: Path, overrides: Sequence[str] = ()) -> bool:
    """Whether an experiment file says that it is of an autoencoder."""
    return _name(_source(path, overrides).tables) == AUTOENCODER


def _name(tables: Mapping[str, Any]) -> str | None:
    """The name of what is trained; None where the file does not say it, "" where what it says is no name."""
    model = tables.get("model", {})
    name = model.get("name") if isinstance(model, dict) else ""
    return name if name is None or isinstance(name, str) else ""


def translation_of(path: Path, chosen: Mapping[str, Any] | None = None) -> Translation:
    """A file in today's layout, and how it came there: unchanged, where it is of today's already.

    `chosen` are the tables of overrides, which win over what the file says and over what follows from it.

    Raises
    ------
    UserError
        Where it is neither TOML nor, by its name, YAML. What else is wrong with it stands in the translation.
    """
    yaml = path.suffix in (".yaml", ".yml")
    return translated(_read(path, yaml=yaml), known_keys(), yaml=yaml, chosen=chosen)


@cache
def known_keys() -> tuple[str, ...]:
    """Today's keys and tables of a diffusion experiment, dotted, in order; those of an architecture are its own."""
    return tuple(".".join(location) for location in _known_keys(Experiment, ()))


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What a file and the overrides say."""

    path: Path
    translation: Translation
    tables: dict[str, Any]
    overridden: Collection[Location]


def _source(path: Path, overrides: Sequence[str]) -> _Source:
    chosen: dict[str, Any] = {}
    overridden = {_override(chosen, override) for override in overrides}
    translation = translation_of(path, chosen)
    tables = copy.deepcopy(translation.tables)
    for override in overrides:
        _override(tables, override)
    return _Source(path=path, translation=translation, tables=tables, overridden=overridden)


def _checked(
    source: _Source,
    parse: Callable[[dict[str, Any]], tuple[AnyExperiment | None, list[Problem]]],
    check: Callable[[AnyExperiment], Iterable[tuple[str, str]]],
) -> AnyExperiment:
    """The experiment, or all that is wrong with it: with its keys, with its tables beside each other, in `check`."""
    tables = source.tables
    warn_of_older_keys(source.path, source.translation)
    problems = [Problem(tuple(key.split(".")), message) for key, message in source.translation.problems]
    experiment, found_here = parse(_without(tables, problems))
    problems += found_here
    if problems:  # what is left of the file without them may have mistakes of its own
        experiment, further = parse(_without(tables, problems))
        problems += [problem for problem in further if problem not in problems]
    written = set(dict(dotted(_without(tables, problems))))
    found: list[tuple[str, str]] = []
    if experiment is not None:
        mistaken = {".".join(problem.location) for problem in problems}
        found += rules.check(experiment, written, mistaken, {".".join(key) for key in source.overridden})
        found += () if problems else check(experiment)
    problems += [Problem(tuple(key.split(".")), message) for key, message in found]
    if experiment is None or problems:
        raise UserError(*(_line(source, problem) for problem in problems))
    return experiment


def _without(tables: dict[str, Any], problems: Sequence[Problem]) -> dict[str, Any]:
    """The tables without the keys that have problems."""
    kept = copy.deepcopy(tables)
    for problem in problems:
        table: Any = kept
        for part in problem.location[:-1]:
            if not isinstance(table.get(part), dict):  # the problem is an element of a list, or all of a table
                break
            table = table[part]
        else:
            part = problem.location[-1]
        table.pop(part, None)
    return kept


def written_keys(path: Path, overrides: Sequence[str] = ()) -> set[str]:
    """The dotted keys that a file and its overrides give; all others have their defaults."""
    return set(dict(dotted(_source(path, overrides).tables)))


def lines_of(path: Path, overrides: Sequence[str], findings: Iterable[tuple[str, str]]) -> list[str]:
    """What there is to say of dotted keys, in lines that begin with where they are: the file or `--set`, table, key."""
    source = _source(path, overrides)
    return [_line(source, Problem(tuple(key.split(".")), message)) for key, message in findings]


def to_toml(experiment: Experiment | AutoencoderExperiment) -> str:
    """The whole experiment as a file that reads back equal, without the keys that have no value or no effect."""
    return tomli_w.dumps(_resolved(dataclasses.asdict(experiment), "", rules.without_effect(experiment)))


def _resolved(tables: dict[str, Any], prefix: str, without_effect: Collection[str]) -> dict[str, Any]:
    return {
        key: _resolved(value, f"{prefix}{key}.", without_effect) if isinstance(value, dict) else value
        for key, value in tables.items()
        if value is not None and f"{prefix}{key}" not in without_effect
    }


def _read(path: Path, *, yaml: bool) -> dict[str, Any]:
    form, parse = ("YAML", read_yaml) if yaml else ("TOML", tomllib.loads)
    try:
        return parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected a {form} file in UTF-8, found something else") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid {form}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the experiment file: {error.strerror}") from None


def _override(tables: dict[str, Any], override: str) -> Location:
    key, equals, text = override.partition("=")
    location = tuple(part.strip() for part in key.split("."))
    if not equals or not all(location):
        raise UserError(f"--set {override}: expected table.key=value, such as training.max_steps=100")
    if any("\ud800" <= letter <= "\udfff" for letter in override) or len(location) > DEEPEST:
        raise UserError(f"--set {override!r}: expected text in UTF-8, and a key in at most {DEEPEST - 1} tables")
    name = ".".join(location)
    if name not in known_keys() and (today := next((row.new[0] for row in ROWS if row.old == name and row.new), "")):
        raise UserError(f"--set {override}: a key of an older layout; today it is {today}")
    try:
        value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except (ValueError, RecursionError):
        value = text
    value = value if is_plain(value) else text  # which is refused with what it is
    table = tables
    for part in location[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {override}: {part} is a value, not a table")
    table[location[-1]] = value
    return location


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
        # By way of JSON, since there a list may stand for a tuple while everything else stays strict.
        return TypeAdapter(kind).validate_json(json.dumps(table)), []
    except ValidationError as error:
        return None, [
            Problem((*location, *map(str, item["loc"])), _message(kind, location, item))
            for item in error.errors(include_url=False)
        ]


def _message(kind: type, root: Location, item: Mapping[str, Any]) -> str:
    where = tuple(map(str, item["loc"]))
    if item["type"] == "unexpected_keyword_argument":
        return "unknown key" + _nearest_key((*root, *where), _known_keys(kind, root))
    expected = item["msg"].replace("Input should be ", "expected ").replace("Field required", "expected a value")
    expected = expected.replace("an object", "a table").replace("expected greater", "expected a number greater")
    expected = expected.replace("expected less", "expected a number less").replace("instance of Any", "value")
    if item["type"] == "literal_error":
        return f"{expected}, found {item['input']!r}" + _did_you_mean(
            str(item["input"]), [name.strip(" '") for name in expected[9:].replace(" or ", ",").split(",")]
        )
    return f"{expected}, found {item['input']!r}"


def _unknown(tables: Mapping[str, Any], choices: Mapping[Location, Collection[str]]) -> list[Problem]:
    """The values, at these places, that are none of those that there are."""
    problems = []
    for location, names in choices.items():
        value: Any = tables
        for part in location:
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str) and value and value not in names:
            expected = ", ".join(map(repr, names))
            also = (AUTOENCODER,) if location == ("model", "name") else ()  # which another command trains
            hint = _did_you_mean(value, (*names, *also))
            problems.append(Problem(location, f"expected one of {expected}, found {value!r}{hint}"))
    return problems


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _nearest_key(location: Location, known: Collection[Location]) -> str:
    """A key of the same table that is spelt alike; else the same key in another table; else any that is alike."""
    *table, key = location
    siblings = {known_key[-1] for known_key in known if list(known_key[:-1]) == table}
    if close := difflib.get_close_matches(key, siblings, n=1):
        return f" (did you mean {close[0]!r}?)"
    if elsewhere := [".".join(known_key) for known_key in known if known_key[-1] == key]:
        return f" (did you mean {elsewhere[0]}?)"
    paths = [".".join(known_key) for known_key in known]
    close = difflib.get_close_matches(".".join(location), paths, n=1, cutoff=0.0)
    return f" (the nearest known key is {close[0]})" if close else ""


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
    old = None if overridden else source.translation.origins.get(".".join((*tables, key)))
    here = f" (here {old})" if old else ""
    return f"{'--set' if overridden else source.path}:{table} {key}{index}{here}: {problem.message}"
