"""
An entrypoint before llama-server: a TCP proxy on its port that delays `GET /health` and no more.

It takes the server's arguments and runs the server with `--port` one higher. `POST /delay/1.5`
makes every later `/health` wait 1.5 s; everything else passes as it comes. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

SERVER = "/app/llama-server"
#: The server is up in about a second; the proxy answers 503 until then, as the server does.
LOADING = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
OBEYED = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


class HealthProxy:
    """One connection carries one request, as gpuctl's probes and the tests ask."""

    def __init__(self, port: int) -> None:
        self._port, self._upstream = port, port + 1
        self._delay_seconds = 0.0

    def serve(self) -> None:
        with socket.create_server(("0.0.0.0", self._port), backlog=128) as listener:
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = client.recv(65536)
            if head.startswith(b"POST /delay/"):
                self._delay_seconds = float(head.split()[1].rpartition(b"/")[2])
                client.sendall(OBEYED)
                return
            if head.startswith(b"GET /health "):
                time.sleep(self._delay_seconds)
            self._forward(client, head)

    def _forward(self, client: socket.socket, head: bytes) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream))
        except ConnectionRefusedError:
            client.sendall(LOADING)
            return
        with server:
            server.sendall(head)
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            _copy(server, client)


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes until one side ends, then end the other's."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def main(arguments: list[str]) -> None:
    place = arguments.index("--port") + 1
    port = int(arguments[place])
    moved = [*arguments[:place], str(port + 1), *arguments[place + 1 :]]
    server = subprocess.Popen([SERVER, *moved])
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    threading.Thread(target=HealthProxy(port).serve, daemon=True).start()
    os._exit(server.wait())


if __name__ == "__main__":
    main(sys.argv[1:])
