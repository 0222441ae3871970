"""
Answers by Idempotency-Key: who asks again joins the one that runs, or gets the finished one. PURE.

The first with a key leads: its exchange tells the `Entry` all that is sent to its client. The
others follow: what was sent so far they get at once, and the rest as it comes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple, Protocol

MIB: Final = 2**20

#: Of one answer that is kept; a larger one goes to those that follow by then, and to nobody later.
ENTRY_BYTES: Final = 8 * MIB

#: Of a key; a UUID, which most clients send, has 36.
LONGEST_KEY: Final = 255

#: What an entry takes besides its key, its headers' letters and its body: 1.9 KB with ten headers
#: in CPython 3.11, by tracemalloc.
OVERHEAD_BYTES: Final = 2048

Headers = tuple[tuple[bytes, bytes], ...]
State = Literal["running", "finished", "failed"]


class Listener(Protocol):
    """One that follows an answer: a head, pieces, then finish, or fail at any point."""

    def head(self, status: int, headers: Headers) -> None: ...
    def piece(self, data: bytes) -> None: ...
    def comment(self, data: bytes) -> None: ...
    def finish(self) -> None: ...
    def fail(self) -> None: ...


class Found(NamedTuple):
    """What is known of a key. The caller leads the entry of a new one, and follows any other."""

    state: Literal["new", "running", "finished", "conflict"]
    entry: Entry | None  # None: the key stands for another request


def usable(key: bytes) -> bool:
    """Return whether this may be an Idempotency-Key: 1 to 255 visible ASCII characters."""
    return 0 < len(key) <= LONGEST_KEY and all(0x21 <= byte <= 0x7E for byte in key)


def fingerprint(endpoint: str, body: bytes) -> bytes:
    """Return what tells requests apart that differ in where they go or what they ask."""
    digest = hashlib.blake2b(endpoint.encode(), digest_size=16)
    digest.update(b"\0")
    digest.update(body)
    return digest.digest()


class Entry:
    """One answer, from its first byte on. Its leader tells it; whoever follows hears."""

    __slots__ = (
        *("_body", "_headers", "_listeners", "_memory", "_slow", "_status", "began", "bytes"),
        *("fingerprint", "name", "on_alone", "on_pause", "on_resume", "state"),
    )

    def __init__(
        self, memory: Memory, name: tuple[str, bytes], fingerprint: bytes, now: float
    ) -> None:
        self._memory: Memory | None = memory  # None: it is kept no longer
        self._status = 0  # of HTTP; 0: there is no head yet
        self._headers: Headers = ()
        self._body = bytearray()
        self._listeners: dict[Listener, None] = {}
        self._slow: set[Listener] = set()  # of these, who takes nothing for now
        self.name = name
        self.fingerprint = fingerprint
        self.began = now  # seconds, on the memory's clock
        self.bytes = OVERHEAD_BYTES + len(name[0]) + len(name[1])
        self.state: State = "running"
        #: Called when the last follower leaves while it runs: a leader without a client of its own
        #: has nobody left to go on for.
        self.on_alone: Callable[[], None] | None = None
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None

    @property
    def followers(self) -> int:
        return len(self._listeners)

    def head(self, status: int, headers: Headers) -> None:
        """Tell the answer's head, once."""
        self._status, self._headers = status, headers
        self._grow(sum(len(name) + len(value) for name, value in headers))
        for listener in self._hearing():
            listener.head(status, headers)

    def piece(self, data: bytes) -> None:
        """Tell the next bytes of its body."""
        if self._memory is not None:
            self._body += data
            self._grow(len(data))
        for listener in self._hearing():
            listener.piece(data)

    def comment(self, data: bytes) -> None:
        """Tell those that follow now what is nothing of the answer: that it is still coming."""
        for listener in self._hearing():
            listener.comment(data)

    def finish(self, *, keep: bool = True) -> None:
        """Tell that it is whole. It is kept if it is a success; after any end this does nothing."""
        if not self._ended("finished"):
            return
        if self._memory is not None and not (keep and 200 <= self._status < 300):
            self._memory.forget(self)
        for listener in self._leaving():
            listener.finish()

    def fail(self) -> None:
        """Tell that it ends here, and will not be whole; after any end this does nothing."""
        if not self._ended("failed"):
            return
        if self._memory is not None:
            self._memory.forget(self)
        for listener in self._leaving():
            listener.fail()

    def subscribe(self, listener: Listener) -> None:
        """Follow, right after it was found: hear at once what was told so far."""
        self._listeners[listener] = None
        if self._status:
            listener.head(self._status, self._headers)
        if self._body and listener in self._listeners:
            listener.piece(bytes(self._body))
        if self.state == "finished" and listener in self._listeners:
            del self._listeners[listener]
            listener.finish()

    def unsubscribe(self, listener: Listener) -> None:
        """Hear no more; nothing for one that does not follow."""
        if listener not in self._listeners:
            return
        del self._listeners[listener]
        self.resume(listener)
        if not self._listeners and self.on_alone is not None:
            self.on_alone()

    def pause(self, listener: Listener) -> None:
        """Let the leader wait: one that follows takes nothing for now."""
        self._slow.add(listener)
        if self.on_pause is not None:
            self.on_pause()

    def resume(self, listener: Listener) -> None:
        """Let it go on, when all take it again."""
        if listener not in self._slow:
            return
        self._slow.remove(listener)
        if not self._slow and self.on_resume is not None:
            self.on_resume()

    def forgotten(self) -> None:
        """Keep nothing for those who come later. Called by the memory alone."""
        self._memory = None
        self._body = bytearray()

    def _ended(self, state: State) -> bool:
        """Return whether it ends only now."""
        if self.state != "running":
            return False
        self.state = state
        # Nor keep the leader, for as long as the answer is kept.
        self.on_alone = self.on_pause = self.on_resume = None
        return True

    def _grow(self, more: int) -> None:
        if self._memory is not None:
            self.bytes += more
            self._memory.grown(self, more)

    def _hearing(self) -> Iterator[Listener]:
        """Go through those that follow, but for those that leave before it is their turn."""
        for listener in [*self._listeners]:
            if listener in self._listeners:
                yield listener

    def _leaving(self) -> Iterator[Listener]:
        """Go through the same, each of which follows no longer when it is its turn."""
        for listener in self._hearing():
            del self._listeners[listener]
            yield listener


