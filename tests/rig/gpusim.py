"""
A small inference server that fails on command, for containers and processes of the tests.

Answers `/health`, `/metrics` (llama.cpp's names), `/v1/completions`, `/v1/chat/completions` and
`/v1/embeddings`.
`GET /rig` tells its environment and arguments. `POST /rig` takes a JSON object of orders, and so
does the file named by `GPUSIM_ORDERS`, which still works when the port does not:

    exit               end with this code, at once
    print              write this line to standard output
    allocate           hold this many bytes of memory
    ignore_term        true: live on through SIGTERM
    load_seconds       be loading (503) for that long from now
    health_status      answer /health with this status
    health_seconds     answer /health that much later
    hang               true: accept everything, answer nothing (but /rig)
    reset              true: reset every connection (but /rig's)
    refuse             true: close the listening socket; false: open it again
    stall              true: requests in flight make no more tokens
    prefill_seconds    before the first token of a request, with every counter still
    tokens_per_second  of each request

Flags: `--host`, `--port`, `--orders JSON` (carried out before it listens); llama-server's others
are accepted and ignored. Standard library only, so that it starts in about 0.1 s.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any, BinaryIO

#: How often the orders file is looked at; sixteen of these share two cores.
POLL_SECONDS = 0.1
#: The main thread takes a signal within milliseconds; a busy machine gets its time.
TERM_SECONDS, TERM_TRIES = 0.05, 100
MAIN = threading.get_ident()
REASONS = {200: "OK", 404: "Not Found", 500: "Internal Server Error", 503: "Service Unavailable"}
METRICS = """\
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total {prompt}
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total {predicted}
# TYPE llamacpp:n_decode_total counter
llamacpp:n_decode_total {predicted}
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing {processing}
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 0
"""


class Simulator:
    """What it was told to do and what it counts; shared by the threads of the connections."""

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.orders: dict[str, Any] = {"tokens_per_second": 50.0, "health_status": 200}
        self.loaded_at = 0.0
        self.listening = threading.Event()
        self.listening.set()
        self.listener: socket.socket | None = None
        self.lock = threading.Lock()
        self.counted = {"prompt": 0, "predicted": 0, "processing": 0}
        self.held: list[bytearray] = []
        self.term_set = threading.Event()

    def obey(self, orders: dict[str, Any]) -> None:
        """Carry out the orders that are done once, and remember all of them."""
        self.orders.update(orders)
        if "print" in orders:
            print(orders["print"], flush=True)
        if "exit" in orders:
            os._exit(orders["exit"])
        if "ignore_term" in orders:
            # A signal's disposition belongs to the process, but only its main thread may set it:
            # it is waited for, or the answer would be there before what it promises.
            self.term_set.clear()
            # To that very thread, and again: one that comes just before it begins to wait for a
            # client is not looked at until there is one.
            for _ in range(TERM_TRIES):
                signal.pthread_kill(MAIN, signal.SIGUSR1)
                if self.term_set.wait(TERM_SECONDS):
                    break
        if "load_seconds" in orders:
            self.loaded_at = time.monotonic() + orders["load_seconds"]
        if "allocate" in orders:
            # Filled, so that the memory is really there.
            self.held.append(bytearray(b"\1") * orders["allocate"])
        if "refuse" in orders:
            self.refuse(orders["refuse"])

    def refuse(self, refusing: bool) -> None:
        if not refusing:
            self.listening.set()
            return
        self.listening.clear()
        if self.listener is not None:
            # Closing alone would not wake the thread in accept().
            self.listener.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Accept for ever, a thread for each connection."""
        while True:
            self.listening.wait()
            self.listener = socket.create_server(self.address, backlog=128)
            try:
                while True:
                    connection, _ = self.listener.accept()
                    threading.Thread(target=self.handle, args=(connection,), daemon=True).start()
            except OSError:
                self.listener.close()

    def handle(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            try:
                while request := read_request(reader):
                    if not self.answer(connection, *request):
                        return
            except (ConnectionError, ValueError):
                return

    def answer(self, connection: socket.socket, method: str, path: str, body: bytes) -> bool:
        """Answer one request; False when the connection is over."""
        if path == "/rig":
            if method == "POST":
                self.obey(json.loads(body))
            told = {"environment": dict(os.environ), "arguments": sys.argv, "orders": self.orders}
            send(connection, 200, told)
            return True
        if self.orders.get("reset"):
            # No linger: the kernel answers with RST instead of FIN.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if self.orders.get("hang"):
            threading.Event().wait()
        if path == "/health":
            self.health(connection)
        elif path == "/metrics":
            send(connection, 200, METRICS.format(**self.counted), "text/plain; version=0.0.4")
        elif path in ("/v1/completions", "/v1/chat/completions"):
            self.complete(connection, json.loads(body), chat="chat" in path)
        elif path == "/v1/embeddings":
            self.count("prompt", 1)
            send(connection, 200, {"data": [{"index": 0, "embedding": [0.0, 1.0]}]})
        else:
            send(connection, 404, {"error": {"message": "not found"}})
        return True

    def health(self, connection: socket.socket) -> None:
        time.sleep(self.orders.get("health_seconds", 0.0))
        if time.monotonic() < self.loaded_at:
            send(connection, 503, {"error": {"code": 503, "message": "Loading model"}})
            return
        status = self.orders["health_status"]
        send(connection, status, {"status": "ok" if status == 200 else "error"})

    def complete(self, connection: socket.socket, asked: dict[str, Any], *, chat: bool) -> None:
        """Make `max_tokens` tokens at the ordered pace, streamed or whole."""
        tokens, streamed = int(asked.get("max_tokens") or 16), bool(asked.get("stream"))
        prompt = len(json.dumps(asked.get("messages") or asked.get("prompt", "")).split())
        self.count("processing", 1)
        try:
            time.sleep(self.orders.get("prefill_seconds", 0.0))
            self.count("prompt", prompt)
            if streamed:
                connection.sendall(HEAD.format(200, "OK", "text/event-stream").encode() + CLOSE)
            for number in range(tokens):
                self.token()
                if streamed:
                    connection.sendall(event(choice(f"t{number} ", chat=chat, delta=True)))
        finally:
            self.count("processing", -1)
        if streamed:
            connection.sendall(b"data: [DONE]\n\n")
            connection.shutdown(socket.SHUT_RDWR)
            return
        text = "".join(f"t{number} " for number in range(tokens))
        usage = {"prompt_tokens": prompt, "completion_tokens": tokens}
        usage["total_tokens"] = prompt + tokens
        send(connection, 200, {**choice(text, chat=chat, delta=False), "usage": usage})

    def token(self) -> None:
        while self.orders.get("stall"):
            time.sleep(0.02)
        time.sleep(1.0 / self.orders["tokens_per_second"])
        self.count("predicted", 1)

    def count(self, name: str, more: int) -> None:
        with self.lock:
            self.counted[name] += more

    def watch(self, path: str) -> None:
        """Carry out the orders file again each time that it is written."""
        seen = 0
        while True:
            try:
                written = os.stat(path).st_mtime_ns
                if written != seen:
                    with open(path, encoding="utf-8") as file:
                        orders = json.load(file)
                    seen = written
                    self.obey(orders)
            except (OSError, ValueError):
                # Not there yet, or half written: look again.
                pass
            time.sleep(POLL_SECONDS)


HEAD = "HTTP/1.1 {} {}\r\nContent-Type: {}\r\n"
CLOSE = b"Connection: close\r\n\r\n"


def read_request(reader: BinaryIO) -> tuple[str, str, bytes] | None:
    """Return method, path and body of the next request, `None` at the end of the connection."""
    method, _, rest = reader.readline().decode("latin-1").partition(" ")
    if not rest:
        return None
    length = 0
    while (header := reader.readline().strip()) != b"":
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return method, rest.split(" ")[0].partition("?")[0], reader.read(length)


def send(
    connection: socket.socket, status: int, body: object, content_type: str = "application/json"
) -> None:
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    head = HEAD.format(status, REASONS.get(status, "Status"), content_type)
    connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)


