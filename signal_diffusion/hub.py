"""Repositories of the Hugging Face Hub: models, text encoders, datasets brought here, and models put there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from signal_diffusion.errors import UserError

__all__ = ["check_uploadable", "downloaded", "is_cached", "is_hub_id", "uploaded"]

_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")


def is_hub_id(text: str) -> bool:
    """Whether a text has the form "owner/name" or "owner/name@revision", which a relative path may have too."""
    return _ID.fullmatch(text) is not None


def is_cached(identifier: str) -> bool:
    """Whether something of the model "owner/name" or "owner/name@revision" was brought here from the Hub."""
    from huggingface_hub import constants, file_download

    name = file_download.repo_folder_name(repo_id=identifier.partition("@")[0], repo_type="model")
    return is_hub_id(identifier) and (Path(constants.HF_HUB_CACHE) / name).is_dir()


def downloaded(
    identifier: str,
    *,
    key: str = "",
    repo_type: Literal["model", "dataset"] = "model",
    allow: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> Path:
    """The folder, in the cache of the Hub, of what is wanted of a repository; it is brought there first.

    Parameters
    ----------
    identifier
        "owner/name" or "owner/name@revision".
    key
        The experiment's, for the error; "" where the caller names it.
    repo_type
        What the repository holds.
    allow, ignore
        Patterns of the files that are wanted and, of those, are not; `*` stands for slashes too. None = all, none.

    Raises
    ------
    UserError
        One line, whatever the reason: no network, a licence not accepted, no such repository, revision or file.
    """
    import huggingface_hub  # what is on this machine needs no Hub

    name, _, revision = identifier.partition("@")
    try:
        folder = huggingface_hub.snapshot_download(
            name,
            repo_type=repo_type,
            revision=revision or None,
            allow_patterns=None if allow is None else list(allow),
            ignore_patterns=None if ignore is None else list(ignore),
        )
    except Exception as error:  # the Hub's, the network's and the file system's have no class in common
        reason, advice = _told(error)
    else:
        return Path(folder)
    where = f"{key}: {identifier}" if key else identifier
    found = "no such folder here, and it " if repo_type == "model" else ""
    raise UserError(f"{where}: {found}could not be downloaded from the Hub ({reason}); {advice}")


def check_uploadable(identifier: str, *, option: str) -> None:
    """Raise a `UserError` for what cannot be put on the Hub from here, before anything is done for it."""
    import huggingface_hub

    if not is_hub_id(identifier) or "@" in identifier:
        raise UserError(f"{option} {identifier}: expected owner/name")
    if huggingface_hub.get_token() is None:
        raise UserError(f"{option} {identifier}: no Hugging Face token found; run `hf auth login` or set HF_TOKEN")


def uploaded(folder: Path, identifier: str, *, option: str, private: bool) -> str:
    """Put a model's folder on the Hub as "owner/name", which is made where it is not there; returns its address.

    Raises
    ------
    UserError
        One line, whatever the reason; the folder stays.
    """
    import huggingface_hub

    hub = huggingface_hub.HfApi()
    try:
        address = hub.create_repo(identifier, repo_type="model", private=private, exist_ok=True)
        hub.upload_folder(repo_id=identifier, folder_path=folder, repo_type="model")
    except Exception as error:  # the Hub's, the network's and the file system's have no class in common
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"{option} {identifier}: the Hub does not take it ({reason}); {folder} is whole: check the name, the token "
            f"and the connection, then `hf upload {identifier} {folder}`"
        ) from None
    return str(address)


def _told(error: Exception) -> tuple[str, str]:
    """The reason for a failure, and what to do about it."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "gated", "accept its terms there, then `hf auth login`, or set a local folder"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one", "check the name, or `hf auth login`, or set a local folder"
    if isinstance(error, errors.RevisionNotFoundError):
        return "no such revision", "check what follows the @, or set a local folder"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0], "check the name, the revision and the connection, or set a local folder"
