"""Reads YAML, the format of two older layouts of experiment files, as tables like those of TOML."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml  # type: ignore[import-untyped]

__all__ = ["read_yaml"]


MAX_VALUES = 10_000
"""Most values in a file; aliases within aliases could otherwise stand for billions."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but duplicate keys are an error (PyYAML itself silently keeps the last), as are floods."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        todo, count = [node] if node else [], 0
        while todo:
            inside = todo.pop().value
            if isinstance(inside, list):  # of nodes, or of pairs of nodes
                count += len(inside)
                todo += [each for part in inside for each in (part if isinstance(part, tuple) else (part,))]
            if count > MAX_VALUES:
                raise ValueError(f"more than {MAX_VALUES} values, counting each use of an alias")
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [each.value for each, _ in node.value if isinstance(each.value, str) and each.tag != _MERGE]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"{min(twice)!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_MERGE = "tag:yaml.org,2002:merge"
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))  # 1e-4 is a float in YAML 1.2


def read_yaml(text: str) -> dict[str, Any]:
    """Parse a YAML text into tables.

    Raises
    ------
    ValueError
        With one line, if the text is not YAML, or is not made of tables with plain values.
    """
    try:
        tables = yaml.load(text, Loader=_Loader)
        # Reject a table that contains itself, by aliases, and lone surrogates, by escapes.
        json.dumps(tables, default=str, ensure_ascii=False).encode()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        # PyYAML raises these if a value does not match its tag, such as !!bool x.
        raise ValueError(f"expected tables of plain values: {type(error).__name__}: {error}") from None
    if not isinstance(tables, dict):
        raise ValueError(f"expected tables, found {type(tables).__name__}")
    return _with_names(tables)


def _with_names(tables: dict[Any, Any]) -> dict[str, Any]:
    """Convert keys to strings, since YAML parses some as numbers, dates or (`no`) booleans."""
    return {str(key): _with_names(value) if isinstance(value, dict) else value for key, value in tables.items()}
