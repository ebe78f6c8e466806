"""Write an experiment file of an older layout (TOML or YAML) in today's, which is TOML.

    uv run python scripts/migrate_config_v1_to_v2.py --input OLD.yaml --output NEW.toml [--dry-run] [--force]

Comments of a TOML file go with their keys. What was moved, what goes without saying in the older layout, what is
derived today and what is left behind is told, and what is left behind stands at the end of the new file too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.config.legacy.comments import Comments, comments_in, rewritten
from signal_diffusion.config.legacy.report import summary, unwarned
from signal_diffusion.config.legacy.rows import TODAY
from signal_diffusion.config.loading import known_keys, translation_of
from signal_diffusion.errors import UserError, reported_to_user
from signal_diffusion.experiment.loading import load_any_experiment


def main(
    source: Annotated[Path, typer.Option("--input", help="File of an older layout, .toml, .yaml or .yml.")],
    target: Annotated[Path, typer.Option("--output", help="File to write, .toml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the new file, write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Rewrite an experiment file of an older layout in today's."""
    with reported_to_user():
        if target.suffix != ".toml":
            raise UserError(f"--output {target}: today's layout is TOML; expected a name that ends in .toml")
        if target.exists() and not (force or dry_run):
            raise UserError(f"--output {target}: is there already; take another name, or --force to overwrite it")
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
    """The text of the new file; what becomes of the older one is told, to standard error, and it is checked first."""
    translation = translation_of(source)
    with unwarned():
        load_any_experiment(source)
    told = summary(translation)
    layout = f"has {TODAY} already" if not told else f"what becomes of the {translation.layout}:"
    print("\n".join([f"{source}: {layout}", *told]), file=sys.stderr)
    if not told:
        return source.read_text(encoding="utf-8")
    comments = comments_in(source.read_text(encoding="utf-8")) if source.suffix == ".toml" else Comments()
    command = f"scripts/migrate_config_v1_to_v2.py from {source.name}, which had the layout {translation.layout}"
    return rewritten(translation, known_keys(), comments, command)


if __name__ == "__main__":
    typer.run(main)
