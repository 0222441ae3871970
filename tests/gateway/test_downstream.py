"""One client's connection: what it sends becomes requests, in their order, within its limits."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from gpuctl.gateway import gateway
from gpuctl.gateway.downstream import Client
from gpuctl.gateway.request import Request
from gpuctl.gateway.terms import Terms
from gpuctl.model import GatewaySettings, LimitSettings, TimeoutSettings
from tests.gateway.wires import Wire

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
TIMEOUTS = TimeoutSettings()


def post(body: bytes = b"{}", *lines: bytes, target: bytes = b"/a") -> bytes:
    head = [b"POST %s HTTP/1.1" % target, b"host: a", *lines, b"content-length: %d" % len(body)]
    return b"\r\n".join((*head, b"", b"")) + body


GET = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n"


class Served:
    """What was begun for one request."""

    def __init__(self, client: Client, request: Request) -> None:
        self.client, self.request = client, request
        self.told: list[str] = []

    def gone(self) -> None:
        self.told.append("gone")

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def answer(self, *, keep_alive: bool = True) -> None:
        self.client.write(ANSWER)
        self.client.finish(keep_alive=keep_alive)


class Door:
    """Stands for the gateway. `at_once`: a request is answered before `serve` returns."""

    date = b"date: now\r\n"

    def __init__(self, settings: GatewaySettings | None = None) -> None:
        self.terms = Terms(settings or GatewaySettings())
        self.time = 1000.0
        self.draining = self.at_once = self.faulty = False
        self.served: list[Served] = []
        self.refusals: list[tuple[str, int]] = []
        self.broken: list[BaseException] = []
        self.held = 0
        self.most_held = gateway.HELD_BYTES
        self.cursed_bytes = 0
        self.inside = 0
        self._soon: list[Callable[[], None]] = []

    def now(self) -> float:
        return self.time

    def admit(self, client: Client) -> bool:
        self.inside += 1
        return True

    def left(self, client: Client) -> None:
        self.inside -= 1

    def hold(self, size: int) -> bool:
        if 0 < size == self.cursed_bytes:
            raise KeyError("one of ours")
        self.held += size
        return self.held <= self.most_held

    def serve(self, client: Client, request: Request) -> Served | None:
        if self.faulty or request.head.target == b"/broken":
            raise KeyError("one of ours")
        served = Served(client, request)
        self.served.append(served)
        if self.at_once:
            served.answer()
            return None
        return served

    def refused(self, client: Client, code: str, status: int, told: bytes | None) -> str:
        self.refusals.append((code, status))
        return "req-1"

    def broke(self, error: BaseException) -> None:
        self.broken.append(error)

    def soon(self, do: Callable[[], None]) -> None:
        self._soon.append(do)

    def go(self) -> None:
        """Do what was to be done soon."""
        while self._soon:
            self._soon.pop(0)()

    @property
    def bodies(self) -> list[bytes]:
        return [served.request.body for served in self.served]

    @property
    def targets(self) -> list[bytes]:
        return [served.request.head.target for served in self.served]


class Bench:
    """One connection, with the two ends of it."""

    def __init__(self, **limits: Any) -> None:
        self.door = Door(GatewaySettings(limits=LimitSettings(**limits)))
        self.client = Client(cast(gateway.Gateway, self.door))
        self.wire = Wire()
        self.client.connection_made(cast(asyncio.BaseTransport, self.wire))

    def send(self, data: bytes) -> None:
        self.client.data_received(data)

    def after(self, seconds: float) -> None:
        self.door.time += seconds
        self.client.sweep(self.door.time)

    @property
    def status(self) -> int:
        """Of the last answer."""
        line = self.wire.sent.rpartition(b"HTTP/1.1 ")[2]
        return int(line[:3]) if line else 0


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_request(bench: Bench, size: int) -> None:
    """However its bytes come, a request is the same."""
    data = post(b'{"a": 1}', b"X-Two: 1", b"x-two: 2")
    for at in range(0, len(data), size):
        bench.send(data[at : at + size])
    (served,) = bench.door.served
    request = served.request
    assert (request.head.method, request.head.target, request.body) == (b"POST", b"/a", b'{"a": 1}')
    assert request.head.fields[b"x-two"] == b"1"
    assert [value for name, value in request.head.headers if name == b"x-two"] == [b"1", b"2"]
    assert (request.keep_alive, request.head.http11) == (True, True)
    assert bench.door.held == 8


def test_chunked(bench: Bench) -> None:
    """A body in chunks is one body; its extensions and trailers are thrown away."""
    head = b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    bench.send(head + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nx-api-key: k\r\nauthorization: b\r\n\r\n")
    (served,) = bench.door.served
    assert served.request.body == b"abcde"
    assert sorted(served.request.head.fields) == [b"host", b"transfer-encoding"]
    assert len(served.request.head.headers) == 2


def test_pipelined(bench: Bench) -> None:
    """Requests sent ahead are served in their order, each after the answer to the one before."""
    bench.send(post(b"1") + post(b"2") + post(b"3"))
    for count in (1, 2, 3):
        assert bench.door.bodies == [b"1", b"2", b"3"][:count]
        bench.door.served[-1].answer()
        bench.door.go()
    assert bench.wire.sent == 3 * ANSWER
    assert bench.door.held == 0


def test_pipelined_bodies_are_held(bench: Bench) -> None:
    """What waits for its turn counts as held, until it was answered itself."""
    bench.send(post(bytes(10)) + post(bytes(20)) + post(bytes(40))[:-5])
    held = []
    for _ in range(2):
        held.append(bench.door.held)
        bench.door.served[-1].answer()
        bench.door.go()
    assert (held, bench.door.held) == ([65, 55], 35)
    bench.client.connection_lost(None)
    assert bench.door.held == 0


def test_pipelined_within_an_answer(bench: Bench) -> None:
    """The next request begins when whoever ends the one before is done with that."""
    bench.send(GET + GET)
    bench.door.served[0].answer()
    assert len(bench.door.served) == 1
    bench.send(GET)
    assert len(bench.door.served) == 1  # the second comes first
    bench.door.go()
    assert len(bench.door.served) == 2


def test_the_one_ahead_has_its_time(bench: Bench) -> None:
    """However long the one before it took, a sweep finds nothing late before it is begun."""
    bench.send(post(b"1") + post(b"2"))
    bench.door.time += 1000
    bench.door.served[0].answer()
    bench.after(0)
    bench.door.go()
    assert (bench.wire.aborted, bench.door.bodies) == (False, [b"1", b"2"])


@pytest.fixture
def frozen() -> Iterator[None]:
    """Whatever there was before the test is not looked at."""
    gc.freeze()
    yield
    gc.unfreeze()


def held() -> list[Request]:
    """Return the requests with a body that anybody still holds."""
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, Request) and one.body]


@pytest.mark.usefixtures("frozen")
def test_nothing_is_held_of_what_is_over(bench: Bench) -> None:
    """A connection that rests costs no memory, whatever was sent on it before."""
    for _ in range(3):
        bench.send(post(b"x" * 1000))
        assert len(held()) == 1
        bench.door.served.pop().answer()
        bench.door.go()
        assert held() == []
    bench.send(post(b"x" * 1000)[:-1])
    assert len(held()) == 1
    bench.client.connection_lost(None)
    assert held() == []


def test_too_many_ahead(bench: Bench) -> None:
    """What is sent too far ahead is not read; what came before is answered, and then it ends."""
    bench.send(GET * 30)
    for number in range(17):
        bench.door.served[number].answer()
        bench.door.go()
    assert (len(bench.door.served), bench.wire.ended) == (17, True)


def test_too_much_ahead(bench: Bench) -> None:
    """Who goes on for long is let go, and so is what runs for it."""
    bench.send(GET * 30)
    bench.send(bytes(1024 * 1024 + 1))
    assert bench.wire.aborted
    bench.client.connection_lost(None)
    assert bench.door.served[0].told == ["gone"]


def test_sent_on_without_reading(bench: Bench) -> None:
    """Who reads no answers gets none: nothing piles up for it."""
    bench.door.at_once = True
    bench.client.pause_writing()
    bench.send(GET * 5)
    assert bench.door.served == []
    bench.client.resume_writing()
    bench.door.go()
    assert len(bench.door.served) == 5


def test_never_reads(bench: Bench) -> None:
    """... and is let go when it sends too much, or waits too long."""
    bench.client.pause_writing()
    bench.send(GET * 30)
    bench.send(bytes(1024 * 1024 + 1))
    assert (bench.wire.aborted, bench.door.served) == (True, [])


def test_slow_reader(bench: Bench) -> None:
    """One that takes nothing for as long as a stream may be silent has left."""
    bench.send(GET)
    bench.after(500.0)
    bench.client.pause_writing()
    bench.after(TIMEOUTS.idle_seconds - 1)
    bench.client.resume_writing()
    bench.client.pause_writing()
    bench.after(TIMEOUTS.idle_seconds - 1)
    assert not bench.wire.aborted
    bench.after(2.0)
    assert bench.wire.aborted
    assert bench.door.served[0].told == ["pause", "resume", "pause"]


def test_client_gone(bench: Bench) -> None:
    bench.send(post(b"12345") + post(b"678"))
    bench.client.connection_lost(None)
    assert bench.door.served[0].told == ["gone"]
    assert (bench.door.held, bench.door.inside) == (0, 0)
    assert len(bench.door.served) == 1


def test_end_of_input(bench: Bench) -> None:
    """Who sends no more has left: what runs for it ends although answers are on their way."""
    bench.send(GET)
    bench.wire.behind = 100_000
    bench.client.eof_received()
    assert bench.wire.aborted


def test_end_of_input_after_the_answer(bench: Bench) -> None:
    """What was answered in full still arrives."""
    bench.door.at_once = True
    bench.send(GET)
    bench.client.eof_received()
    assert not bench.wire.aborted


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"nonsense\r\n\r\n", "invalid_http", id="no HTTP"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "invalid_http", id="no host"),
        pytest.param(
            b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", "invalid_http", id="two hosts"
        ),
        pytest.param(b"GET / HTTP/2.0\r\nhost: a\r\n\r\n", "invalid_http", id="HTTP/2"),
        pytest.param(b"GET / HTTP/0.9\r\nhost: a\r\n\r\n", "invalid_http", id="HTTP/0.9"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "invalid_http", id="HTTP/2 at once"),
        pytest.param(
            b"POST / HTTP/1.1\r\nhost: a\r\n"
            b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
            "invalid_http",
            id="chunked with a length",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
            "invalid_http",
            id="two lengths",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "invalid_http",
            id="another coding",
        ),
        pytest.param(
            b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
            "invalid_http",
            id="chunked in HTTP/1.0",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 100 + b"\r\n",
            "headers_too_large",
            id="many headers",
        ),
        pytest.param(b"GET / HTTP/1.1\r\nx: " + b"y" * 20_000, "headers_too_large", id="long"),
        pytest.param(b"\r\n" * 10_000, "headers_too_large", id="empty lines"),
        pytest.param(
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10485761\r\n\r\n",
            "request_too_large",
            id="long body",
        ),
    ],
)
@pytest.mark.parametrize("size", [13, 1_000_000])
def test_refused(data: bytes, code: str, size: int) -> None:
    """What is no request, or too much of one, is answered once; nothing of it is served."""
    bench = Bench()
    for at in range(0, len(data), size):
        bench.send(data[at : at + size])
    assert [code for code, _ in bench.door.refusals] == [code]
    assert bench.wire.sent.count(b"connection: close") == 1
    assert (bench.wire.ended, bench.door.served) == (True, [])
    bench.send(GET)
    assert bench.door.served == []
    bench.after(2.5)
    assert bench.wire.aborted


def test_chunks_too_large() -> None:
    """A body that tells no length is counted as it comes."""
    bench = Bench(body_bytes=10)
    bench.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    bench.send(b"8\r\n12345678\r\n")
    assert bench.door.refusals == []
    bench.send(b"3\r\n123\r\n")
    assert bench.door.refusals == [("request_too_large", 413)]
    assert bench.door.held == 0


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"x: y\r\n" * 1000, id="trailers"),
        pytest.param(b"x" * 6000, id="a trailer"),
    ],
)
def test_trailers_without_end(bench: Bench, piece: bytes) -> None:
    """What follows a body is no way to fill the memory."""
    head = b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    bench.send(head + b"3\r\nabc\r\n0\r\n")
    for _ in range(4):
        bench.send(piece)
    assert bench.door.refusals == [("headers_too_large", 431)]


def test_body_and_head_at_once(bench: Bench) -> None:
    """A body that came with the head of the next request does not count as that."""
    bench.door.at_once = True
    bench.send(post(bytes(50_000)) + post(b"12345")[:-5])
    assert (len(bench.door.served), bench.door.refusals) == (1, [])


def test_small_chunks(bench: Bench) -> None:
    """What frames a body does not count while the body comes."""
    bench.send(b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(3000):
        bench.send(b"000001\r\n")
        bench.send(b"x\r\n")
    bench.send(b"0\r\n\r\n")
    assert bench.door.bodies == [b"x" * 3000]


def test_no_room_for_bodies(bench: Bench) -> None:
    bench.door.most_held = 10
    bench.send(post(bytes(11)))
    assert bench.door.refusals == [("too_many_bytes", 503)]
    assert bench.door.held == 0


def test_refused_behind_an_answer(bench: Bench) -> None:
    """Nonsense behind a good request waits for its answer, which is the last."""
    bench.send(GET + b"nonsense\r\n\r\n")
    assert bench.wire.sent == b""
    bench.door.served[0].answer()
    assert (bench.wire.sent, bench.wire.ended) == (ANSWER, True)


def test_refused_between_two(bench: Bench) -> None:
    """Nonsense that comes when the next request is about to begin is not answered before that."""
    bench.send(GET + GET)
    bench.door.served[0].answer()
    bench.send(b"nonsense\r\n\r\n")
    bench.door.go()
    assert (bench.wire.sent, bench.wire.ended) == (ANSWER, False)
    bench.door.served[1].answer()
    assert (bench.wire.sent, bench.wire.ended) == (ANSWER * 2, True)


def test_our_fault(bench: Bench) -> None:
    """A fault of the gateway's own is told, answered, and costs one connection."""
    bench.send(post(target=b"/broken"))
    assert [repr(error) for error in bench.door.broken] == ["KeyError('one of ours')"]
    assert bench.door.refusals == [("internal_error", 500)]
    assert bench.wire.ended
    assert bench.door.held == 0


