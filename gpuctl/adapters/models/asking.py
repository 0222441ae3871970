"""
One request for the rest of a file: redirects followed within bounds, a token shown to its own
host alone, every answer told apart into "here it comes", "try again" and "no".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from gpuctl.adapters.models.names import allowed, shown
from gpuctl.errors import GpuctlError, NotFound

if TYPE_CHECKING:
    from gpuctl.adapters.models.transfer import Wanted

#: The hub answers with one, or with two where a repository was renamed.
_REDIRECTS = 5
#: Of these a later request may be answered.
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

#: Thirty seconds without a byte are no slow line.
TIMEOUT = httpx.Timeout(10.0, read=30.0)


class TryAgain(Exception):
    """It did not work, and may work the next time."""

    def __init__(
        self, why: str, *, pause_seconds: float | None = None, nobody: bool = False
    ) -> None:
        super().__init__(why)
        self.pause_seconds = pause_seconds  # as the server wants it
        self.nobody = nobody  # listens there: a wrong address, or a server that is being restarted

    def final(self, name: str, kept_bytes: int) -> GpuctlError:
        """Return the error of the last attempt."""
        return GpuctlError(
            f"cannot fetch {name}: {self}",
            "look at the network, and run the same again: it goes on where it ended, "
            f"{kept_bytes:,} bytes are here",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What comes of a file."""

    response: httpx.Response
    continues: bool  # after what is here; else it comes from its beginning
    refused_range: bool
    total_bytes: int | None  # of the whole file

    @property
    def version(self) -> str:
        """What If-Range takes: a strong ETag or else the date. Source: RFC 9110, 13.1.5."""
        etag = str(self.response.headers.get("ETag", ""))
        if etag and not etag.startswith("W/"):
            return etag
        return str(self.response.headers.get("Last-Modified", ""))

    def chunks(self) -> Iterator[bytes]:
        """Yield the content as it comes, held back for nothing. Raises `TryAgain` where it ends."""
        try:
            yield from self.response.iter_bytes()
        except httpx.RequestError as error:
            raise TryAgain(_words(error)) from error


@contextmanager
def opened(client: httpx.Client, wanted: Wanted, offset: int, version: str) -> Iterator[Answer]:
    """Ask for a file from *offset* on, if it still is that version. Raises `TryAgain`."""
    asked = {"Accept-Encoding": "identity"}
    if offset:
        asked["Range"] = f"bytes={offset}-"
        if version:
            asked["If-Range"] = version
    response = _sent(client, wanted, asked)
    try:
        yield _answer(response, wanted, offset)
    finally:
        response.close()


def _sent(client: httpx.Client, wanted: Wanted, asked: Mapping[str, str]) -> httpx.Response:
    """Return the answer at the end of the redirects, its body still to come."""
    request = client.build_request(
        "GET", wanted.address, headers={**asked, **wanted.headers}, timeout=TIMEOUT
    )
    for _ in range(_REDIRECTS + 1):
        # Nor is a server elsewhere to send us to one of this machine's own.
        clear = request.url.scheme == "http" and wanted.address.startswith("https:")
        if clear or not allowed(str(request.url)):
            raise GpuctlError(
                f"{wanted.name}: the server sends to {shown(str(request.url))}, which is not https",
                "name the address it is really at",
            )
        try:
            response = client.send(request, stream=True, follow_redirects=False)
        except httpx.TransportError as error:
            raise TryAgain(_words(error), nobody=_is_nobody(error)) from error
        if response.next_request is None:
            return response
        response.close()
        # httpx leaves the token out where the next host is another.
        request = response.next_request
    raise GpuctlError(
        f"{wanted.name}: more than {_REDIRECTS} redirects", "name the address it is really at"
    )


def _answer(response: httpx.Response, wanted: Wanted, offset: int) -> Answer:
    status, headers = response.status_code, response.headers
    if status in _TRANSIENT:
        raise TryAgain(f"the server answers {_status(response)}", pause_seconds=_retry(headers))
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if status == 206:
        if match is None or int(match[1]) != offset:
            raise GpuctlError(
                f"{wanted.name}: the server sends another part than was asked for",
                "name another place to fetch it from",
            )
        total = None if match[2] == "*" else int(match[2])
    elif status == 200:
        encoded = headers.get("Content-Encoding", "identity") != "identity"
        length = headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() and not encoded else None
    elif status != 416 or not offset:
        raise _refused(response, wanted)
    else:
        total = None
    return Answer(
        response=response,
        continues=status == 206,
        refused_range=status == 416,
        total_bytes=total,
    )


def _refused(response: httpx.Response, wanted: Wanted) -> GpuctlError:
    where = f"{wanted.name}: {response.url.host} answers {_status(response)}"
    if response.status_code in (401, 403):
        return GpuctlError(
            where,
            wanted.denied_hint or "it is not for everybody: see that it may be read from here",
        )
    if response.status_code in (404, 410):
        return NotFound(where, "there is no such file: correct its name, or the --revision")
    return GpuctlError(where, f"ask whoever runs {response.url.host}")


def _status(response: httpx.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}".rstrip()


def _retry(headers: httpx.Headers) -> float | None:
    seconds = headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() else None


def _is_nobody(error: BaseException | None) -> bool:
    """True when the system says that nothing listens; httpx has wrapped its word."""
    while error is not None and not isinstance(error, ConnectionRefusedError):
        error = error.__cause__ or error.__context__
    return error is not None


def _words(error: httpx.RequestError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "the server does not answer in time"
    return f"the connection failed: {plain(error)}" if str(error) else "the connection broke off"


def plain(error: Exception) -> str:
    """Return what an error says, without the number that the system has for it."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error))
