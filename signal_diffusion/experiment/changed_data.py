"""Whether the files of a dataset are those of its card, and those that a run was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from signal_diffusion.config import schema
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.integrity import changed_files
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.paths import expand_path

__all__ = ["changed_since", "checked", "different_files"]

CHANGED = "changed after the dataset was made (its SHA-256 is not the one in the card)"
RESTORE = "restore the file or make the dataset again; to train on it as it is, use --accept-changed-data"


def checked(
    dataset: Dataset, names: Sequence[str], before: DatasetCard | None = None, *, accept_changes: bool = False
) -> Dataset:
    """Compare the SHA-256 of the files of some splits with the card; returns the dataset with the hashes of now.

    Parameters
    ----------
    dataset
        The dataset to check.
    names
        Splits, as in `data.paths`.
    before
        Card in the checkpoint of a run on this dataset: the files that it describes are accepted too.
    accept_changes
        Accept all files.

    Raises
    ------
    UserError
        With one line per file that has changed, or for a file that is missing or cut.
    """
    here = [name for name in names if not dataset.is_streamed(name)]  # of the others, the commit is known
    splits = {dataset.split(name): dataset.files(name) for name in here}  # also counts the rows
    changed = changed_files(dataset.root, dataset.card, splits, dataset.data.loading.cache_dir)
    card = replace(dataset.card, files=dataset.card.files | changed)
    if changed and not accept_changes and not (before and before.files == card.files):
        raise UserError(*(f"{dataset.root / name}: {CHANGED}; {RESTORE}" for name in changed))
    return replace(dataset, card=card)


def changed_since(data: schema.Data, card: DatasetCard) -> list[str]:
    """The files of a run's dataset that are not those of the run's `card`; [] if the dataset is not on this machine."""
    try:
        root = expand_path(data.paths.root, "[data.paths] root")
        if data.source != "dataset" or not data.paths.root or not (root / CARD_NAME).is_file():
            return []
        now = Dataset(data=data, root=root, card=DatasetCard.load(root))
        now = checked(now, [data.paths.train], accept_changes=True)
    except UserError as error:
        return list(error.lines)
    return [f"{root / name}: not the file that the run was trained on" for name in different_files(card, now.card)]


def different_files(before: DatasetCard, now: DatasetCard) -> list[str]:
    """The files of which only one of two cards knows, or of which they have different hashes."""
    return sorted({name for name, _ in before.files.items() ^ now.files.items()})
