"""Talking to a gpusim through its published port."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from typing import Any

from tests.rig.waiting import wait_for


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def get(port: int, path: str, timeout_seconds: float = 5.0) -> tuple[int, bytes] | None:
    """Return status and body, `None` when nobody answers."""
    try:
        url = f"http://127.0.0.1:{port}{path}"
        with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return None


def state(port: int) -> dict[str, Any]:
    """Return what `GET /rig` of a gpusim tells, waiting until it answers."""
    answered = wait_for(lambda: get(port, "/rig"), f"a gpusim on port {port}")
    found: dict[str, Any] = json.loads(answered[1])
    return found


def order(port: int, **orders: object) -> None:
    """Give a gpusim its orders; one that ends it need not answer."""
    data = json.dumps(orders).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/rig", data=data, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
    except OSError:
        # An order to exit, or to allocate too much, closes the connection instead.
        return
