"""
The gateway and its peers, each started anew on a core of its own in front of the same four engines.

`running` starts one and yields it when it has answered its first request.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gateway import installed
from gpuctl.gateway.keyring import Key, write
from gpuctl.model import GatewaySettings

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEY = "sk-benchmark"
PORT = 8100
ENGINES = (9101, 9102, 9103, 9104)
#: Above every load here, so that they are counted and refuse nothing.
PER_MINUTE = 1_000_000_000
#: A proxy with an interpreter and many libraries, on a machine that is busy.
START_SECONDS = 60.0
END_SECONDS = 20.0
ASKED = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """How one is started."""

    name: str
    program: str  # as it is found
    make: Callable[[Path], tuple[str, ...]]  # its files into a folder → its arguments
    environment: Callable[[Path], dict[str, str]] = lambda folder: {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One that runs."""

    pid: int
    ready_seconds: float  # from its start to the end of its first answer


def found(program: str) -> str | None:
    """Return where a program is: beside this interpreter, in the peers' environment, on PATH."""
    places = (Path(sys.executable).parent, ROOT / ".cache" / "peers" / "bin")
    return shutil.which(program, path=":".join((*map(str, places), _path())))


@contextmanager
def running(proxy: Proxy, cpu: int, folder: Path) -> Iterator[Running]:
    """Run it on one core, until the block is left; its words are in a file of the *folder*."""
    folder.mkdir()
    program = found(proxy.program)
    assert program is not None
    command = ("taskset", "-c", str(cpu), program, *proxy.make(folder))
    environment = {**os.environ, **proxy.environment(folder)}
    with open(folder / "log", "ab") as log:
        began = time.monotonic()
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(process, folder / "log")
        yield Running(pid=process.pid, ready_seconds=time.monotonic() - began)
    finally:
        _end(process)


def post(port: int = PORT) -> int | None:
    """Ask it for one answer; return the status, None where nobody answers."""
    return _status("POST", port, "/v1/chat/completions", json.dumps(ASKED))


def get(path: str, port: int = PORT) -> int | None:
    """The same for a GET."""
    return _status("GET", port, path, None)


def _status(method: str, port: int, path: str, body: str | None) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while post() != 200:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r}: does not answer\n{log.read_text()[-2000:]}")
        time.sleep(0.002)


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _path() -> str:
    # Debian has nginx and haproxy where only root's PATH leads.
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _written(name: str, folder: Path) -> str:
    """Write a configuration with the ports, the key and the folder put in; return its path."""
    text = (HERE / name).read_text()
    values = {"PORT": str(PORT), "KEY": KEY, "FOLDER": str(folder)}
    values |= {f"ENGINE{number}": str(port) for number, port in enumerate(ENGINES, start=1)}
    for word, value in values.items():
        text = text.replace(f"@{word}@", value)
    (folder / name).write_text(text)
    return str(folder / name)


def _gpuctl(folder: Path) -> tuple[str, ...]:
    for name in ("run", "state", "conf"):
        (folder / name).mkdir()
    key = Key(
        id="key-00000001",
        name="benchmark",
        sha256=hashlib.sha256(KEY.encode()).hexdigest(),
        requests_per_minute=PER_MINUTE,
        tokens_per_minute=PER_MINUTE,
    )
    (folder / "conf" / "keys.json").write_bytes(write((key,)))
    replicas = [
        {
            "name": f"chat-{number}",
            "address": f"127.0.0.1:{port}",
            "state": "ready",
            "container": f"container-{number}",
            "slots": 32,
        }
        for number, port in enumerate(ENGINES)
    ]
    status = {
        "schema": 1,
        "at": time.time(),
        "seq": 1,
        "instance": "benchmark",
        "gateway": asdict(GatewaySettings(listen=f"127.0.0.1:{PORT}")),
        "routes": [{"workload": "chat", "model": "mock", "kind": "chat", "replicas": replicas}],
    }
    (folder / "run" / "status.json").write_text(json.dumps(status))
    return ("-m", "gpuctl.gateway")


def _router(policy: str) -> Callable[[Path], tuple[str, ...]]:
    urls = tuple(f"http://127.0.0.1:{port}" for port in ENGINES)
    fixed = ("--host", "127.0.0.1", "--port", str(PORT), "--log-level", "error", "--api-key", KEY)
    return lambda folder: (*fixed, "--policy", policy, "--worker-urls", *urls)


def _places(folder: Path) -> dict[str, str]:
    return {
        "GPUCTL_RUNTIME_DIR": str(folder / "run"),
        "GPUCTL_STATE_DIR": str(folder / "state"),
        "GPUCTL_CONFIG_DIR": str(folder / "conf"),
    }


#: As the compiled wheel installs it, and as every other install has it.
GPUCTL = Proxy(
    name="gpuctl",
    program="python",
    make=_gpuctl,
    environment=lambda folder: {**_places(folder), **installed.environment()},
)
INTERPRETED = Proxy(name="gpuctl interpreted", program="python", make=_gpuctl, environment=_places)
PROXIES = (
    GPUCTL,
    INTERPRETED,
    Proxy(
        name="nginx",
        program="nginx",
        make=lambda folder: ("-p", str(folder), "-c", _written("nginx.conf", folder)),
    ),
    Proxy(
        name="haproxy",
        program="haproxy",
        make=lambda folder: ("-db", "-f", _written("haproxy.cfg", folder)),
    ),
    Proxy(name="vllm-router rr", program="vllm-router", make=_router("round_robin")),
    Proxy(name="vllm-router p2c", program="vllm-router", make=_router("power_of_two")),
    Proxy(
        name="litellm",
        program="litellm",
        make=lambda folder: (
            *("--config", _written("litellm.yaml", folder), "--host", "127.0.0.1"),
            *("--port", str(PORT), "--num_workers", "1", "--telemetry", "False"),
        ),
        environment=lambda folder: {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
        },
    ),
)
