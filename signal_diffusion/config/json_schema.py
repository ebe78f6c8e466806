"""JSON Schemas of experiment files, generated from the dataclasses: for completion in editors and for documentation.

Draft 7, with references only to architectures, since TOML editors support little more. They cover the values of single
keys; conflicts between keys are left to `rules`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import TypeAdapter

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.offer import Offer
from signal_diffusion.config.schema import Experiment

__all__ = ["Node", "autoencoder_schema", "experiment_schema"]

Node = dict[str, Any]
DRAFT = "http://json-schema.org/draft-07/schema#"
TOML_INTEGER_LIMIT = 2**63
"""TOML integers are smaller than this."""


def experiment_schema(offer: Offer) -> Node:
    """The schema of a diffusion experiment; `$defs` has the architecture of each backbone, by its name."""
    schema = _table(Experiment)
    for key, names in offer.names.items():
        _allow(schema, key, names)
    model = schema["properties"]["model"]
    architectures = {name: {"$ref": f"#/$defs/{name}"} for name in offer.architectures}
    # Editors complete from anyOf; validators check a file against its own backbone by allOf.
    model["properties"]["architecture"] = {"type": "object", "anyOf": list(architectures.values())}
    default = model["properties"]["name"]["default"]
    model["allOf"] = [
        {"if": _named(name, name == default), "then": {"properties": {"architecture": architecture}}}
        for name, architecture in architectures.items()
    ]
    definitions = {name: _table(architecture) for name, architecture in offer.architectures.items()}
    return {"$schema": DRAFT, "title": "signal-diffusion: an experiment", **schema, "$defs": definitions}


def autoencoder_schema(offer: Offer) -> Node:
    """The schema of an autoencoder experiment."""
    schema = _table(AutoencoderExperiment)
    _allow(schema, "data.representation", offer.representations)
    schema["required"] = ["model"]
    schema["properties"]["model"]["required"] = ["name"]
    return {"$schema": DRAFT, "title": "signal-diffusion: an experiment of an autoencoder", **schema}


def _named(name: str, by_default: bool) -> Node:
    """Match tables with this `name`, or without a name if it is the default."""
    return {"properties": {"name": {"const": name}}} | ({} if by_default else {"required": ["name"]})


def _table(kind: type) -> Node:
    """The schema of a dataclass and its subtables, in the order of its fields."""
    schema = TypeAdapter(kind).json_schema()
    return _ordered(kind, schema, schema.get("$defs", {}))


def _ordered(kind: type, node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Node:
    properties = {}
    for member in dataclasses.fields(kind):
        each = node["properties"][member.name]
        inner = member.default_factory
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            properties[member.name] = _ordered(inner, definitions[each["$ref"].rpartition("/")[2]], definitions)
        else:
            properties[member.name] = _key_schema(each)
    description = _line(node["description"])
    return {"type": "object", "description": description, "properties": properties, "additionalProperties": False}


def _key_schema(node: Mapping[str, Any]) -> Node:
    """The schema of one key, without values that TOML cannot express: null, and integers of more than 63 bits."""
    key = {name: value for name, value in node.items() if name not in ("title", "anyOf")}
    if "anyOf" in node:
        [not_null] = (each for each in node["anyOf"] if each != {"type": "null"})
        key |= not_null
    if key.get("exclusiveMaximum", 0) >= TOML_INTEGER_LIMIT:
        del key["exclusiveMaximum"]
    if "prefixItems" in key:  # unknown to draft 7
        key["items"], *_ = key.pop("prefixItems")
    if key.get("default") is None:
        key.pop("default", None)
    if "description" in key:
        key["description"] = _line(key["description"])
    return key


def _line(text: str) -> str:
    return " ".join(text.split())


def _allow(schema: Node, key: str, names: Collection[str]) -> None:
    """Restrict a dotted key to these names."""
    for part in key.split("."):
        schema = schema["properties"][part]
    schema.pop("minLength", None)
    schema["enum"] = list(names)
