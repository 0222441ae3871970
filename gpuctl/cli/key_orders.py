"""What `keys create`, `list` and `revoke` do."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpuctl.cli import key_store, whose
from gpuctl.cli.key_store import Keys
from gpuctl.cli.session import Session, display, show
from gpuctl.errors import DaemonDown, GpuctlError, NotFound, StatusDamaged, UsageError
from gpuctl.gateway import keyring
from gpuctl.gateway.keyring import Key

if TYPE_CHECKING:
    from gpuctl.views.keys import KeyRow

#: So that leaked keys are found by what scans for them.
_PREFIX = "gpuctl-"
#: 256 bits, 43 characters: nobody tries them all, whatever the digest.
_RANDOM_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a new key is to be; `None`, () and False leave it to the first key of its name."""

    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    priority: int | None = None
    expires_seconds: float | None = None
    admin: bool = False


def create(session: Session, name: str, order: Order) -> None:
    """Make a key, print it on stdout, and say on stderr what it is."""
    _check(name, order)
    whose.refuse_keys(session)
    token = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    before: Keys = ()
    made = _ordered(session, name, order, token)

    def add(there: Keys) -> Keys:
        nonlocal before, made
        before = there
        made = _beside(made, _live(there, name, made.created_at))
        return (*there, made)

    path = session.seen.keys
    key_store.change(path, add)
    show(token, flush=True)
    for line in _told(session, made, before):
        session.say(line)
    with suppress(FileNotFoundError):  # of a Status: nothing runs yet
        if other := other_group(os.stat(path), os.stat(session.seen.status)):
            where = f"{os.path.dirname(path)} {path}"
            session.say(f"warning: the gateway may not read it: `chgrp {other} {where}` mends that")


def listing(session: Session, *, as_json: bool) -> None:
    """Print every key but for what opens with it."""
    from gpuctl.views import keys

    now = session.now()
    rows = [_row(key, now) for key in key_store.read(session.seen.keys)]
    if as_json:
        show(json.dumps({"schema": 1, "keys": rows}, indent=2))
    elif rows:
        display(keys.listed(rows))
    else:
        session.say("there is no key: `gpuctl keys create NAME` makes one")


def revoke(session: Session, names: tuple[str, ...]) -> None:
    """Take back keys by their ids, or by the names that only one has."""
    whose.refuse_keys(session)
    now, after = session.now(), tuple[Key, ...]()
    gone: dict[str, Key] = {}

    def take(there: Keys) -> Keys:
        nonlocal after
        for name in names:
            key = _meant(there, name, now)
            gone[key.id] = keyring.revoked(key, at=now, by=os.getuid())
        after = tuple(gone.get(key.id, key) for key in there)
        return after

    key_store.change(session.seen.keys, take)
    for key in gone.values():
        session.say(f"revoked {key.id} of {key.name}: the gateway takes it no more")
    if not any(key.state(now) == "live" for key in after):
        session.say("no key holds now, and nobody is let in: `gpuctl keys create NAME` makes one")


def other_group(keys: os.stat_result, status: os.stat_result) -> str:
    """
    Return the group that keys.json should be of and is not, "" where nothing is wrong.

    A gateway that root starts is of the group that may read status.json.
    """
    import grp

    if keys.st_uid != 0 or keys.st_gid == status.st_gid:
        return ""
    try:
        return grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        return str(status.st_gid)


def _check(name: str, order: Order) -> None:
    found = [(name, keyring.wrong_name(name))]
    found += [(model, keyring.wrong_model(model)) for model in order.models]
    for text, wrong in found:
        if wrong:
            what, _, hint = wrong.partition("; ")
            raise UsageError(f"{text!r} {what}", hint)


def _ordered(session: Session, name: str, order: Order, token: str) -> Key:
    now = session.now()
    return Key(
        id=f"key-{secrets.token_hex(4)}",
        name=name,
        sha256=keyring.digest(token),
        models=tuple(dict.fromkeys(order.models)),
        requests_per_minute=order.requests_per_minute,
        tokens_per_minute=order.tokens_per_minute,
        priority=order.priority,
        admin=order.admin,
        created_at=now,
        created_by=os.getuid(),
        expires_at=None if order.expires_seconds is None else now + order.expires_seconds,
    )


def _live(keys: Keys, name: str, now: float) -> Keys:
    return tuple(key for key in keys if key.name == name and key.state(now) == "live")


def _beside(made: Key, others: Keys) -> Key:
    """Return a key with what the first of its name may, where nothing else was said of it."""
    if not others:
        return made
    if len(others) > 1:
        ids = _ids(others)
        raise GpuctlError(
            f"{made.name} has two keys already: {ids}",
            f"first take back the older: `gpuctl keys revoke {others[0].id}`",
        )
    first = others[0]
    return replace(
        made,
        models=made.models or first.models,
        requests_per_minute=made.requests_per_minute or first.requests_per_minute,
        tokens_per_minute=made.tokens_per_minute or first.tokens_per_minute,
        priority=first.priority if made.priority is None else made.priority,
        admin=made.admin or first.admin,
    )


def _told(session: Session, made: Key, before: Keys) -> list[str]:
    """Return what to say of a key that was made."""
    from gpuctl.views import keys

    lines = [
        f"{made.id} of {made.name}: {keys.described(_row(made, made.created_at))}",
        "it is shown this once; clients send it as `Authorization: Bearer …` or `X-API-Key: …`",
    ]
    for first in _live(before, made.name, made.created_at):
        then = f"`gpuctl keys revoke {first.id}`"
        lines.append(f"{first.id} of {made.name} holds as well: once nobody uses it, {then}")
    if not before:
        lines.append("it is the first: from now on the gateway lets nobody in without a key")
    if unknown := _unknown(session, made.models):
        lines.append(f"warning: nothing that runs here is called {', '.join(unknown)}")
    return lines


def _unknown(session: Session, models: tuple[str, ...]) -> tuple[str, ...]:
    """Return the models that no route has, as far as there is a Status."""
    with suppress(DaemonDown, StatusDamaged):
        known: set[str] = set()
        for route in session.status()["routes"]:
            known |= {route["workload"], route["model"], *route["aliases"]}
        return tuple(model for model in models if model not in known)
    return ()


def _meant(keys: Keys, word: str, now: float) -> Key:
    """Return the key of an id, or the one that holds of a name. Raises `NotFound`."""
    by_id = next((key for key in keys if key.id == word), None)
    if by_id is not None:
        if by_id.revoked_at is None:
            return by_id
        raise NotFound(f"{word} of {by_id.name} is revoked already", "nothing is left to do")
    found = _live(keys, word, now)
    if len(found) == 1:
        return found[0]
    if found:
        ids = " ".join(key.id for key in found)
        raise NotFound(
            f"{word} has two keys: {_ids(found)}",
            f"name the one by its id, or both: `gpuctl keys revoke {ids}`",
        )
    known = any(key.name == word for key in keys)
    what = f"{word} has no key that holds" if known else f"there is no key of {word!r}"
    raise NotFound(what, "`gpuctl keys list` has them")


def _ids(keys: Keys) -> str:
    from gpuctl.views import journal

    return ", ".join(f"{key.id} (made {journal.moment(key.created_at)})" for key in keys)


def _row(key: Key, now: float) -> KeyRow:
    return {
        "id": key.id,
        "name": key.name,
        "state": key.state(now),
        "models": list(key.models),
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_minute": key.tokens_per_minute,
        "priority": key.priority,
        "admin": key.admin,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "revoked_by": key.revoked_by,
    }
