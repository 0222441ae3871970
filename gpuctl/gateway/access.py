"""
Who may ask, and how often: the key of a request and the limits of that and of the address.

`front` asks with each request. What is refused here is counted, and logged for the audit.
"""

from __future__ import annotations

import hmac
import math
from typing import TYPE_CHECKING, Final, NamedTuple

from gpuctl.gateway.endpoints import Endpoint
from gpuctl.gateway.heads import Given
from gpuctl.gateway.keyring import Key, Keyring
from gpuctl.gateway.limits import Allowance, duration
from gpuctl.gateway.record import Record

if TYPE_CHECKING:
    from gpuctl.gateway.gateway import Gateway

#: Whether it lives and serves is nobody's secret; who asks without a key gets no names.
_OPEN: Final = frozenset(("/health", "/ready", "/readyz", "/openapi.json"))
#: A probe that is told 429 by mistake would have the gateway killed for what its clients do.
_PROBES: Final = frozenset(("/health", "/ready", "/readyz"))


class Refused(NamedTuple):
    """Why somebody is not let in, as one of `openai_errors.FAULTS`."""

    code: str
    message: str = ""
    headers: Given = ()
    told: bytes = b""  # as in `LetIn`


class LetIn:
    """Whose request it is, and what its answer tells of the key's limits."""

    __slots__ = ("key", "told")

    def __init__(self, key: Key | None, told: bytes = b"") -> None:
        self.key = key  # None: there are no keys, or this needs none
        self.told = told  # header lines


class Shown:
    """The key that a connection has shown last: most show one for as long as they last."""

    __slots__ = ("_key", "_keyring", "_token")

    def __init__(self) -> None:
        self._token = b""
        self._key: Key | None = None
        self._keyring: Keyring | None = None

    def find(self, keyring: Keyring, token: bytes, now_unix: float) -> Key | None:
        """Return the key of a token, as `Keyring.find` does."""
        key = self._key
        known = key is not None and keyring is self._keyring
        if key is None or not known or not hmac.compare_digest(token, self._token):
            key = keyring.find(token.decode("latin-1"), now_unix)
            self._token, self._key, self._keyring = token, key, keyring
        elif key.expires_at is not None and now_unix >= key.expires_at:
            return None
        return key


def find(
    gateway: Gateway,
    shown: Shown,
    endpoint: Endpoint,
    head: dict[bytes, bytes],
    record: Record,
) -> LetIn | Refused:
    """
    Return who asks, or why not; *shown* is of the connection.

    1. An address that asks too often; probes are not counted.
    2. A key that is needed, and missing or not good; an operator's endpoint without an admin's.
    3. A key whose requests or tokens of the minute are used up.
    """
    # 1. the address
    if endpoint.name not in _PROBES and (refused := crowded(gateway, record)) is not None:
        return refused
    # 2. the key
    token = _token(head)
    if gateway.keyring.empty or (not token and _open(gateway, endpoint)):
        return LetIn(None)
    key = shown.find(gateway.keyring, token, record.at)
    if key is None:
        if _open(gateway, endpoint):
            return LetIn(None)
        reason = "missing"
        if token:
            reason, record.key = gateway.keyring.refusal(token.decode("latin-1"))
        gateway.denied(record, reason)
        how = "" if token else "No API key was sent: `Authorization: Bearer …` or `X-API-Key: …`."
        return Refused("invalid_api_key", how)
    record.key = key.id
    if endpoint.kind == "operator":
        if key.admin or _open(gateway, endpoint):
            return LetIn(key)
        gateway.denied(record, "not_admin")
        return Refused(
            "permission_denied", "This needs an admin key: `gpuctl keys create --admin`."
        )
    # 3. its limits
    if endpoint.kind == "models":  # asked before each chat by some clients, and no work
        return LetIn(key)
    return _within(gateway, key, record)


def crowded(gateway: Gateway, record: Record) -> Refused | None:
    """Count a request of its address; return why it is one too many, None where it is not."""
    most = gateway.terms.requests_per_minute_per_ip
    if most is None:
        return None
    allowance = gateway.limiter.take(("ip", record.ip), most, 1, record.began)
    return None if allowance.allowed else _limited(gateway, record, "ip", allowance)


def _open(gateway: Gateway, endpoint: Endpoint) -> bool:
    free_metrics = endpoint.name == "/metrics" and not gateway.terms.metrics_key
    return endpoint.name in _OPEN or free_metrics


def _token(head: dict[bytes, bytes]) -> bytes:
    bearer = head.get(b"authorization", b"")
    if bearer[:7] == b"Bearer " or bearer[:7].lower() == b"bearer ":
        return bearer[7:].strip()
    return head.get(b"x-api-key", b"")


def _within(gateway: Gateway, key: Key, record: Record) -> LetIn | Refused:
    told, id, now = b"", key.id, record.began
    if (most := key.requests_per_minute) is not None:
        allowance = gateway.limiter.take(("requests", id), most, 1, now)
        if not allowance.allowed:
            return _limited(gateway, record, "requests", allowance)
        told = _told("requests", allowance)
    if (most := key.tokens_per_minute) is not None:
        # What a request costs is known when it is answered: who is not in debt may ask.
        allowance = gateway.limiter.take(("tokens", id), most, 0, now)
        if not allowance.allowed:
            return _limited(gateway, record, "tokens", allowance)
        told += _told("tokens", allowance)
    return LetIn(key, told)


def _limited(gateway: Gateway, record: Record, scope: str, allowance: Allowance) -> Refused:
    gateway.limited(record, scope)
    what, whose = ("requests", "this address") if scope == "ip" else (scope, "this key")
    return Refused(
        "rate_limit_exceeded",
        f"Rate limit of {whose} reached: {allowance.limit} {what} per minute.",
        ((b"retry-after", b"%d" % max(1, math.ceil(allowance.retry_seconds))),),
        b"" if scope == "ip" else _told(scope, allowance),
    )


def _told(what: str, allowance: Allowance) -> bytes:
    reset = duration(allowance.reset_seconds)
    return (
        f"x-ratelimit-limit-{what}: {allowance.limit}\r\n"
        f"x-ratelimit-remaining-{what}: {allowance.remaining}\r\n"
        f"x-ratelimit-reset-{what}: {reset}\r\n"
    ).encode()
