"""Images of a run: if one cannot be written, a line says so, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from signal_diffusion.disks import writing
from signal_diffusion.errors import UserError, one_line

__all__ = ["draw_or_warn"]


def draw_or_warn(draws: Mapping[Path, Callable[[Path], object]], step: int, say: Callable[[str], None]) -> bool:
    """Call the functions that draw the images of a step; at the first that fails, `say` a warning and return False.

    It fails on a full disk, or if the folder cannot be written; no part of an image is left.
    """
    for path, draw in draws.items():
        try:
            with writing(path, "the image"):
                draw(path)
        except (UserError, OSError) as error:
            if path.is_file():
                path.unlink()
            reason = str(error) if isinstance(error, UserError) else one_line(error)
            say(f"warning: no preview at step {step}: {reason}; the run goes on")
            return False
    return True
