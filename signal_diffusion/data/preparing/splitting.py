"""Who is in which split: people are dealt once, and written to a file that other datasets take over.

Never finer than by person: with windows split at random, subjects of eegmat are told apart at 100 %, and whatever
else is measured is that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from signal_diffusion.data.card import SPLITS
from signal_diffusion.errors import UserError

__all__ = ["SPLITS_NAME", "read_splits", "split_groups", "split_subjects", "write_splits"]

SPLITS_NAME = "splits.json"


def split_subjects(strata: Mapping[str, str], shares: Sequence[float], seed: int) -> dict[str, str]:
    """Deal subjects, subject → stratum, into train, validation and test; returns subject → split.

    Each split has every stratum in proportion, as far as whole people go, and nobody is in two. With three
    people or more no split with a share above 0 is empty; training comes first, then validation.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(strata)]))
    order = {}
    for stratum in sorted(set(strata.values())):
        members = sorted(subject for subject in strata if strata[subject] == stratum)
        # A systematic sample: members of each stratum evenly spaced from a random start, all strata
        # interleaved.
        places = (np.arange(len(members)) + rng.random()) / len(members)
        order.update(
            {members[member]: place for member, place in zip(rng.permutation(len(members)), places, strict=True)}
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
    """Deal subjects so that those of one group (a family, a site) stay together; `split_subjects` of the groups.

    `groups` is subject → group; a subject without one (None) is a group alone. The stratum of a group is its most
    frequent one.
    """
    # A tuple is nobody's name: a subject "A" without a group is not in the group "A".
    group_of = {
        subject: ("group", group) if (group := groups.get(subject)) else ("subject", subject) for subject in strata
    }
    named = {key: f"{key[0]} {key[1]}" for key in group_of.values()}
    members: dict[str, Counter[str]] = {}
    for subject, key in group_of.items():
        members.setdefault(named[key], Counter())[strata[subject]] += 1
    dealt = split_subjects(
        {name: min(found, key=lambda s: (-found[s], s)) for name, found in members.items()}, shares, seed
    )
    return {subject: dealt[named[key]] for subject, key in group_of.items()}


def write_splits(root: Path, splits: Mapping[str, Iterable[str]]) -> None:
    """Write `root/splits.json`: split → its subjects."""
    text = json.dumps({split: sorted(members) for split, members in splits.items()}, indent=2, ensure_ascii=False)
    (root / SPLITS_NAME).write_text(text + "\n", encoding="utf-8")


def read_splits(path: Path) -> dict[str, str]:
    """Read such a file, or that of a dataset's folder: subject → split.

    Raises `UserError` where it is missing or not such a file, or has someone in two splits.
    """
    path = path / SPLITS_NAME if path.is_dir() else path
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; give a dataset of `prepare`, or its {SPLITS_NAME}") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); give a dataset of `prepare`, or its {SPLITS_NAME}"
        ) from error
    if not isinstance(entries, dict) or not all(
        split in SPLITS and isinstance(members, list) and all(isinstance(member, str) for member in members)
        for split, members in entries.items()
    ):
        raise UserError(f"{path}: expected lists of subjects under {', '.join(SPLITS)}")
    split_of = [(subject, split) for split, members in entries.items() for subject in members]
    twice = [subject for subject, count in Counter(subject for subject, _ in split_of).items() if count > 1]
    if twice:
        raise UserError(f"{path}: {', '.join(twice)} named twice; put each subject into one split")
    return dict(split_of)
