"""
Ten minutes of `make soak`: random bytes and requests that are almost good at the real gateway.

GPUCTL_FUZZ_SECONDS is for a shorter try. What fails names its seed: `tests.rig.fuzz.case(seed, n)`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import threading
import time

import pytest

from gpuctl.model import GateSettings, GatewaySettings, LimitSettings, TimeoutSettings
from tests.e2e.loadtest_record import quantiles, record
from tests.rig import fuzz, gateway_build
from tests.rig.gateway_process import GatewayProcess, Upstream
from tests.rig.raw_client import RawClient, request
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("GPUCTL_FUZZ_SECONDS", "600"))
#: How much more it may hold in the last quarter than in the second: what warms up has by then.
GROWS_BYTES = 5 * 1024 * 1024
SETTINGS = GatewaySettings(
    timeouts=TimeoutSettings(
        head_seconds=1.0, body_seconds=1.0, attempt_seconds=1.0, idle_seconds=1.0,
        batch_seconds=3.0, streaming_seconds=3.0, keep_alive_seconds=2.0,
    ),
    limits=LimitSettings(body_bytes=256 * 1024),
    # An engine that fails when it is told to shall be told again.
    gate=GateSettings(allowed_fails=5, cooldown_seconds=0.05),
)  # fmt: skip
#: No case names it, so that nobody's orders reach its engine.
OTHERS = {"model": "others", "messages": [{"role": "user", "content": "hi"}]}
#: Connections that are left open, each until so many more are.
LEFT = 50


class Hostile:
    """A client that sends one case after the other."""

    def __init__(self, port: int, seed: int) -> None:
        self.sent = 0
        self._port, self._seed = port, seed
        self._left: list[RawClient] = []

    def send(self) -> None:
        """Send the next case, each on a connection of its own."""
        case = fuzz.case(self._seed, self.sent)
        self.sent += 1
        client = RawClient(self._port, source="127.0.0.3", seconds=0.03)
        for piece in case.pieces:
            # A gateway that waits for the rest, or is told nothing, says nothing: that is no fault.
            with contextlib.suppress(TimeoutError):
                client.send(piece)
        if case.end == "leave":
            self._left.append(client)
            client = self._left.pop(0) if len(self._left) > LEFT else client
        if client not in self._left:
            self._end(client, case.end)

    def close(self) -> None:
        while self._left:
            self._end(self._left.pop(), "close")

    def _end(self, client: RawClient, how: fuzz.End) -> None:
        with contextlib.suppress(OSError):
            if how == "half":
                client.socket.shutdown(socket.SHUT_WR)
            if how in ("read", "half"):
                client.ended()
        if how == "reset":
            client.reset()
        else:
            client.socket.close()


class Others:
    """A good client, which is served all the while: it asks ten times a second."""

    def __init__(self, port: int) -> None:
        self.seconds: list[float] = []
        self.failed: list[object] = []
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Others:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            began = time.monotonic()
            body = {**OTHERS, "stream": len(self.seconds) % 2 == 0}
            try:
                with RawClient(self._port) as client:
                    client.send(request(body))
                    answer = client.answer()
            except Exception as error:  # noqa: BLE001 - whatever it is, the test tells of it
                self.failed.append(error)
                continue
            if answer.status != 200 or (body["stream"] and b"[DONE]" not in answer.body):
                self.failed.append(answer)
            self.seconds.append(time.monotonic() - began)


class Log:
    """What the gateway wrote since it was last looked at."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._file = open(gateway.folder / "log")  # noqa: SIM115 - closed by `close`

    def faults(self) -> list[str]:
        """Return the lines that tell of a fault of the gateway's own."""
        return [
            line
            for line in self._file.read().splitlines()
            if "internal_error" in line or not line.startswith("{")
        ]

    def close(self) -> None:
        self._file.close()


def attack(
    gateway: GatewayProcess, attacked: StubEngine, log: Log, seed: int
) -> tuple[int, list[int]]:
    """Send cases for as long as is wanted; return how many, and what the gateway held meanwhile."""
    hostile, held = Hostile(gateway.port, seed), []
    end, due, first = time.monotonic() + SECONDS, time.monotonic(), 0
    try:
        while time.monotonic() < end:
            hostile.send()
            if time.monotonic() >= due:
                due += 1.0
                held.append(gateway.rss_bytes)
                attacked.seen.clear()
                assert log.faults() == [], f"seed {seed}, cases {first} to {hostile.sent}"
                first = hostile.sent
    finally:
        hostile.close()
    return hostile.sent, held


def test_fuzz(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback, flat memory, and a good client is served on."""
    seed = int(os.environ.get("GPUCTL_FUZZ_SEED", time.time()))
    print(f"seed {seed}")  # noqa: T201 - pytest shows it with a failure
    with StubEngine("chat") as attacked, StubEngine("others") as spared:
        upstreams = [
            Upstream(name="chat-0", address=attacked.address, slots=8),
            Upstream(name="others-0", address=spared.address, slots=4, model="others"),
        ]
        with (
            GatewayProcess(upstreams, SETTINGS) as gateway,
            contextlib.closing(Log(gateway)) as log,
        ):
            with Others(gateway.port) as others:
                count, held = attack(gateway, attacked, log, seed)
            wait_for(lambda: gateway.document["in_flight"] == 0, "nothing to be in flight")
            assert (gateway.stop(), log.faults()) == (0, [])
    quarter = len(held) // 4
    second, last = (
        statistics.mean(part) for part in (held[quarter : 2 * quarter], held[-quarter:])
    )
    figures = [
        f"{count} cases in {SECONDS / 60:g} minutes; {len(others.seconds)} requests of another "
        "client meanwhile, none failed",
        quantiles("the other client's answers", others.seconds),
        f"memory in the second quarter {second / 2**20:.1f} MiB, in the last {last / 2**20:.1f}",
        f"seed {seed}",
    ]
    assert others.failed == [], figures
    assert len(others.seconds) >= SECONDS
    assert last - second < GROWS_BYTES, figures
    build = "compiled " if gateway_build.compiled(os.environ) else ""
    record(capsys, f"{build}fuzz", figures)
