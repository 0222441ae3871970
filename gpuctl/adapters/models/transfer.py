"""
One file over HTTP: resumed where an earlier attempt ended, summed while it comes, and given its
final name only when it is whole and what was promised.
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from gpuctl.adapters.models import asking, space
from gpuctl.adapters.models.partial import Digest, Partial, held, sha256_of
from gpuctl.errors import GpuctlError

#: Bytes of the file that are here, and all of them, `None` where the server does not tell.
Report = Callable[[int, int | None], None]

#: In a row without one byte more; with the pauses between, about a minute.
_FAILURES = 6
#: The same where nobody has listened and nothing has come yet: most likely it is a wrong address.
_REFUSALS = 2
_LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file to fetch, and what is known of it beforehand."""

    name: str  # for people
    address: str
    target: Path
    size_bytes: int | None = None
    sha256: str | None = None
    blob_id: str | None = None  # git's; it cannot be told without the size
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # for its own host alone
    denied_hint: str = ""  # the next step of somebody who may not have it


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    target: Path
    verified: str  # how it was checked, or why it could not be, in words
    sha256: str = ""  # "" for a file that was there


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What a transfer needs of the world."""

    client: httpx.Client
    say: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    free: Callable[[Path], int] = space.free_bytes

    def fetch(self, wanted: Wanted, report: Report) -> Fetched:
        """
        Bring a file to its target, unless it is there.

        Raises:
            GpuctlError: it cannot be had, is not what was promised, or there is no room for it.
        """
        if there(wanted):
            return Fetched(target=wanted.target, verified="there already")
        try:
            wanted.target.parent.mkdir(parents=True, exist_ok=True)
            with held(
                wanted.target, lambda: self._waits(wanted), lambda: _digests(wanted)
            ) as partial:
                if there(wanted):  # another process has brought it meanwhile
                    partial.drop()
                    return Fetched(target=wanted.target, verified="there already")
                try:
                    return self._fetch(wanted, partial, report)
                except BaseException:
                    if not partial.size_bytes:
                        partial.drop()
                    raise
        except OSError as error:
            raise _not_stored(wanted, error) from error

    def _waits(self, wanted: Wanted) -> None:
        self.say(f"{wanted.name}: another process fetches it; waiting for that")

    def _fetch(self, wanted: Wanted, partial: Partial, report: Report) -> Fetched:
        failures, nobody = 0, True
        while True:
            before = partial.size_bytes
            try:
                return self._attempt(wanted, partial, report)
            except asking.TryAgain as failed:
                failures = 1 if partial.size_bytes > before else failures + 1
                nobody = nobody and failed.nobody and not partial.size_bytes
                if failures == (_REFUSALS if nobody else _FAILURES):
                    raise failed.final(wanted.name, partial.size_bytes) from failed
                pause = min(_LONGEST_PAUSE_SECONDS, failed.pause_seconds or 2.0 ** (failures - 1))
                self.say(f"{wanted.name}: {failed}; again in {pause:g} s")
                self.sleep(pause)

    def _attempt(self, wanted: Wanted, partial: Partial, report: Report) -> Fetched:
        """Bring what is lacking, in one request, and check the whole."""
        size = wanted.size_bytes
        if size is not None and partial.size_bytes > size:
            partial.begin_anew("")
        partial.sum_up(lambda read: report(read, size))
        if size is None or partial.size_bytes < size:
            self._receive(wanted, partial, report)
        return _checked(wanted, partial)

    def _receive(self, wanted: Wanted, partial: Partial, report: Report) -> None:
        """Append what comes."""
        resumable = bool(partial.version or wanted.sha256 or wanted.blob_id)
        offset = partial.size_bytes if resumable else 0
        with asking.opened(self.client, wanted, offset, partial.version) as answer:
            if answer.refused_range:
                partial.begin_anew("")
                raise asking.TryAgain("the server has less of it than is here")
            if not answer.continues:
                partial.begin_anew(answer.version)
                offset = 0
            total = _total(wanted, answer.total_bytes)
            if total is not None:
                space.require(wanted.target.parent, total - offset, self.free)
            report(offset, total)
            for chunk in answer.chunks():
                partial.write(chunk)
                offset += len(chunk)
                report(offset, total)
        if total is not None and offset < total:
            raise asking.TryAgain(f"the connection ended after {offset:,} of {total:,} bytes")


def there(wanted: Wanted) -> bool:
    """Tell whether a file is there already: of the size that is known, or else of the sum."""
    if not wanted.target.is_file():
        return False
    if wanted.size_bytes is not None:
        return wanted.target.stat().st_size == wanted.size_bytes
    return wanted.sha256 is None or sha256_of(wanted.target) == wanted.sha256


def _digests(wanted: Wanted) -> dict[str, Digest]:
    """Return what sums it up while it comes: always SHA-256, and git's where only that is known."""
    found: dict[str, Digest] = {"sha256": hashlib.sha256()}
    if wanted.sha256 is None and wanted.blob_id and wanted.size_bytes is not None:
        # Source: git hash-object: the SHA-1 of "blob", the size and a zero, before the content.
        found["blob"] = hashlib.sha1(b"blob %d\0" % wanted.size_bytes, usedforsecurity=False)
    return found


def _total(wanted: Wanted, told: int | None) -> int | None:
    if wanted.size_bytes is not None and told is not None and told != wanted.size_bytes:
        raise GpuctlError(
            f"{wanted.name}: the server has {told:,} bytes of it, and {wanted.size_bytes:,} "
            "were promised",
            "try again: it may have been replaced just now",
        )
    return told if wanted.size_bytes is None else wanted.size_bytes


def _checked(wanted: Wanted, partial: Partial) -> Fetched:
    """Give the file its name if it is the one that was promised, else remove it."""
    sha256 = partial.sum("sha256")
    if wanted.size_bytes is not None and partial.size_bytes != wanted.size_bytes:
        partial.drop()
        raise _altered(wanted, f"it has more than {wanted.size_bytes:,} bytes")
    if wanted.sha256 is not None:
        expected, found, verified = wanted.sha256, sha256, "verified: SHA-256"
    elif wanted.blob_id is not None and wanted.size_bytes is not None:
        expected, found, verified = wanted.blob_id, partial.sum("blob"), "verified: git blob id"
    else:
        expected = found = ""
        verified = f"not verified: no checksum was given; its SHA-256 is {sha256}"
    if found != expected:
        partial.drop()
        raise _altered(wanted, f"its checksum is {found}, not {expected}")
    partial.finish()
    return Fetched(target=wanted.target, verified=verified, sha256=sha256)


def _altered(wanted: Wanted, why: str) -> GpuctlError:
    return GpuctlError(
        f"{wanted.name} is not the file that was published: {why}; what came is removed",
        "pull it again; where that repeats, something between here and the server alters it",
    )


def _not_stored(wanted: Wanted, error: OSError) -> GpuctlError:
    where = wanted.target.parent
    hint = "name another directory with --to"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "make room on its disk and run the same again: what is there is kept"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = f"use sudo, or `sudo install -d -o $USER {where}`, or another directory with --to"
    return GpuctlError(f"cannot store {wanted.name} in {where}: {error.strerror or error}", hint)
