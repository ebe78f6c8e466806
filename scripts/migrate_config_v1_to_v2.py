"""Convert an experiment file of an older layout (TOML or YAML) to today's, which is TOML.

    uv run python scripts/migrate_config_v1_to_v2.py --input OLD.yaml --output NEW.toml [--dry-run] [--force]

The same as `signal-diffusion config migrate OLD NEW`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli.config_migrate import migrated, write_new
from signal_diffusion.errors import report_user_errors


def main(
    source: Annotated[Path, typer.Option("--input", help="File of an older layout, .toml, .yaml or .yml.")],
    target: Annotated[Path, typer.Option("--output", help="File to write, .toml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the new file instead of writing it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Convert an experiment file of an older layout to today's."""
    with report_user_errors():
        text = migrated(source, "scripts/migrate_config_v1_to_v2.py") or source.read_text(encoding="utf-8")
        if dry_run:
            print(text, end="")
        else:
            write_new(target, text, option="--output", force=force)


if __name__ == "__main__":
    typer.run(main)