class Memory:
    """Entries by who asked and its key, for a while, as many as there is room for."""

    __slots__ = ("_entries", "_entry_bytes", "_most_bytes", "_seconds", "bytes")

    def __init__(
        self, seconds: float = 600.0, most_bytes: int = 64 * MIB, entry_bytes: int = ENTRY_BYTES
    ) -> None:
        self._seconds = seconds  # from when it was asked first; one that runs longer stays
        self._most_bytes = most_bytes  # of all
        self._entry_bytes = entry_bytes  # of one
        self._entries: OrderedDict[tuple[str, bytes], Entry] = OrderedDict()  # the oldest first
        self.bytes = 0  # of all that are kept

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, owner: str, key: bytes, fingerprint: bytes, now: float) -> Found:
        """
        Return the answer to this key, a new one that the caller leads where there is none.

        Args:
            owner: Id of the API key: what one client asked is not another's to have.
            key: The Idempotency-Key, a `usable` one.
            fingerprint: Of the request.
            now: Seconds of one monotonic clock.
        """
        self.expire(now)
        name = (owner, key)
        entry = self._entries.get(name)
        if entry is None:
            entry = Entry(self, name, fingerprint, now)
            self._entries[name] = entry
            self.grown(entry, entry.bytes)
            return Found("new", entry)
        if entry.fingerprint != fingerprint:
            return Found("conflict", None)
        return Found("running" if entry.state == "running" else "finished", entry)

    def expire(self, now: float) -> None:
        """Forget the finished ones whose time is over."""
        over = []
        for entry in self._entries.values():
            if now - entry.began < self._seconds:
                break
            if entry.state == "finished":
                over.append(entry)
        for entry in over:
            self.forget(entry)

    def grown(self, entry: Entry, more: int) -> None:
        """Make room for what was added to an entry: the oldest finished ones go, or it itself."""
        self.bytes += more
        if entry.bytes > self._entry_bytes:
            self.forget(entry)
        while self.bytes > self._most_bytes:
            finished = (other for other in self._entries.values() if other.state == "finished")
            self.forget(next(finished, entry))

    def forget(self, entry: Entry) -> None:
        """Keep it no longer: those that follow hear the rest, who comes later leads a new one."""
        del self._entries[entry.name]
        self.bytes -= entry.bytes
        entry.forgotten()
