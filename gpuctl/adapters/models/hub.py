"""
A hub's own word on a repository: its commit, its files and their checksums. Needs huggingface-hub.

The client's package reads HF_ENDPOINT, HF_TOKEN and the token that `hf auth login` stored.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from gpuctl.adapters.models.asking import plain
from gpuctl.adapters.models.choice import HubFile
from gpuctl.adapters.models.names import allowed, shown
from gpuctl.errors import GpuctlError, NotFound, UsageError

ENDPOINT = "https://huggingface.co"

#: Of a token's file: no token is longer, and a wrong file is not read whole.
_TOKEN_BYTES = 4096
#: What a header may carry; anything else the client refuses in words that show it.
_TOKEN = re.compile(r"[!-~]+")
#: A SHA-256, or the SHA-1 of a git object: both become names of files here.
_ETAG = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A repository at one commit."""

    repository: str
    commit: str
    files: tuple[HubFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """One hub, asked as one user."""

    endpoint: str
    token: str | None = field(default=None, repr=False)

    def listing(self, repository: str, revision: str | None = None) -> Listing:
        """
        Return what a repository has.

        Raises:
            GpuctlError: it is not there, not for this user, or the hub does not answer.
        """
        client = _client(self)
        with self._translated(repository, revision):
            info = client.model_info(repository, revision=revision)
            commit = _commit(info.sha)
            tree = client.list_repo_tree(repository, recursive=True, revision=commit)
            files = tuple(_file(entry) for entry in tree if hasattr(entry, "blob_id"))
        return Listing(repository=repository, commit=commit, files=files)

    def address(self, listing: Listing, path: str) -> str:
        """Return where a file of a commit is served."""
        return f"{self.endpoint}/{listing.repository}/resolve/{listing.commit}/{quote(path)}"

    def headers(self) -> Mapping[str, str]:
        """Return what identifies this user to the hub, and to no other host."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def denied_hint(self, repository: str) -> str:
        """Return the next step of somebody who may not have a repository."""
        page = f"{self.endpoint}/{repository}"
        if self.token:
            return f"accept its terms at {page} as the owner of the token, or use another token"
        return (
            f"if it is gated or private: accept its terms at {page}, and give a token with "
            "--token-file FILE, HF_TOKEN in the environment, or `hf auth login`"
        )

    @contextmanager
    def _translated(self, repository: str, revision: str | None) -> Iterator[None]:
        """Make every error of the client one in words for an operator."""
        import httpx2
        from huggingface_hub import errors

        try:
            yield
        except errors.GatedRepoError as error:
            raise GpuctlError(
                f"{repository} is gated, and this user may not have it",
                self.denied_hint(repository),
            ) from error
        except errors.RevisionNotFoundError as error:
            raise NotFound(
                f"{repository} has no revision {revision or 'main'}",
                f"see its branches and tags at {self.endpoint}/{repository}",
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise NotFound(
                f"{shown(self.endpoint)} shows no repository {repository} to this user",
                f"correct the name; {self.denied_hint(repository)}",
            ) from error
        except errors.HfHubHTTPError as error:
            raise self._answered(repository, error.response.status_code) from error
        except httpx2.TimeoutException as error:
            raise self._away(f"{shown(self.endpoint)} does not answer in time") from error
        except httpx2.HTTPError as error:
            raise self._away(f"{shown(self.endpoint)} cannot be reached: {plain(error)}") from error

    def _answered(self, repository: str, status: int) -> GpuctlError:
        message = f"{shown(self.endpoint)} answers {status} when it is asked for {repository}"
        if status in (401, 403):
            return GpuctlError(message, self.denied_hint(repository))
        if status == 429:
            return GpuctlError(message, "it was asked too often from here: wait a few minutes")
        return GpuctlError(message, "try again later, and see https://status.huggingface.co")

    def _away(self, message: str) -> GpuctlError:
        return GpuctlError(
            message, "look at the network and the proxy; HF_ENDPOINT names another hub"
        )


def connect(environment: Mapping[str, str], token_file: str | None = None) -> Hub:
    """
    Return the hub that the environment names, as the user whose token is found.

    Raises:
        GpuctlError: huggingface-hub is not installed, or the token's file cannot be read.
        UsageError: HF_ENDPOINT is not https.
    """
    endpoint = (environment.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    if not allowed(endpoint):
        raise UsageError(
            f"HF_ENDPOINT: {shown(endpoint)} is not https", "a token would be sent in the clear"
        )
    return Hub(endpoint=endpoint, token=_token(environment, token_file))


def offline(environment: Mapping[str, str]) -> bool:
    """
    Tell whether no hub may be asked.

    Source: huggingface_hub.constants, HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE, ENV_VARS_TRUE_VALUES.
    """
    word = environment.get("HF_HUB_OFFLINE") or environment.get("TRANSFORMERS_OFFLINE") or ""
    return word.upper() in ("1", "ON", "YES", "TRUE")


def _client(hub: Hub):  # type: ignore[no-untyped-def]  # HfApi; the package may not be there
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise _not_installed() from None
    # Its warnings would stand between the lines of the progress.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return HfApi(endpoint=hub.endpoint, token=hub.token or False)


def _stored_token() -> str | None:
    try:
        from huggingface_hub import get_token
    except ImportError:
        raise _not_installed() from None
    return get_token()


def _not_installed() -> GpuctlError:
    return GpuctlError(
        "to fetch from a hub, huggingface-hub must be installed",
        f"{sys.executable} -m pip install 'huggingface-hub>=2.4'",
    )


def _token(environment: Mapping[str, str], path: str | None) -> str | None:
    """Return the token to show, `None` without one."""
    if path is None:
        words = environment.get("HF_TOKEN") or _stored_token() or ""
        return _clean(words, "HF_TOKEN") if words.strip() else None
    try:
        with Path(path).open("rb") as file:
            content = file.read(_TOKEN_BYTES)
    except OSError as error:
        raise UsageError(
            f"--token-file {path}: {error.strerror}", "name a file that holds one line, hf_…"
        ) from None
    return _clean(content.decode("latin-1"), f"--token-file {path}")


def _clean(words: str, where: str) -> str:
    """Return a token without the space around it; a refusal does not show it."""
    token = words.strip()
    if not _TOKEN.fullmatch(token):
        raise UsageError(f"{where} does not hold a token", "it is one line, hf_…")
    return token


def _commit(word: object) -> str:
    if not _ETAG.fullmatch(str(word)):
        raise GpuctlError(
            f"the hub names a commit that cannot be: {word!r}", "look at what HF_ENDPOINT names"
        )
    return str(word)


def _file(entry) -> HubFile:  # type: ignore[no-untyped-def]  # RepoFile
    """Return a file of a repository. Raises `GpuctlError` for one that would land elsewhere."""
    path, etag = str(entry.path), str(entry.lfs.sha256 if entry.lfs else entry.blob_id)
    if path.startswith("/") or ".." in path.split("/") or not _ETAG.fullmatch(etag):
        raise GpuctlError(
            f"the hub tells of a file that cannot be: {path!r}, {etag!r}",
            "look at what HF_ENDPOINT names",
        )
    return HubFile(
        path=path,
        size_bytes=int(entry.size),
        sha256=etag if entry.lfs else None,
        blob_id=None if entry.lfs else etag,
    )
