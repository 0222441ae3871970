"""
What is known of one request when it is over: the source of its log line and of the metrics.

An exchange fills one in while it goes on. No prompt and no answer is ever in it.
"""

from __future__ import annotations


class Record:
    """One request. Times of its timeline are seconds since it began."""

    __slots__ = (
        *("at", "attempts", "began", "cached_tokens", "completion_tokens", "container", "end"),
        *("endpoint", "error", "first_byte_seconds", "id", "ip", "key", "method", "model"),
        *("prompt_tokens", "queued_seconds", "replica", "request_bytes", "response_bytes"),
        *("seconds", "signature", "status", "stream", "timeline"),
    )

    def __init__(self, id: str, at: float, began: float) -> None:
        self.id = id  # x-request-id: the client's where it is a proper one, else ours
        self.at = at  # Unix seconds: its head was complete
        self.began = began  # on the event loop's clock
        self.ip = ""
        self.key = ""  # id of the API key; "" where none is asked for
        self.method = "POST"
        self.endpoint = ""  # as it is written in the route table, never what the client sent
        self.model = ""  # the route's own name, never what the client sent
        self.stream = False
        self.status = 0  # HTTP; 0: nothing was sent
        self.error = ""  # code of the error object; "" where all is well
        #: answered | refused | client_gone | cut (after its first byte) | replayed
        self.end = ""
        self.replica = ""  # that answered
        self.signature = b""  # of that; see there
        self.container = ""
        self.attempts = 0
        self.request_bytes = 0
        self.response_bytes = 0
        self.queued_seconds = 0.0
        self.first_byte_seconds: float | None = None  # until the first byte of the answer's body
        self.seconds = 0.0
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.cached_tokens: int | None = None
        #: (what, seconds since it began): queued | sent <replica> | failed <replica> <why>
        #: | first_byte | keep_alive
        self.timeline: list[tuple[str, float]] = []
