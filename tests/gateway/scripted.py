"""An engine that says what it is told, byte for byte, whatever it is asked."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.rig.gateway_process import Upstream

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Scripted:
    """
    A context manager. A request gets the *answer*, and its connection ends then.

    Where it is to *hold*, it ends when the client closes it, or this is left.
    """

    def __init__(self, answer: bytes, *, hold: bool = False) -> None:
        self.seen: list[bytes] = []
        self._answer, self._hold = answer, hold
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Scripted:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        self._listener.close()

    def upstream(self, index: int = 0, weight: float = 1.0) -> Upstream:
        address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        return Upstream(name=f"chat-{index}", address=address, weight=weight)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += client.recv(65536)
            self.seen.append(asked)
            client.sendall(self._answer)
            if self._hold:
                client.recv(1)


def chunks(*pieces: bytes) -> bytes:
    """Return pieces of a body in HTTP's framing, without its end."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
