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

#: An answer comes in pieces of a hundred bytes: whoever joins gets parts of so much, which all of
#: those share. `answer` copies what is smaller.
PART_BYTES: Final = 64 * 1024

#: Of a key; a UUID, which most clients send, has 36.
LONGEST_KEY: Final = 255

#: What an entry takes besides its key, its headers' letters and its body: 1.9 KB with ten headers
#: in CPython 3.11, by tracemalloc.
OVERHEAD_BYTES: Final = 2048

Headers = tuple[tuple[bytes, bytes], ...]
State = Literal["running", "finished", "failed"]


class Listener(Protocol):
    """One that follows an answer: all of it; or a head, pieces, and finish, spoil or fail."""

    def whole(self, status: int, headers: Headers, body: bytes) -> None: ...
    def head(self, status: int, headers: Headers) -> None: ...
    def piece(self, data: bytes) -> None: ...
    def comment(self, data: bytes) -> None: ...
    def finish(self) -> None: ...
    def spoil(self, data: bytes) -> None: ...
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
    """One answer. Its leader tells it; whoever follows hears, and is given the same bytes."""

    __slots__ = (
        *("_headers", "_listeners", "_memory", "_parts", "_size", "_slow", "_status", "_tail"),
        *("began", "bytes", "error", "fingerprint", "held", "name", "on_alone", "on_pause"),
        *("on_resume", "paced", "state", "waits"),
    )

    def __init__(
        self, memory: Memory, name: tuple[str, bytes], fingerprint: bytes, now: float
    ) -> None:
        self._memory: Memory | None = memory  # None: it is kept no longer
        self._status = 0  # of HTTP; 0: there is no head yet
        self._headers: Headers = ()
        self._parts: list[bytes] = []  # of the body; one, when it is whole
        self._tail = bytearray()  # what is no part yet
        self._size = 0  # of both
        self._listeners: dict[Listener, None] = {}
        self._slow: set[Listener] = set()  # of these, who takes nothing for now
        self.name = name
        self.fingerprint = fingerprint
        self.began = now  # seconds, on the memory's clock
        self.bytes = OVERHEAD_BYTES + len(name[0]) + len(name[1])
        self.state: State = "running"
        self.error = ""  # code of the error that it is, or ends with
        self.held = False  # nobody hears of it before it is whole
        self.paced = False  # it was too large for that: the slowest sets the pace
        self.waits = False  # the leader does, for those that follow
        #: Called when the last follower leaves while it runs: a leader without a client of its own
        #: has nobody left to go on for.
        self.on_alone: Callable[[], None] | None = None
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None

    @property
    def followers(self) -> int:
        return len(self._listeners)

    def whole(self, status: int, headers: Headers, body: bytes, error: str = "") -> None:
        """Tell all of it, instead of what is held; *error* is the code of one."""
        self._status, self._headers, self.held, self.error = status, headers, True, error
        self._parts, self._tail = [body], bytearray()
        self._grow(_length(headers) + len(body))
        self.finish()

    def head(self, status: int, headers: Headers, *, held: bool = False) -> None:
        """Tell the answer's head, once. One that is to be *held* is heard when it is whole."""
        self._status, self._headers, self.held = status, headers, held
        if not held:
            for listener in self._hearing():
                listener.head(status, headers)
        self._grow(_length(headers))

    def piece(self, data: bytes) -> None:
        """Tell the next bytes of its body."""
        if not self.held:
            for listener in self._hearing():
                listener.piece(data)
        if self.held or self._memory is not None:
            self._keep(data)
            self._grow(len(data))
        if self.held and self._size > ENTRY_BYTES:
            self._let_go()

    def comment(self, data: bytes) -> None:
        """Tell those that follow now what is nothing of the answer: that it is still coming."""
        for listener in self._hearing():
            listener.comment(data)

    def finish(self) -> None:
        """Tell that it is whole. It is kept if it is a success; after any end this does nothing."""
        if not self._ended("finished"):
            return
        if self.held or self._memory is not None:
            self._join()
        parts = self._parts
        if self._memory is not None and not 200 <= self._status < 300:
            self._memory.forget(self)
        for listener in self._leaving():
            self._finish(listener, parts)

    def spoil(self, data: bytes, error: str) -> None:
        """Tell what it ends with, which says that it is not whole; after any end nothing."""
        if self._failed(error):
            for listener in self._leaving():
                listener.spoil(data)

    def fail(self, error: str = "") -> None:
        """Tell that it ends here, and will not be whole; after any end this does nothing."""
        if self._failed(error):
            for listener in self._leaving():
                listener.fail()

    def subscribe(self, listener: Listener) -> None:
        """Follow, right after it was found: hear at once what was told so far."""
        self._listeners[listener] = None
        if not self.held:
            self._catch_up(listener)
        if self.state == "finished" and listener in self._listeners:
            del self._listeners[listener]
            self._finish(listener, self._parts)
        self._balance()

    def unsubscribe(self, listener: Listener) -> None:
        """Hear no more; nothing for one that does not follow."""
        if listener not in self._listeners:
            return
        del self._listeners[listener]
        self._slow.discard(listener)
        self._balance()
        if not self._listeners and self.on_alone is not None:
            self.on_alone()

    def pause(self, listener: Listener) -> None:
        """Know of one that follows that it takes nothing for now."""
        if listener in self._listeners:
            self._slow.add(listener)
            self._balance()

    def resume(self, listener: Listener) -> None:
        """Know that it does again."""
        self._slow.discard(listener)
        self._balance()

    def forgotten(self) -> None:
        """Keep nothing for those who come later. The memory's to call."""
        self._memory = None
        if not self.held or self.state != "running":
            self._drop()

    def _balance(self) -> None:
        """Let the leader wait while nobody takes anything; of a paced one, while one does not."""
        slow = len(self._slow)
        waits = slow > 0 and (self.paced or slow == len(self._listeners))
        if waits == self.waits:
            return
        self.waits = waits
        told = self.on_pause if waits else self.on_resume
        if told is not None:
            told()

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if not self._tail and len(data) >= PART_BYTES:
            self._parts.append(data)
        else:
            self._tail += data
            if len(self._tail) >= PART_BYTES:
                self._parts.append(bytes(self._tail))
                self._tail = bytearray()

    def _join(self) -> None:
        if self._tail or len(self._parts) != 1:
            self._parts, self._tail = [b"".join((*self._parts, self._tail))], bytearray()

    def _finish(self, listener: Listener, parts: list[bytes]) -> None:
        if self.held:
            listener.whole(self._status, self._headers, parts[0])
        else:
            listener.finish()

    def _let_go(self) -> None:
        """Begin what is too large to be held, with what there is of it."""
        self.held, self.paced = False, True
        for listener in self._hearing():
            self._catch_up(listener)
        if self._memory is None:
            self._drop()

    def _catch_up(self, listener: Listener) -> None:
        if self._status:
            listener.head(self._status, self._headers)
        for part in (*self._parts, bytes(self._tail)):
            if part and listener in self._listeners:
                listener.piece(part)

    def _drop(self) -> None:
        self._parts, self._tail = [], bytearray()

    def _failed(self, error: str) -> bool:
        """Return whether it ends only now; it is not kept."""
        if ended := self._ended("failed"):
            self.error = error
            if self._memory is not None:
                self._memory.forget(self)
        return ended

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


def _length(headers: Headers) -> int:
    return sum([len(name) + len(value) for name, value in headers])
