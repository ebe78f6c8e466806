"""Rows of a folder of images, with a table of their other columns, or with subfolders named after labels."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signal_diffusion.data.foreign.rows import Rows, text_or_none
from signal_diffusion.data.representations.pictures import RawImage
from signal_diffusion.errors import UserError, listed, log_once
from signal_diffusion.paths import is_broken_link

__all__ = ["METADATA", "files_in", "folder_rows"]

logger = logging.getLogger(__name__)

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
METADATA = "metadata.csv"


def files_in(folder: Path) -> list[Path]:
    """List all files below a folder; raises `UserError` for an image that is a broken link.

    Pipes and devices, which may never end, are left out, with a warning that counts those named like images.
    """
    files, others = [], list[Path]()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files.append(path)
        elif is_broken_link(path) and path.suffix.lower() in EXTENSIONS:
            raise UserError(f"{path}: broken link to {path.readlink()}; repair the link or remove it")
        elif path.suffix.lower() in EXTENSIONS and not path.is_dir():
            others.append(path)
    if others:
        names = listed([str(path.relative_to(folder)) for path in others])
        log_once(logger, f"{folder}: ignored {len(others)} images that are no files but pipes or devices: {names}")
    return files


def folder_rows(folder: Path, label: str) -> Rows:
    """List the images of a folder, with `metadata.csv` in it or next to it, or with subfolders named after labels.

    Raises `UserError` if there are no images, or the table does not match them.
    """
    found = [
        path
        for path in files_in(folder)
        if path.suffix.lower() in EXTENSIONS and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]
    tables = [path for path in (folder / METADATA, folder.parent / METADATA) if path.is_file()]
    columns: dict[str, list[Any]] = {}
    lines: list[int] = []
    if tables:
        paths, columns, lines = _listed(tables[0], folder)
        if left_out := len(set(found) - set(paths)):
            logger.warning("%s: ignored %d images that are not listed in %s", folder, left_out, tables[0].name)
    else:
        paths = found
        labels = [path.relative_to(folder).parts[0] if path.parent != folder else None for path in paths]
        if any(labels):
            columns = {label: labels}
    if not paths:
        raise UserError(f"{folder}: no images found; expected files such as .png or .jpg")

    def tensors() -> Iterator[tuple[str, RawImage]]:
        return ((str(path), path) for path in paths)

    def place(row: int) -> str:
        return f"line {lines[row]} of {tables[0].parent.name}/{tables[0].name}"

    return Rows(tensors=tensors, count=len(paths), columns=columns, place=place)


def _listed(table: Path, folder: Path) -> tuple[list[Path], dict[str, list[Any]], list[int]]:
    """Images of `folder` that a table lists, the other columns of the table, and the lines."""
    names, lines = _read_table(table)
    rows: dict[Path, dict[str, str]] = {}
    numbers = []
    for number, row in lines:
        name = row["file_name"]
        path = table.parent / name
        if ".." in Path(name).parts or not path.is_relative_to(
            table.parent
        ):  # changes there would not invalidate the cache
            raise UserError(f"{table}: line {number} names {name!r}; expected an image in {table.parent}")
        if table.parent != folder and not path.is_relative_to(folder):  # belongs to another split
            continue
        if not path.is_file():
            raise UserError(f"{table}: line {number} names {name!r}, which does not exist; remove the line")
        if path in rows:
            raise UserError(f"{table}: line {number} names {name!r} a second time; remove one of the lines")
        rows[path] = row
        numbers.append(number)
    columns = {name: [text_or_none(row[name]) for row in rows.values()] for name in names if name != "file_name"}
    return list(rows), columns, numbers


def _read_table(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Column names of a table, and its rows, each with its (last) line number."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header, *lines = [(reader.line_num, cells) for cells in reader if cells] or [(1, [])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{table}: not a CSV table in UTF-8 ({error}); convert it") from None
    cells = header[1]
    names = [name for name in cells if name]  # the index that pandas writes has no name
    if "file_name" not in names:
        raise UserError(
            f"{table}: no column file_name (names of the images), only {', '.join(names) or 'nothing'}; add it"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{table}: line {header[0]} has two columns {twice[0]!r}; rename one")
    for number, row in lines:
        if len(row) != len(cells):
            raise UserError(f"{table}: line {number} has {len(row)} cells; expected {len(cells)}, as in the first line")
    return names, [(number, dict(zip(cells, row, strict=True))) for number, row in lines]
