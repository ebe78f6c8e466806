"""Where things are on this machine: the paths that an experiment file names, and our folder in the cache."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

from signal_diffusion.errors import UserError

__all__ = ["cache_folder", "expanded"]


def expanded(text: str, key: str) -> Path:
    """A path of the experiment file with `~` and `$VARIABLES` put in; `key` is for the error where one is not set.

    Of what may be a Hub id instead, take `as_posix()`: its slash is no separator of Windows.
    """
    path = os.path.expandvars(text)
    if "$" in path:
        raise UserError(f"{key}: {path!r} names a variable that is not set")
    return Path(path).expanduser()


def cache_folder() -> Path:
    """The folder of what can be made again, in `$XDG_CACHE_HOME` or `~/.cache`; every version has its own."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "signal-diffusion" / version("signal-diffusion")
