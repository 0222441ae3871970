"""The operator's endpoints over a gateway that is made of real parts and runs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import stat
from collections.abc import Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpuctl import __version__
from gpuctl.gateway import openai_errors, operator, table
from gpuctl.gateway.admission import Admission, Ticket
from gpuctl.gateway.budget import Budget
from gpuctl.gateway.families import CONTENT_TYPE
from gpuctl.gateway.idempotency import Memory
from gpuctl.gateway.keyring import Keyring
from gpuctl.gateway.limits import Limiter
from gpuctl.gateway.log import Lines
from gpuctl.gateway.metrics import Metrics
from gpuctl.model import GatewaySettings

NOW = 1000.0
AT = 1_750_000_000.0
ADMIN = {operator.ADMIN_HEADER: "1"}


@dataclass
class Gateway:
    """What `operator` looks at."""

    lines: Lines
    settings: GatewaySettings = field(default_factory=GatewaySettings)
    table: table.Table = field(default_factory=lambda: table.Table(lambda path: ""))
    budget: Budget = field(default_factory=Budget)
    limiter: Limiter = field(default_factory=Limiter)
    memory: Memory = field(default_factory=Memory)
    keyring: Keyring = field(default_factory=lambda: Keyring.of(b"", ()))
    metrics: Metrics = field(default_factory=Metrics)
    listen: str = "127.0.0.1:4100"
    started_at: float = AT - 60.0
    status_at: float | None = AT - 1.0
    seq: int = 7
    instance: str = "daemon-1"
    draining: bool = False
    lag_seconds: float = 0.001
    shutdown_seconds: float | None = None
    clients: Sized = ("a", "b")
    running: Sized = ()

    def __post_init__(self) -> None:
        self.admission = Admission(self.settings, random.Random(1).random)

    def now(self) -> float:
        return NOW

    def wall(self) -> float:
        return AT

    def take(self, *states: str, stages: tuple[str | None, ...] = ()) -> None:
        """Know a replica of `chat` for each state, and how far each is."""
        replicas = [
            table.RouteReplica(
                name=f"chat-{index}",
                address=f"127.0.0.1:{8081 + index}",
                state=state,  # type: ignore[arg-type]
                container=f"c{index}",
            )
            for index, state in enumerate(states)
        ]
        loads = [table.Load(name=f"chat-{i}", stage=stage) for i, stage in enumerate(stages)]
        document = table.Document(
            at=AT, seq=7, instance="daemon-1", replicas=loads,
            routes=[table.RouteDocument("chat", "chat", replicas, ["gpt-4"])],
        )  # fmt: skip
        self.table.apply(document, self.settings.gate)
        self.admission.configure(self.settings, self.table.routes)

    def open_gate(self, replica: str) -> None:
        gate = self.table.replicas[replica].gate
        gate.failed(gate.begin(NOW), NOW, refused=True)


@pytest.fixture
def gateway() -> Any:
    reader, writer = os.pipe()
    lines = Lines(writer, clock=lambda: AT)
    yield Gateway(lines)
    lines.close()
    for fd in (reader, writer):
        os.close(fd)


def ask(gateway: Gateway, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(operator.app(gateway), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(asked())


def test_a_gateway_whose_replicas_are_well_is_ok(gateway: Gateway) -> None:
    """Who has no admin's key learns counts, and no name."""
    gateway.take("ready", "ready")
    answer = ask(gateway, "/health")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "status": "ok",
            "draining": False,
            "replicas": {"all": 2, "ready": 2},
            "gates": {"closed": 2, "open": 0, "half_open": 0},
        },
    )


