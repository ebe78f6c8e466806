"""Write the exact versions of all dependencies into pyproject.toml, as `[tool.uv] constraint-dependencies`.

    uv lock --upgrade && uv run python scripts/pin_dependencies.py

`uv.lock` itself is not committed, because it names a package index.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
TABLE = re.compile(r"\[tool\.uv\]\nconstraint-dependencies = \[\n.*?\n\]\n", re.DOTALL)


def main() -> None:
    """Rewrite the table from `uv export`."""
    export = subprocess.run(
        [
            "uv",
            "export",
            "--all-groups",
            "--all-extras",
            "--no-hashes",
            "--no-emit-project",
            "--no-header",
            "--no-annotate",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pins = [line.replace('"', "'") for line in export.splitlines() if "==" in line]
    rows = "".join(f'    "{pin}",\n' for pin in pins)
    table = f"[tool.uv]\nconstraint-dependencies = [\n{rows}]\n"
    text = PYPROJECT.read_text(encoding="utf-8")
    text = TABLE.sub(lambda match: table, text) if TABLE.search(text) else f"{text}\n{table}"
    PYPROJECT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
