"""Paths on this machine: expanding those of an experiment file, removing them from texts, and the cache folder."""

from __future__ import annotations

import os
import re
from importlib.metadata import version
from pathlib import Path

from signal_diffusion.errors import UserError

__all__ = [
    "cache_folder",
    "expand_path",
    "is_broken_link",
    "is_machine_path",
    "last_part",
    "relative_to_cwd",
    "without_folders",
]

_ROOT = r"(?:file:/{0,2}|~[\w.-]*|[A-Za-z]:|(?:\.\.[\\/])*\.\.|\\)?[\\/]"
"""Start of a path that is specific to a machine: /, ~/, ~name/, ../, C:\\, \\\\host, file:///."""
_PART = r"[^\s'\"=,:;/\\]+"
_IN_A_TEXT = re.compile(rf"(?<![\w.:/\\~$}}-]){_ROOT}(?:{_PART}[\\/])*({_PART})[\\/]?")
_QUOTED = re.compile(rf"(['\"]){_ROOT}(?:[^'\"/\\]+[\\/])*([^'\"/\\]+)[\\/]?\1")


def expand_path(text: str, key: str) -> Path:
    """Expand `~` and `$VARIABLES` in a path of the experiment file; `key` is named in the error if one is not set.

    If the text may also be a Hub id, use `as_posix()` of the result, which keeps its slash on Windows.
    """
    path = os.path.expandvars(text)
    if "$" in path:
        raise UserError(f"{key}: {path!r} contains an environment variable that is not set")
    return Path(path).expanduser()


def is_broken_link(path: Path) -> bool:
    """Whether a path is a broken link, such as git-annex has for each file that was not fetched yet."""
    return path.is_symlink() and not path.exists()


def cache_folder(cache_dir: str = "") -> Path:
    """The folder for data that can be recreated, one per version of this package.

    It is in `cache_dir` (`data.loading.cache_dir`) or, if that is "", in `$XDG_CACHE_HOME` or `~/.cache`.
    """
    if cache_dir:
        base = expand_path(cache_dir, "[data.loading] cache_dir")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "signal-diffusion" / version("signal-diffusion")


def relative_to_cwd(path: Path) -> Path:
    """Shorten a path for display: relative if it is inside the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def is_machine_path(text: str) -> bool:
    """Whether a text is a path that starts at a root, a home or a parent folder, on any operating system."""
    return re.match(_ROOT, text) is not None


def last_part(path: str) -> str:
    """The last part of a path of any operating system."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def without_folders(text: str) -> str:
    """Replace each path as in `is_machine_path` by its last part; with spaces, only if quoted or in this home."""
    text = text.replace(str(Path.home()), "~") if len(Path.home().parts) > 1 else text
    return _IN_A_TEXT.sub(r"\1", _QUOTED.sub(r"\1\2\1", text))
