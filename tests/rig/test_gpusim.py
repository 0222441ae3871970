"""The scripted engine does what it is told: other tests trust it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import gpusim, http
from tests.rig.waiting import wait_for


@pytest.fixture
def orders_file(tmp_path: Path) -> Path:
    return tmp_path / "orders.json"


@pytest.fixture
def process(orders_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A gpusim on `port(process)`."""
    port = str(http.free_port())
    command = [sys.executable, "-IS", gpusim.__file__, "--host", "127.0.0.1", "--port", port]
    environment = {"GPUSIM_ORDERS": str(orders_file)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as started:
        http.state(port_of(started))
        yield started
        started.kill()


def port_of(process: subprocess.Popen[bytes]) -> int:
    arguments = process.args
    assert isinstance(arguments, list)
    return int(arguments[-1])


def metric(port: int, name: str) -> int:
    answered = http.get(port, "/metrics")
    assert answered is not None
    rows = dict(row.split() for row in answered[1].decode().splitlines() if row[0] != "#")
    return int(rows[f"llamacpp:{name}"])


def complete(port: int, **asked: object) -> bytes:
    data = json.dumps({"prompt": "a b c", "max_tokens": 5, **asked}).encode()
    url = f"http://127.0.0.1:{port}/v1/completions"
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=10) as answer:
        body: bytes = answer.read()
        return body


def test_a_completion_makes_tokens_and_counts_them(process: subprocess.Popen[bytes]) -> None:
    """Five tokens are asked for, made and counted; three words were the prompt."""
    port = port_of(process)
    answered = json.loads(complete(port))
    assert answered["choices"][0]["text"] == "t0 t1 t2 t3 t4 "
    assert answered["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    counted = [metric(port, f"{name}_total") for name in ("prompt_tokens", "tokens_predicted")]
    assert counted == [3, 5]


def test_an_embedding_is_a_vector(process: subprocess.Popen[bytes]) -> None:
    """One vector for one input, and a prompt that counts."""
    port = port_of(process)
    url = f"http://127.0.0.1:{port}/v1/embeddings"
    with urllib.request.urlopen(url, json.dumps({"input": "a"}).encode(), timeout=5) as answer:
        assert json.load(answer) == {"data": [{"index": 0, "embedding": [0.0, 1.0]}]}
    assert metric(port, "prompt_tokens_total") == 1


def test_a_stream_ends_with_done(process: subprocess.Popen[bytes]) -> None:
    """One event a token, then the end mark of the OpenAI API."""
    events = complete(port_of(process), stream=True).decode().strip().split("\n\n")
    assert len(events) == 6
    assert events[-1] == "data: [DONE]"


def test_a_stalled_request_stays_in_flight_while_health_is_well(
    process: subprocess.Popen[bytes],
) -> None:
    """200 is not alive: the counters stand still, the request is in flight, health says ok."""
    port = port_of(process)
    http.order(port, stall=True)
    request = threading.Thread(target=complete, args=(port,))
    request.start()
    wait_for(lambda: metric(port, "requests_processing") == 1, "the request in flight")
    health = http.get(port, "/health")
    assert health is not None
    assert (health[0], metric(port, "tokens_predicted_total")) == (200, 0)
    http.order(port, stall=False)
    request.join(10)
    assert metric(port, "tokens_predicted_total") == 5


def test_health_is_what_it_was_told(process: subprocess.Popen[bytes]) -> None:
    """Loading is 503 until its time is over; a status stays until it is changed."""
    port = port_of(process)
    statuses = []
    for orders in ({"load_seconds": 60}, {"load_seconds": 0}, {"health_status": 500}):
        http.order(port, **orders)
        answered = http.get(port, "/health")
        assert answered is not None
        statuses.append(answered[0])
    assert statuses == [503, 200, 500]


def test_it_hangs_resets_and_refuses(process: subprocess.Popen[bytes], orders_file: Path) -> None:
    """No answer, a reset, a closed port; the file reaches it when the port does not."""
    port = port_of(process)
    http.order(port, hang=True)
    assert http.get(port, "/health", timeout_seconds=0.2) is None
    http.order(port, hang=False, reset=True)
    with pytest.raises(ConnectionError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
    http.order(port, reset=False, refuse=True)
    wait_for(lambda: http.get(port, "/health") is None, "a closed port")
    assert process.poll() is None
    orders_file.write_text(json.dumps({"refuse": False}))
    wait_for(lambda: http.get(port, "/health"), "an open port")


def test_it_exits_as_told(process: subprocess.Popen[bytes]) -> None:
    """The exit code is the ordered one."""
    http.order(port_of(process), exit=7)
    assert process.wait(5) == 7


def test_it_lives_through_sigterm_when_told(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM ends it, unless it was told to ignore it."""
    port = port_of(process)
    http.order(port, ignore_term=True)
    process.send_signal(signal.SIGTERM)
    assert http.get(port, "/health") is not None
    http.order(port, ignore_term=False)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == -signal.SIGTERM


def test_an_order_is_carried_out_before_it_is_answered(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM is ignored, and not ignored, as soon as the answer is there; every time."""
    port, seen = port_of(process), []
    for number in range(200):
        http.order(port, ignore_term=number % 2 == 0)
        status = Path(f"/proc/{process.pid}/status").read_text()
        (ignored,) = (row.split()[1] for row in status.splitlines() if row.startswith("SigIgn"))
        seen.append(bool(int(ignored, 16) >> (signal.SIGTERM - 1) & 1))
    assert seen == [True, False] * 100
