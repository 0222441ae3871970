"""What the parts of the gateway share."""

from __future__ import annotations

from dataclasses import replace

from gpuctl.gateway import overview
from gpuctl.model import GatewaySettings, QueueSettings
from tests.gateway.inside import ASKED, Inside, answered, request, upstream
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for

HEALTH = b"GET /health HTTP/1.1\r\nhost: test\r\n\r\n"


def test_the_operator_s_endpoints_are_waited_for() -> None:
    """Who asks before they have begun waits; one that fails there is no replica's failure."""
    with Inside([]) as inside, inside.connect() as client:
        client.sendall(HEALTH)
        wait_for(lambda: inside.gateway.running, "the request")
        inside.gateway.operator.uds = "/nonexistent/operator.sock"
        inside.call(inside.gateway.operator_begun.set)
        answer = answered(client)

        assert (answer.status, answer.code) == (503, "upstream_failed")
        assert inside.gateway.operator.requests == 1
        told = {"path": "/nonexistent/operator.sock", "why": "refused"}
        assert inside.log.events == [("operator_failed", told)]
        assert inside.call(lambda: "errors_total{" in scraped(inside)) is False


def test_the_operator_s_endpoints_have_a_gate() -> None:
    """Where nobody is behind them it is tried once a second, and held against no replica."""
    with Inside([]) as inside, inside.connect() as client:
        inside.gateway.operator.uds = "/nonexistent/operator.sock"
        inside.call(inside.gateway.operator_begun.set)
        told = []
        for seconds in (0.0, 0.5, 1.0):
            inside.pass_time(seconds)
            client.sendall(HEALTH)
            told.append((answered(client).code, inside.gateway.operator.requests))
        assert told == [("upstream_failed", tried) for tried in (1, 1, 2)]


def test_a_gate_is_told_of(first: StubEngine, second: StubEngine) -> None:
    """When it opens and why, once; and what closed it: its trial, or another container."""
    with Inside([upstream(first), upstream(second, 1, weight=0.1)]) as inside:
        first.refuse()
        for _ in range(3):
            inside.post(ASKED)
        first.listen()
        inside.pass_time(31.0)
        inside.post(ASKED)
        first.refuse()
        inside.post(ASKED)
        inside.publish([upstream(first, container="c2"), upstream(second, 1)])

        told = [(name, each["why"]) for name, each in inside.log.events if "gate" in name]
        assert told == [
            ("gate_opened", "refused"),
            ("gate_closed", "answered"),
            ("gate_opened", "refused"),
            ("gate_closed", "new_container"),
        ]
        assert inside.log.of("gate_opened")[0] == {
            "replica": "chat-0",
            "why": "refused",
            "seconds": 30.0,
        }
        of = '{replica="chat-0",model="chat"}'
        assert f"gate_opens_total{of} 2\n" in inside.call(lambda: scraped(inside))


def test_replicas_come_and_go(first: StubEngine, second: StubEngine) -> None:
    """Each is told of once, however many Statuses say the same."""
    with Inside([upstream(first)]) as inside:
        inside.publish([upstream(first), upstream(second, 1)])
        inside.publish([upstream(first, container="c2"), upstream(second, 1)])
        inside.publish([upstream(second, 1)])
        inside.publish([upstream(second, 1)])

        assert inside.log.events == [
            ("replica", {"replica": "chat-0", "container": "c1"}),
            ("replica", {"replica": "chat-1", "container": "c1"}),
            ("replica", {"replica": "chat-0", "container": "c2"}),
            ("replica_gone", {"replica": "chat-0"}),
        ]


def test_a_cache_that_fills_up_is_told_of(first: StubEngine) -> None:
    """Where it gets less, where it gets nothing more beside what runs, and when that is over."""
    ratios = (0.84, 0.85, 0.9, 0.95, 0.99, 0.86, None, 0.1)
    with Inside([upstream(first)]) as inside:
        for ratio in ratios:
            inside.publish([upstream(first, kv_ratio=ratio)])
        assert inside.log.of("kv_cache") == [
            {"replica": "chat-0", "level": "warning", "ratio": 0.85},
            {"replica": "chat-0", "level": "critical", "ratio": 0.95},
            {"replica": "chat-0", "level": "warning", "ratio": 0.86},
            {"replica": "chat-0", "level": "ok", "ratio": None},
        ]


def test_a_full_queue_is_told_of_once_a_second(first: StubEngine) -> None:
    """With how many it turned away, as it may be thousands."""
    settings = GatewaySettings(queue=QueueSettings(size=1))
    first.orders["fault"] = "hang_head"
    with Inside([upstream(first)], settings) as inside:
        held = [inside.connect() for _ in range(2)]
        for client in held:
            client.sendall(request(ASKED))
        wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 1, "a full queue")
        inside.post(ASKED)
        inside.pass_time(0.2)
        for _ in range(3):
            assert inside.post(ASKED).code == "queue_full"
        inside.pass_time(0.2)
        assert inside.log.of("queue_full") == [{"count": 1}]
        inside.pass_time(1.0)
        inside.pass_time(1.0)
        assert inside.log.of("queue_full") == [{"count": 1}, {"count": 3}]
        for client in held:
            client.close()


def test_other_settings_forget_nothing(first: StubEngine) -> None:
    """Retries that were refused are counted on when the profile changes."""
    with Inside([upstream(first)]) as inside:
        inside.gateway.budget.refused_total = 7
        inside.settings = replace(inside.settings, retries=1)
        inside.publish([upstream(first)])

        assert inside.gateway.settings.retries == 1
        assert "retry_budget_exhausted_total 7\n" in inside.call(lambda: scraped(inside))


def scraped(inside: Inside) -> str:
    """Return the gateway's metrics."""
    gateway = inside.gateway
    now = overview.gauges(gateway, resident_bytes=None, open_fds=None)
    return gateway.metrics.text(now).decode()
