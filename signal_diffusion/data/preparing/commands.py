"""The command that makes a dataset again, for its card."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from signal_diffusion.data.preparing.building import WindowOptions
from signal_diffusion.data.preparing.options import PrepareOptions
from signal_diffusion.data.representations.representation import DEFAULT_PICTURES

__all__ = ["command_of", "made_from", "without_parents"]


def command_of(arguments: Sequence[str], options: WindowOptions, path: Callable[[Path], str] = str) -> str:
    """Format the options as the command that makes the same dataset; `path` formats the paths among them."""
    words = ["signal-diffusion", "prepare", *arguments, "--output", "DIR"]
    values = {entry.name: getattr(options, entry.name) for entry in fields(options)}
    pictures = values.pop("pictures")
    if pictures.layout != DEFAULT_PICTURES.layout:
        values |= {"layout": pictures.layout, "picture_size": pictures.size, "frequency": pictures.frequency}
    values |= {"db_limits": pictures.db_limits}
    for name in ("workers", "cluster"):
        values.pop(name, None)
    if isinstance(options, PrepareOptions) and options.around_events:
        for name in ("window", "overlap", *(["label"] if options.label == "task" else [])):
            values.pop(name)
    if values.get("missing") == "refuse":  # commands of older datasets do not have it
        values.pop("missing")
    if options.splits_from is not None:
        for name in ("splits", "split_by", *(["seed"] if isinstance(options, PrepareOptions) else [])):
            values.pop(name, None)
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif name == "notch":
            words += [word for line in value for word in (flag, str(line))]
        elif value is not False and value is not None:
            each = value if isinstance(value, tuple) else (value,)
            words += [flag, *(path(one) if isinstance(one, Path) else str(one) for one in each)]
    return shlex.join(words)


def made_from(inputs: Sequence[str], options: WindowOptions) -> str:
    """Hash that distinguishes recordings and options, without revealing paths."""
    return hashlib.sha256(command_of(inputs, options).encode()).hexdigest()


def without_parents(path: Path) -> str:
    """A path as it was given if it is below the current folder, else its name: cards reveal no folders."""
    is_below = not path.is_absolute() and ".." not in path.parts
    return str(path) if is_below and path.name else path.resolve().name
