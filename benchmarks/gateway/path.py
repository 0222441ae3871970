"""
One request's way through the gateway without a socket: `python -m benchmarks.gateway.path [COUNT]`.

Prints how many bytecode instructions a request takes, and in which functions: unlike a time, that
is the same on a busy machine. Machine instructions are counted by the difference of two runs:
`valgrind --tool=cachegrind --cache-sim=no python -m benchmarks.gateway.path --plain COUNT`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from benchmarks.gateway.proxies import GPUCTL, KEY
from gpuctl.gateway import table
from gpuctl.gateway.downstream import Client
from gpuctl.gateway.gateway import Gateway
from gpuctl.gateway.keyring import Keyring
from gpuctl.gateway.log import Lines
from gpuctl.gateway.upstream import Connection

#: Until CPython has specialised what runs again and again.
WARM = 100
BODY = (
    b'{"model":"mock","max_tokens":64,"temperature":0.7,"messages":[{"role":"system","content":'
    b'"You are a helpful assistant."},{"role":"user","content":"What is the capital of France?"}]}'
)
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8100\r\nContent-Type: application/json"
    b"\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
    % (KEY.encode(), len(BODY), BODY)
)
CONTENT = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"%s"}}],"usage":%s}' % (
    b"0" * 450,
    b'{"prompt_tokens":42,"completion_tokens":64,"total_tokens":106}',
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(CONTENT),
    CONTENT,
)


class Wire(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: Any) -> None:
        self.sent = data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 40000) if name == "peername" else default

    def is_closing(self) -> bool:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway.path")
    parser.add_argument("count", nargs="?", type=int, default=20)
    parser.add_argument("--plain", action="store_true", help="run them, and count nothing")
    options = parser.parse_args()
    asyncio.run(_run(options.count, plain=options.plain))
    return 0


async def _run(count: int, *, plain: bool) -> None:
    with TemporaryDirectory() as name, open(os.devnull, "wb") as nowhere:
        lines = Lines(nowhere.fileno())
        once = _way(_gateway(lines, Path(name)))
        for _ in range(WARM):
            once()
        if plain:
            for _ in range(count):
                once()
        else:
            _show(_counted(once, count), count)
        lines.close()


def _gateway(lines: Lines, folder: Path) -> Gateway:
    GPUCTL.make(folder)
    gateway = Gateway(lines, lambda path: "", "")
    gateway.take(table.decode((folder / "run" / "status.json").read_bytes()))
    gateway.keyring = Keyring.of((folder / "conf" / "keys.json").read_bytes())
    return gateway


def _way(gateway: Gateway) -> Callable[[], None]:
    """Return what sends one request through it, over connections that are kept alive."""
    connections: dict[Wire, Connection] = {}
    for replica in gateway.table.replicas.values():
        connection, wire = Connection(replica), Wire()
        connection.connection_made(wire)
        connections[wire] = connection
        replica.idle.append(connection)
    client, answered = Client(gateway), Wire()
    client.connection_made(answered)

    def once() -> None:
        client.data_received(REQUEST)
        for wire, connection in connections.items():
            if wire.sent:
                wire.sent = b""
                connection.data_received(ANSWER)
        assert answered.sent.startswith(b"HTTP/1.1 200 "), answered.sent

    return once


def _counted(once: Callable[[], None], count: int) -> Counter[str]:
    """Return the instructions of each function of gpuctl's."""
    found: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode" and "/gpuctl/" in code.co_filename:
            found[f"{Path(code.co_filename).stem}.{code.co_name}"] += 1
        return trace

    sys.settrace(trace)
    try:
        for _ in range(count):
            once()
    finally:
        sys.settrace(None)
    return found


def _show(found: Counter[str], count: int) -> None:
    modules: Counter[str] = Counter()
    for name, instructions in found.items():
        modules[name.partition(".")[0]] += instructions
    print(f"{found.total() / count:.0f} bytecode instructions a request")
    for title, table_ in (("module", modules), ("function", found)):
        print(f"\n{title}")
        for name, instructions in table_.most_common(25):
            print(f"{instructions / count:7.0f}  {name}")


if __name__ == "__main__":
    sys.exit(main())
