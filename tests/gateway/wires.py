"""Transports without a network: what was written, what was done to them, and no byte lost."""

from __future__ import annotations


class Wire:
    """Stands for the transport of one connection, at either side of the gateway."""

    def __init__(self, ip: str = "127.0.0.1") -> None:
        self.sent = b""
        self.ip = ip
        self.closing = self.aborted = self.ended = False
        self.reading = True
        self.behind = 0  # bytes that the other side has not taken yet

    def write(self, data: bytes) -> None:
        # As uvloop has it: a fault of whoever writes on.
        assert not self.ended, f"written after the end: {data[:80]!r}"
        self.sent += data

    def write_eof(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.behind

    def get_extra_info(self, name: str) -> object:
        return (self.ip, 40000) if name == "peername" else None

    def taken(self) -> bytes:
        """Return what was written since this was asked last."""
        sent, self.sent = self.sent, b""
        return sent
