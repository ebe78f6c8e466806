"""Where things are on this machine: the paths that an experiment file names, links, and our folder in the cache."""

from __future__ import annotations

import os
import re
from importlib.metadata import version
from pathlib import Path

from signal_diffusion.errors import UserError

__all__ = ["cache_folder", "expanded", "from_here", "is_place", "last_name", "leads_nowhere", "without_places"]

_ROOT = r"(?:file:/{0,2}|~[\w.-]*|[A-Za-z]:|(?:\.\.[\\/])*\.\.|\\)?[\\/]"
"""What a path of a machine begins with: /, ~/, ~name/, ../, C:\\, \\\\host, file:///."""
_PART = r"[^\s'\"=,:;/\\]+"
_IN_A_TEXT = re.compile(rf"(?<![\w.:/\\~$}}-]){_ROOT}(?:{_PART}[\\/])*({_PART})[\\/]?")
_QUOTED = re.compile(rf"(['\"]){_ROOT}(?:[^'\"/\\]+[\\/])*([^'\"/\\]+)[\\/]?\1")


def expanded(text: str, key: str) -> Path:
    """A path of the experiment file with `~` and `$VARIABLES` put in; `key` is for the error where one is not set.

    Of what may be a Hub id instead, take `as_posix()`: its slash is no separator of Windows.
    """
    path = os.path.expandvars(text)
    if "$" in path:
        raise UserError(f"{key}: {path!r} names a variable that is not set")
    return Path(path).expanduser()


def leads_nowhere(path: Path) -> bool:
    """Whether a path is a link to what is not there, as git-annex leaves for each file until it is fetched."""
    return path.is_symlink() and not path.exists()


def cache_folder(cache_dir: str = "") -> Path:
    """The folder of what can be made again, in `data.loading.cache_dir`, or where that is "" in `$XDG_CACHE_HOME` or
    `~/.cache`; every version has its own.
    """
    if cache_dir:
        base = expanded(cache_dir, "[data.loading] cache_dir")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "signal-diffusion" / version("signal-diffusion")


def from_here(path: Path) -> Path:
    """A path as a person would write it: relative where it lies in the folder that the program runs in."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def is_place(text: str) -> bool:
    """Whether a text is a path that begins at a root, at a home, or above where the program runs, of any system."""
    return re.match(_ROOT, text) is not None


def last_name(path: str) -> str:
    """The last part of a path of any system."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def without_places(text: str) -> str:
    """A text in which such paths are their last parts; those with spaces where they are quoted, or of this home."""
    text = text.replace(str(Path.home()), "~") if len(Path.home().parts) > 1 else text
    return _IN_A_TEXT.sub(r"\1", _QUOTED.sub(r"\1\2\1", text))
