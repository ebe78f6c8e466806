"""Convert an experiment file of an older layout (TOML or YAML) to the current one, which is TOML.

    uv run python scripts/migrate_config_v1_to_v2.py --input OLD.yaml --output NEW.toml [--dry-run] [--force]

Comments of a TOML file stay with their keys. Keys that were renamed, defaults of the older layout, values that are now
derived and keys that are dropped are reported; dropped keys are also listed at the end of the new file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.config.legacy.comments import Comments, comments_in, rewritten
from signal_diffusion.config.legacy.report import silenced, summary
from signal_diffusion.config.legacy.rows import CURRENT
from signal_diffusion.config.loading import known_keys, read_translation
from signal_diffusion.errors import UserError, report_user_errors
from signal_diffusion.experiment.loading import load_any_experiment


def main(
    source: Annotated[Path, typer.Option("--input", help="File of an older layout, .toml, .yaml or .yml.")],
    target: Annotated[Path, typer.Option("--output", help="File to write, .toml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the new file instead of writing it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Convert an experiment file of an older layout to the current one."""
    with report_user_errors():
        if target.suffix != ".toml":
            raise UserError(f"--output {target}: the current layout is TOML; expected a name that ends in .toml")
        if target.exists() and not (force or dry_run):
            raise UserError(f"--output {target}: already exists; choose another name, or use --force to overwrite it")
        text = migrated(source)
        if dry_run:
            print(text, end="")
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        print(f"wrote {target}", file=sys.stderr)


def migrated(source: Path) -> str:
    """Check the old file, report on standard error what becomes of its keys, and return the new text."""
    translation = read_translation(source)
    with silenced():
        load_any_experiment(source)
    changes = summary(translation)
    title = f"changes to the {translation.layout}:" if changes else f"already has the {CURRENT}"
    print("\n".join([f"{source}: {title}", *changes]), file=sys.stderr)
    if not changes:
        return source.read_text(encoding="utf-8")
    comments = comments_in(source.read_text(encoding="utf-8")) if source.suffix == ".toml" else Comments()
    command = f"scripts/migrate_config_v1_to_v2.py from {source.name} ({translation.layout})"
    return rewritten(translation, known_keys(), comments, command)


if __name__ == "__main__":
    typer.run(main)
