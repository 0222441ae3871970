"""A daemon that starts while its engine is away waits for it, and never takes another runtime."""

from __future__ import annotations

import time

import pytest

from tests.e2e.host import Host, workload
from tests.rig import images
from tests.rig.dockerd import PrivateEngine
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.docker

PORT = 18501
REPLICAS = 2


def unread(host: Host) -> bool:
    return any(c["reason"] == "runtime_unread" for c in host.status()["conditions"])


def test_a_daemon_without_its_engine_starts_no_second_replicas() -> None:
    """
    The profile leaves the runtime open, dockerd is killed under live-restore, the daemon is born
    again: the same containers run on, nothing is begun, and they are read when dockerd is back.
    """
    with PrivateEngine(live_restore=True) as engine:
        client = engine.client()
        images.build(client)
        client.close()
        with Host(engine) as host:
            path = host.profile(workload("chat", port=PORT, gpus=list(range(REPLICAS))))
            path.write_text(path.read_text().replace('runtime = "docker"\n', ""))
            host.up(path)
            before, acts = host.containers(), len(host.events("attempt", "failed"))

            host.kill_daemon()
            engine.kill9()
            pid = host.begin_daemon()
            assert host.daemon_pid() == pid, host.tail()
            assert unread(host)
            time.sleep(3)  # six ticks, in which nothing may be begun
            refused = host.run("up", str(path))

            engine.start()
            wait_for(lambda: not unread(host), "the engine to be read again", 30.0)
            for index in range(REPLICAS):
                host.wait_phase(f"chat-{index}")
            assert refused.code == 1
            assert "would move to process" in refused.err
            assert host.containers() == before
            assert len(host.events("attempt", "failed")) == acts, host.tail()
            assert not (host.folder / "state" / "processes").exists()
