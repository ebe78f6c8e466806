"""Files of each kind that are damaged, or made to do harm: one line with the path, and no code of theirs runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from signal_diffusion import untrusted
from signal_diffusion.errors import UserError
from signal_diffusion.untrusted import is_within, parse_json, read_arrays, read_json, read_tensors, read_torch

ADVICE = "fetch it again"
Reader = Callable[[Path], object]


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


@dataclass(frozen=True)
class Row:
    step: int
    loss: float = 0.0


def table(path: Path) -> object:
    return read_json(path, dict[str, Any], ADVICE)


def row(path: Path) -> object:
    return read_json(path, Row, ADVICE)


def tensors(path: Path) -> object:
    return read_tensors(path, ADVICE)


def saved(path: Path) -> object:
    return read_torch(path, ADVICE)


def arrays(path: Path) -> object:
    return read_arrays(path, ADVICE)


def npz(content: bytes, size: int = 1) -> bytes:
    """An .npz file whose array starts with `content`, followed by zeros up to `size` bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("signals.npy", "w") as entry:
        entry.write(content)
        for _ in range(size >> 20):
            entry.write(bytes(2**20))
    return file.getvalue()


def header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


DAMAGED: dict[str, tuple[Reader, bytes, str]] = {
    "JSON cut": (table, b'{"step": ', "Invalid JSON: EOF"),
    "JSON empty": (table, b"", "Invalid JSON: EOF"),
    "JSON of another encoding": (table, b"\xff\xfe{}", "Invalid JSON"),
    "JSON nested": (table, b"[" * 200_000, "recursion limit exceeded"),
    "JSON nested in a table": (table, b'{"a":' * 200_000, "recursion limit exceeded"),
    "JSON a list": (table, b"[1]", "\\(should be an object, found \\[1\\]\\)"),
    "JSON a number of 5 000 digits": (table, b'{"a": ' + b"9" * 5000 + b"}", "number out of range"),
    "JSON a text for a number": (row, b'{"step": "4"}', "step: should be a valid integer, found '4'"),
    "JSON infinite": (row, b'{"step": 1e999}', "step: should be a valid integer, found inf"),
    "JSON lacking a key": (row, b'{"loss": 1}', "step: Field required"),
    "JSON of a huge text": (row, b'{"step": "' + b"x" * 10**6 + b'"}', "found 'xxx"),
    "tensors cut": (tensors, b"\x10", "header"),
    "tensors of another format": (tensors, b"junk" * 100, "header"),
    "tensors with a header of 2^63 bytes": (tensors, b"\xff" * 7 + b"\x7f{}", "header"),
    "tensors beyond the end": (
        tensors,
        struct.pack("<Q", 64) + b'{"a":{"dtype":"F32","shape":[1000],"data_offsets":[0,4000]}}    ',
        "cannot be read",
    ),
    "state empty": (saved, b"", "not a zip file"),
    "state of another format": (saved, b"junk" * 100, "not a zip file"),
    "state a bare pickle": (saved, pickle.dumps([1]), "not a zip file"),
    "state without a pickle": (saved, npz(b"x"), "cannot be read"),
    "state bombed": (saved, npz(b"", 100 << 20), "expands from 0 MiB to 100 MiB"),
    "arrays cut": (arrays, npz(header((10,)))[:-10], "not a zip file"),
    "arrays too short": (arrays, npz(header((10**9,))), "cannot be read"),
    "arrays larger than memory": (arrays, npz(header((10**9, 10**9))), "cannot be read"),
    "arrays bombed": (arrays, npz(header((25 << 20,)), 100 << 20), "expands from 0 MiB to 100 MiB"),
    "arrays not of numpy": (arrays, npz(b"text"), "'signals' is not an array"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_line(name: str, tmp_path: Path) -> None:
    read, content, reason = DAMAGED[name]
    path = tmp_path / "file"
    path.write_bytes(content)

    with pytest.raises(UserError, match=reason) as caught:
        read(path)

    [line] = caught.value.lines
    assert line.startswith(f"{path}: ") and line.endswith(f"; {ADVICE}")
    assert "\n" not in line and len(line) < 400


@pytest.mark.parametrize("read", [table, tensors, saved, arrays])
def test_what_is_no_file_is_never_waited_for(read: Reader, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "device", "folder"):
        with pytest.raises(UserError, match=f"{name}: cannot be read \\(not a regular file\\); {ADVICE}"):
            read(tmp_path / name)
    with pytest.raises(UserError, match=f"absent: missing; {ADVICE}"):
        read(tmp_path / "absent")


def test_the_size_of_json_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)  # takes no space
    with pytest.raises(UserError, match="larger than 64 MiB"):
        table(path)


@pytest.mark.parametrize("read", [saved, arrays])
def test_code_in_a_pickle_does_not_run(read: Reader, tmp_path: Path) -> None:
    torch.save({"state": Evil(tmp_path / "made")}, tmp_path / "torch")
    np.savez(tmp_path / "numpy.npz", signals=np.array([Evil(tmp_path / "made")], dtype=object))
    for name in ("torch", "numpy.npz"):
        with pytest.raises(UserError, match=f"{name}: cannot be read") as caught:
            read(tmp_path / name)
        assert "weights_only=False" not in str(caught.value)  # torch's advice to run it
    assert not (tmp_path / "made").exists()
    torch.load(tmp_path / "torch", weights_only=False)
    assert (tmp_path / "made").exists()  # it would have run


def test_what_was_written_is_read(tmp_path: Path) -> None:
    values = torch.randn(3, 4)
    save_file({"a": values}, tmp_path / "a.safetensors")
    torch.save({"a": [values]}, tmp_path / "a.pt")
    np.savez_compressed(tmp_path / "a.npz", a=values.numpy(), names=np.array(["é"]))
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"step": 4, "loss": 2, "more": 1}')

    assert torch.equal(read_tensors(tmp_path / "a.safetensors", ADVICE)["a"], values)
    assert torch.equal(read_torch(tmp_path / "a.pt", ADVICE)["a"][0], values)
    assert np.array_equal(read_arrays(tmp_path / "a.npz", ADVICE)["a"], values.numpy())
    assert read_json(tmp_path / "a.json", Row, ADVICE) == Row(4, 2.0)


