"""What people read of experiment files: docs/configuration.md, and the comments of `config new`, from the JSON Schemas.

The meaning of a key is the string under its field; nothing is written twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from signal_diffusion.config import rules
from signal_diffusion.config.json_schema import Node, autoencoder_schema, experiment_schema
from signal_diffusion.config.loading import Offer

__all__ = ["Key", "Table", "configuration", "tables_of", "toml"]

INTRODUCTION = """\
# The experiment file

<!-- Made by scripts/document_config.py from the dataclasses of signal_diffusion/config and signal_diffusion/models. -->

An experiment is one TOML file. Every key is below, table by table, in the order of the file. A key that is not written
has its default; – means that there is none. A key that is unknown, out of its range, or without effect beside the
others is an error, of one line, when the file is read.

    uv run signal-diffusion config new --backbone dit --representation db-iq     # a file to begin with, commented
    uv run signal-diffusion config show FILE                                     # all keys, with their defaults
    uv run signal-diffusion config check FILE                                    # against its dataset; size and memory
    uv run signal-diffusion config diff A B                                      # of files, runs or checkpoints

`--set training.optimizer.learning_rate=3e-4` overrides any key on the command line. Files of older layouts are read
too: [migration.md](migration.md).

Editors with a TOML language server (taplo; Even Better TOML in VS Code) complete and explain the keys of a file whose
first line names its schema, `config/experiment.schema.json` or `config/autoencoder.schema.json`, relative to the file:

    #:schema ../experiment.schema.json

There are two kinds of experiments: of a diffusion model, and, with `[model] name = "autoencoder_kl"`, of an autoencoder
([latents.md](latents.md)), whose own tables are at the end. It has the other tables too, but [generation], without the
keys marked †.
"""

SECTIONS = {
    "model.architecture": "## Architectures\n\n`[model.architecture]` has the keys of the backbone that `model.name` "
    "is. Weights of `model.pretrained` bring their own.\n",
    "autoencoder": "## Autoencoders\n",
}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key, in words."""

    name: str
    values: str
    """Type, and range or allowed values."""
    default: Any
    """As JSON has it; None = none."""
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, in words."""

    name: str
    """Dotted."""
    meaning: str
    """A sentence, or ""."""
    keys: Sequence[Key]
    backbone: str = ""
    """Whose architecture it is."""


def configuration(offer: Offer) -> str:
    """docs/configuration.md: all keys of both kinds of files, once."""
    tables = list(tables_of(experiment_schema(offer)))
    architectures = [table for table in tables if table.backbone]
    own = [table for table in tables_of(autoencoder_schema(offer)) if table not in tables]
    parts = [INTRODUCTION]
    parts += [_section(table, "##") for table in tables if not table.backbone]
    parts += [SECTIONS["model.architecture"], *(_section(table, "###") for table in architectures)]
    parts += [SECTIONS["autoencoder"], *(_section(table, "###") for table in own)]
    return "\n".join(parts)


def tables_of(schema: Node) -> Iterator[Table]:
    """The tables of a schema that have keys, in the order of the file; architectures in that of the backbones."""
    yield from _tables("", schema, schema)


def toml(value: Any) -> str:
    """A value of a schema as TOML, on one line."""
    return json.dumps(value, ensure_ascii=False)  # which are the same, but for tables, and there are none


def _tables(name: str, node: Node, schema: Node) -> Iterator[Table]:
    inner = {key: each for key, each in node["properties"].items() if each["type"] == "object"}
    if keys := [_key(key, each) for key, each in node["properties"].items() if key not in inner]:
        yield Table(name=name, meaning=_meaning(node["description"]), keys=keys)
    for key, each in inner.items():
        path = f"{name}.{key}".lstrip(".")
        if "anyOf" not in each:
            yield from _tables(path, each, schema)
            continue
        for backbone, architecture in schema["$defs"].items():
            keys = [_key(key, each) for key, each in architecture["properties"].items()]
            yield Table(name=path, meaning=_meaning(architecture["description"]), keys=keys, backbone=backbone)


def _key(name: str, node: Node) -> Key:
    return Key(name=name, values=_values(node), default=node.get("default"), meaning=node["description"])


def _meaning(description: str) -> str:
    """A table's docstring without its name, which stands before it."""
    text = re.sub(r"^`?\[[\w.]+\]`?( of an? `\w+`)?[:.]? *", "", description)
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text


def _values(node: Node) -> str:
    """Type and range in words, such as "integer ≥ 1"; names that may be said are quoted."""
    if "const" in node:
        return toml(node["const"])
    if "enum" in node:
        return ", ".join(map(toml, node["enum"]))
    if node["type"] == "boolean":
        return "true, false"
    if node["type"] != "array":
        return _word(node["type"]) + _range(node)
    items, least, most = node["items"], node.get("minItems", 0), node.get("maxItems")
    many = f"{_word(items['type'])}s{_range(items)}" if "enum" not in items else _values(items)
    if most is not None and most == least:
        return f"list of {most} {many}"
    return f"list of {many}" + ("; at least one" if least else "")


def _word(kind: str) -> str:
    return {"string": "text"}.get(kind, kind)


def _range(node: Node) -> str:
    if node["type"] == "integer" and "exclusiveMinimum" in node:
        node = {"minimum": node["exclusiveMinimum"] + 1} | node
        del node["exclusiveMinimum"]
    least, most = node.get("minimum"), node.get("maximum")
    if least is not None and most is not None:
        return f" from {least} to {most}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "exclusiveMaximum": "<", "maximum": "≤"}
    limits = [f"{sign} {node[key]}" for key, sign in signs.items() if key in node]
    text = f" {' and '.join(limits)}" if limits else ""
    text += f", a multiple of {node['multipleOf']}" if "multipleOf" in node else ""
    return text + (", not empty" if node.get("minLength") else "")


def _section(table: Table, heading: str) -> str:
    """A table as Markdown."""
    of = f" of `{table.backbone}`" if table.backbone else ""
    meaning = f"{table.meaning}\n\n" if table.meaning else ""
    rows = [_row(key, _mark(table, key)) for key in table.keys]
    return f"{heading} `[{table.name}]`{of}\n\n{meaning}" + "\n".join(_aligned(rows)) + "\n"


def _mark(table: Table, key: Key) -> str:
    unread = {f"{name}.{each}" for name, keys in rules.NOT_OF_AN_AUTOENCODER for each in keys.split()}
    return " †" if f"{table.name}.{key.name}" in unread else ""


def _row(key: Key, mark: str) -> tuple[str, ...]:
    default = "–" if key.default is None else f"`{toml(key.default)}`"
    cells = (f"`{key.name}`{mark}", key.values, default, key.meaning)
    return tuple(re.sub(r"\||<(?=[a-z])", r"\\\g<0>", cell) for cell in cells)  # neither columns nor HTML


def _aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """A table of Markdown; the key's column is as wide as its widest, for those who read it in a terminal."""
    header = ("key", "values", "default", "meaning")
    width = max(len(row[0]) for row in [header, *rows])
    lines = [f"| {row[0]:<{width}} | {' | '.join(row[1:])} |" for row in [header, *rows]]
    return [lines[0], f"|{'-' * (width + 2)}|---|---|---|", *lines[1:]]
