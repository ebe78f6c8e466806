"""Turn the tables of a file into dataclasses, and what does not fit into problems."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from signal_diffusion.config.autoencoder_tables import AUTOENCODER
from signal_diffusion.config.hints import did_you_mean, nearest_key
from signal_diffusion.config.keys import keys_of
from signal_diffusion.config.offer import Offer
from signal_diffusion.config.schema import Experiment, Model
from signal_diffusion.config.sources import Problem

__all__ = ["parse_experiment", "unknown_names", "validated"]

Location = tuple[str, ...]


def parse_experiment(tables: dict[str, Any], offer: Offer) -> tuple[Experiment | None, list[Problem]]:
    """The experiment in these tables, with the architecture of its backbone; None if there are problems."""
    experiment, problems = validated(Experiment, tables, ())
    problems += unknown_names(tables, {tuple(key.split(".")): names for key, names in offer.names.items()})
    model = tables.get("model")
    model = model if isinstance(model, dict) else {}
    architecture = offer.architectures.get(str(model.get("name", Model().name)))
    if architecture is not None:
        table, found = validated(architecture, model.get("architecture", {}), ("model", "architecture"))
        problems += found
        if not problems:
            experiment = replace(experiment, model=replace(experiment.model, architecture=table))
    return (None if problems else experiment), problems


def validated(kind: type, table: object, location: Location) -> tuple[Any, list[Problem]]:
    """A table as this dataclass, or None; and its problems, in keys below `location`."""
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
        return "unknown key" + nearest_key((*root, *where), keys_of(kind, root))
    expected = item["msg"].replace("Input should be ", "expected ").replace("Field required", "expected a value")
    expected = (
        expected.replace("a valid boolean", "true or false")
        .replace("an object", "a table")
        .replace("expected greater", "expected a number greater")
    )
    expected = expected.replace("expected less", "expected a number less").replace("instance of Any", "value")
    if item["type"] == "literal_error":
        return f"{expected}, found {item['input']!r}" + did_you_mean(
            str(item["input"]), [name.strip(" '") for name in expected[9:].replace(" or ", ",").split(",")]
        )
    return f"{expected}, found {item['input']!r}"


def unknown_names(tables: Mapping[str, Any], choices: Mapping[Location, Collection[str]]) -> list[Problem]:
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
