"""The card of a dataset: what its tensors are, how they were made from microvolts, who is in which split.

It is stored with the data as `signal_dataset.json` and copied into every checkpoint.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from signal_diffusion.data.card_entries import check_entries
from signal_diffusion.errors import UserError
from signal_diffusion.escaping import for_markdown, markdown_code
from signal_diffusion.paths import without_paths
from signal_diffusion.untrusted import parse_json, read_json

__all__ = [
    "CARD_NAME",
    "FORMAT_VERSION",
    "MAX_CATEGORIES",
    "SPLITS",
    "DatasetCard",
    "format_label_counts",
    "label_counts_in_markdown",
    "sources_in_markdown",
    "write_readme",
]

CARD_NAME = "signal_dataset.json"
FORMAT_VERSION = 3
SPLITS = ("train", "validation", "test")
MAX_CATEGORIES = 100
"""A text column with more distinct values is text, not categories to condition on."""


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """What a dataset contains and how it was made, stored with the data as `signal_dataset.json`."""

    representation: dict[str, Any]
    """`name`, `layout`, `inverse` (exact, approximate or none), `column` (of the tensor) and `parameters`;
    `representation_of` rebuilds it."""
    shape: tuple[int, ...]
    """Shape of one example: (C, H, W)."""
    sampling_rate: float | None
    """Hz; None for images of unknown signals."""
    window: int | None
    """Samples of a window; None for images of unknown signals."""
    tmin: float | None = None
    """Time of a window's first sample relative to its event, s; None for windows that were not cut around events."""
    channels: tuple[str, ...]
    """Electrodes, in order; empty for images of unknown signals."""
    positions: dict[str, list[float]] = field(default_factory=dict)
    """Electrode → [x, y, z] on the unit sphere (x to the right ear, y to the nose, z up), without electrodes of unknown
    position; `preprocessing["positions"]` says where they are from."""
    columns: dict[str, dict[str, Any]]
    """Each column except the tensor: {"kind": "categorical", "names": […]}, {"kind": "numeric",
    "mean": …, "std": …} over the training examples, {"kind": "text"} or {"kind": "index"}."""
    splits: dict[str, dict[str, Any]]
    """By name: `examples`, `windows`, `subjects` (a list), and `marginals`: categorical column → value → `examples`,
    their `share` of the examples with a known value, and in the training split their share if `balanced` by that
    column (`balancing.marginals`), and `ranges`: numeric column → smallest and largest value; older datasets have none.
    No split is empty."""
    captions: str = ""
    """Template of `captions.caption_of` that made the column `caption`; "" if no template was used."""
    preprocessing: dict[str, Any]
    """What was done to the recordings, in order."""
    sources: list[dict[str, Any]]
    """`name`, `license` (as stated by the source, or null) and `description` of each input."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Number of rejected windows, by reason."""
    skipped: list[str] = field(default_factory=list)
    """Recordings without examples, and why: "sub-01/eeg/one.edf: the file is empty; fetch it again". With several
    inputs, the name starts with the input's. Older datasets have only the names."""
    command: str
    """Command that makes the same dataset, with DIR as its output, and without the folders that contain its inputs."""
    made_from: str
    """Hash of the options and of the inputs' paths; different datasets have different hashes."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each Parquet file, by path within the dataset."""
    amplitudes: dict[str, float] = field(default_factory=dict)
    """Quantiles of |x| of the training windows: share of the values → µV (`amplitudes.Amplitudes`); {} in older cards
    and for images of unknown signals."""
    unit: str | None = "µV"
    """Unit of the signals; None for images of unknown signals."""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Serialise the card as readable, deterministic JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse the output of `to_json`; raises `UserError` if it is not a valid card."""
        try:
            return cls.of(parse_json(text, dict[str, Any]))
        except ValueError as error:
            raise UserError(f"not JSON ({error})") from error

    @classmethod
    def of(cls, entries: dict[str, Any]) -> Self:
        """The card of these entries of a JSON file; raises `UserError` if it is not valid."""
        if not isinstance(entries.get("format_version"), int):
            raise UserError("has no format_version")
        if entries["format_version"] != FORMAT_VERSION:
            raise UserError(
                f"has format version {entries['format_version']}; this program reads version {FORMAT_VERSION}"
            )
        required = {entry.name for entry in fields(cls) if entry.default is entry.default_factory}  # both are MISSING
        wrong = (required - entries.keys()) | (entries.keys() - {entry.name for entry in fields(cls)})
        if wrong:
            raise UserError(f"missing or unknown entries: {', '.join(sorted(wrong))}")
        check_entries(entries)
        entries["shape"], entries["channels"] = tuple(entries["shape"]), tuple(entries["channels"])
        return cls(**entries)

    @property
    def min_channels(self) -> int:
        """3 if its examples have three channels, so that a model of them takes grey images as RGB; otherwise 1."""
        return 3 if self.shape[0] == 3 else 1

    def without_paths(self) -> Self:
        """The card without paths of this machine: older commands and reasons, and folders of splits, may have them.

        Names of categories are not changed, even if they look like paths, such as "/iy/": requests use them.
        """
        entries = json.loads(self.to_json())
        kept = {"columns": entries.pop("columns"), "channels": entries.pop("channels")}
        marginals = {split: entries["splits"][split].pop("marginals") for split in self.splits}
        entries = without_paths(entries)
        for split, table in marginals.items():
            entries["splits"][split]["marginals"] = table
        return self.from_json(json.dumps(entries | kept))

    def save(self, root: Path) -> None:
        """Write `root/signal_dataset.json`."""
        (root / CARD_NAME).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, root: Path) -> Self:
        """Read `root/signal_dataset.json`; raises a one-line `UserError` if it is missing or damaged."""
        path = root / CARD_NAME
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; expected a dataset")
        if not path.exists():
            raise UserError(f"{root}: not a dataset, {CARD_NAME} is missing")
        advice = "make the dataset again"
        entries = read_json(path, dict[str, Any], advice)
        try:
            return cls.of(entries)
        except UserError as error:
            raise UserError(f"{path}: {error}; {advice}") from None


# Licences as EEG datasets write them → the Hub's identifiers.
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
    """Write `root/README.md`: the front matter that the Hub's viewer needs, and a summary."""
    configs = "\n".join(f"  - split: {split}\n    path: {split}/*.parquet" for split in card.splits)
    licenses = {source["license"] for source in card.sources if source["license"]}
    hub = _HUB_LICENSES.get(min(licenses).lower(), "other") if len(licenses) == 1 else "other" if licenses else None
    front = (f"license: {hub}\n" if hub else "") + f"configs:\n- config_name: default\n  data_files:\n{configs}"
    rows = "\n".join(
        f"| {name} | {len(split['subjects'])} | {split['windows']} | {split['examples']} | "
        f"{label_counts_in_markdown(split)} |"
        for name, split in card.splits.items()
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

{sources_in_markdown(card)}

Made by {markdown_code(card.command)}.
"""
    (root / "README.md").write_text(text, encoding="utf-8")


def sources_in_markdown(card: DatasetCard) -> str:
    """List the inputs of a dataset, with description and licence."""
    lines = (
        f"{source['name']}: {source['description'] or 'no description'}; licence: {source['license'] or 'not stated'}"
        for source in card.sources
    )
    return "\n".join(f"- {for_markdown(line)}" for line in lines)


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


def format_label_counts(split: dict[str, Any]) -> str:
    """Format the number of examples of each label in a split: "rest 1200, arithmetic 400"."""
    labels = split["marginals"].get("label", {})
    return ", ".join(f"{label} {entry['examples']}" for label, entry in labels.items())


def label_counts_in_markdown(split: dict[str, Any]) -> str:
    """The same for a table of Markdown; "–" without labels."""
    return for_markdown(format_label_counts(split)) or "–"