def test_our_fault_while_it_is_parsed(bench: Bench) -> None:
    """So is one that comes up before there is a whole request."""
    bench.door.cursed_bytes = 2
    bench.send(post(b"{}"))
    assert [repr(error) for error in bench.door.broken] == ["KeyError('one of ours')"]
    assert bench.door.refusals == [("internal_error", 500)]
    assert bench.wire.ended


def test_our_fault_behind_an_answer(bench: Bench) -> None:
    """One in a request that waited is told and answered too; what waits behind it is not served."""
    bench.send(GET + post(target=b"/broken") + GET)
    bench.door.served[0].answer()
    bench.door.go()
    assert [repr(error) for error in bench.door.broken] == ["KeyError('one of ours')"]
    assert bench.door.refusals == [("internal_error", 500)]
    assert (len(bench.door.served), bench.wire.ended, bench.door.held) == (1, True, 0)


def test_our_fault_with_a_known_head(bench: Bench) -> None:
    """So is one in a request whose head has come before."""
    bench.send(post(b"{}"))
    bench.door.served[0].answer()
    bench.door.faulty = True
    bench.send(post(b"{}"))
    assert [repr(error) for error in bench.door.broken] == ["KeyError('one of ours')"]
    assert bench.door.refusals == [("internal_error", 500)]
    assert (bench.wire.ended, bench.door.held) == (True, 0)


