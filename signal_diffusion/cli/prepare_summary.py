"""What `signal-diffusion prepare` prints in the end: what was made, what was rejected, and how to train on it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.escaping import for_terminal

if TYPE_CHECKING:
    from signal_diffusion.data.card import DatasetCard

__all__ = ["print_summary"]


def print_summary(card: DatasetCard, output: Path) -> None:
    """Print a summary of the dataset in `output`."""
    from signal_diffusion.data.card import format_label_counts
    from signal_diffusion.data.montages import montages_in_words, montages_of

    name = card.representation["name"]
    layout = card.representation["layout"]
    print(f"{output}: {name}, {layout} {'×'.join(map(str, card.shape))}, {len(card.channels)} electrodes")
    for split, counts in card.splits.items():
        print(
            f"  {split:<10} {len(counts['subjects']):4d} subjects  {counts['windows']:6d} windows  "
            f"{counts['examples']:7d} examples  {for_terminal(format_label_counts(counts))}"
        )
    for line in montages_in_words(card):
        print(f"  {for_terminal(line)}")
    rejected = ", ".join(f"{count} {reason}" for reason, count in card.rejected.items())
    if card.tmin is not None and card.window is not None and card.sampling_rate:
        tmax = card.tmin + card.window / card.sampling_rate
        print(f"  windows from {card.tmin:g} to {tmax:g} s around events")
    print(f"  windows rejected: {rejected}; recordings without examples: {len(card.skipped)}")
    if "label" not in card.columns:
        print("  no labels; choose their source with --label")
    options = ["--set", f"data.paths.root={output}"]
    if montages_of(card):
        options += ["--set", "model.conditioning.electrodes=position"]
    print(
        "train on it: uv run python -m signal_diffusion.training.diffusion "
        + shlex.join([f"config/diffusion/dit-{name}.toml", *options])
    )
