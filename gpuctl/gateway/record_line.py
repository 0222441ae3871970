"""
The log's line of one request: the fields of its `Record`, in their order. PURE.

Apart from it, as no Struct can be compiled; msgspec encodes one in less time than a dict.
"""

from __future__ import annotations

import msgspec


class Line(msgspec.Struct, tag_field="event", tag="request"):
    """See `Record`."""

    id: str
    at: float
    ip: str
    key: str
    method: str
    endpoint: str
    model: str
    stream: bool
    status: int
    error: str
    end: str
    replica: str
    container: str
    attempts: int
    request_bytes: int
    response_bytes: int
    queued_seconds: float
    first_byte_seconds: float | None
    seconds: float
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    timeline: list[tuple[str, float]]
