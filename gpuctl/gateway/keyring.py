"""
API keys: keys.json and bare keys in, and whose a client's token is out. Pure.

Only digests are kept. A key is made of 256 random bits, so that a plain SHA-256 of it tells nobody
anything, and is quick enough to be made at every request. `gpuctl keys` writes keys.json, and
`key_files` reads it for the gateway.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gpuctl.applied import decode, encode
from gpuctl.gateway.endpoints import MODEL_NAME

SCHEMA = 1

#: What `find` says no for, in the words of the audit.
Refusal = Literal["unknown", "expired", "revoked"]

_ID = re.compile(r"key-[0-9a-f]{8}")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: As a profile's `priorities` are.
_MOST_PRIORITY = 100
#: Digits of a digest by which keys are looked up: what finds a key says nothing of the rest.
_START = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key, without its text."""

    id: str  # "key-" and 8 hexadecimal digits, or "inline-1" of one that stands in no keys.json
    name: str  # whose it is; two keys of one name are there while one takes the other's place
    sha256: str = field(repr=False)  # of its text, hexadecimal
    models: tuple[str, ...] = ()  # routes by any of their names; () is all
    requests_per_minute: int | None = None  # None: no limit
    tokens_per_minute: int | None = None  # None: no limit
    priority: int | None = None  # 0-100; None: that of the workload's kind
    admin: bool = False  # operator endpoints too
    created_at: float = 0.0  # Unix seconds, as all its times
    created_by: int = 0  # user id
    expires_at: float | None = None
    revoked_at: float | None = None
    revoked_by: int | None = None  # user id

    def state(self, now_unix: float) -> Literal["live", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        return "live" if self.expires_at is None or now_unix < self.expires_at else "expired"

    def allows(self, *names: str) -> bool:
        """Return whether it is for a route of any of these names."""
        return not self.models or any(name in self.models for name in names)


class Keyring:
    """Every key there is."""

    __slots__ = ("_by_start", "_count", "_shut")

    def __init__(self, keys: Iterable[Key], *, shut: bool = False) -> None:
        self._by_start: dict[str, tuple[Key, ...]] = {}
        self._count = 0
        self._shut = shut
        for key in keys:
            start = key.sha256[:_START]
            self._by_start[start] = (*self._by_start.get(start, ()), key)
            self._count += 1

    @classmethod
    def of(
        cls, document: bytes, inline: Iterable[str] = (), ids: dict[str, str] | None = None
    ) -> Keyring:
        """
        Return the keys of a keys.json (b"" where there is none) and those of bare texts.

        A text that is in keys.json as well is what that says of it. Raises ValueError as `read`.

        Args:
            ids: Digest → id of every bare text that there ever was; new ones are added. What is
                remembered by an id, as limits are, must not become another key's.
        """
        keys = {key.sha256: key for key in read(document)}
        ids = {} if ids is None else ids
        for sha256 in map(digest, inline):
            if sha256 not in keys:
                # An id made from the text would help to guess one that somebody thought up.
                id = ids.setdefault(sha256, f"inline-{len(ids) + 1}")
                keys[sha256] = Key(id=id, name="inline", sha256=sha256)
        return cls(keys.values())

    @classmethod
    def shut(cls) -> Keyring:
        """Return the keys of a gateway that cannot read its own: nobody is let in."""
        return cls((), shut=True)

    @property
    def empty(self) -> bool:
        """
        True where no key was ever made: everyone is let in then.

        With nothing but revoked or expired ones nobody is: the last `revoke` opens no door.
        """
        return self._count == 0 and not self._shut

    def __len__(self) -> int:
        return self._count

    def find(self, token: str, now_unix: float) -> Key | None:
        """Return the key that a client showed, if it is one and still holds."""
        key = self._matching(token)
        return key if key is not None and key.state(now_unix) == "live" else None

    def refusal(self, token: str) -> tuple[Refusal, str]:
        """Return why `find` has found none, and the id of the key that it would have been."""
        key = self._matching(token)
        if key is None:
            return "unknown", ""
        return ("expired" if key.revoked_at is None else "revoked"), key.id

    def _matching(self, token: str) -> Key | None:
        shown = digest(token)
        for key in self._by_start.get(shown[:_START], ()):
            if hmac.compare_digest(shown, key.sha256):
                return key
        return None


def digest(text: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def listed(text: str) -> tuple[str, ...]:
    """Return the keys in a text: with commas, spaces or lines between, each once."""
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def read(document: bytes) -> tuple[Key, ...]:
    """
    Return the keys of a keys.json, oldest first; of b"" none.

    Raises:
        ValueError: what is wrong with it. A key that is not understood is nobody's key.
    """
    if not document:
        return ()
    try:
        found = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    keys: tuple[Key, ...] = decode(tuple[Key, ...], found.get("keys"), "keys")
    for key in keys:
        if wrong := _wrong(key):
            raise ValueError(f"{key.id}: {wrong}")
    for name in ("id", "sha256"):
        values = [getattr(key, name) for key in keys]
        if len(set(values)) < len(values):
            raise ValueError(f"two keys have one {name}")
    return keys


def write(keys: Iterable[Key]) -> bytes:
    """Return the keys.json of these keys, in their order."""
    document: dict[str, Any] = {"schema": SCHEMA, "keys": encode(tuple(keys))}
    return (json.dumps(document, indent=2) + "\n").encode()


def revoked(key: Key, *, at: float, by: int) -> Key:
    """Return a key that holds no more; *at* in Unix seconds, *by* a user id."""
    return replace(key, revoked_at=at, revoked_by=by)


def needs_keys(listen: str) -> bool:
    """Return whether others than this host reach an address (`host:port`)."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def wrong_name(name: str) -> str:
    """Return what is wrong with a key's name as `what; hint`, "" where nothing is."""
    if not _NAME.fullmatch(name):
        return "is no name; use letters, digits and ._@- between them, at most 64"
    return "reads as the id of a key; choose another name" if _ID.fullmatch(name) else ""


def wrong_model(model: str) -> str:
    """Return what is wrong with a model's name as `what; hint`, "" where nothing is."""
    return "" if MODEL_NAME.fullmatch(model) else "is no model's name; `gpuctl status` has them"


def _wrong(key: Key) -> str:
    """Return what a key says that none can mean."""
    if not _ID.fullmatch(key.id):
        return "its id is none"
    if wrong_name(key.name):
        return "its name is none"
    if not _DIGEST.fullmatch(key.sha256):
        return "its sha256 is none"
    if any(map(wrong_model, key.models)):
        return "a model's name is none"
    limits = (key.requests_per_minute, key.tokens_per_minute)
    if any(limit is not None and limit < 1 for limit in limits):
        return "a limit below 1"
    if key.priority is not None and not 0 <= key.priority <= _MOST_PRIORITY:
        return f"a priority is a number from 0 to {_MOST_PRIORITY}"
    return ""