@pytest.mark.parametrize("trouble", ["gate", "down", "draining"])
def test_trouble_is_told_with_200(gateway: Gateway, trouble: str) -> None:
    """Alive is alive: a liveness probe must not kill a gateway for its replicas."""
    gateway.take("ready", "down" if trouble == "down" else "ready")
    gateway.draining = trouble == "draining"
    if trouble == "gate":
        gateway.open_gate("chat-1")
    answer = ask(gateway, "/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


def test_an_admin_sees_which_replica_it_is(gateway: Gateway) -> None:
    """By name, with its state and its gate's."""
    gateway.take("ready", "draining")
    gateway.open_gate("chat-0")
    assert ask(gateway, "/health", **ADMIN).json()["by_replica"] == {
        "chat-0": {"state": "ready", "gate": "open"},
        "chat-1": {"state": "draining", "gate": "closed"},
    }


@pytest.mark.parametrize(
    ("states", "stages", "reached"),
    [
        pytest.param(
            ("ready", "ready"), (), "gateway model_loaded graphs_ready warmed_up one all", id="all"
        ),
        pytest.param(
            ("ready", "down"), (), "gateway model_loaded graphs_ready warmed_up one", id="one"
        ),
        pytest.param(
            ("down",), ("warmed_up",), "gateway model_loaded graphs_ready warmed_up", id="warmed up"
        ),
        pytest.param(
            ("down",), ("graphs_ready",), "gateway model_loaded graphs_ready", id="graphs"
        ),
        pytest.param(("down",), ("weights_loaded",), "gateway model_loaded", id="loaded"),
        pytest.param(("down",), (None,), "gateway", id="loading"),
        pytest.param((), (), "gateway", id="no replica"),
    ],
)
@pytest.mark.parametrize("path", ["/ready", "/readyz"])
def test_readiness_is_graduated(
    gateway: Gateway,
    path: str,
    states: tuple[str, ...],
    stages: tuple[str | None, ...],
    reached: str,
) -> None:
    """Each level is 200 where it is reached, and all of them are told with any."""
    gateway.take(*states, stages=stages)
    for level in ("gateway", "model_loaded", "graphs_ready", "warmed_up", "one", "all"):
        answer = ask(gateway, f"{path}?level={level}")
        ready = level in reached.split()
        assert (answer.status_code, answer.json()["ready"]) == (200 if ready else 503, ready)
        assert [name for name, is_so in answer.json()["levels"].items() if is_so] == reached.split()


def test_one_replica_is_enough_by_default(gateway: Gateway) -> None:
    """A client is answered by it."""
    gateway.take("ready", "down")
    answer = ask(gateway, "/ready")
    assert (answer.status_code, answer.json()["level"]) == (200, "one")


def test_an_open_gate_answers_nobody(gateway: Gateway) -> None:
    """Until it is tried again, which is as good as ready."""
    gateway.take("ready")
    gateway.open_gate("chat-0")
    assert ask(gateway, "/ready").status_code == 503
    gateway.table.replicas["chat-0"].gate.retry_at = NOW
    assert ask(gateway, "/ready?level=all").status_code == 200


@pytest.mark.parametrize("trouble", ["draining", "no status"])
def test_a_gateway_that_takes_no_requests_is_not_ready(gateway: Gateway, trouble: str) -> None:
    """Whatever its replicas are."""
    gateway.take("ready")
    gateway.draining = trouble == "draining"
    gateway.status_at = None if trouble == "no status" else AT
    for level in ("gateway", "one", "all"):
        assert ask(gateway, f"/readyz?level={level}").status_code == 503


@pytest.mark.parametrize("query", ["level=none", "level=", "level=one&level=all"])
def test_an_unknown_level_is_a_mistake(gateway: Gateway, query: str) -> None:
    """A probe with a typing error must not look like trouble, or like none."""
    answer = ask(gateway, f"/ready?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "level")


def test_the_metrics_are_prometheus_text(gateway: Gateway) -> None:
    """With what is true at the moment, and a zero for every priority that is empty."""
    gateway.take("ready")
    gateway.open_gate("chat-0")
    answer = ask(gateway, "/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE
    lines = answer.text.splitlines()
    for line in (
        f'gpuctl_gateway_build_info{{version="{__version__}",compiled="false"}} 1',
        'gpuctl_gateway_gate_state{replica="chat-0",model="chat",state="open"} 1',
        'gpuctl_gateway_gate_opens_total{replica="chat-0",model="chat"} 1',
        'gpuctl_gateway_queue_depth{priority="5"} 0',
        'gpuctl_gateway_queue_depth{priority="10"} 0',
        "gpuctl_gateway_connections 2",
        "gpuctl_gateway_event_loop_lag_seconds 0.001",
    ):
        assert line in lines
    sizes = dict(line.split() for line in lines if line.startswith("gpuctl_gateway_process_"))
    assert int(sizes["gpuctl_gateway_process_resident_memory_bytes"]) > 10_000_000
    assert int(sizes["gpuctl_gateway_process_open_fds"]) > 3


def test_an_admin_sees_everything(gateway: Gateway) -> None:
    """Every replica with what is held against it, who waits, and the settings."""
    gateway.take("ready", "down", stages=(None, "weights_loaded"))
    gateway.open_gate("chat-0")
    gateway.table.replicas["chat-0"].last_use = NOW - 2.5
    gateway.table.replicas["chat-0"].open["request"] = NOW - 4.0
    route = gateway.table.routes["chat"]
    for key in ("key-1", "key-1", "key-2"):
        ticket = Ticket(route, key, 5, set(), None, NOW, NOW + 9, lambda seat: None, print)
        assert gateway.admission.ask(ticket, NOW) is None
    found = ask(gateway, "/admin/status", **ADMIN).json()
    first, second = found.pop("replicas")
    assert first == {
        "name": "chat-0", "model": "chat", "state": "ready", "coming": False, "stage": None,
        "container": "c0", "address": "127.0.0.1:8081", "slots": 1, "weight": 1.0,
        "in_flight": 0, "engine_waiting": 0, "kv_ratio": None, "drain_deadline": None,
        "latency_seconds": None, "requests": 0, "failures": 0, "idle_connections": 0,
        "last_use_seconds_ago": 2.5, "last_byte_seconds_ago": None, "longest_seconds": 4.0,
        "gate": {"state": "open", "retry_in_seconds": 30.0, "opened": 1},
    }  # fmt: skip
    assert (second["state"], second["stage"]) == ("down", "weights_loaded")
    assert found.pop("settings")["listen"] == "127.0.0.1:4000"
    assert found == {
        "schema": 1, "at": AT, "version": __version__, "started_at": AT - 60.0,
        "listen": "127.0.0.1:4100", "draining": False, "shutdown_seconds": None,
        "status": {"instance": "daemon-1", "seq": 7, "at": AT - 1.0},
        "requests": 0, "in_flight": 0, "connections": 2,
        "routes": [{
            "model": "chat", "aliases": ["gpt-4"], "kind": "chat",
            "replicas": ["chat-0", "chat-1"], "waiting": 3,
        }],
        "queue": {
            "size": 100, "waiting": 3, "by_priority": {"5": 3},
            "by_key": {"key-1": 2, "key-2": 1},
        },
        "limits": {"subjects": 0, "keys": 0},
        "retries": {"budget_ratio": 0.2, "budget_least": 10, "refused": 0},
        "idempotency": {"answers": 0, "bytes": 0},
        "log": {"dropped": 0, "pending_bytes": 0},
    }  # fmt: skip


def test_the_runtime_tells_of_the_process(gateway: Gateway) -> None:
    """What explains memory that grows and a loop that is late."""
    found = ask(gateway, "/debug/runtime", **ADMIN).json()
    assert found["pid"] == os.getpid()
    assert found["uptime_seconds"] == 60.0
    assert found["resident_bytes"] > 10_000_000
    assert found["tasks"] >= 1
    assert "MainThread" in found["threads"]
    assert "gpuctl-log" in found["threads"]
    assert found["packages"].keys() == {"httptools", "msgspec", "starlette", "uvicorn", "uvloop"}
    assert len(found["gc"]["collections"]) == 3
    assert found["compiled"] is False


def test_a_compiled_gateway_says_so(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade that forgot to compile it is seen, by a page and by who scrapes."""
    library = "/opt/gpuctl/openai_errors.cpython-311-x86_64-linux-gnu.so"
    monkeypatch.setattr(openai_errors, "__file__", library)
    assert ask(gateway, "/debug/runtime", **ADMIN).json()["compiled"] is True
    told = f'gpuctl_gateway_build_info{{version="{__version__}",compiled="true"}} 1'
    assert told in ask(gateway, "/metrics").text.splitlines()


@pytest.mark.parametrize("path", ["/admin/status", "/debug/runtime"])
@pytest.mark.parametrize("mark", ["", "0", "true"])
def test_others_are_refused(gateway: Gateway, path: str, mark: str) -> None:
    """The mark is the data path's; without it these say nothing."""
    answer = ask(gateway, path, **({operator.ADMIN_HEADER: mark} if mark else {}))
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "permission_denied"


def test_the_document_follows_the_settings(gateway: Gateway) -> None:
    """With keys it asks for one, without any it does not."""
    assert ask(gateway, "/openapi.json").json()["security"] == []
    gateway.keyring = Keyring.of(b"", ("secret",))
    assert ask(gateway, "/openapi.json").json()["security"] == [{"bearer": []}, {"key": []}]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "unknown_url"),
        ("GET", "/health/", 404, "unknown_url"),
        ("POST", "/health", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_an_error_object(
    gateway: Gateway, method: str, path: str, status: int, code: str
) -> None:
    """Clients read one form of error."""
    answer = ask(gateway, path, method)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_fault_of_ours_is_an_error_object_and_a_line(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who asks learns that it failed, the log why."""
    told: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(gateway.lines, "event", lambda name, **more: told.append((name, more)))
    monkeypatch.setattr(gateway, "wall", None)
    answer = ask(gateway, "/admin/status", **ADMIN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    [(name, more)] = told
    assert (name, more["path"]) == ("internal_error", "/admin/status")
    assert str(more["error"]).startswith("TypeError: ")


def test_it_is_served_on_a_private_socket(gateway: Gateway, tmp_path: Path) -> None:
    """Only its own user may open it, signals stay whose they are, and nothing is left."""
    path = tmp_path / "operator.sock"
    gateway.take("ready")
    before = signal.getsignal(signal.SIGTERM)

    async def run() -> tuple[int, Any, int]:
        path.touch()  # of a gateway that was killed
        served = await operator.serve(gateway, str(path))
        mode = stat.S_IMODE(path.stat().st_mode)
        assert signal.getsignal(signal.SIGTERM) is before
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            answer = await client.get("/ready")
        await served.stop()
        await served.stop()
        return answer.status_code, dict(answer.headers), mode

    status, headers, mode = asyncio.run(run())
    assert (status, mode) == (200, 0o600)
    assert headers.keys() == {"content-type", "content-length"}
    assert not path.exists()


class Stubborn:
    """A server that goes on, whoever asks or cancels it."""

    started = True

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def serve(self, sockets: list[socket.socket]) -> None:
        while not self.released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.released.wait()
        sockets[0].close()


def test_a_server_that_does_not_end_is_left(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway says so, and ends without it; its socket is gone all the same."""
    told: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(gateway.lines, "event", lambda name, **more: told.append((name, more)))
    monkeypatch.setattr(operator, "_END_SECONDS", 0.0)
    path = tmp_path / "operator.sock"

    async def run() -> None:
        server = Stubborn()
        monkeypatch.setattr(operator, "_server", lambda inside: server)
        served = await operator.serve(gateway, str(path))
        stopped = asyncio.ensure_future(served.stop())
        try:
            done, _ = await asyncio.wait({stopped}, timeout=5)
            assert done == {stopped}
            await stopped
        finally:
            server.released.set()

    asyncio.run(run())
    assert told == [("operator_failed", {"path": str(path), "why": "uvicorn does not end"})]
    assert not path.exists()


def test_a_server_that_broke_is_told(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ended it before its time keeps nothing of the gateway's own end from being done."""
    told: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(gateway.lines, "event", lambda name, **more: told.append((name, more)))
    path = tmp_path / "operator.sock"

    class Broken(Stubborn):
        async def serve(self, sockets: list[socket.socket]) -> None:
            await self.released.wait()
            sockets[0].close()
            raise RuntimeError("no more")

    async def run() -> None:
        server = Broken()
        monkeypatch.setattr(operator, "_server", lambda inside: server)
        served = await operator.serve(gateway, str(path))
        server.released.set()
        await served.stop()

    asyncio.run(run())
    assert told == [("operator_failed", {"path": str(path), "why": "RuntimeError: no more"})]
    assert not path.exists()


def test_a_socket_that_cannot_be_made_is_told(gateway: Gateway, tmp_path: Path) -> None:
    """The gateway says so, and serves on."""
    with pytest.raises(OSError, match="No such file"):
        asyncio.run(operator.serve(gateway, str(tmp_path / "none" / "operator.sock")))
