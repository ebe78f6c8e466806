"""Rewrites an experiment file of an older layout; used by `config migrate` and scripts/migrate_config_v1_to_v2.py."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from signal_diffusion.errors import UserError

__all__ = ["migrated", "write_new"]


def migrated(source: Path, command: str) -> str | None:
    """Check an older file, report on standard error what becomes of its keys, and return the new text.

    None if it has today's layout. `command` is named at the top of the text.

    Raises
    ------
    UserError
        With one line per mistake, of the older file or of what it says in today's layout.
    """
    from signal_diffusion.config.keys import known_keys
    from signal_diffusion.config.sources import located_lines, read_translation

    translation = read_translation(source)
    from signal_diffusion.experiment.loading import load_any_experiment

    if translation is None:
        load_any_experiment(source)
        print(f"{source}: already has today's layout", file=sys.stderr)
        return None
    from signal_diffusion.config.legacy.migrating import Notes, notes_in, rewritten
    from signal_diffusion.config.legacy.report import silenced, summary
    from signal_diffusion.config.legacy.translation import TODAYS

    if translation.layout != TODAYS:
        with silenced():
            load_any_experiment(source)
    elif translation.problems:
        raise UserError(*located_lines(source, (), translation.problems))
    changed, renamed = summary(translation)
    print("\n".join([f"{source}: {translation.layout}; changes:", *changed, *renamed]), file=sys.stderr)
    notes = notes_in(source.read_text(encoding="utf-8-sig")) if source.suffix == ".toml" else Notes()
    text = rewritten(translation, known_keys(), notes, f"{command} from {source.name} ({translation.layout})")
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder, "new.toml")
        new.write_text(text, encoding="utf-8")
        try:
            with silenced():  # its warnings would name the temporary file
                load_any_experiment(new)
        except UserError as error:  # today's layout allows less
            lines = (line.replace(str(new), f"{source}, in today's layout", 1) for line in error.lines)
            raise UserError(*lines) from None
    return text


def write_new(target: Path, text: str, *, option: str, force: bool) -> None:
    """Write a migrated file.

    Raises
    ------
    UserError
        If it is not named as TOML, or there is one already and not `force`.
    """
    if target.suffix != ".toml":
        raise UserError(f"{option} {target}: today's layout is TOML; expected a name that ends in .toml")
    if target.exists() and not force:
        raise UserError(f"{option} {target}: already exists; choose another name, or use --force to overwrite it")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    print(f"wrote {target}", file=sys.stderr)
