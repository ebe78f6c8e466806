"""Contents of the card of a new dataset: columns, splits, and how often each value occurs in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from signal_diffusion.data.balancing import marginals_of_split, ranges
from signal_diffusion.data.card import MAX_CATEGORIES
from signal_diffusion.data.preparing.staged import Staged
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.subjects import parse_number
from signal_diffusion.errors import UserError, listed

__all__ = ["RESERVED", "describe_columns", "describe_montages", "describe_splits", "window_attributes"]

PERSONAL = ("gender", "health", "age")
IDENTITY = ("subject", "recording", "dataset")
RESERVED = ("image", "signal", "label", *PERSONAL, *IDENTITY, "window", "electrode", "caption")
"""Names that cannot be used for columns copied from a subject table."""


def window_attributes(recording: Recording, label: str | None, extras: Mapping[str, str]) -> dict[str, Any]:
    """Attributes of a window: its label, those of the subject, and its origin.

    `extras` is name in the dataset → column of the subject table.
    """
    named = {name: getattr(recording, name) for name in (*PERSONAL, *IDENTITY)}
    return {"label": label} | named | {name: recording.participant.get(key) for name, key in extras.items()}


def describe_columns(
    splits: Mapping[str, Sequence[Staged]], extras: Mapping[str, str], electrodes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Describe each column except tensor and caption; columns without values are left out.

    Category names are from all splits, mean and standard deviation from the training examples.
    """
    all_values = [values for members in splits.values() for values in _values(members, extras)]
    training = list(_values(splits["train"], extras))
    columns: dict[str, dict[str, Any]] = {}
    for name in ("label", *PERSONAL, *extras):
        known = {values[name] for values, _ in all_values if values[name] is not None}
        if not known:
            continue
        numbers = {value: _number(value) for value in known}
        if name == "age" or (name in extras and None not in numbers.values()):
            weighted = [(numbers[values[name]], count) for values, count in training if values[name] is not None]
            columns[name] = {"kind": "numeric"} | _moments(weighted)
        elif name in extras and len(known) > MAX_CATEGORIES:
            columns[name] = {"kind": "text"}
        else:
            columns[name] = {"kind": "categorical", "names": sorted(known)}
    if electrodes:
        columns["electrode"] = {"kind": "categorical", "names": list(electrodes)}
    columns |= {"subject": {"kind": "text"}, "recording": {"kind": "text"}, "window": {"kind": "index"}}
    datasets = sorted({values["dataset"] for values, _ in all_values})
    return columns | {"dataset": {"kind": "categorical", "names": datasets}}


def describe_splits(
    splits: Mapping[str, Sequence[Staged]],
    columns: Mapping[str, Mapping[str, Any]],
    extras: Mapping[str, str],
    examples_per_window: int,
) -> dict[str, dict[str, Any]]:
    """Count examples, windows, subjects, how often each category occurs, and give the ranges of numbers."""
    numeric = [name for name, column in columns.items() if column["kind"] == "numeric"]
    names = [name for name, column in columns.items() if column["kind"] == "categorical" and name != "electrode"]
    described = {}
    for split, members in splits.items():
        windows = sum(len(each.kept) for each in members)
        rows = list(_values(members, extras))  # a few per recording
        counts = [count * examples_per_window for _, count in rows]
        values = {name: [row[name] for row, _ in rows] for name in names}
        described[split] = {
            "examples": windows * examples_per_window,
            "windows": windows,
            "subjects": sorted({each.recording.subject for each in members}),
            "marginals": marginals_of_split(split, values, counts),
            "ranges": ranges({name: [_number(row[name]) for row, _ in rows] for name in numeric}),
        }
    return described


def describe_montages(splits: Mapping[str, Sequence[Staged]]) -> list[dict[str, Any]]:
    """Count the subjects and windows of each montage, largest first, by split; [] if no recording lacks electrodes.

    Raises a `UserError` if training recordings all lack an electrode.
    """
    every = [each for members in splits.values() for each in members]
    lacking_always = set.intersection(*(set(each.absent) for each in splits["train"]))
    if lacking_always:
        raise UserError(
            f"no training recording has {listed(sorted(lacking_always))}, so there is nothing to learn; remove it from "
            "--channels, or choose other splits with --seed or --splits"
        )
    found = sorted({each.absent for each in every}, key=lambda absent: (len(absent), absent))
    montages = []
    for absent in found if found != [()] else []:
        own = {split: [each for each in members if each.absent == absent] for split, members in splits.items()}
        montages.append(
            {
                "absent": list(absent),
                "subjects": {split: len({each.recording.subject for each in some}) for split, some in own.items()},
                "examples": {split: sum(len(each.kept) for each in some) for split, some in own.items()},
            }
        )
    return montages


def _values(members: Sequence[Staged], extras: Mapping[str, str]) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each combination of attributes in each recording, and its number of windows."""
    for each in members:
        for label in dict.fromkeys(each.labels):
            yield window_attributes(each.recording, label, extras), each.labels.count(label)


def _number(value: Any) -> float | None:
    return value if value is None or isinstance(value, float) else parse_number(value)


def _moments(weighted: Sequence[tuple[float | None, int]]) -> dict[str, float]:
    if not weighted:  # known only for subjects outside the training split
        return {"mean": 0.0, "std": 1.0}
    values, counts = (np.array(each, dtype=float) for each in zip(*weighted, strict=True))
    mean = np.average(values, weights=counts)
    # A standard deviation of 0 cannot be divided by; with a single value, 1 is as good as any.
    return {"mean": float(mean), "std": float(np.sqrt(np.average((values - mean) ** 2, weights=counts))) or 1.0}
