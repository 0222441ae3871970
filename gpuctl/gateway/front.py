"""
What is looked at before a request may wait for a replica: target, key, limits and body.

`Gateway.serve` calls `serve` with each request; it is answered here, or goes on as an `Exchange`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from gpuctl.gateway import (
    access,
    bodies,
    collect,
    endpoints,
    heads,
    idempotency,
    multipart,
    openai_errors,
)
from gpuctl.gateway.access import Bearer
from gpuctl.gateway.answer import Answer
from gpuctl.gateway.asked import Asked
from gpuctl.gateway.bodies import Ask
from gpuctl.gateway.downstream import Client
from gpuctl.gateway.endpoints import Endpoint, Refusal
from gpuctl.gateway.exchange import Exchange
from gpuctl.gateway.heads import JSON, Given
from gpuctl.gateway.idempotency import Entry
from gpuctl.gateway.record import Record
from gpuctl.gateway.replica import Route
from gpuctl.gateway.request import Exchanging, Request
from gpuctl.gateway.shared import Follower, Leader
from gpuctl.gateway.sink import Sink

if TYPE_CHECKING:
    from gpuctl.gateway.gateway import Gateway

_PRIORITY: Final = re.compile(rb"[0-9]{1,2}|100")
# An operator's answer is made in milliseconds.
_OPERATOR_SECONDS: Final = 10.0
#: Told to the operator's app: who asks may see names and states.
ADMIN_MARK: Final = b"x-gpuctl-admin: 1\r\n"


class Front:
    """One request on its way in."""

    __slots__ = ("_answer", "_client", "_gateway", "_key", "_record", "_request")

    def __init__(self, gateway: Gateway, client: Client, request: Request) -> None:
        self._gateway, self._client, self._request = gateway, client, request
        if gateway.draining:  # the next one is for whoever comes after this gateway
            request.keep_alive = False
        head = request.head
        record = self._record = Record(gateway.id_of(head.id), gateway.wall(), gateway.now())
        record.ip = client.ip
        if head.method != b"POST":
            record.method = head.method.decode("ascii", "replace")
        record.request_bytes = len(request.body)
        self._answer = Answer(client, request, record)
        self._key: Bearer | None = None

    def serve(self) -> Exchanging | None:
        """Answer it, or return the exchange that will."""
        gateway, head = self._gateway, self._request.head
        found = head.endpoint
        if found is None:
            looked_for = endpoints.find(head.method, head.target, gateway.terms.pass_through)
            if isinstance(looked_for, Refusal):
                self._no_endpoint(looked_for)
                return None
            found = looked_for
        self._record.endpoint = found.name
        if not self._let_in(found):
            return None
        if gateway.draining and found.kind != "operator":
            self._refuse("draining")
            return None
        if found.kind == "inference":
            return self._infer(found)
        if found.kind == "operator":
            return self._operate(found)
        if found.kind == "pass_through":
            return self._pass_through(found)
        self._models(found)
        return None

    def _no_endpoint(self, found: Refusal) -> None:
        # Who looks for what there is not is counted as well.
        crowded = access.crowded(self._gateway, self._client.shown, self._record)
        if crowded is not None:
            self._refuse(crowded.code, crowded.message, extra=crowded.headers)
            return
        allow: Given = ((b"allow", found.allow),) if found.allow else ()
        self._refuse(found.code, found.message, extra=allow)

    def _let_in(self, endpoint: Endpoint) -> bool:
        """Return whether the client may ask this now; it has been answered if not."""
        gateway, record = self._gateway, self._record
        self._key, self._answer.extra, refused = access.find(
            gateway, self._client.shown, endpoint, self._request.head.fields, record
        )
        if refused is None:
            return True
        self._refuse(refused.code, refused.message, extra=refused.headers)
        return False

    # What is asked.

    def _operate(self, endpoint: Endpoint) -> Exchanging | None:
        asked = Asked(
            "pass",
            b"GET " + endpoint.upstream_path,
            ADMIN_MARK if self._gateway.keyring.empty or self._admin() else b"",
            b"",
        )
        gateway = self._gateway
        exchange = Exchange(gateway, gateway.operators, asked, self._answer, self._record)
        exchange.direct(_OPERATOR_SECONDS)
        return None if exchange.over else exchange

    def _admin(self) -> bool:
        return self._key is not None and self._key.admin

    def _models(self, endpoint: Endpoint) -> None:
        created = int(self._gateway.started_at)
        listed = [
            _model(name, route, created)
            for name, route in self._gateway.table.names.items()
            if self._may_use(route)
        ]
        if not endpoint.model:
            self._whole(msgspec.json.encode({"object": "list", "data": listed}))
            return
        for entry in listed:
            if entry["id"] == endpoint.model:
                self._whole(msgspec.json.encode(entry))
                return
        self._unknown_model(endpoint.model)

    def _pass_through(self, endpoint: Endpoint) -> Exchanging | None:
        route = self._gateway.table.routes.get(endpoint.workload)
        if route is None or not self._may_use(route):
            self._refuse("no_replica")
            return None
        head = self._request.head
        line = b"%s %s" % (head.method, endpoint.upstream_path)
        asked = Asked("pass", line, heads.passed_on(head.headers), self._request.body)
        return self._go(route, asked)

    def _infer(self, endpoint: Endpoint) -> Exchanging | None:
        head, body = self._request.head, self._request.body
        if head.encoded:
            self._refuse("unsupported_media_type", "A body is sent without content-encoding.")
            return None
        if endpoint.body == "multipart":
            ask = multipart.read(head.content_type, body)
        else:
            prefix = self._gateway.terms.affinity == "prefix"
            ask = bodies.read(endpoint, head.content_type, body, words=prefix)
        if not isinstance(ask, Ask):
            self._refuse(ask.code, ask.message, param=ask.param)
            return None
        route = self._gateway.table.names.get(ask.model)
        if route is None or not self._may_use(route):
            self._unknown_model(ask.model)
            return None
        self._record.stream = ask.stream
        asked = self._asked(endpoint, ask, route)
        asked.affinity = self._affinity(ask)
        return self._go(route, asked)

    def _asked(self, endpoint: Endpoint, ask: Ask, route: Route) -> Asked:
        head, body = self._request.head, self._request.body
        stream = ask.stream and endpoint.streams
        asked = Asked("stream" if stream else "whole", endpoint.line, head.lines, body)
        model = None if ask.model == route.model else route.model
        if endpoint.body == "multipart":
            if model:
                asked.body = multipart.rewritten(head.content_type, body, model)
            return asked
        kind = endpoint.collected
        usage = stream and bool(kind) and not ask.usage_asked
        if model or usage or ask.drops:
            asked.body = bodies.rewritten(body, model, None, usage)
            asked.strip = usage
        wanted = route.collects
        if kind and not stream and wanted and collect.collectable(body):
            asked.collect = kind
            asked.collected_body = bodies.rewritten(body, model, True, True)
        return asked

    def _affinity(self, ask: Ask) -> bytes | None:
        """Return what keeps a conversation where it began."""
        wanted = self._gateway.terms.affinity
        if wanted == "none":
            return None
        told = ask.session or self._request.head.session
        if told is None and wanted == "prefix" and ask.first_words:
            return ask.first_words
        return told

    def _go(self, route: Route, asked: Asked) -> Exchanging | None:
        self._record.model = route.model
        told = self._request.head.idempotency_key
        if told is not None and asked.way != "pass":
            return self._share(route, asked, told)
        exchange = self._exchange(route, asked, self._answer)
        exchange.begin(self._priority(route))
        return None if exchange.over else exchange

    def _exchange(self, route: Route, asked: Asked, sink: Sink) -> Exchange:
        exchange = Exchange(self._gateway, route, asked, sink, self._record)
        exchange.key = self._key
        return exchange

    def _share(self, route: Route, asked: Asked, told: bytes) -> Exchanging | None:
        """Join the answer to the same Idempotency-Key, or begin it."""
        if not idempotency.usable(told):
            self._refuse("invalid_idempotency_key")
            return None
        record, request = self._record, self._request
        print_ = idempotency.fingerprint(record.endpoint, request.body)
        owner = record.key or record.ip
        found = self._gateway.memory.lookup(owner, told, print_, record.began)
        if found.entry is None:
            self._refuse("idempotency_key_reused")
            return None
        if found.state == "new":
            return self._lead(route, asked, found.entry)
        self._answer.extra += b"idempotent-replayed: true\r\n"
        follower = Follower(found.entry, self._client, self._answer, self._followed)
        follower.join()
        return None if follower.over else follower

    def _lead(self, route: Route, asked: Asked, entry: Entry) -> Exchanging | None:
        exchange = self._exchange(route, asked, Leader(entry, self._record))
        follower = Follower(entry, self._client, self._answer, self._led)

        def nobody_left() -> None:
            exchange.gone()
            if exchange.record.end == "answered":  # all of it had come, but for its framing
                entry.finish()
            else:
                entry.fail()

        entry.on_alone = nobody_left
        entry.on_pause, entry.on_resume = exchange.pause, exchange.resume
        follower.join()
        exchange.begin(self._priority(route))
        return None if follower.over else follower

    def _priority(self, route: Route) -> int:
        priority = self._gateway.terms.priorities.get(route.kind, 0)
        key = self._key
        if key is not None and key.priority is not None:
            priority = key.priority
        asked = self._request.head.priority
        if asked is None or not _PRIORITY.fullmatch(asked):
            return priority
        # Whoever has a key may go behind its own place, never before it.
        return int(asked) if key is None else min(int(asked), priority)

    def _may_use(self, route: Route) -> bool:
        key = self._key
        return key is None or not key.models or key.key.allows(route.model, *route.aliases)

    # Answers of the gateway itself.

    def _unknown_model(self, model: str) -> None:
        self._refuse("model_not_found", openai_errors.no_model(model), param="model")

    def _refuse(
        self, code: str, message: str = "", *, param: str | None = None, extra: Given = ()
    ) -> None:
        answer = openai_errors.answer(code, message, param=param)
        self._record.error = code
        replaced = {name for name, _ in extra}
        kept = tuple(header for header in answer.headers if header[0] not in replaced)
        self._answer.whole(answer.status, (*kept, *extra), answer.body)
        self._end("refused")

    def _whole(self, body: bytes) -> None:
        self._answer.whole(200, JSON, body)
        self._end("answered")

    def _followed(self, how: str, error: str) -> None:
        self._record.error = error
        self._end(how)

    def _led(self, how: str, error: str) -> None:
        # How it ended is the exchange's to note: others may have the answer still.
        self._record.error = error or self._record.error

    def _end(self, how: str) -> None:
        self._record.end = how
        self._record.seconds = self._gateway.now() - self._record.began
        self._gateway.finished(self._record)


def _model(name: str, route: Route, created: int) -> dict[str, object]:
    entry: dict[str, object] = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "gpuctl",
    }
    return entry if name == route.model else {**entry, "parent": route.model}
