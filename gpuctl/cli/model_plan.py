"""What `models pull` would fetch: files, where each goes, how much of them is lacking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpuctl.adapters.models import cache as hub_cache
from gpuctl.adapters.models.choice import HubFile, chosen, split_parts
from gpuctl.adapters.models.partial import fetched_bytes
from gpuctl.adapters.models.transfer import Wanted, there
from gpuctl.errors import GpuctlError, UsageError

if TYPE_CHECKING:
    from gpuctl.adapters.models.hub import Hub, Listing
    from gpuctl.adapters.models.names import HubName, Url
    from gpuctl.cli.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file to fetch, and what gives it its name where its content lies apart."""

    wanted: Wanted
    name_it: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """All that one name means."""

    title: str
    place: Path  # whose disk must have room
    items: tuple[Item, ...]
    lacking: tuple[Item, ...]  # of these, those that are not there yet
    finish: Callable[[], Path]  # called when all are there: returns where they lie

    @property
    def total_bytes(self) -> int | None:
        """All of what is lacking, with what an earlier attempt has left of it."""
        sizes = [item.wanted.size_bytes for item in self.lacking]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    @property
    def needed_bytes(self) -> int:
        """What is still to come, as far as sizes are known."""
        return sum(
            max(0, (item.wanted.size_bytes or 0) - fetched_bytes(item.wanted.target))
            for item in self.lacking
        )


def of_url(url: Url, place: Path, sha256: str | None, token_file: str | None) -> Batch:
    """Return the batch of one address. Raises `UsageError`."""
    if token_file is not None:
        raise UsageError(
            "--token-file is for a hub: no token is sent to an address", "leave it out"
        )
    if sha256 is not None and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise UsageError(f"--sha256 {sha256!r} is no SHA-256", "it is 64 hexadecimal digits")
    target = place / url.file_name
    wanted = Wanted(
        name=url.file_name,
        address=url.address,
        target=target,
        sha256=sha256.lower() if sha256 else None,
    )
    return _batch(url.file_name, place, (Item(wanted=wanted),), lambda: target)


def of_repository(
    session: Session,
    name: HubName,
    *,
    revision: str | None = None,
    pattern: str = "",
    to: Path | None = None,
    cache: Path | None = None,
    token_file: str | None = None,
) -> Batch:
    """
    Return the batch of a repository's files: in a directory of their own names, or in the cache.

    Raises:
        GpuctlError: the hub has none such, or may not be asked.
    """
    from gpuctl.adapters.models import hub as hubs

    cache = cache or hub_cache.root(session.environment)
    if hubs.offline(session.environment):
        return _offline(name, pattern, cache, revision or "main", elsewhere=to is not None)
    hub = hubs.connect(session.environment, token_file)
    listing = hub.listing(name.repository, revision)
    files = chosen(
        listing.files, repository=name.repository, quantization=name.quantization, pattern=pattern
    )
    title = f"{name.repository} at {listing.commit[:12]}"
    if to is not None:
        items = tuple(Item(wanted=_wanted(hub, listing, file, to / file.path)) for file in files)
        where = _where(to, files)
        return _batch(title, to, items, lambda: where)
    return _cached(hub, listing, files, cache, revision or "main", title)


def _cached(
    hub: Hub,
    listing: Listing,
    files: tuple[HubFile, ...],
    cache: Path,
    revision: str,
    title: str,
) -> Batch:
    """Return the batch whose contents and links lie as every reader of the cache expects them."""
    repository, commit = listing.repository, listing.commit

    def item(file: HubFile) -> Item:
        etag = file.etag or ""
        blob = hub_cache.blob(cache, repository, etag)
        return Item(
            wanted=_wanted(hub, listing, file, blob),
            name_it=lambda: hub_cache.link(cache, repository, commit, file.path, etag),
        )

    def finish() -> Path:
        hub_cache.name_commit(cache, repository, revision, commit)
        return _where(hub_cache.folder(cache, repository) / "snapshots" / commit, files)

    return _batch(title, cache, tuple(item(file) for file in files), finish)


def _wanted(hub: Hub, listing: Listing, file: HubFile, target: Path) -> Wanted:
    return Wanted(
        name=file.path,
        address=hub.address(listing, file.path),
        target=target,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        blob_id=file.blob_id,
        headers=hub.headers(),
        denied_hint=hub.denied_hint(listing.repository),
    )


def _offline(name: HubName, pattern: str, cache: Path, revision: str, *, elsewhere: bool) -> Batch:
    """Return the batch of what is cached already, for a host that may ask no hub."""
    snapshot = hub_cache.snapshot(cache, name.repository, revision)
    if snapshot is None or elsewhere:
        into = "the directory of --to" if elsewhere else f"the cache, {cache}"
        raise GpuctlError(
            f"{name.repository} cannot be fetched into {into}: HF_HUB_OFFLINE is set",
            "pull without HF_HUB_OFFLINE, or on another host, and copy the files",
        )
    cached = (path for path in sorted(snapshot.rglob("*")) if path.is_file())
    here = tuple(
        HubFile(path=str(path.relative_to(snapshot)), size_bytes=path.stat().st_size)
        for path in cached
    )
    files = chosen(
        here, repository=name.repository, quantization=name.quantization, pattern=pattern
    )
    title = f"{name.repository}: as it is cached; HF_HUB_OFFLINE is set, so the hub was not asked"
    where = _where(snapshot, files)
    return _batch(title, cache, (), lambda: where)


def _where(folder: Path, files: Sequence[HubFile]) -> Path:
    """Return what an engine is given: the file, or the first of its parts, or the directory."""
    names = [file.path for file in files]
    return folder / names[0] if split_parts(names[0]) == tuple(names) else folder


def _batch(title: str, place: Path, items: tuple[Item, ...], finish: Callable[[], Path]) -> Batch:
    lacking = tuple(item for item in items if not there(item.wanted))
    return Batch(title=title, place=place, items=items, lacking=lacking, finish=finish)