def event(body: object) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def choice(text: str, *, chat: bool, delta: bool) -> dict[str, Any]:
    """Return an answer of the OpenAI API with one choice."""
    message = {"role": "assistant", "content": text}
    content = {"delta" if delta else "message": message} if chat else {"text": text}
    return {
        "id": "gpusim-1",
        "object": "chat.completion" if chat else "text_completion",
        "created": int(time.time()),
        "model": "gpusim",
        "choices": [{"index": 0, "finish_reason": None if delta else "length", **content}],
    }


def flag(name: str, default: str) -> str:
    """Return the value after a flag; every other argument is some other engine's."""
    arguments = sys.argv[1:]
    return arguments[arguments.index(name) + 1] if name in arguments else default


def main() -> None:
    simulator = Simulator(flag("--host", "0.0.0.0"), int(flag("--port", "8080")))

    def set_term(*_: object) -> None:
        ignored = simulator.orders.get("ignore_term")
        signal.signal(signal.SIGTERM, signal.SIG_IGN if ignored else signal.SIG_DFL)
        simulator.term_set.set()

    signal.signal(signal.SIGUSR1, set_term)
    if path := os.environ.get("GPUSIM_ORDERS"):
        threading.Thread(target=simulator.watch, args=(path,), daemon=True).start()
    print(f"gpusim: listening on {simulator.address[0]}:{simulator.address[1]}", flush=True)
    simulator.obey(json.loads(flag("--orders", "{}")))
    simulator.serve()


if __name__ == "__main__":
    main()
