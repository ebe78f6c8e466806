"""Verify a dataset against its card: everything is read and counted again.

One pass over the files. Memory holds one row group of tensors, some bytes per window, and the counts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from signal_diffusion.data.balancing import marginals_of_split
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.dataset import as_array
from signal_diffusion.data.flat import NAMING, Named, find_flat, name_of
from signal_diffusion.data.integrity import sha256_of
from signal_diffusion.data.preparing.splitting import SPLITS_NAME, read_splits
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.shared_examples import example_digests, shared_examples
from signal_diffusion.errors import UserError

__all__ = ["Check", "check_dataset"]

_KINDS: dict[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    "categorical": (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer),
    "numeric": (pa.types.is_floating, pa.types.is_integer),
    "text": (pa.types.is_string, pa.types.is_large_string),
    "index": (pa.types.is_integer,),
}
FLAT = "expected a signal in every example"
_SHARES = 2e-4  # tolerance; shares in the card have four digits
_MOMENTS = 1e-3  # tolerance relative to the mean; the column is float32
_WINDOW = ("dataset", "recording", "window")


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of one check of the card against the data."""

    name: str
    claim: str
    """What is true if there are no complaints."""
    complaints: tuple[str, ...]
    """Each starts with the file within the dataset, and says what the card states and what was found."""


_CLAIMS = {
    "files": "exactly the files of the card, unchanged",
    "representation": "its parameters give the card's shape, layout and inverse",
    "columns": "names and kinds as in the card",
    "rows": "number of examples and windows of each split as in the card",
    "values": "categories are named in the card, numbers have its mean and standard deviation",
    "marginals": "counts and shares of each category as in the card",
    "flat": "no example is flat, and no electrode of a time series",
    "tensors": "have the card's shape, are finite and in [-1, 1]",
    "subjects": "each split has the subjects listed in the card, and no subject is in two splits",
    "windows": "each occurs once, with all of its electrodes",
    "contents": "no example is in two splits, by its values",
    "splits": f"{SPLITS_NAME}, if it exists, agrees with the card",
    "readme": "README.md names the card's splits",
}


def check_dataset(root: Path) -> list[Check]:
    """Verify every claim of the card of the dataset at `root`; returns one `Check` per claim, in a fixed order.

    A file that cannot be read is a complaint of "files", and is ignored by the other checks. Raises `UserError` only
    if the card is missing or cannot be read.
    """
    card = DatasetCard.load(root)
    complaints: dict[str, list[str]] = {name: [] for name in _CLAIMS}
    complaints["files"] += _files(root, card)
    complaints["representation"] += _representation(card)
    found = {split: _Found() for split in card.splits}
    for split, path in _readable(root, card, complaints["files"]):
        _read(root, path, card, found[split], complaints)
    for name, column in card.columns.items():
        if column["kind"] == "numeric" and "train" in found:
            complaints["values"] += _moments(name, column, found["train"])
    for split, stated in card.splits.items():
        complaints["rows"] += _rows(split, stated, found[split])
        complaints["marginals"] += _marginals(split, stated, found[split], card)
    complaints["subjects"] += _subjects(card, found)
    complaints["windows"] += _windows(card, found)
    complaints["contents"] += shared_examples({split: each.digests for split, each in found.items()})
    complaints["splits"] += _splits_file(root, card)
    complaints["readme"] += _readme(root, card)
    return [Check(name=name, claim=claim, complaints=tuple(complaints[name])) for name, claim in _CLAIMS.items()]


@dataclass(kw_only=True)
class _Found:
    """Counts from one pass over a split."""

    examples: int = 0
    values: dict[str, Counter[Any]] = field(default_factory=dict)
    """Categorical column or `subject` → value (None for unknown) → number of examples."""
    windows: dict[tuple[Any, ...], int] = field(default_factory=dict)
    """(dataset, recording, window), as far as these columns exist → its electrodes, one bit each."""
    repeated: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    """(dataset, recording, window, electrode) → number of repetitions."""
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    """Numeric column → number of known values, their sum, their sum of squares."""
    digests: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """File → `example_digests` of its rows, 8 bytes each."""


