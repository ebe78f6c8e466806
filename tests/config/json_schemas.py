"""A validator for the JSON Schema keywords that our schemas use; any other keyword is a KeyError."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
}
ALLOWS: dict[str, Callable[[Any, Any], bool]] = {
    "enum": lambda value, names: value in names,
    "const": lambda value, only: value == only,
    "minimum": lambda value, limit: value >= limit,
    "exclusiveMinimum": lambda value, limit: value > limit,
    "maximum": lambda value, limit: value <= limit,
    "exclusiveMaximum": lambda value, limit: value < limit,
    "multipleOf": lambda value, number: value % number == 0,
    "minLength": lambda value, length: len(value) >= length,
    "minItems": lambda value, length: len(value) >= length,
    "maxItems": lambda value, length: len(value) <= length,
    "required": lambda value, keys: set(keys) <= set(value),
}
HANDLED_ELSEWHERE = {"$schema", "$defs", "title", "description", "default", "type", "additionalProperties", "then"}


def refused(value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], key: str = "") -> Iterator[str]:
    """Yield the dotted keys whose values the schema refuses, some possibly more than once."""
    if "type" in schema and not TYPES[schema["type"]](value):
        yield key
        return
    if isinstance(value, dict) and schema.get("additionalProperties") is False:
        yield from (f"{key}.{name}".strip(".") for name in value if name not in schema["properties"])
    for keyword, about in schema.items():
        if keyword == "properties":
            for name in about.keys() & value.keys():
                yield from refused(value[name], about[name], definitions, f"{key}.{name}".strip("."))
        elif keyword == "items":
            for each in value:
                yield from refused(each, about, definitions, key)
        elif keyword == "$ref":
            yield from refused(value, definitions[about.rpartition("/")[2]], definitions, key)
        elif keyword == "anyOf":
            if all(next(refused(value, each, definitions, key), None) is not None for each in about):
                yield key
        elif keyword == "allOf":
            for each in about:
                yield from refused(value, each, definitions, key)
        elif keyword == "if":
            if next(refused(value, about, definitions, key), None) is None:
                yield from refused(value, schema["then"], definitions, key)
        elif keyword not in HANDLED_ELSEWHERE and not ALLOWS[keyword](value, about):
            yield key
