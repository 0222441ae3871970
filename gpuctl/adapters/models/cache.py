"""
The Hugging Face cache: where a file of a commit lies, and what is there.

`models--ORG--NAME/blobs/ETAG` holds contents, `snapshots/COMMIT/PATH` links to them, and
`refs/REVISION` names the commit of a branch.
Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuctl.adapters.models.partial import SUFFIX

_PREFIX = "models--"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incomplete:
    """A content that an interrupted download has left."""

    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """One snapshot of a repository."""

    repository: str
    commit: str
    revisions: tuple[str, ...]  # the branches and tags that name it
    folder: Path
    incomplete: tuple[Incomplete, ...]  # of the whole repository


def root(environment: Mapping[str, str]) -> Path:
    """
    Return the directory of the cache.

    Source: huggingface_hub.constants: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, else HF_HOME/hub, else
    XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
    """
    named = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(named).expanduser()
    home = environment.get("HOME") or os.path.expanduser("~")
    caches = environment.get("XDG_CACHE_HOME") or f"{home}/.cache"
    return Path(environment.get("HF_HOME") or f"{caches}/huggingface").expanduser() / "hub"


def folder(cache: Path, repository: str) -> Path:
    """Return the directory of a repository."""
    return cache / f"{_PREFIX}{repository.replace('/', '--')}"


def blob(cache: Path, repository: str, etag: str) -> Path:
    """Return where a content lies."""
    return folder(cache, repository) / "blobs" / etag


def snapshot(cache: Path, repository: str, revision: str) -> Path | None:
    """Return the snapshot of a branch, tag or commit, `None` where there is none."""
    own = folder(cache, repository)
    with suppress(OSError, ValueError):
        revision = (own / "refs" / revision).read_text(encoding="utf-8").strip()
    found = own / "snapshots" / revision
    return found if found.is_dir() else None


def link(cache: Path, repository: str, commit: str, path: str, etag: str) -> Path:
    """Give a content its name in the snapshot of a commit; return that."""
    name = folder(cache, repository) / "snapshots" / commit / path
    name.parent.mkdir(parents=True, exist_ok=True)
    content = os.path.relpath(blob(cache, repository, etag), name.parent)
    if not (name.is_symlink() and os.readlink(name) == content):
        # Never for a moment without it: an engine may be about to open the old one.
        fresh = name.with_name(f"{name.name}.{os.getpid()}.link")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(content)
        fresh.replace(name)
    return name


def name_commit(cache: Path, repository: str, revision: str, commit: str) -> None:
    """Record which commit a branch is at, as offline readers look it up."""
    if revision == commit:
        return
    reference = folder(cache, repository) / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    fresh = reference.with_name(f"{reference.name}.{os.getpid()}.new")
    fresh.write_text(commit, encoding="utf-8")
    fresh.replace(reference)


def snapshots(cache: Path) -> Iterator[Cached]:
    """Yield every snapshot of every model, by name."""
    for own in sorted(_folders(cache, _PREFIX)):
        repository = own.name.removeprefix(_PREFIX).replace("--", "/", 1)
        names = _revisions(own / "refs")
        left = tuple(_incomplete(own / "blobs"))
        for found in sorted(_folders(own / "snapshots", "")):
            yield Cached(
                repository=repository,
                commit=found.name,
                revisions=tuple(sorted(name for name, at in names.items() if at == found.name)),
                folder=found,
                incomplete=left,
            )


def _folders(place: Path, prefix: str) -> Iterator[Path]:
    with suppress(OSError):
        for path in place.iterdir():
            if path.name.startswith(prefix) and path.is_dir():
                yield path


def _revisions(references: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in references.rglob("*"):
        with suppress(OSError, ValueError):
            found[str(path.relative_to(references))] = path.read_text(encoding="utf-8").strip()
    return found


def _incomplete(blobs: Path) -> Iterator[Incomplete]:
    for path in sorted(blobs.glob(f"*{SUFFIX}")):
        with suppress(OSError):
            yield Incomplete(path=path, size_bytes=path.stat().st_size)
