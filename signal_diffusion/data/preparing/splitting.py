"""Assign subjects to splits, and save the assignment for other datasets to reuse.

All windows of a subject are in one split: with windows split at random, a classifier identifies the subjects of eegmat
with 100 % accuracy, and any other metric measures that instead.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from signal_diffusion.data.card import SPLITS
from signal_diffusion.errors import UserError
from signal_diffusion.untrusted import read_json

__all__ = ["SPLITS_NAME", "read_splits", "split_groups", "split_subjects", "write_splits"]

SPLITS_NAME = "splits.json"


def split_subjects(strata: Mapping[str, str], shares: Sequence[float], seed: int) -> dict[str, str]:
    """Assign subjects (subject → stratum) to train, validation and test; returns subject → split.

    Each split has every stratum in proportion, up to rounding, and each subject is in one split. With three or more
    subjects, no split with a share above 0 is empty; with fewer, training is filled first, then validation.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(strata)]))
    order = {}
    for stratum in sorted(set(strata.values())):
        members = sorted(subject for subject in strata if strata[subject] == stratum)
        # Systematic sampling: members of each stratum are evenly spaced from a random start, all strata
        # interleaved.
        positions = (np.arange(len(members)) + rng.random()) / len(members)
        order.update(
            {
                members[member]: position
                for member, position in zip(rng.permutation(len(members)), positions, strict=True)
            }
        )
    subjects = sorted(strata, key=lambda subject: (order[subject], subject))
    counts = [max(round(share * len(subjects)), share > 0) for share in shares[1:]]
    validation = min(counts[0], max(0, len(subjects) - 1 - (counts[1] > 0 and len(subjects) > 2)))
    test = min(counts[1], len(subjects) - 1 - validation)
    splits = ["validation"] * validation + ["test"] * test + ["train"] * (len(subjects) - validation - test)
    return dict(zip(subjects, splits, strict=True))


def split_groups(
    strata: Mapping[str, str], groups: Mapping[str, str | None], shares: Sequence[float], seed: int
) -> dict[str, str]:
    """Assign whole groups of subjects (a family, a site) to splits, with `split_subjects`.

    `groups` is subject → group; a subject without a group (None) is a group by itself. The stratum of a group is its
    most frequent one.
    """
    # Tuples, so that a subject "A" without a group is not confused with the group "A".
    group_of = {
        subject: ("group", group) if (group := groups.get(subject)) else ("subject", subject) for subject in strata
    }
    named = {key: f"{key[0]} {key[1]}" for key in group_of.values()}
    members: dict[str, Counter[str]] = {}
    for subject, key in group_of.items():
        members.setdefault(named[key], Counter())[strata[subject]] += 1
    split_of = split_subjects(
        {name: min(found, key=lambda s: (-found[s], s)) for name, found in members.items()}, shares, seed
    )
    return {subject: split_of[named[key]] for subject, key in group_of.items()}


def write_splits(root: Path, splits: Mapping[str, Iterable[str]]) -> None:
    """Write `root/splits.json`: split → its subjects."""
    text = json.dumps({split: sorted(members) for split, members in splits.items()}, indent=2, ensure_ascii=False)
    (root / SPLITS_NAME).write_text(text + "\n", encoding="utf-8")


def read_splits(path: Path) -> dict[str, str]:
    """Read a splits.json, or that of a dataset's folder: subject → split.

    Raises `UserError` if the file is missing or invalid, or a subject is in two splits.
    """
    path = path / SPLITS_NAME if path.is_dir() else path
    advice = f"expected a dataset made by `signal-diffusion prepare`, or its {SPLITS_NAME}"
    entries = read_json(path, dict[str, list[str]], advice)
    if not entries.keys() <= set(SPLITS):
        raise UserError(f"{path}: expected lists of subjects under {', '.join(SPLITS)}")
    split_of = [(subject, split) for split, members in entries.items() for subject in members]
    twice = [subject for subject, count in Counter(subject for subject, _ in split_of).items() if count > 1]
    if twice:
        raise UserError(f"{path}: {', '.join(twice)} listed twice; list each subject in one split")
    return dict(split_of)