def test_numbers_are_read_to_the_bit() -> None:
    source = random.Random(0)
    numbers = [struct.unpack("d", struct.pack("Q", source.getrandbits(64)))[0] for _ in range(10_000)]
    numbers = [number for number in numbers if number == number] + [5e-324, 1.7976931348623157e308, -0.0, 0.1]
    assert list(map(repr, parse_json(json.dumps(numbers), list[float]))) == list(map(repr, numbers))
    assert parse_json(str(2**64 + 1), int) == 2**64 + 1


def test_paths_that_leave_their_folder_are_recognised() -> None:
    assert all(map(is_within, ["a", "a/b.parquet", "a/..b", ".a"]))
    assert not any(map(is_within, ["", ".", "..", "../a", "a/../../b", "/a", "a\0"]))


def test_no_other_module_parses_files_in_its_own_way() -> None:
    """Left are text that was just serialised, recordings as arrays (`opening` names them), and our own caches."""
    package = Path(untrusted.__file__).parent
    calls = re.compile(
        r"json\.loads?\((?!json\.dumps|self\.to_json)|\btorch\.load\(|load_file\(|np\.load\(|pickle\.load"
    )
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if calls.search(path.read_text(encoding="utf-8")) and "legacy" not in path.parts
    }
    assert found - {"untrusted.py"} == {
        "data/recordings/arrays.py",
        "data/recordings/windows.py",
        "evaluation/feature_cache.py",
        "models/conditioning/caption_cache.py",
        "sampling/attached_reports.py",
    }
