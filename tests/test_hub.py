"""Downloads from the Hub: the arguments of the request, and a one-line error with advice for every failure."""

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
def test_names_of_hub_repositories_are_recognised(text: str) -> None:
    assert is_hub_id(text)


@pytest.mark.parametrize(
    "text", ["", "name", "owner/name/more", "../name", "/owner/name", "owner\\name", "owner/name@"]
)
def test_other_names_are_not_taken_for_hub_repositories(text: str) -> None:
    assert not is_hub_id(text)


def test_revision_type_and_patterns_are_passed_to_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    request: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        request.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert downloaded("owner/name@v1", repo_type="dataset", allow=("a*",), ignore=("b*",)) == tmp_path
    assert (request["name"], request["revision"], request["repo_type"]) == ("owner/name", "v1", "dataset")
    assert (request["allow_patterns"], request["ignore_patterns"]) == (["a*"], ["b*"])


@pytest.mark.parametrize(
    ("error", "expected"),
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
    ids=["gated", "repository", "revision", "file", "offline", "transfer", "no message"],
)
def test_every_failure_is_one_line_with_the_key(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError) as caught:
        downloaded("owner/name@v1", key="[model] pretrained")
    start = "[model] pretrained: owner/name@v1: no such folder here, and it could not be downloaded from the Hub "
    assert str(caught.value).startswith(start + expected)
    assert len(caught.value.lines) == 1 and "\n" not in str(caught.value)


@pytest.mark.parametrize("embed", [True, False])
def test_the_text_encoder_s_weights_are_downloaded_only_to_embed_captions(
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
