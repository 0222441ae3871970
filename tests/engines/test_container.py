"""Any image with a health URL."""

from __future__ import annotations

import pytest

from gpuctl.engines.container import ENGINE
from gpuctl.model import EngineStats, ProbeSpec

from .make import slot, workload


def test_own_command() -> None:
    """The image's command is its own unless the profile gives one; its arguments are added."""
    assert ENGINE.launch(workload(args=("-v",)), slot()).command == ("-v",)
    assert ENGINE.launch(workload(command=("serve",)), slot()).command == ("serve",)


@pytest.mark.parametrize(
    ("port", "network", "expected"),
    [
        pytest.param(9000, "bridge", 9000, id="as the profile says"),
        pytest.param(None, "bridge", 8080, id="8080 unless told"),
        pytest.param(None, "host", 8081, id="on the host's network, the replica's port"),
    ],
)
def test_port(port: int | None, network: str, expected: int) -> None:
    """The port inside is the image's, which only the operator knows."""
    launch = ENGINE.launch(workload(container_port=port, network=network), slot())
    assert launch.container_port == expected


def test_probe() -> None:
    """It is asked for /health and nothing else."""
    assert ENGINE.probe(workload(), slot()) == ProbeSpec(port=8081, health_path="/health")


def test_stats() -> None:
    """Nothing is read out of metrics that nobody has described."""
    assert ENGINE.stats("requests_total 5") == EngineStats()
