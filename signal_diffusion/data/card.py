"""The card of a dataset: what its tensors are, how they came from microvolts, who is in which split.

It lies beside the data as `signal_dataset.json` and travels into every checkpoint.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from signal_diffusion.errors import UserError

__all__ = ["CARD_NAME", "FORMAT_VERSION", "MOST_NAMES", "SPLITS", "DatasetCard", "labels_in_words", "write_readme"]

CARD_NAME = "signal_dataset.json"
FORMAT_VERSION = 3
SPLITS = ("train", "validation", "test")
MOST_NAMES = 100
"""Of a column of text that is described as categories, to be conditioned on; with more it is text."""


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """What a dataset holds and how it was made; lies beside the data as `signal_dataset.json`."""

    representation: dict[str, Any]
    """`name`, `layout`, `inverse` (exact, approximate or none), `column` (where the tensor is) and `parameters`;
    `representation_of` builds it again."""
    shape: tuple[int, ...]
    """Of one example: (C, H, W)."""
    sampling_rate: float | None
    """Hz; None for pictures that nobody knows the signals of."""
    window: int | None
    """Samples of a window; None likewise."""
    channels: tuple[str, ...]
    """Electrodes, in order; empty likewise."""
    columns: dict[str, dict[str, Any]]
    """What each column but the tensor's is: {"kind": "categorical", "names": […]}, {"kind": "numeric",
    "mean": …, "std": …} over the examples of the training split, {"kind": "text"} or {"kind": "index"}."""
    splits: dict[str, dict[str, Any]]
    """By name: `examples`, `windows`, `subjects` (a list), and `marginals`: by categorical column and value, the
    `examples`, their `share` of those whose value is known, and in the training split the share when `balanced` on
    that column (`balancing.marginals`). No split is empty."""
    captions: str = ""
    """The template of `captions.caption_of` that made the column `caption`; "" where there is none of ours."""
    preprocessing: dict[str, Any]
    """What was done to the recordings, in order."""
    sources: list[dict[str, Any]]
    """`name`, `license` (as written by the source, or null) and `description` of each."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Windows left out, by reason."""
    skipped: list[str] = field(default_factory=list)
    """Recordings that gave no example, and why, as "sub-01/eeg/one.edf: the file is empty; fetch it again". Of several
    inputs, the name begins with that of the input. Older datasets have only the names."""
    command: str
    """What makes it again, but for the output's name."""
    made_from: str
    """A hash of the options and of where the inputs lay: what has another one is another dataset."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each Parquet file, by its path within the dataset."""
    unit: str | None = "µV"
    """Of the signals; None where there are none."""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Write the card as text, readable and the same each time."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `to_json`'s text; raises a `UserError` that says what is wrong with it."""
        try:
            entries = json.loads(text)
        except ValueError as error:
            raise UserError(f"not JSON ({error})") from error
        if not isinstance(entries, dict) or not isinstance(entries.get("format_version"), int):
            raise UserError("holds no format_version")
        if entries["format_version"] != FORMAT_VERSION:
            raise UserError(f"has format {entries['format_version']}, and this program reads {FORMAT_VERSION}")
        wrong = set(entries) ^ {entry.name for entry in fields(cls)}
        if wrong:
            raise UserError(f"missing or unknown: {', '.join(sorted(wrong))}")
        _check_entries(entries)
        entries["shape"], entries["channels"] = tuple(entries["shape"]), tuple(entries["channels"])
        return cls(**entries)

    def save(self, root: Path) -> None:
        """Write `root/signal_dataset.json`."""
        (root / CARD_NAME).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, root: Path) -> Self:
        """Read `root/signal_dataset.json`; a missing or damaged card is a `UserError` of one line."""
        path = root / CARD_NAME
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(f"{root}: no dataset here, {CARD_NAME} is missing") from error
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from error
        except (UserError, TypeError) as error:
            raise UserError(f"{path}: {error}; make the dataset again") from error


