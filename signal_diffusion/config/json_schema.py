"""JSON Schemas of experiment files, made from their dataclasses: for completion in editors, and for the documentation.

Draft 7 without references but to architectures, since editors of TOML know little more. They hold what one key alone
may be; what contradicts what, `rules` alone knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import TypeAdapter

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.loading import Offer
from signal_diffusion.config.schema import Experiment

__all__ = ["Node", "autoencoder_schema", "experiment_schema"]

Node = dict[str, Any]
DRAFT = "http://json-schema.org/draft-07/schema#"
ONE_MORE_THAN_TOML_COUNTS = 2**63


def experiment_schema(offer: Offer) -> Node:
    """Describe the experiment file of a diffusion model; `$defs` has the architecture of each backbone by its name."""
    schema = _table(Experiment)
    for key, names in offer.names.items():
        _allow(schema, key, names)
    model = schema["properties"]["model"]
    architectures = {name: {"$ref": f"#/$defs/{name}"} for name in offer.architectures}
    # Editors complete from anyOf; validators, those of editors too, hold a file against its own backbone.
    model["properties"]["architecture"] = {"type": "object", "anyOf": list(architectures.values())}
    default = model["properties"]["name"]["default"]
    model["allOf"] = [
        {"if": _named(name, name == default), "then": {"properties": {"architecture": architecture}}}
        for name, architecture in architectures.items()
    ]
    definitions = {name: _table(architecture) for name, architecture in offer.architectures.items()}
    return {"$schema": DRAFT, "title": "signal-diffusion: an experiment", **schema, "$defs": definitions}


def autoencoder_schema(offer: Offer) -> Node:
    """Describe the experiment file of an autoencoder."""
    schema = _table(AutoencoderExperiment)
    _allow(schema, "data.representation", offer.representations)
    schema["required"] = ["model"]
    schema["properties"]["model"]["required"] = ["name"]
    return {"$schema": DRAFT, "title": "signal-diffusion: an experiment of an autoencoder", **schema}


def _named(name: str, by_default: bool) -> Node:
    """Tables that have this `name`, or none where that is the default."""
    return {"properties": {"name": {"const": name}}} | ({} if by_default else {"required": ["name"]})


def _table(kind: type) -> Node:
    """A dataclass with the tables in it, in the order of its fields."""
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
            properties[member.name] = _key(each)
    told = {"description": _line(node["description"])}
    return {"type": "object", **told, "properties": properties, "additionalProperties": False}


def _key(node: Mapping[str, Any]) -> Node:
    """One key, without what TOML cannot say: null, and integers of more than 63 bits."""
    key = {name: value for name, value in node.items() if name not in ("title", "anyOf")}
    if "anyOf" in node:
        [alone] = (each for each in node["anyOf"] if each != {"type": "null"})
        key |= alone
    if key.get("exclusiveMaximum", 0) >= ONE_MORE_THAN_TOML_COUNTS:
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
    """Leave these names alone to a dotted key."""
    for part in key.split("."):
        schema = schema["properties"][part]
    schema.pop("minLength", None)
    schema["enum"] = list(names)
