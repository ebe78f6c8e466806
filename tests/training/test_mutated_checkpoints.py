"""Files of a checkpoint with bytes replaced, removed and inserted are read, or refused in one line; nothing crashes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from signal_diffusion import checkpoints
from signal_diffusion.config import schema
from signal_diffusion.errors import UserError
from signal_diffusion.training.optimizers import build_optimizer
from signal_diffusion.training.state import Progress, resume_optimizer

EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 4, 50]), st.binary(max_size=8)), min_size=1, max_size=10
)
"""Where, as a share of the length; the number of bytes removed there; and those inserted instead."""
Edits = list[tuple[float, int, bytes]]


def edited(content: bytes, edits: Edits) -> bytes:
    for place, removed, inserted in edits:
        start = int(place * len(content))
        content = content[:start] + inserted + content[start + removed :]
    return content


def edited_pickle(archive: bytes, edits: Edits) -> bytes:
    """The same of the pickle in what `torch.save` wrote; the checksums around it stay right."""
    source, result = zipfile.ZipFile(io.BytesIO(archive)), io.BytesIO()
    with zipfile.ZipFile(result, "w") as target:
        for name in source.namelist():
            target.writestr(name, edited(source.read(name), edits if name.endswith("data.pkl") else []))
    return result.getvalue()


def stepped() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A linear layer after one step of AdamW."""
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    optimizer = build_optimizer(model, schema.Optimizer())
    model(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def saved_state() -> bytes:
    file = io.BytesIO()
    torch.save(stepped()[1].state_dict(), file)
    return file.getvalue()


def resume(folder: Path) -> None:
    model, optimizer = stepped()
    resume_optimizer(optimizer, "adamw", folder, "adamw")
    model(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()  # writes into the moments of the file


def load(folder: Path) -> None:
    checkpoints.load_weights(stepped()[0], folder, use_ema=False)


def verified(folder: Path) -> None:
    """Verify a folder whose only file is its manifest."""
    checkpoints.verify(folder)


MANIFEST = b'{"format": 1, "step": 3, "files": {"progress.json": {"size": 1, "sha256": "0"}}}'
PROGRESS = b'{"step": 5, "steps_per_epoch": 6, "losses": [[1.5, 2]], "optimizer": "adamw", "plateau": {"best": 1.0}}'
CASES: dict[str, tuple[str, Callable[[], bytes], Callable[[bytes, Edits], bytes], Callable[[Path], object]]] = {
    "optimizer": ("optimizer.pt", saved_state, edited, resume),
    "pickle of the optimizer": ("optimizer.pt", saved_state, edited_pickle, resume),
    "weights": ("model.safetensors", lambda: save(stepped()[0].state_dict()), edited, load),
    "progress": ("progress.json", lambda: PROGRESS, edited, Progress.of),
    "manifest": ("manifest.json", lambda: MANIFEST, edited, verified),
}


def check(case: str, folder: Path, number: int) -> None:
    name, make, edit, read = CASES[case]
    content = make()

    @settings(
        derandomize=True, database=None, deadline=None, max_examples=number, suppress_health_check=list(HealthCheck)
    )
    @given(EDITS)
    def refused_or_read(edits: Edits) -> None:
        (folder / name).write_bytes(edit(content, edits))
        try:
            read(folder)
        except UserError as error:
            assert len(error.lines) == 1 and "\n" not in str(error)

    refused_or_read()


@pytest.mark.parametrize("case", CASES)
def test_a_mutated_file_is_refused_in_one_line_or_read(case: str, tmp_path: Path) -> None:
    check(case, tmp_path, 60)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_thousand_mutated_files_are_refused_in_one_line_or_read(case: str, tmp_path: Path) -> None:
    check(case, tmp_path, 1000)