def _check_entries(entries: dict[str, Any]) -> None:
    """Raise a `UserError` where a card's entries are not what everyone who reads them takes them for."""
    representation, shape, columns = entries["representation"], entries["shape"], entries["columns"]
    if not (
        isinstance(representation, dict)
        and {"name", "layout", "inverse", "column", "parameters"} <= representation.keys()
    ):
        raise UserError("representation: expected name, layout, inverse, column and parameters")
    if not (isinstance(shape, list) and len(shape) == 3 and all(isinstance(size, int) for size in shape)):
        raise UserError(f"shape: expected three numbers, found {shape}")
    splits, files = entries["splits"], entries["files"]
    if not isinstance(splits, dict) or not splits or not isinstance(files, dict):
        raise UserError("splits, files: expected tables")
    for name, split in splits.items():
        if not (isinstance(split, dict) and {"examples", "windows", "subjects", "marginals"} <= split.keys()):
            raise UserError(f"splits: {name} is not described")
    needed = {"categorical": {"names"}, "numeric": {"mean", "std"}, "text": set(), "index": set()}
    if not isinstance(columns, dict):
        raise UserError("columns: expected a table")
    for name, column in columns.items():
        kind = column.get("kind") if isinstance(column, dict) else None
        if kind not in needed or not needed[kind] <= column.keys():
            raise UserError(f"columns: {name} is not described")


# The Hub's identifiers of the licences that data sets of EEG name in their own words.
_HUB_LICENSES = {
    "cc0": "cc0-1.0",
    "cc0-1.0": "cc0-1.0",
    "pddl": "pddl",
    "odc-by": "odc-by",
    "odc-by-1.0": "odc-by",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-sa-4.0": "cc-by-sa-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
}


def write_readme(root: Path, card: DatasetCard) -> None:
    """Write `root/README.md`: what the Hub's viewer needs, and what a person wants to know first."""
    configs = "\n".join(f"  - split: {split}\n    path: {split}/*.parquet" for split in card.splits)
    licenses = {source["license"] for source in card.sources if source["license"]}
    hub = _HUB_LICENSES.get(min(licenses).lower(), "other") if len(licenses) == 1 else "other" if licenses else None
    front = (f"license: {hub}\n" if hub else "") + f"configs:\n- config_name: default\n  data_files:\n{configs}"
    rows = "\n".join(
        f"| {name} | {len(split['subjects'])} | {split['windows']} | {split['examples']} | "
        f"{labels_in_words(split) or '–'} |"
        for name, split in card.splits.items()
    )
    sources = "\n".join(
        f"- {source['name']}: {source['description'] or 'no description'}; licence: {source['license'] or 'not stated'}"
        for source in card.sources
    )
    text = f"""---
{front}
---

# Examples for diffusion models: {card.representation["name"]}

{math.prod(card.shape):,} float16 values in [-1, 1] per example, of shape {"×".join(map(str, card.shape))}.
{_signals_in_words(card)}

| split | subjects | windows | examples | examples per label |
|---|---|---|---|---|
{rows}

Sources:

{sources}

Made by `{card.command}`.
"""
    (root / "README.md").write_text(text, encoding="utf-8")


def _signals_in_words(card: DatasetCard) -> str:
    if card.window is None or card.sampling_rate is None:
        return ""
    ways = {
        "exact": f"`{CARD_NAME}` says how to turn them back into microvolts.",
        "approximate": f"`{CARD_NAME}` says how to turn them back into microvolts, but for the phase.",
        "none": "They cannot be turned back into microvolts.",
    }
    return (
        f"They are windows of {card.window} samples ({card.window / card.sampling_rate:g} s) at "
        f"{card.sampling_rate:g} Hz from {len(card.channels)} electrodes.\n"
        f"{ways[card.representation['inverse']]} Splits are by subject."
    )


def labels_in_words(split: dict[str, Any]) -> str:
    """Say how many examples of each label a split of a card has: "rest 1200, arithmetic 400"."""
    labels = split["marginals"].get("label", {})
    return ", ".join(f"{label} {entry['examples']}" for label, entry in labels.items())
