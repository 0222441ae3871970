"""
What is known of one request when it is over: the source of its log line and of the metrics.

An exchange fills one in while it goes on. No prompt and no answer is ever in it.
"""

from __future__ import annotations

import msgspec


# One is made for every request: a dataclass of so many fields takes four times as long.
class Record(msgspec.Struct, kw_only=True):
    """One request. Times of its timeline are seconds since it began."""

    id: str  # x-request-id: the client's where it is a proper one, else ours
    at: float  # Unix seconds: its head was complete
    began: float  # on the event loop's clock
    ip: str = ""
    key: str = ""  # id of the API key; "" where none is asked for
    method: str = "POST"
    endpoint: str = ""  # as it is written in the route table, never what the client sent
    model: str = ""  # the route's own name, never what the client sent
    stream: bool = False
    status: int = 0  # HTTP; 0: nothing was sent
    error: str = ""  # code of the error object; "" where all is well
    end: str = ""  # answered | refused | client_gone | cut (after its first byte) | replayed
    replica: str = ""  # that answered
    container: str = ""
    attempts: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    queued_seconds: float = 0.0
    first_byte_seconds: float | None = None  # until the first byte of the answer's body
    seconds: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    #: (what, seconds since it began): queued | sent <replica> | failed <replica> <why>
    #: | first_byte | keep_alive
    timeline: list[tuple[str, float]] = []
