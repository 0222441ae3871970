"""What a request asks of a replica: bytes ready to be sent, and how the answer comes back."""

from __future__ import annotations

from typing import Literal

from gpuctl.gateway import heads

Way = Literal["whole", "stream", "pass"]


class Asked:
    """Made once for a request; each attempt sends it."""

    __slots__ = (
        *("affinity", "body", "collect", "collected_body", "line", "lines", "strip", "way"),
    )

    def __init__(self, way: Way, line: bytes, lines: bytes, body: bytes) -> None:
        self.way = way
        self.line = line  # method and path, as in a request line
        self.lines = lines  # headers, each with its line end
        self.body = body
        self.strip = False  # usage was asked for by the gateway alone
        #: "chat" or "completion": a replica that would rather stream is sent `collected_body`.
        self.collect = ""
        self.collected_body = b""
        self.affinity: bytes | None = None

    def to(self, authority: bytes, authorization: bytes, id: bytes, *, collect: bool) -> bytes:
        """Return the whole request for one replica; *authorization* is a header line or empty."""
        body = self.collected_body if collect else self.body
        return b"%s HTTP/1.1\r\nhost: %s\r\n%s%sx-request-id: %s\r\n%s%s" % (
            self.line,
            authority,
            self.lines,
            authorization,
            id,
            heads.ending(len(body)),
            body,
        )
