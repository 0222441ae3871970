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
from gpuctl.gateway.limits import Bucket, Limit, Limiter
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


class Bearer:
    """
    A key as a connection shows it, flat: what every request needs of it, and what it has left.

    A `Key` is a dataclass, whose attributes cost the compiled gateway more than a limit does.
    """

    __slots__ = ("admin", "expires_at", "id", "key", "models", "priority", "requests", "tokens")

    def __init__(self, key: Key, limiter: Limiter) -> None:
        self.key = key
        self.id = key.id
        self.models = key.models
        self.priority = key.priority
        self.admin = key.admin
        self.expires_at = math.inf if key.expires_at is None else key.expires_at  # Unix seconds
        most = key.requests_per_minute
        self.requests = None if most is None else Limit(limiter, "requests", key.id, most)
        most = key.tokens_per_minute
        self.tokens = None if most is None else Limit(limiter, "tokens", key.id, most)


class Shown:
    """The key that a connection has shown last: most show one for as long as they last."""

    __slots__ = ("_api_key", "_authorization", "_bearer", "_head", "_keyring", "address")

    def __init__(self) -> None:
        self.address: Bucket | None = None  # of the connection's address
        self._bearer: Bearer | None = None
        self._keyring: Keyring | None = None
        #: That showed it: requests with one head share this, and nothing changes it any more.
        self._head: dict[bytes, bytes] = {}
        # As they came, so that nothing is made of them to see that they came again.
        self._authorization = b""
        self._api_key: bytes | None = None  # None: the key stood in the other

    def known(self, keyring: Keyring, head: dict[bytes, bytes], now_unix: float) -> Bearer | None:
        """Return whose key is shown if that is the last one and still holds, else None."""
        bearer = self._bearer
        if bearer is None or keyring is not self._keyring or now_unix >= bearer.expires_at:
            return None
        if head is not self._head:
            if not hmac.compare_digest(head.get(b"authorization", b""), self._authorization):
                return None
            api_key = self._api_key
            if api_key is not None and not hmac.compare_digest(
                head.get(b"x-api-key", b""), api_key
            ):
                return None
            self._head = head
        return bearer

    def find(
        self, keyring: Keyring, head: dict[bytes, bytes], now_unix: float, limiter: Limiter
    ) -> Bearer | None:
        """Return whose key is shown, as `Keyring.find` does."""
        token, in_api_key = _token(head)
        key = keyring.find(token.decode("latin-1"), now_unix)
        bearer = None if key is None else Bearer(key, limiter)
        self._bearer = bearer if token else None  # who shows nothing is asked again
        self._keyring, self._head = keyring, head
        self._authorization = head.get(b"authorization", b"")
        self._api_key = token if in_api_key else None
        return bearer


def find(
    gateway: Gateway,
    shown: Shown,
    endpoint: Endpoint,
    head: dict[bytes, bytes],
    record: Record,
) -> tuple[Bearer | None, bytes, Refused | None]:
    """
    Return who asks, header lines of what that has left, and why it may not; *shown* is of the
    connection. None asks where there are no keys, this needs none, or it may not.

    1. An address that asks too often; probes are not counted.
    2. A key that is needed, and missing or not good; an operator's endpoint without an admin's.
    3. A key whose requests or tokens of the minute are used up.
    """
    # 1. the address
    if gateway.terms.requests_per_minute_per_ip is not None and endpoint.name not in _PROBES:
        refused = crowded(gateway, shown, record)
        if refused is not None:
            return None, b"", refused
    # 2. the key
    bearer = shown.known(gateway.keyring, head, record.at)
    if bearer is None:
        bearer, refused = _unknown(gateway, shown, endpoint, head, record)
        if bearer is None:
            return None, b"", refused
    record.key = bearer.id
    kind = endpoint.kind
    if kind == "operator":
        if bearer.admin or _open(gateway, endpoint):
            return bearer, b"", None
        gateway.denied(record, "not_admin")
        needed = "This needs an admin key: `gpuctl keys create --admin`."
        return None, b"", Refused("permission_denied", needed)
    # 3. its limits
    if kind == "models":  # asked before each chat by some clients, and no work
        return bearer, b"", None
    return _within(gateway, bearer, record)


def crowded(gateway: Gateway, shown: Shown, record: Record) -> Refused | None:
    """Count a request of its address; return why it is one too many, None where it is not."""
    most = gateway.terms.requests_per_minute_per_ip
    if most is None:
        return None
    bucket = shown.address
    if bucket is None:
        bucket = gateway.limiter.bucket(("ip", record.ip))
    bucket = shown.address = gateway.limiter.take(bucket, most, 1, record.began)
    return None if bucket.allowed else _limited(gateway, record, "ip", most, bucket)


def _unknown(
    gateway: Gateway, shown: Shown, endpoint: Endpoint, head: dict[bytes, bytes], record: Record
) -> tuple[Bearer | None, Refused | None]:
    """Look for the key of a connection that has not shown it before."""
    keyring, (token, _) = gateway.keyring, _token(head)
    if keyring.empty or (not token and _open(gateway, endpoint)):
        return None, None
    bearer = shown.find(keyring, head, record.at, gateway.limiter)
    if bearer is not None or _open(gateway, endpoint):
        return bearer, None
    reason = "missing"
    if token:
        reason, record.key = keyring.refusal(token.decode("latin-1"))
    gateway.denied(record, reason)
    how = "" if token else "No API key was sent: `Authorization: Bearer …` or `X-API-Key: …`."
    return None, Refused("invalid_api_key", how)


def _open(gateway: Gateway, endpoint: Endpoint) -> bool:
    free_metrics = endpoint.name == "/metrics" and not gateway.terms.metrics_key
    return endpoint.name in _OPEN or free_metrics


def _token(head: dict[bytes, bytes]) -> tuple[bytes, bool]:
    """Return the text of a key, and whether it stands in x-api-key; b"" where none is shown."""
    authorization = head.get(b"authorization", b"")
    if authorization[:7].lower() == b"bearer ":
        return authorization[7:].strip(), False
    return head.get(b"x-api-key", b""), True


def _within(
    gateway: Gateway, bearer: Bearer, record: Record
) -> tuple[Bearer | None, bytes, Refused | None]:
    requests, tokens, now = bearer.requests, bearer.tokens, record.began
    if requests is not None:
        bucket = requests.take(1, now)
        if not bucket.allowed:
            refused = _limited(gateway, record, "requests", requests.per_minute, bucket)
            return None, requests.told(), refused
    if tokens is not None:
        # What a request costs is known when it is answered: who is not in debt may ask.
        bucket = tokens.take(0, now)
        if not bucket.allowed:
            refused = _limited(gateway, record, "tokens", tokens.per_minute, bucket)
            return None, tokens.told(), refused
        told = tokens.told() if requests is None else requests.told_with(tokens)
        return bearer, told, None
    return bearer, b"" if requests is None else requests.told(), None


def _limited(gateway: Gateway, record: Record, scope: str, most: int, bucket: Bucket) -> Refused:
    gateway.limited(record, scope)
    what, whose = ("requests", "this address") if scope == "ip" else (scope, "this key")
    return Refused(
        "rate_limit_exceeded",
        f"Rate limit of {whose} reached: {most} {what} per minute.",
        ((b"retry-after", b"%d" % max(1, math.ceil(bucket.retry_seconds))),),
    )