OFFER = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAA")


@pytest.mark.parametrize("size", [1, 9, 10_000])
def test_upgrade_is_passed_over(bench: Bench, size: int) -> None:
    """An offer of HTTP/2 changes nothing: its body is its body, and no request of its own."""
    data = post(GET, *OFFER) + GET
    for at in range(0, len(data), size):
        bench.send(data[at : at + size])
    assert bench.door.bodies == [GET]
    bench.door.served[0].answer()
    bench.door.go()
    assert bench.door.bodies == [GET, b""]
    assert bench.door.refusals == []


@pytest.mark.parametrize("size", [1, 9, 10_000])
def test_upgrade_chunked(bench: Bench, size: int) -> None:
    lines = (b"POST /a HTTP/1.1", b"host: a", *OFFER, b"transfer-encoding: chunked", b"", b"")
    data = b"\r\n".join(lines) + b"3\r\nabc\r\n0\r\n\r\n"
    for at in range(0, len(data), size):
        bench.send(data[at : at + size])
    (served,) = bench.door.served
    assert served.request.body == b"abc"
    assert served.request.head.fields[b"upgrade"] == b"h2c"
    assert served.request.head.method == b"POST"


def test_many_upgrades(bench: Bench) -> None:
    """However many offers come at once, each is a request like any other."""
    bench.door.at_once = True
    offer = b"\r\n".join((b"GET /a HTTP/1.1", b"host: a", *OFFER, b"", b""))
    bench.send(offer * 2000)
    assert len(bench.door.served) == 2000
    assert bench.door.broken == []


