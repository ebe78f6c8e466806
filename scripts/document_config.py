"""Write what is made from the dataclasses of experiment files: documents, and JSON Schemas for editors.

uv run python scripts/document_config.py            # docs/{configuration,migration}.md, config/*.schema.json
uv run python scripts/document_config.py --check    # write nothing; exit code 2 where one is stale
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.config.documentation import configuration
from signal_diffusion.config.json_schema import autoencoder_schema, experiment_schema
from signal_diffusion.config.legacy.plain import shown
from signal_diffusion.config.legacy.rows import FLAT_TOML, FLAT_YAML, GROUPED_YAML, IMPLIED, ROWS, Row
from signal_diffusion.errors import UserError, reported_to_user
from signal_diffusion.experiment.loading import offer

ROOT = Path(__file__).parents[1]

INTRODUCTION = """\
# Experiment files of older layouts

<!-- Made by scripts/document_config.py from signal_diffusion/config/legacy/rows.py. -->

Three older layouts are read as they are, in TOML or YAML, wherever an experiment file goes: one warning lists what
each key is today. Older keys also work in a file of today's layout. `config show FILE` prints what it all comes to.

    uv run python scripts/migrate_config_v1_to_v2.py --input OLD.yaml --output NEW.toml

rewrites a file in today's layout, with the comments of a TOML file; `--dry-run` prints it, `--force` overwrites. What
is left behind stands at its end.

- A value under both its old and its new name is an error, unless they are equal.
- What has no effect beside the other keys, such as `beta_start` with a cosine schedule, is left behind and told.
- Sizes and channels are derived from the dataset; those of an older file are checked against it before training.
- `--set TABLE.KEY=VALUE` takes today's keys, and wins over what is translated or goes without saying. An `interval`
  counts steps there, unless its `unit` is given too.
"""

MORE_UNSAID = """\
Likewise no `training.optimizer.weight_decay` with adam, no validation without `val`, at most as many
`generation.sampling.steps` as there are timesteps, guidance 3 of a model of classes, and in the flat YAML previews of 2
samples per class, or of 8 without classes.
"""

LAYOUTS = {
    FLAT_TOML: "Short keys: `[dataset] batch_size`, `[model] conditioning`, `[objective]`, `[optimizer]`.",
    FLAT_YAML: "Pictures, a U-Net and DDPM, with flat tables: `use_ema`, `optimizer_kwargs`, `save_frequency`.",
    GROUPED_YAML: "The same with grouped tables: `compute`, `model.architecture`, `training.ema`. Keys that are not "
    "here are the same today.",
}


def main(check: Annotated[bool, typer.Option("--check", help="Write nothing.")] = False) -> None:
    """Write the documents, or tell which of them are stale."""
    with reported_to_user():
        for path, text in documents().items():
            if not check:
                path.write_text(text, encoding="utf-8")
            elif not path.exists() or path.read_text(encoding="utf-8") != text:
                raise UserError(f"{path}: stale; run `uv run python scripts/document_config.py`")


def documents() -> dict[Path, str]:
    """The text of each document, by its place."""
    known = offer()
    schemas = {"experiment": experiment_schema(known), "autoencoder": autoencoder_schema(known)}
    return {
        ROOT / "docs" / "configuration.md": configuration(known),
        ROOT / "docs" / "migration.md": migration(),
        **{
            ROOT / "config" / f"{kind}.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
            for kind, schema in schemas.items()
        },
    }


def migration() -> str:
    """What became of the keys of older layouts."""
    parts = [INTRODUCTION]
    for layout, about in LAYOUTS.items():
        rows = sorted((row for row in ROWS if layout in row.layouts), key=_place)
        parts.append(f"## The {layout}\n\n{about}\n\n" + _table(rows))
        if implied := [each for values in IMPLIED[layout] for each in values.items()]:
            unsaid = "".join(f"    {key} = {shown(value)}\n" for key, value in implied)
            parts.append(f"What goes without saying in this layout, and not in today's:\n\n{unsaid}")
        if layout in (FLAT_YAML, GROUPED_YAML):
            parts.append(MORE_UNSAID)
    return "\n".join(parts)


def _place(row: Row) -> tuple[bool, str]:
    """Keys outside of tables first, then by table, in the order of the rows."""
    table = row.old.rpartition(".")[0]
    return bool(table), table


def _table(rows: Iterable[Row]) -> str:
    lines = ["| old | today | |", "|---|---|---|"]
    for row in rows:
        new = ", ".join(f"`{key}`" for key in row.new) or "–"
        lines.append(f"| `{row.old}` | {new} | {row.note} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
