"""Put faults into the code, one at a time, and see whether the tests that should notice do.

uv run python scripts/mutations.py            # all, for a quarter of an hour
uv run python scripts/mutations.py --only 3   # one, by its number in the table

Works on a copy (`git worktree`) of the last commit. The exit code is 1 if a fault was not noticed. A mutation whose old
text is not in the file is an error, so that this list lives as long as the code.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutation:
    """A fault, and the tests of which at least one must fail."""

    file: str
    """In signal_diffusion/."""
    old: str
    new: str
    tests: str
    """Arguments of pytest, in tests/; separated by spaces."""


MUTATIONS = (
    # Leaves
    Mutation("checkpoints/verifying.py", "or fingerprint(path) != expected", "", "checkpoints"),
    Mutation("escaping.py", 'replace("$", r"\\$")', 'replace("$", "$")', "test_escaping.py"),
    # Config
    Mutation("config/dotted.py", 'yield from dotted(value, f"{prefix}{key}.")', "pass", "config/test_migration.py"),
    Mutation(
        "config/optimization_tables.py", "learning_rate: Positive", "learning_rate: float", "config/test_loading.py"
    ),
    # Experiment
    Mutation(
        "experiment/compatibility.py",
        '"num_timesteps", "beta_schedule", ',
        '"num_timesteps", ',
        "experiment/test_compatibility.py",
    ),
    Mutation("experiment/network.py", "if autoencoder.path == VAE_FOLDER:", "if False:", "sampling/test_exporting.py"),
    # Data
    Mutation("data/balancing.py", "min(max_weight, average / size)", "average / size", "data/test_balancing.py"),
    Mutation("data/balancing.py", "if None not in group", "if True", "data/test_balancing.py"),
    Mutation("data/publishing.py", "replaces: bool = True", "replaces: bool = False", "data/test_publishing.py"),
    # Models
    Mutation("models/dit.py", "rows = torch.zeros_like(rows)", "pass", "models/test_dit.py"),
    Mutation(
        "models/conditioning/embeddings.py",
        "torch.where(index < 0, self.null, index)",
        "index.clamp(min=0)",
        "models/conditioning models/test_every_backbone.py",
    ),
    # Diffusion
    Mutation("diffusion/methods.py", "stratum + torch.rand(", "torch.rand(", "diffusion/test_methods.py"),
    Mutation("diffusion/methods.py", "return alpha * x0 + sigma * noise", "return x0 + sigma * noise", "diffusion"),
    Mutation(
        "diffusion/guidance.py", "            return conditional\n", "            pass\n", "diffusion/test_guidance.py"
    ),
    Mutation("diffusion/guidance.py", "to + scale * (of - to)", "to + (of - to)", "diffusion/test_guidance.py"),
    # Training
    Mutation("training/trainer.py", "        self.losses.zero_()\n", "", "training/test_values.py"),
    Mutation(
        "training/ema.py", "return min(self._config.decay, warm)", "return self._config.decay", "training/test_ema.py"
    ),
    Mutation("training/optimizers.py", "int(num_steps * WARMUP_SHARE)", "num_steps", "training/test_optimizers.py"),
    Mutation(
        "training/optimizers.py",
        '"weight_decay": 0.0}',
        '"weight_decay": config.weight_decay}',
        "training/test_optimizers.py",
    ),
    Mutation(
        "training/validation.py",
        "(self._times * QUARTERS)",
        "(self._times * 0)",
        "training/test_values.py training/test_trainer.py",
    ),
    # Sampling
    Mutation(
        "sampling/partial.py",
        "if not shapes or any(shape[:1] != [len(rows)] for shape in shapes.values()):",
        "if False:",
        "sampling/test_resuming.py sampling/test_hostile_parts.py",
    ),
    Mutation(
        "sampling/requests.py",
        "cond=self.cond[rows], noise=",
        "noise=",
        "sampling/test_requests.py",
    ),
    # Evaluation
    Mutation(
        "evaluation/distribution.py",
        "mean @ mean + np.trace",
        "np.trace",
        "evaluation/test_metrics.py evaluation/test_independent_code.py",
    ),
    Mutation(
        "evaluation/distribution.py",
        "whiten=True",
        "whiten=False",
        "evaluation/test_metrics.py evaluation/test_independent_code.py",
    ),
    # Commands
    Mutation("cli/__init__.py", "    exit_on_signals()\n", "", "chaos/test_commands.py"),
    Mutation("errors.py", "raise SystemExit(error.exit_code if", "raise SystemExit(1 if", "test_cli.py"),
    # Figures
    Mutation("figures/grids.py", "[LAST_FRAME_MS]", "[FRAME_MS]", "figures/test_grids.py"),
    Mutation("figures/images.py", "card.tmin or 0.0", "0.0", "figures/test_images.py"),
)


def main(only: Annotated[int | None, typer.Option(help="The number of one mutation.")] = None) -> None:
    """Try all mutations, or one of them; print a line for each."""
    chosen = [each for each in enumerate(MUTATIONS, start=1) if only in (None, each[0])]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree], cwd=ROOT, check=True)
        try:
            for number, mutation in chosen:
                noticed = is_noticed(mutation, tree)
                missed += not noticed
                what = " ".join(mutation.old.split())
                print(f"{number:3} {'noticed' if noticed else 'MISSED '} {mutation.file}: {what}", flush=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
    print(f"{len(chosen) - missed} of {len(chosen)} noticed")
    raise SystemExit(missed > 0)


def is_noticed(mutation: Mutation, tree: Path) -> bool:
    """Whether a test fails with a mutation in a copy of the repository."""
    path = tree / "signal_diffusion" / mutation.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise SystemExit(f"{path}: {mutation.old!r} is not there exactly once; adapt scripts/mutations.py")
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        tests = [f"tests/{name}" for name in mutation.tests.split()]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
        environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        code = subprocess.run(command, cwd=tree, env=environment, capture_output=True, check=False).returncode
        if code not in (0, 1):  # no tests, or an error of pytest
            raise SystemExit(f"{' '.join(map(str, command))}: exit code {code}")
        return code == 1
    finally:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