def _files(root: Path, card: DatasetCard) -> Iterator[str]:
    for name, digest in card.files.items():
        path = root / name
        if name.split("/")[0] not in card.splits:
            yield f"{name}: listed in the card, which has no split {name.split('/')[0]!r}"
        if not path.is_file():
            yield f"{name}: listed in the card, but missing"
            continue
        actual = sha256_of(path)
        if actual != digest:
            yield f"{name}: the card says SHA-256 {digest[:12]}…, found {actual[:12]}…"
    there = {path.relative_to(root).as_posix() for split in card.splits for path in (root / split).glob("*.parquet")}
    for name in sorted(there - card.files.keys()):
        yield f"{name}: exists, but is not listed in the card"
    for split in card.splits:
        if not any(name.startswith(f"{split}/") for name in card.files):
            yield f"{CARD_NAME}: the card has a split {split!r}, but lists no file of it"


def _readable(root: Path, card: DatasetCard, complaints: list[str]) -> Iterator[tuple[str, Path]]:
    for name in sorted(card.files):
        split = name.split("/")[0]
        if split in card.splits and (root / name).is_file():
            try:
                pq.read_metadata(root / name)
            except (pa.ArrowException, OSError) as error:
                complaints.append(f"{name}: listed in the card, but cannot be read as Parquet ({_first_line(error)})")
                continue
            yield split, root / name


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _representation(card: DatasetCard) -> Iterator[str]:
    try:
        rebuilt = representation_of(card)
        actual: dict[str, Any] = {"shape": tuple(rebuilt.shape), "layout": rebuilt.layout, "inverse": rebuilt.inverse}
    except UserError as error:
        yield f"{CARD_NAME}: {error}"
        return
    stated = {"shape": card.shape} | {key: card.representation[key] for key in ("layout", "inverse")}
    for key, value in actual.items():
        if stated[key] != value:
            yield f"{CARD_NAME}: the card says {key} {stated[key]}, but its parameters give {value}"


def _read(root: Path, path: Path, card: DatasetCard, found: _Found, complaints: dict[str, list[str]]) -> None:
    """Count the rows of a file, and check its tensors."""
    where = path.relative_to(root).as_posix()
    file = pq.ParquetFile(path)
    schema = file.schema_arrow
    complaints["columns"] += _columns(where, schema, card)
    usable = [name for name, column in card.columns.items() if _fits(schema, name, column["kind"])]
    tensor = card.representation["column"]
    has_tensors = tensor in schema.names
    broken: dict[str, Named] = {}
    electrodes = card.columns.get("electrode", {}).get("names", ())
    unknown: dict[str, None] = {}  # used as an ordered set
    for group in range(file.metadata.num_row_groups):
        try:
            table = file.read_row_group(group, columns=[*usable, *([tensor] if has_tensors else [])])
        except (pa.ArrowException, OSError) as error:
            complaints["files"].append(f"{where}: row group {group} cannot be read ({_first_line(error)})")
            continue
        found.examples += len(table)
        if has_tensors:
            first = found.examples - len(table)
            digests = found.digests.setdefault(where, [])
            for what, row, electrode in _tensors(table.column(tensor), card, digests):
                columns = {name: table.column(name)[row : row + 1].to_pylist() for name in usable if name in NAMING}
                name = name_of(columns, 0, electrodes, electrode) or f"row {first + row}"
                broken.setdefault(what, Named()).add(name)
        unknown |= dict.fromkeys(_count(table.select(usable), card, found))
    complaints["values"] += [f"{where}: {each}" for each in unknown]
    for what, named in sorted(broken.items()):
        if what == FLAT:
            complaints["flat"].append(f"{where}: {FLAT}, but {named.count} are flat: {named}")
        else:
            complaints["tensors"].append(f"{where}: tensors: {what}, but {named.count} are not: {named}")


def _fits(schema: pa.Schema, name: str, kind: str) -> bool:
    return name in schema.names and any(fits(schema.field(name).type) for fits in _KINDS[kind])


def _columns(where: str, schema: pa.Schema, card: DatasetCard) -> Iterator[str]:
    stated = [card.representation["column"], *card.columns]
    if set(schema.names) != set(stated):
        difference = ", ".join(sorted(set(schema.names) ^ set(stated)))
        yield f"{where}: the card says columns {', '.join(stated)}; missing or unexpected: {difference}"
    for name, column in card.columns.items():
        if name in schema.names and not _fits(schema, name, column["kind"]):
            yield f"{where}: the card says {name} is {column['kind']}, found {schema.field(name).type}"


