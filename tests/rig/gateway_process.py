"""
The gateway as a process of its own, on the status.json that a test writes in the daemon's place.

A context manager: it starts `python -m gpuctl.gateway` on directories of its own, waits until it
answers, and ends it with SIGTERM. What it wrote to stderr is in `lines` as it came.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gpuctl.model import GatewaySettings
from gpuctl.model.status import Phase, Route, RouteReplica, Status
from tests.rig import gateway_build
from tests.rig.http import free_port, get
from tests.rig.waiting import wait_for

START_SECONDS = 20.0
#: Longer than the 30 s that what runs may take at a SIGTERM.
END_SECONDS = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One replica, as the Status tells of it."""

    name: str
    address: str  # "127.0.0.1:8081"
    model: str = "chat"
    kind: str = "chat"
    aliases: tuple[str, ...] = ()
    container: str = "c1"
    slots: int = 1
    weight: float = 1.0
    phase: Phase = "ready"
    kv_ratio: float | None = None
    key_file: str | None = None
    engine: str = "llama.cpp"
    coming: bool = False
    waiting: int = 0
    collect_streams: bool = False
    drain_deadline: float | None = None

    def row(self) -> RouteReplica:
        routed = {"ready": "ready", "busy": "ready", "degraded": "ready", "draining": "draining"}
        return RouteReplica(
            name=self.name,
            container=self.container,
            address=self.address,
            slots=self.slots,
            weight=self.weight,
            state=routed.get(self.phase, "down"),  # type: ignore[typeddict-item]
            drain_deadline=self.drain_deadline,
            kv_ratio=self.kv_ratio,
            key_file=self.key_file,
            engine=self.engine,
            phase=self.phase,
            coming=self.coming,
            waiting=self.waiting,
            collect_streams=self.collect_streams,
        )


class GatewayProcess:
    """*upstreams* may be told anew while it runs, by `publish`."""

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        settings: GatewaySettings | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        keys: Mapping[str, Any] | None = None,
    ) -> None:
        self.upstreams = tuple(upstreams)
        self.settings = replace(settings or GatewaySettings(), listen=f"127.0.0.1:{free_port()}")
        self.folder = Path(tempfile.mkdtemp(prefix="gw", dir=folder))
        self.keys = keys
        self.seq = 0
        self.instance = "test"
        self._extra = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> GatewayProcess:
        for name in ("run", "run-gateway", "state", "conf"):
            (self.folder / name).mkdir()
        if self.keys is not None:
            (self.folder / "conf" / "keys.json").write_text(json.dumps(self.keys))
        self.publish()
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> float:
        """Start it and wait until it is ready; return the seconds that took."""
        began = time.monotonic()
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gpuctl.gateway"],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        try:
            wait_for(self._answers, f"the gateway\n{self.log}", START_SECONDS)
            gateway_build.check(self.pid, os.environ)
        except BaseException:
            self.kill()  # nobody else would end it
            raise
        return time.monotonic() - began

    def stop(self) -> int:
        """End it with SIGTERM; return its exit code."""
        process, self._process = self._running, None
        process.terminate()
        try:
            return process.wait(END_SECONDS)
        finally:
            process.kill()

    def kill(self) -> None:
        process, self._process = self._running, None
        process.kill()
        process.wait(END_SECONDS)

    def publish(self, upstreams: Iterable[Upstream] | None = None) -> int:
        """Write the next Status, of these upstreams if they are given; return its `seq`."""
        if upstreams is not None:
            self.upstreams = tuple(upstreams)
        self.seq += 1
        fresh = self.folder / "run" / "status.json.new"
        fresh.write_text(json.dumps(self._status()))
        os.replace(fresh, self.folder / "run" / "status.json")
        return self.seq

    def told(self, upstreams: Iterable[Upstream]) -> None:
        """Publish them, and wait until the gateway says that it has seen that Status."""
        seq = self.publish(upstreams)
        wait_for(lambda: self.document.get("seq") == seq, f"the gateway to see Status {seq}")

    @property
    def document(self) -> dict[str, Any]:
        """What it last wrote into gateway.json; empty before it has."""
        try:
            found: dict[str, Any] = json.loads(
                (self.folder / "run-gateway" / "gateway.json").read_bytes()
            )
        except FileNotFoundError:
            return {}
        return found

    @property
    def port(self) -> int:
        return int(self.settings.listen.rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client is given."""
        return f"{self.url}/v1"

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def log(self) -> str:
        """Everything it wrote to stderr."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    @property
    def broke(self) -> bool:
        """Whether it told of a fault of its own."""
        return any(word in self.log for word in ("Traceback", "internal_error"))

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Return its log, one document a line; what is no JSON is a `{"text": …}`."""
        return [_line(line) for line in self.log.splitlines()]

    @property
    def rss_bytes(self) -> int:
        """Resident memory. Source: proc_pid_statm(5), in pages."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the gateway was not started"
        return self._process

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "GPUCTL_RUNTIME_DIR": str(self.folder / "run"),
            "GPUCTL_STATE_DIR": str(self.folder / "state"),
            "GPUCTL_CONFIG_DIR": str(self.folder / "conf"),
            **self._extra,
        }

    def _answers(self) -> bool:
        code = self._running.poll()
        assert code is None, f"the gateway ended with {code}\n{self.log}"
        answer = get(self.port, "/health", 1.0)
        return answer is not None and answer[0] == 200 and bool(self.document)

    def _status(self) -> Status:
        now = time.time()
        return Status(
            schema=1,
            at=now,
            profile="rig",
            seq=self.seq,
            instance=self.instance,
            last_event=0,
            mode="enforce",
            simulated=False,
            daemon={
                "pid": os.getpid(),
                "version": "0",
                "tick_seconds": 0.0,
                "started_at": now,
                "interval_seconds": 5.0,
            },
            replicas=[],
            gpus=[],
            conditions=[],
            gateway=asdict(self.settings),
            routes=routes(self.upstreams),
            warnings=[],
        )


def routes(upstreams: Iterable[Upstream]) -> list[Route]:
    routes: dict[str, Route] = {}
    for upstream in upstreams:
        route = routes.setdefault(
            upstream.model,
            Route(
                workload=upstream.name.rpartition("-")[0],
                model=upstream.model,
                aliases=list(upstream.aliases),
                kind=upstream.kind,
                replicas=[],
            ),
        )
        route["replicas"].append(upstream.row())
    return list(routes.values())


def _line(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {"text": text}
    return found if isinstance(found, dict) else {"text": text}
