"""Paths on this machine: expanding those of an experiment file, removing them from texts, and the cache folder."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from signal_diffusion.errors import MissingError, UserError

__all__ = [
    "cache_folder",
    "expand_path",
    "is_broken_link",
    "is_machine_path",
    "is_readable",
    "keep_fonts_in_cache",
    "last_part",
    "relative_to_cwd",
    "without_folders",
    "without_paths",
]

logger = logging.getLogger(__name__)

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
        raise MissingError(f"{key}: {path!r} contains an environment variable that is not set")
    try:
        found = Path(path).expanduser()
        found.is_dir()  # fails for a name that is too long, or in a folder that this user may not read
    except (OSError, RuntimeError) as error:  # RuntimeError: the home of a user who does not exist
        raise UserError(f"{key}: {path!r}: {getattr(error, 'strerror', None) or error}; use another path") from None
    return found


def is_readable(path: Path) -> bool:
    """Whether a file exists and this user may read it."""
    return path.is_file() and os.access(path, os.R_OK)


def is_broken_link(path: Path) -> bool:
    """Whether a path is a broken link, such as git-annex has for each file that was not fetched yet."""
    return path.is_symlink() and not path.exists()


def cache_folder(cache_dir: str = "", name: str = "", *, holds: Callable[[Path], bool] | None = None) -> Path:
    """The folder `name` in the cache of data that can be recreated; each version of this package has its own cache.

    The cache is in `cache_dir` (`data.loading.cache_dir`) or, if that is "", in `$XDG_CACHE_HOME` or `~/.cache`. If the
    folder cannot be written, for example because another user made it, it is replaced by one of this user next to the
    cache, or else among the temporary files; a warning names it. A folder that already `holds` what is looked for is
    only read, so it need not be writable.

    Raises
    ------
    UserError
        If none of these folders can be written.
    """
    if cache_dir:
        bases = [expand_path(cache_dir, "[data.loading] cache_dir")]
    else:
        cache_home = os.environ.get("XDG_CACHE_HOME")
        bases = [Path(cache_home)] if cache_home else [home / ".cache" for home in _home()]
    private, temporary = f"signal-diffusion-{_user()}", Path(tempfile.gettempdir())
    folders = [base / own for base in bases for own in ("signal-diffusion", private)] + [temporary / private]
    folders = [folder / version("signal-diffusion") / name for folder in folders]
    if holds is not None and (complete := next(filter(holds, folders), None)):
        return complete
    usable = next(filter(_is_writable, folders), None)
    if usable is None:
        raise UserError(
            f"{folders[0]}: cannot be written, and neither can {temporary}; set data.loading.cache_dir to a folder of "
            "yours"
        )
    if usable != folders[0]:
        _warn_about_cache(folders[0], usable)
    return usable


def keep_fonts_in_cache(cache_dir: str) -> None:
    """Make Matplotlib, unless it is imported already, keep its list of fonts in `cache_dir`; "" = where it always does.

    Otherwise it writes the list under HOME.
    """
    if cache_dir:
        os.environ.setdefault("MPLCONFIGDIR", str(cache_folder(cache_dir, "matplotlib")))


@cache  # once per process
def _warn_about_cache(wanted: Path, used: Path) -> None:
    logger.warning("%s cannot be written: caching in %s instead", wanted, used)


def _is_writable(folder: Path) -> bool:
    """Whether a folder can be written or made."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def _home() -> list[Path]:
    """The home folder, if it is known: in some containers, the user has neither $HOME nor an entry in the passwords."""
    try:
        return [Path.home()]
    except RuntimeError:
        return []


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
    for home in _home():
        text = text.replace(str(home), "~") if len(home.parts) > 1 else text
    return _IN_A_TEXT.sub(r"\1", _QUOTED.sub(r"\1\2\1", text))


def without_paths(value: Any) -> Any:
    """A JSON value in which each path in a text or a key is reduced to its last part."""
    if isinstance(value, dict):
        return {last_part(key) if is_machine_path(key) else key: without_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_paths(each) for each in value]
    return without_folders(value) if isinstance(value, str) else value