def _tensors(column: pa.ChunkedArray, card: DatasetCard, digests: list[np.ndarray]) -> Iterator[tuple[str, int, str]]:
    """Yield a violated requirement, the row and, if it is about one electrode, its name; for each that violates it.

    Adds to `digests` of the examples.
    """
    shape = "×".join(map(str, card.shape))
    for chunk in column.chunks:
        values = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
        for size in card.shape:
            nested = pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type)
            if not nested or values.null_count or (pc.list_value_length(values).to_numpy() != size).any():
                yield f"the card says all are {shape}", 0, ""
                return
            values = values.flatten()
        if values.type not in (pa.float16(), pa.float32()) or values.null_count:
            yield "expected all float16 or float32, none missing", 0, ""
            return
    tensors = as_array(column, card.shape)
    digests.append(example_digests(tensors))
    examples = tensors.reshape(len(column), -1)
    finite = np.isfinite(examples).all(axis=1)
    # 1 is exact in float16 and float32: no tolerance is needed.
    outside = finite & (np.abs(examples) > 1).any(axis=1)
    for what, rows in (("expected all finite", ~finite), ("expected all in [-1, 1]", outside)):
        yield from ((what, int(row), "") for row in np.flatnonzero(rows))
    yield from ((FLAT, row, electrode) for row, electrode in find_flat(tensors, card))


def _count(table: pa.Table, card: DatasetCard, found: _Found) -> list[str]:
    """Add a table's rows to the counts; returns complaints about its categories."""
    columns: dict[str, list[Any]] = {}
    wrong = []
    for name in table.column_names:
        column = card.columns[name]
        values = table.column(name).to_pylist() if column["kind"] != "numeric" or name in _WINDOW else []
        if column["kind"] == "categorical":
            names = dict(enumerate(column["names"])) | {each: each for each in column["names"]} | {None: None, -1: None}
            unknown = sorted({str(value) for value in values if value not in names})
            wrong += [f"{name}: the card says {', '.join(column['names'])}; found {value}" for value in unknown]
            values = [names[value] if value in names else str(value) for value in values]
        if column["kind"] == "numeric":
            numbers = table.column(name).cast(pa.float64()).to_numpy()
            numbers = numbers[np.isfinite(numbers)]
            sums = np.array([len(numbers), numbers.sum(), np.square(numbers).sum()])
            found.sums[name] = found.sums.get(name, np.zeros(3)) + sums
        elif column["kind"] == "categorical" or name == "subject":
            found.values.setdefault(name, Counter()).update(values)
        columns[name] = values
    if {"recording", "window"} <= columns.keys():
        keys = zip(*(columns[name] for name in _WINDOW if name in columns), strict=True)
        for key, electrode in zip(keys, columns.get("electrode", [None] * len(table)), strict=True):
            bit = 1 << (card.channels.index(electrode) if electrode in card.channels else 0)
            electrodes = found.windows.get(key, 0)
            if electrodes & bit:
                found.repeated[(*key, electrode) if "electrode" in columns else key] += 1
            found.windows[key] = electrodes | bit
    return wrong


def _moments(name: str, column: Mapping[str, Any], found: _Found) -> Iterator[str]:
    count, total, squares = found.sums.get(name, np.zeros(3))
    if not count:
        return
    mean = total / count
    std = math.sqrt(max(0.0, squares / count - mean**2))
    tolerance = _MOMENTS * max(1.0, abs(mean))
    expected = std if std > tolerance else 1.0  # the card states 0 as 1, so that one can divide by it
    if abs(mean - column["mean"]) > tolerance or abs(expected - column["std"]) > tolerance:
        yield (
            f"train: the card says {name} has mean {column['mean']:.4g} and std {column['std']:.4g}, "
            f"found {mean:.4g} and {expected:.4g}"
        )


