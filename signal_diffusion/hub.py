"""Download models, text encoders and datasets from the Hugging Face Hub, and upload models to it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from signal_diffusion.errors import MissingError, UserError

__all__ = ["check_uploadable", "download", "files_of_dataset", "is_cached", "is_hub_id", "upload"]

_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")


def is_hub_id(text: str) -> bool:
    """Whether a text has the form "owner/name" or "owner/name@revision"; a relative path may look the same."""
    return _ID.fullmatch(text) is not None


def is_cached(identifier: str) -> bool:
    """Whether files of the model "owner/name" or "owner/name@revision" are in the local cache of the Hub."""
    from huggingface_hub import constants, file_download

    name = file_download.repo_folder_name(repo_id=identifier.partition("@")[0], repo_type="model")
    return is_hub_id(identifier) and (Path(constants.HF_HUB_CACHE) / name).is_dir()


def download(
    identifier: str,
    *,
    key: str = "",
    repo_type: Literal["model", "dataset"] = "model",
    allow: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> Path:
    """Download files of a repository to the local cache of the Hub, and return their folder.

    Parameters
    ----------
    identifier
        "owner/name" or "owner/name@revision".
    key
        Key of the experiment file, for the error message; "" if the caller adds it.
    repo_type
        Kind of repository.
    allow, ignore
        Patterns of files to download, and of exceptions to them; `*` matches slashes too. None = all files, no
        exceptions.

    Raises
    ------
    MissingError
        With one line, whatever the reason: no network, a licence not accepted, no such repository, revision or file.
    """
    import huggingface_hub  # slow to import, and local files do not need it

    name, _, revision = identifier.partition("@")
    try:
        folder = huggingface_hub.snapshot_download(
            name,
            repo_type=repo_type,
            revision=revision or None,
            allow_patterns=None if allow is None else list(allow),
            ignore_patterns=None if ignore is None else list(ignore),
        )
    except Exception as error:  # errors of the Hub, the network and the file system have no common base class
        reason, advice = _reason_and_advice(error)
    else:
        return Path(folder)
    where = f"{key}: {identifier}" if key else identifier
    found = "is not a local folder, and " if repo_type == "model" else ""
    raise MissingError(f"{where}: {found}could not be downloaded from the Hub ({reason}); {advice}")


def check_uploadable(identifier: str, *, option: str) -> None:
    """Raise a `UserError` if the id is invalid or no token is found, before any work is done for the upload."""
    import huggingface_hub

    if not is_hub_id(identifier) or "@" in identifier:
        raise UserError(f"{option} {identifier}: expected owner/name")
    if huggingface_hub.get_token() is None:
        raise UserError(f"{option} {identifier}: no Hugging Face token found; run `hf auth login` or set HF_TOKEN")


def upload(folder: Path, identifier: str, *, option: str, private: bool) -> str:
    """Upload a model's folder to the Hub as "owner/name", created if needed, and return its URL.

    Raises
    ------
    UserError
        With one line, whatever the reason; the folder is kept.
    """
    import huggingface_hub

    hub = huggingface_hub.HfApi()
    try:
        address = hub.create_repo(identifier, repo_type="model", private=private, exist_ok=True)
        hub.upload_folder(repo_id=identifier, folder_path=folder, repo_type="model")
    except Exception as error:  # errors of the Hub, the network and the file system have no common base class
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"{option} {identifier}: the upload failed ({reason}); the export in {folder} is complete: check the name, "
            f"the token and the connection, then run `{shlex.join(['hf', 'upload', identifier, str(folder)])}`"
        ) from None
    return str(address)


def files_of_dataset(identifier: str, commit: str) -> tuple[Any, str]:
    """The file system of the Hub, and the folder of a dataset in it, as of a commit."""
    from huggingface_hub import HfFileSystem

    return HfFileSystem(), f"datasets/{identifier.partition('@')[0]}@{commit}"


def _reason_and_advice(error: Exception) -> tuple[str, str]:
    """The reason for a failed download, and what to do about it."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "gated", "accept its terms on the Hub and run `hf auth login`, or use a local folder"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one", "check the name, run `hf auth login`, or use a local folder"
    if isinstance(error, errors.RevisionNotFoundError):
        return "no such revision", "check the revision after the @, or use a local folder"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0], "check the name, the revision and the connection, or use a local folder"
