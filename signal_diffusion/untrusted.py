"""Read files that may be damaged, or made to do harm: one reader for each kind of file.

A reader runs no code of the file, allocates no more than the file's size justifies, and raises a `UserError` of one
line, "<path>: <what is wrong>; <advice>", for whatever is wrong.
"""

from __future__ import annotations

import reprlib
import shlex
import warnings
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from signal_diffusion.errors import UserError, one_line

if TYPE_CHECKING:
    import numpy as np
    from pydantic import TypeAdapter
    from torch import Tensor

__all__ = [
    "is_within",
    "parse_json",
    "pickled_weights",
    "read_arrays",
    "read_content",
    "read_json",
    "read_tensors",
    "read_torch",
    "weights_file_problem",
]

MAX_JSON = 64 * 2**20
"""Bytes; the card of a dataset of 10 000 subjects has 2 MiB."""
MAX_EXPANSION = 100
"""Size of arrays relative to their compressed file: EEG in float32 shrinks by a tenth, while zeros shrink to 1/1000."""
_ALWAYS_ALLOWED = 64 * 2**20  # bytes of arrays, whatever the size of their file

T = TypeVar("T")


def read_json(path: Path, kind: type[T], advice: str) -> T:
    """Read a JSON file whose content is of type `kind`, such as `dict[str, int]` or a dataclass."""
    with _reported(path, advice):
        return parse_json(read_content(path, MAX_JSON), kind)


def parse_json(text: str | bytes, kind: type[T]) -> T:
    """Read JSON of type `kind`; raises a `ValueError` of one line for any other content, however nested."""
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_json(text, strict=True)  # type: ignore[arg-type]  # types are hashable
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, wrong["loc"])) + ": " * bool(wrong["loc"])
        found = "" if wrong["type"] in ("json_invalid", "missing") else f", found {reprlib.repr(wrong['input'])}"
        raise ValueError(f"{where}{wrong['msg'].removeprefix('Input ')}{found}") from None


def read_tensors(path: Path, advice: str) -> dict[str, Tensor]:
    """Read a file in safetensors, onto the CPU."""
    from safetensors.torch import load_file

    with _reported(path, advice):
        return load_file(_regular(path))


def read_torch(path: Path, advice: str) -> Any:
    """Read what `torch.save` wrote, onto the CPU: tensors, plain values, and lists and dictionaries of them.

    Anything else in the pickle is refused before it is created.
    """
    import pickle

    import torch

    with _reported(path, advice), warnings.catch_warnings(action="ignore"):
        check_expansion(path, most=1)  # torch.save does not compress
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # torch's message has eleven lines, and advises to run the code
            raise ValueError("contains more than tensors and plain values, which may be code") from None


def read_arrays(path: Path, advice: str, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file; only those of these `names` that it has, if given."""
    import numpy as np

    with _reported(path, advice):
        check_expansion(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if names is None or name in names}
        if other := [name for name, each in arrays.items() if not isinstance(each, np.ndarray)]:
            raise ValueError(f"{other[0]!r} is not an array")
        return arrays


def check_expansion(path: Path, *, most: int = MAX_EXPANSION) -> None:
    """Raise a `ValueError` if the files in a zip archive have more than `most` times the archive's size together."""
    limit = max(most * _regular(path).stat().st_size, _ALWAYS_ALLOWED)
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > limit:
        raise ValueError(f"expands from {path.stat().st_size / 2**20:.0f} MiB to {size / 2**20:.0f} MiB")


def pickled_weights(path: Path, library: str, model: str) -> UserError:
    """The error for a file with the weights of a `library.model` as a pickle, which may be code; with what to do."""
    folder = str(path.parent)
    command = f"from {library} import {model} as M; M.from_pretrained({folder!r}).save_pretrained({folder!r})"
    return UserError(
        f"{path}: a pickle, which can run code; if you trust it, convert it to safetensors: "
        f"python -c {shlex.quote(command)}"
    )


def weights_file_problem(path: str) -> str:
    """Why a path cannot be that of a checkpoint: it is a file of weights, such as `epoch_7.pt`; "" if it is not."""
    if PurePosixPath(path).suffix not in (".pt", ".pth", ".ckpt", ".bin", ".safetensors"):
        return ""
    return (
        "a file of weights; expected the folder of a checkpoint. Weights of other projects cannot be read: train "
        'again, or convert them to our names (docs/models.md, "Weights of other projects")'
    )


def read_content(path: Path, limit: int) -> bytes:
    """The bytes of a file, without a byte-order mark, which some programs write.

    Raises
    ------
    OSError, ValueError
        If it cannot be read; if it is a pipe or a device, or larger than `limit` bytes.
    """
    with _regular(path).open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"larger than {limit / 2**20:g} MiB")
    return content.removeprefix(b"\xef\xbb\xbf")


def is_within(name: str) -> bool:
    """Whether a path in a card or a manifest stays in the folder of that file, by its text."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


@contextmanager
def _reported(path: Path, advice: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {advice}") from None
    except Exception as error:  # a hostile file makes parsers raise errors without a common base class
        reason = getattr(error, "strerror", None) or one_line(error)
        raise UserError(f"{path}: cannot be read ({reason}); {advice}") from None


def _regular(path: Path) -> Path:
    """The path, if it is that of a file: a pipe would never end, and a device may have no end."""
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")
    path.stat()
    return path


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
