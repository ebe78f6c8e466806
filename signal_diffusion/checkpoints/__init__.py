"""Checkpoints on disk: folders `checkpoint-<step>`, each with a manifest of the sizes and SHA-256 sums of its files.

`writing` makes one, complete or absent; `listing` and `finding` say which there are, `verifying` whether one is intact,
`weights` loads it; `removing` and `setting_aside` make room. `snapshots` are small files that outlive checkpoints.
"""

from signal_diffusion.checkpoints.finding import find_checkpoint
from signal_diffusion.checkpoints.listing import list_checkpoints
from signal_diffusion.checkpoints.manifest import (
    EMA_WEIGHTS,
    FORMAT,
    MANIFEST,
    POST_HOC_EMA,
    WEIGHTS,
    digests,
    step_of,
    write_manifest,
)
from signal_diffusion.checkpoints.removing import prune, remove_later, remove_unfinished
from signal_diffusion.checkpoints.setting_aside import set_aside
from signal_diffusion.checkpoints.snapshots import (
    Snapshot,
    list_snapshots,
    remove_later_snapshots,
    write_snapshot,
)
from signal_diffusion.checkpoints.verifying import DAMAGED, verify
from signal_diffusion.checkpoints.weights import load_weights
from signal_diffusion.checkpoints.writing import Writer, write_checkpoint

__all__ = [
    "DAMAGED",
    "EMA_WEIGHTS",
    "FORMAT",
    "MANIFEST",
    "POST_HOC_EMA",
    "WEIGHTS",
    "Snapshot",
    "Writer",
    "digests",
    "find_checkpoint",
    "list_checkpoints",
    "list_snapshots",
    "load_weights",
    "prune",
    "remove_later",
    "remove_later_snapshots",
    "remove_unfinished",
    "set_aside",
    "step_of",
    "verify",
    "write_checkpoint",
    "write_manifest",
    "write_snapshot",
]
