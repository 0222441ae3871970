"""gateway.json."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

import gpuctl
from gpuctl.adapters.clock import SystemClock
from gpuctl.adapters.gateway_file import GatewayFile
from gpuctl.gateway import report
from gpuctl.gateway.gate import Gate
from gpuctl.gateway.replica import Replica
from gpuctl.model import GatewayReading, GatewayReplica


def document(*replicas: Replica) -> dict[str, Any]:
    return report.document(
        {replica.name: replica for replica in replicas},
        instance="d1",
        seq=7,
        listen="127.0.0.1:4000",
        queued=3,
        in_flight=2,
        offset_seconds=1000.0,
    )


def test_document() -> None:
    """It tells of each replica on the clock that the daemon counts with."""
    one, idle = Replica("chat-0", "chat", Gate(5, 30)), Replica("chat-1", "chat", Gate(5, 30))
    one.open = {object(): 12.0, object(): 11.0}
    one.last_byte, one.last_use, one.failures = 13.0, 12.0, 4
    found = document(one, idle)
    assert found.pop("at") > 0
    assert found == {
        "schema": 1,
        "pid": os.getpid(),
        "version": gpuctl.__version__,
        "listen": "127.0.0.1:4000",
        "instance": "d1",
        "seq": 7,
        "queued": 3,
        "in_flight": 2,
        "replicas": {
            "chat-0": {
                "state": "down",
                "in_flight": 2,
                "last_byte_boot_seconds": 1013.0,
                "began_boot_seconds": 1011.0,
                "last_use_boot_seconds": 1012.0,
                "errors": 4,
            },
            "chat-1": {
                "state": "down",
                "in_flight": 0,
                "last_byte_boot_seconds": None,
                "began_boot_seconds": None,
                "last_use_boot_seconds": None,
                "errors": 0,
            },
        },
    }


def test_daemon_reads_it(tmp_path: Path) -> None:
    """The daemon reads what the gateway has written."""
    one = Replica("chat-0", "chat", Gate(5, 30))
    one.open = {object(): 11.0}
    path = tmp_path / "gateway.json"
    report.Report(str(path)).write(document(one))
    assert GatewayFile(path, SystemClock()).read() == GatewayReading(
        instance="d1",
        seq=7,
        replicas={"chat-0": GatewayReplica(in_flight=1, began_boot_seconds=1011.0, state="down")},
    )
    assert json.loads(path.read_text())["schema"] == 1


def test_no_room_for_it(tmp_path: Path) -> None:
    """Half of it takes nobody's place: the one before stays, and the daemon goes on by that."""
    path = tmp_path / "gateway.json"
    written = report.Report(str(path))
    written.write(document(Replica("chat-0", "chat", Gate(5, 30))))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # what is over it is a short write
    try:
        with pytest.raises(OSError, match="File too large"):
            written.write(document())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
