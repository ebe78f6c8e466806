"""The Hub as one function: what is asked of it, and every refusal in a line that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from signal_diffusion.errors import UserError
from signal_diffusion.experiment.conditions import caption_of
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.hub import downloaded, is_hub_id
from tests import text_encoders


@pytest.mark.parametrize("text", ["owner/name", "owner/name@v1.0", "o-w.n_er/na-me@refs/pr/1"])
def test_what_has_the_form_of_a_repository(text: str) -> None:
    assert is_hub_id(text)


@pytest.mark.parametrize(
    "text", ["", "name", "owner/name/more", "../name", "/owner/name", "owner\\name", "owner/name@"]
)
def test_what_has_not(text: str) -> None:
    assert not is_hub_id(text)


def test_what_is_wanted_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert downloaded("owner/name@v1", repo_type="dataset", allow=("a*",), ignore=("b*",)) == tmp_path
    assert (asked["name"], asked["revision"], asked["repo_type"]) == ("owner/name", "v1", "dataset")
    assert (asked["allow_patterns"], asked["ignore_patterns"]) == (["a*"], ["b*"])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errors.GatedRepoError.__new__(errors.GatedRepoError), "(gated); accept its terms there, then `hf auth login`"),
        (
            errors.RepositoryNotFoundError.__new__(errors.RepositoryNotFoundError),
            "(no such repository, or a private one); check the name, or `hf",
        ),
        (
            errors.RevisionNotFoundError.__new__(errors.RevisionNotFoundError),
            "(no such revision); check what follows the @",
        ),
        (errors.EntryNotFoundError("no file of this name\nMore."), "(no file of this name); check the name"),
        (
            errors.LocalEntryNotFoundError("offline\nMore."),
            "(offline); check the name, the revision and the connection",
        ),
        (RuntimeError("transfer\nMore."), "(transfer); check the name, the revision and the connection"),
        (OSError(), "(OSError); check the name, the revision and the connection"),
    ],
    ids=["gated", "repository", "revision", "file", "offline", "transfer", "wordless"],
)
def test_every_refusal_is_a_line_with_the_key(monkeypatch: pytest.MonkeyPatch, error: Exception, told: str) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError) as caught:
        downloaded("owner/name@v1", key="[model] pretrained")
    start = "[model] pretrained: owner/name@v1: no such folder here, and it could not be downloaded from the Hub "
    assert str(caught.value).startswith(start + told)
    assert len(caught.value.lines) == 1 and "\n" not in str(caught.value)


@pytest.mark.parametrize("embed", [True, False])
def test_captions_whose_sizes_are_enough_leave_the_encoders_weights_on_the_hub(
    monkeypatch: pytest.MonkeyPatch, experiment_file: Path, tmp_path: Path, embed: bool
) -> None:
    folder = text_encoders.clip(tmp_path / "clip")
    unwanted: list[str] = []

    def download(name: str, *, ignore_patterns: list[str], **options: Any) -> str:
        assert name == "owner/encoder"
        unwanted.extend(ignore_patterns)
        return str(folder)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    overrides = ("model.conditioning.type=caption", "model.conditioning.text_encoder=owner/encoder")
    caption = caption_of(load_experiment(experiment_file, overrides), ["a man"], embed=embed)
    assert caption is not None and caption.texts == ("", "a man")
    assert ("*.safetensors*" in unwanted) == (not embed)
