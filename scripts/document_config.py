"""Write the documents and the JSON Schemas (for editors) that are generated from the dataclasses of experiment files.

uv run python scripts/document_config.py            # docs/{configuration,migration}.md, config/*.schema.json
uv run python scripts/document_config.py --check    # write nothing; exit code 2 if a file is out of date
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

Three older layouts, in TOML or YAML, are accepted wherever an experiment file is: one warning lists the current name
of each key. Older keys also work in a file of the current layout. `config show FILE` prints the resulting experiment.

    uv run python scripts/migrate_config_v1_to_v2.py --input OLD.yaml --output NEW.toml

rewrites a file in the current layout and keeps the comments of a TOML file; `--dry-run` prints the result, `--force`
overwrites an existing file. Keys that are dropped are listed at the end of the new file.

- A value under both its old and its new name is an error, unless they are equal.
- A key that has no effect with the values of other keys, such as `beta_start` with a cosine schedule, is dropped and
  reported.
- Sizes and channels are derived from the dataset; those of an older file are checked against it before training.
- `--set TABLE.KEY=VALUE` takes current keys, and overrides translated values and the older layout's defaults. An
  `interval` set this way counts steps, unless its `unit` is set too.
"""

MORE_DEFAULTS = """\
Also: no `training.optimizer.weight_decay` with adam, no validation without `val`, at most as many
`generation.sampling.steps` as there are timesteps, a guidance scale of 3 for class-conditional models, and in the flat
YAML previews of 2 samples per class, or of 8 without classes.
"""

LAYOUTS = {
    FLAT_TOML: "Short keys: `[dataset] batch_size`, `[model] conditioning`, `[objective]`, `[optimizer]`.",
    FLAT_YAML: "Images, a U-Net and DDPM, with flat tables: `use_ema`, `optimizer_kwargs`, `save_frequency`.",
    GROUPED_YAML: "The same with grouped tables: `compute`, `model.architecture`, `training.ema`. Keys that are "
    "not listed here have not changed.",
}


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a file is out of date.")] = False,
) -> None:
    """Write the documents, or report the first that is out of date."""
    with reported_to_user():
        for path, text in documents().items():
            if not check:
                path.write_text(text, encoding="utf-8")
            elif not path.exists() or path.read_text(encoding="utf-8") != text:
                raise UserError(f"{path}: out of date; run `uv run python scripts/document_config.py`")


def documents() -> dict[Path, str]:
    """The text of each document, by path."""
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
    """The text of docs/migration.md: the current keys for those of older layouts."""
    parts = [INTRODUCTION]
    for layout, about in LAYOUTS.items():
        rows = sorted((row for row in ROWS if layout in row.layouts), key=_sort_key)
        parts.append(f"## The {layout}\n\n{about}\n\n" + _table(rows))
        if implied := [each for values in IMPLIED[layout] for each in values.items()]:
            defaults = "".join(f"    {key} = {shown(value)}\n" for key, value in implied)
            parts.append(f"Defaults of this layout that differ from the current ones:\n\n{defaults}")
        if layout in (FLAT_YAML, GROUPED_YAML):
            parts.append(MORE_DEFAULTS)
    return "\n".join(parts)


def _sort_key(row: Row) -> tuple[bool, str]:
    """Sort keys outside of tables first, then by table; within a table, rows keep their order."""
    table = row.old.rpartition(".")[0]
    return bool(table), table


def _table(rows: Iterable[Row]) -> str:
    lines = ["| old | current | |", "|---|---|---|"]
    for row in rows:
        new = ", ".join(f"`{key}`" for key in row.new) or "–"
        lines.append(f"| `{row.old}` | {new} | {row.note} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
