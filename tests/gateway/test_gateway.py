"""What the parts of the gateway share."""

from __future__ import annotations

from gpuctl.gateway import overview
from tests.gateway.inside import Inside, answered
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
        assert inside.record.attempts == 1
        told = {"path": "/nonexistent/operator.sock", "why": "refused"}
        assert inside.log.events == [("operator_failed", told)]
        assert inside.call(lambda: "errors_total{" in scraped(inside)) is False


def scraped(inside: Inside) -> str:
    """Return the gateway's metrics."""
    gateway = inside.gateway
    now = overview.gauges(gateway, resident_bytes=None, open_fds=None)
    return gateway.metrics.text(now).decode()