def _rows(split: str, stated: Mapping[str, Any], found: _Found) -> Iterator[str]:
    if stated["examples"] != found.examples:
        yield f"{split}: the card says {stated['examples']} examples, found {found.examples}"
    if found.windows and stated.get("windows") != len(found.windows):
        yield f"{split}: the card says {stated['windows']} windows, found {len(found.windows)}"


def _marginals(split: str, stated: Mapping[str, Any], found: _Found, card: DatasetCard) -> Iterator[str]:
    for name, entries in stated["marginals"].items():
        if name not in found.values:
            continue
        counted = found.values[name]
        actual = marginals_of_split(split, {name: list(counted)}, list(counted.values()))[name]
        for value in [*entries, *(each for each in actual if each not in entries)]:
            mine, theirs = actual.get(value, {"examples": 0}), entries.get(value, {"examples": 0})
            if not _agree(mine, theirs):
                yield f"{split}: the card says {name} {value}: {_entry(theirs)}, found {_entry(mine)}"


def _agree(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    # A share that the card does not state is not checked.
    return one["examples"] == other["examples"] and all(
        math.isclose(one[key], other[key], abs_tol=_SHARES) for key in one.keys() & other.keys() - {"examples"}
    )


def _entry(entry: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in entry.items())


def _subjects(card: DatasetCard, found: Mapping[str, _Found]) -> Iterator[str]:
    split_of: dict[str, str] = {}
    for split, stated in card.splits.items():
        if "subject" not in found[split].values:  # a missing column is a complaint of "columns"
            continue
        actual = {subject for subject in found[split].values.get("subject", ()) if subject is not None}
        listed = set(stated.get("subjects", ()))
        for subject in sorted(actual - listed):
            yield f"{split}: the card does not list subject {subject}, found {_count_examples(found[split], subject)}"
        for subject in sorted(listed - actual):
            yield f"{split}: the card lists subject {subject}, found no example"
        for subject in sorted(actual | listed):
            if subject in split_of and split_of[subject] != split:
                yield f"{split}: subject {subject} is also in {split_of[subject]}; expected one split per subject"
            split_of.setdefault(subject, split)


def _count_examples(found: _Found, subject: str) -> str:
    return f"{found.values['subject'][subject]} examples"


def _windows(card: DatasetCard, found: Mapping[str, _Found]) -> Iterator[str]:
    seen: dict[tuple[Any, ...], str] = {}
    names = [name for name in _WINDOW if name in card.columns]
    for split, counted in found.items():
        for key, times in counted.repeated.items():
            yield f"{split}: {_named([*names, 'electrode'], key)} occurs {times + 1} times; expected once"
        for key, electrodes in counted.windows.items():
            if "electrode" in card.columns and electrodes.bit_count() != len(card.channels):
                count = electrodes.bit_count()
                yield f"{split}: {_named(names, key)} has {count} electrodes; the card says {len(card.channels)}"
            if seen.setdefault(key, split) != split:
                yield f"{split}: {_named(names, key)} is also in {seen[key]}; expected one split per window"


def _named(names: Sequence[str], key: tuple[Any, ...]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, key, strict=False))


def _splits_file(root: Path, card: DatasetCard) -> Iterator[str]:
    if not (root / SPLITS_NAME).exists():
        return
    try:
        split_of = read_splits(root / SPLITS_NAME)
    except UserError as error:
        yield f"{SPLITS_NAME}: {error}"
        return
    stated = {subject: split for split, entry in card.splits.items() for subject in entry.get("subjects", ())}
    # It may list subjects without usable recordings, but must have every subject of the card in the same split.
    for subject, split in sorted(stated.items()):
        if split_of.get(subject) != split:
            where = split_of.get(subject, "no split")
            yield f"{SPLITS_NAME}: the card says subject {subject} is in {split}, found in {where}"


def _readme(root: Path, card: DatasetCard) -> Iterator[str]:
    path = root / "README.md"
    if not path.is_file():
        yield "README.md: missing; the Hub's viewer needs it"
        return
    front = re.match(r"---\n(.*?)\n---\n", path.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    named = re.findall(r"^\s*- split: *(\S+)\s*$", front.group(1), re.MULTILINE) if front else []
    if sorted(named) != sorted(card.splits):
        found = ", ".join(named) or "none"
        yield f"README.md: the card has splits {', '.join(card.splits)}; the front matter names {found}"
