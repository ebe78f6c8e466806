"""Downloads from the Hub: the files requested, and one line with advice for each kind of failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from signal_diffusion.errors import UserError
from signal_diffusion.experiment.conditions import caption_of
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.hub import download, is_hub_id
from tests import text_encoders


@pytest.mark.parametrize("text", ["owner/name", "owner/name@v1.0", "o-w.n_er/na-me@refs/pr/1"])
def test_owner_and_name_are_a_hub_id(text: str) -> None:
    assert is_hub_id(text)


@pytest.mark.parametrize(
    "text", ["", "name", "owner/name/more", "../name", "/owner/name", "owner\\name", "owner/name@"]
)
def test_other_text_is_no_hub_id(text: str) -> None:
    assert not is_hub_id(text)


def test_only_the_requested_files_are_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    requested: dict[str, Any] = {}

    def fake_download(name: str, **options: Any) -> str:
        requested.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake_download)
    assert download("owner/name@v1", repo_type="dataset", allow=("a*",), ignore=("b*",)) == tmp_path
    assert (requested["name"], requested["revision"], requested["repo_type"]) == ("owner/name", "v1", "dataset")
    assert (requested["allow_patterns"], requested["ignore_patterns"]) == (["a*"], ["b*"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            errors.GatedRepoError.__new__(errors.GatedRepoError),
            "(gated); accept its terms on the Hub and run `hf auth login`",
        ),
        (
            errors.RepositoryNotFoundError.__new__(errors.RepositoryNotFoundError),
            "(no such repository, or a private one); check the name, run `hf",
        ),
        (
            errors.RevisionNotFoundError.__new__(errors.RevisionNotFoundError),
            "(no such revision); check the revision after the @",
        ),
        (errors.EntryNotFoundError("no file of this name\nMore."), "(no file of this name); check the name"),
        (
            errors.LocalEntryNotFoundError("offline\nMore."),
            "(offline); check the name, the revision and the connection",
        ),
        (RuntimeError("transfer\nMore."), "(transfer); check the name, the revision and the connection"),
        (OSError(), "(OSError); check the name, the revision and the connection"),
    ],
    ids=["gated", "repository", "revision", "file", "offline", "transfer", "without a message"],
)
def test_a_failed_download_is_one_line_with_the_key_and_advice(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError) as caught:
        download("owner/name@v1", key="[model] pretrained")
    start = "[model] pretrained: owner/name@v1: is not a local folder, and could not be downloaded from the Hub "
    assert str(caught.value).startswith(start + message)
    assert len(caught.value.lines) == 1 and "\n" not in str(caught.value)


@pytest.mark.parametrize("embed", [True, False])
def test_without_embedding_captions_the_weights_of_the_encoder_are_not_downloaded(
    monkeypatch: pytest.MonkeyPatch, experiment_file: Path, tmp_path: Path, embed: bool
) -> None:
    folder = text_encoders.clip(tmp_path / "clip")
    ignored: list[str] = []

    def download(name: str, *, ignore_patterns: list[str], **options: Any) -> str:
        assert name == "owner/encoder"
        ignored.extend(ignore_patterns)
        return str(folder)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    overrides = ("model.conditioning.type=caption", "model.conditioning.text_encoder=owner/encoder")
    caption = caption_of(load_experiment(experiment_file, overrides), ["a man"], embed=embed)
    assert caption is not None and caption.texts == ("", "a man")
    assert ("*.safetensors*" in ignored) == (not embed)