def test_continue(bench: Bench) -> None:
    """Who asks before it sends a body is told to go on, unless that is refused."""
    head = post(b"", b"expect: 100-continue").replace(b"length: 0", b"length: 3")
    bench.send(head)
    assert bench.wire.taken() == b"HTTP/1.1 100 Continue\r\n\r\n"
    bench.send(b"abc")
    assert bench.door.bodies == [b"abc"]


def test_no_continue_for_http10(bench: Bench) -> None:
    bench.send(b"POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
    assert bench.wire.sent == b""


def test_http10(bench: Bench) -> None:
    """HTTP/1.0 needs no host, and ends its connection."""
    bench.send(b"GET /a HTTP/1.0\r\n\r\n")
    (served,) = bench.door.served
    assert (served.request.head.http11, served.request.keep_alive) == (False, False)
    served.answer()
    assert bench.wire.ended


# Deadlines.


def test_head_deadline(bench: Bench) -> None:
    bench.send(b"GET /a HT")
    bench.after(TIMEOUTS.head_seconds - 1)
    bench.send(b"T")
    bench.after(0.5)
    assert bench.door.refusals == []
    bench.after(1.0)
    assert bench.door.refusals == [("request_timeout", 408)]


def test_silent_deadline(bench: Bench) -> None:
    """One that has sent nothing is told nothing."""
    bench.after(TIMEOUTS.head_seconds + 1)
    assert (bench.wire.aborted, bench.wire.sent) == (True, b"")


def test_body_deadline(bench: Bench) -> None:
    bench.send(post(b"12345")[:-1])
    bench.after(TIMEOUTS.body_seconds - 1)
    assert bench.door.refusals == []
    bench.after(2.0)
    assert bench.door.refusals == [("request_timeout", 408)]


def test_keep_alive_deadline(bench: Bench) -> None:
    bench.send(GET)
    bench.door.served[0].answer()
    bench.after(TIMEOUTS.keep_alive_seconds - 1)
    assert not bench.wire.aborted
    bench.after(2.0)
    assert (bench.wire.aborted, bench.door.refusals) == (True, [])


@pytest.mark.parametrize(
    ("rest", "seconds"),
    [
        pytest.param(b"GET /a HT", TIMEOUTS.head_seconds, id="head"),
        pytest.param(post(b"12345")[:-1], TIMEOUTS.body_seconds, id="body"),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_half_a_request_ahead(rest: bytes, seconds: float, at_once: bool) -> None:
    """Half a request that came with the one before has its own time, from that one's answer on."""
    bench = Bench()
    bench.door.at_once = at_once
    bench.send(GET + rest)
    if not at_once:
        bench.after(500.0)
        bench.door.served[0].answer()
    bench.after(seconds - 1)
    assert bench.door.refusals == []
    bench.after(2.0)
    assert bench.door.refusals == [("request_timeout", 408)]


def test_no_deadline_while_answered(bench: Bench) -> None:
    bench.send(GET)
    bench.after(10_000.0)
    assert not bench.wire.aborted


def test_linger(bench: Bench) -> None:
    """What is sent after the last answer is thrown away, for a moment, so that the answer comes."""
    bench.send(GET)
    bench.door.served[0].answer(keep_alive=False)
    bench.send(b"x" * 100_000)
    assert (bench.wire.ended, bench.wire.aborted) == (True, False)
    bench.after(2.5)
    assert bench.wire.aborted


def test_last_answer_is_slow_to_leave(bench: Bench) -> None:
    bench.send(GET)
    bench.wire.behind = 100
    bench.door.served[0].answer(keep_alive=False)
    bench.after(2.5)
    assert not bench.wire.aborted
    bench.after(TIMEOUTS.idle_seconds + 1)
    assert bench.wire.aborted


def test_draining(bench: Bench) -> None:
    """A connection ends with the answer that is under way when the gateway stops."""
    bench.send(GET)
    bench.door.draining = True
    bench.client.close_if_idle()
    assert not bench.wire.closing
    bench.door.served[0].answer()
    assert (bench.wire.sent, bench.wire.ended) == (ANSWER, True)


def test_draining_idle(bench: Bench) -> None:
    bench.client.close_if_idle()
    assert bench.wire.closing


def test_abort(bench: Bench) -> None:
    """An answer that is broken off is told nothing more."""
    bench.send(post(b"12345"))
    bench.client.abort()
    bench.client.connection_lost(None)
    assert bench.door.served[0].told == []
    assert (bench.wire.aborted, bench.door.held) == (True, 0)
