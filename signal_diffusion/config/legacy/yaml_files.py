"""YAML, which two older layouts of experiment files are written in, as tables like those of TOML."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml  # type: ignore[import-untyped]

__all__ = ["read_yaml"]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, that refuses a key given twice, of which the last would win in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [each.value for each, _ in node.value if isinstance(each.value, str) and each.tag != _MERGE]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"{min(twice)!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_MERGE = "tag:yaml.org,2002:merge"
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))  # 1e-4, as YAML 1.2 has it


def read_yaml(text: str) -> dict[str, Any]:
    """The tables of a text.

    Raises
    ------
    ValueError
        In one line, where it is no YAML, or holds something else than tables of plain values.
    """
    try:
        tables = yaml.load(text, Loader=_Loader)
        # Aliases can make a table part of itself, and an escape half of a letter.
        json.dumps(tables, default=str, ensure_ascii=False).encode()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        # PyYAML fails so on a tag that its value does not fit, such as !!bool x.
        raise ValueError(f"expected tables of plain values: {type(error).__name__}: {error}") from None
    if not isinstance(tables, dict):
        raise ValueError(f"expected tables, found {type(tables).__name__}")
    return _with_names(tables)


def _with_names(tables: dict[Any, Any]) -> dict[str, Any]:
    """Keys as text, since YAML takes numbers, dates and `no` for others."""
    return {str(key): _with_names(value) if isinstance(value, dict) else value for key, value in tables.items()}
