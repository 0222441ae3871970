"""What a request asks of a replica: bytes ready to be sent, and how the answer comes back."""

from __future__ import annotations

from typing import Literal

import msgspec

Way = Literal["whole", "stream", "pass"]


class Asked(msgspec.Struct):
    """Made once for a request; each attempt sends it."""

    way: Way
    line: bytes  # method and path, as in a request line
    lines: bytes  # headers, each with its line end
    body: bytes
    strip: bool = False  # usage was asked for by the gateway alone
    #: "chat" or "completion": a replica that would rather stream is sent `collected_body`.
    collect: str = ""
    collected_body: bytes = b""
    affinity: bytes | None = None

    def to(self, authority: bytes, authorization: bytes, id: bytes, *, collect: bool) -> bytes:
        """Return the whole request for one replica; *authorization* is a header line or empty."""
        body = self.collected_body if collect else self.body
        return (
            b"%s HTTP/1.1\r\nhost: %s\r\n%s%sx-request-id: %s\r\ncontent-length: %d\r\n\r\n%s"
            % (
                self.line,
                authority,
                self.lines,
                authorization,
                id,
                len(body),
                body,
            )
        )
