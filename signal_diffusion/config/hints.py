"""Hints at the name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

__all__ = ["did_you_mean", "nearest_key"]

NICKNAMES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "batch": "batch_size",
    "workers": "num_workers",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "iterations": "max_steps",
    "num_steps": "max_steps",
    "warmup": "warmup_steps",
    "clip": "gradient_clip_norm",
    "grad_clip": "gradient_clip_norm",
    "cfg_scale": "guidance_scale",
    "precision": "mixed_precision",
    "gpu": "cuda",
}
"""What other programs call our keys and values."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A hint at the most similar of the names, "" if none is similar."""
    names = list(names)
    known = NICKNAMES.get(name.lower())
    close = [known] if known in names else difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def nearest_key(location: Collection[str], known: Collection[tuple[str, ...]]) -> str:
    """A hint at a similar key of the same table, else at the same key in another table, else at a similar path."""
    *table, key = location
    if hint := did_you_mean(key, {each[-1] for each in known if list(each[:-1]) == table}):
        return hint
    tables = {each[:-1] for each in known}
    paths = {".".join(each): each[-1] for each in known if each not in tables}
    elsewhere = [path for path, last in paths.items() if last == NICKNAMES.get(key.lower(), key)]
    is_table = tuple(table) in tables
    close = elsewhere or ([] if is_table else difflib.get_close_matches(".".join(location), paths, n=1))
    return f" (did you mean {close[0]}?)" if close else ""
