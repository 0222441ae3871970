"""`keys`: what is made, printed once, listed, and taken back; and what of it is on disk."""

from __future__ import annotations

import grp
import json
import os
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl.cli import key_orders, key_store
from gpuctl.cli.key_orders import Order
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError
from gpuctl.gateway import key_files, keyring
from gpuctl.gateway.keyring import Key, Keyring, digest
from gpuctl.model import GatewaySettings

Inside = Callable[..., Any]


def stored(place: Path) -> tuple[Key, ...]:
    return keyring.read((place / "keys.json").read_bytes())


def write(place: Path, *keys: Key) -> None:
    (place / "keys.json").write_bytes(keyring.write(keys))


def key(number: int, name: str = "ci", **changes: Any) -> Key:
    made = Key(id=f"key-{number:08x}", name=name, sha256=digest(f"sk-{number}"), created_at=1.0)
    return replace(made, **changes)


def test_a_key_is_printed_once(inside: Inside, place: Path) -> None:
    """It alone is on stdout, the gateway finds it, and its text is on no disk."""
    done = inside("keys", "create", "ci")

    token = done.out.removesuffix("\n")
    (made,) = stored(place)
    assert done.code == 0
    assert re.fullmatch(r"gpuctl-[A-Za-z0-9_-]{43}", token)
    assert key_files.load(str(place / "keys.json"), GatewaySettings(), {}).find(token, 0.0) == made
    assert (made.name, made.models, made.admin, made.created_by) == ("ci", (), False, os.getuid())
    assert (made.requests_per_minute, made.expires_at, made.revoked_at) == (None, None, None)
    assert token not in (place / "keys.json").read_text()
    assert token not in inside("keys", "list").out + inside("keys", "list", "--json").out
    assert done.err.splitlines() == [
        f"{made.id} of ci: for all models, until revoked",
        "it is shown this once; clients send it as `Authorization: Bearer …` or `X-API-Key: …`",
        "it is the first: from now on the gateway lets nobody in without a key",
    ]


def test_everything_that_a_key_may_be(inside: Inside, place: Path) -> None:
    """Each option reaches its field; the expiry counts from now."""
    options = ("--model", "chat", "--model", "org/m:Q4", "--rpm", "60", "--tpm", "1000")
    done = inside(
        "keys", "create", "a.b", *options, "--priority", "0", "--expires", "2d", "--admin"
    )

    assert done.code == 0
    (made,) = stored(place)
    assert made == replace(
        key(0, "a.b"),
        id=made.id,
        sha256=digest(done.out.strip()),
        models=("chat", "org/m:Q4"),
        requests_per_minute=60,
        tokens_per_minute=1000,
        priority=0,
        admin=True,
        created_at=made.created_at,
        created_by=os.getuid(),
        expires_at=made.created_at + 2 * 86400,
    )


def test_a_second_key_takes_over(inside: Inside, place: Path) -> None:
    """It may do what the first may where nothing else is said; both hold, and no third."""
    first = key(1, models=("chat",), requests_per_minute=5, priority=0, expires_at=9e9)
    write(place, first)

    done = inside("keys", "create", "ci", "--rpm", "7")
    refused = inside("keys", "create", "ci")

    second = stored(place)[1]
    assert (second.models, second.requests_per_minute, second.priority) == (("chat",), 7, 0)
    assert second.expires_at is None
    assert stored(place) == (first, second)
    assert (
        "key-00000001 of ci holds as well: once nobody uses it,"
        " `gpuctl keys revoke key-00000001`" in done.err
    )
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("error: ci has two keys already: key-00000001 (made 1970-01-01 ")
    assert refused.err.endswith(
        "\nhint: first take back the older: `gpuctl keys revoke key-00000001`\n"
    )


def test_the_same_name_again(inside: Inside, place: Path) -> None:
    """A key that holds no more leaves nothing to the next of its name."""
    write(
        place,
        key(1, admin=True, revoked_at=2.0, revoked_by=0),
        key(2, tokens_per_minute=5, expires_at=3.0),
    )

    done = inside("keys", "create", "ci")

    made = stored(place)[2]
    assert (made.admin, made.tokens_per_minute) == (False, None)
    assert len(done.err.splitlines()) == 2


def test_a_model_that_nothing_here_is_called(
    inside: Inside, place: Path, publish: Callable[..., dict[str, Any]]
) -> None:
    """It is made all the same, for a workload to come, and it is said."""
    route = {"workload": "chat", "model": "m.gguf", "aliases": ["gpt-4"], "replicas": []}
    publish(routes=[route])
    names = ("chat", "nothing", "gpt-4", "m.gguf")

    done = inside("keys", "create", "a", *(word for n in names for word in ("--model", n)))

    assert done.code == 0
    assert done.err.splitlines()[-1] == "warning: nothing that runs here is called nothing"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(
            ("a b",), "'a b' is no name\nhint: use letters, digits and ._@- between them", id="name"
        ),
        pytest.param(
            ("key-00000001",), "'key-00000001' reads as the id of a key\nhint: choose", id="id"
        ),
        pytest.param(
            ("a", "--model", "x y"), "'x y' is no model's name\nhint: `gpuctl status`", id="model"
        ),
        pytest.param(("a", "--rpm", "0"), "--rpm", id="no-requests"),
        pytest.param(("a", "--priority", "101"), "--priority", id="priority"),
        pytest.param(("a", "--expires", "30"), "write 30d, 12h, 90m", id="expires"),
    ],
)
def test_what_makes_no_sense(
    inside: Inside, place: Path, arguments: tuple[str, ...], told: str
) -> None:
    """It is refused as a mistake of usage, and nothing is made."""
    done = inside("keys", "create", *arguments)

    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert not (place / "keys.json").exists()


def test_the_list(inside: Inside, place: Path) -> None:
    """One line a key, whatever became of it."""
    write(
        place,
        key(1, models=("chat", "embed"), requests_per_minute=60, priority=9, admin=True),
        key(2, "old", expires_at=2.0),
        key(3, "gone", tokens_per_minute=5, revoked_at=2.0, revoked_by=0),
    )

    lines = inside("keys", "list").out.splitlines()

    moment = "1970-01-01 00:00:0"
    assert [re.split(r"  +", line.strip()) for line in lines[1:]] == [
        ["key-00000001", "ci", "live", "chat, embed", "60", "-", "9", "yes", f"{moment}1", "-"],
        ["key-00000002", "old", "expired", "all", "-", "-", "-", "no", f"{moment}1", f"{moment}2"],
        ["key-00000003", "gone", "revoked", "all", "-", "5", "-", "no", f"{moment}1", "-"],
    ]


def test_the_list_for_scripts(inside: Inside, place: Path) -> None:
    """The same with who and when, and without the digest."""
    write(place, key(1, "gone", revoked_at=2.0, revoked_by=7))

    assert json.loads(inside("keys", "list", "--json").out) == {
        "schema": 1,
        "keys": [
            {
                "id": "key-00000001",
                "name": "gone",
                "state": "revoked",
                "models": [],
                "requests_per_minute": None,
                "tokens_per_minute": None,
                "priority": None,
                "admin": False,
                "created_at": 1.0,
                "created_by": 0,
                "expires_at": None,
                "revoked_at": 2.0,
                "revoked_by": 7,
            }
        ],
    }


def test_no_key_to_list(inside: Inside, place: Path) -> None:
    """Where none was ever made that is no mistake."""
    assert inside("keys", "list") == (
        0,
        "",
        "there is no key: `gpuctl keys create NAME` makes one\n",
    )
    assert json.loads(inside("keys", "list", "--json").out) == {"schema": 1, "keys": []}


@pytest.mark.parametrize("word", ["key-00000002", "ci"])
def test_a_key_is_taken_back(inside: Inside, place: Path, word: str) -> None:
    """By its id, or by a name that one key of holds; it stays on record, with who and when."""
    write(place, key(1, expires_at=2.0), key(2), key(3, "other"))

    done = inside("keys", "revoke", word)

    gone = stored(place)[1]
    assert (done.code, done.out) == (0, "")
    assert done.err == "revoked key-00000002 of ci: the gateway takes it no more\n"
    assert gone.revoked_at is not None
    assert stored(place) == (
        key(1, expires_at=2.0),
        key(2, revoked_at=gone.revoked_at, revoked_by=os.getuid()),
        key(3, "other"),
    )


def test_the_last_key_is_taken_back(inside: Inside, place: Path) -> None:
    """The door stays shut, and that is said."""
    write(place, key(1), key(2))

    done = inside("keys", "revoke", "key-00000001", "key-00000002")

    assert done.err.splitlines()[-1] == (
        "no key holds now, and nobody is let in: `gpuctl keys create NAME` makes one"
    )
    assert not Keyring(stored(place)).empty


@pytest.mark.parametrize(
    ("word", "told"),
    [
        pytest.param(
            "ci",
            "ci has two keys: key-00000001 (made 1970-01-01 00:00:01), key-00000002 (made"
            " 1970-01-01 00:00:01)\nhint: name the one by its id, or both:"
            " `gpuctl keys revoke key-00000001 key-00000002`",
            id="two-of-a-name",
        ),
        pytest.param(
            "gone",
            "gone has no key that holds\nhint: `gpuctl keys list` has them",
            id="none-that-holds",
        ),
        pytest.param(
            "key-00000003",
            "key-00000003 of gone is revoked already\nhint: nothing is left to do",
            id="revoked",
        ),
        pytest.param(
            "who", "there is no key of 'who'\nhint: `gpuctl keys list` has them", id="nobody"
        ),
    ],
)
def test_a_key_that_cannot_be_meant(inside: Inside, place: Path, word: str, told: str) -> None:
    """Nothing is taken back then, of those named beside it neither."""
    keys = (key(1), key(2), key(3, "gone", revoked_at=2.0, revoked_by=0), key(4, "other"))
    write(place, *keys)

    done = inside("keys", "revoke", "other", word)

    assert done == (2, "", f"error: {told}\n")
    assert stored(place) == keys


def test_the_file(place: Path, here: Session) -> None:
    """Its owner writes, its group reads; what a killed caller left is no obstacle."""
    (place / "keys.json.new").symlink_to("/nowhere/else")

    key_orders.create(here, "ci", Order())

    found = os.stat(place / "keys.json")
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert found.st_gid == os.stat(place).st_gid
    assert sorted(path.name for path in place.iterdir()) == ["keys.json"]


def owned(user: int, group: int) -> os.stat_result:
    return os.stat_result((0o100640, 1, 1, 1, user, group, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("keys", "status", "group"),
    [
        pytest.param(owned(0, 0), owned(0, 0), "", id="roots"),
        pytest.param(owned(0, 0), owned(0, 54321), "54321", id="of-a-group-of-its-own"),
        pytest.param(owned(0, 54321), owned(0, 0), grp.getgrgid(0).gr_name, id="of-another"),
        pytest.param(owned(1000, 1000), owned(1000, 54321), "", id="a-users-own"),
    ],
)
def test_the_group_of_a_gateway_that_is_another_user(
    keys: os.stat_result, status: os.stat_result, group: str
) -> None:
    """It is that of status.json, where root starts the gateway; a user's own is that user."""
    assert key_orders.other_group(keys, status) == group


def test_a_gateway_that_could_not_read_it_is_told_of(
    inside: Inside, place: Path, publish: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that mends it."""
    publish()
    monkeypatch.setattr(key_orders, "other_group", lambda *_: "gpuctl")
    assert inside("keys", "create", "ci").err.splitlines()[-1] == (
        f"warning: the gateway may not read it: `chgrp gpuctl {place} {place}/keys.json` mends that"
    )


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """The first key makes it."""
    path = tmp_path / "etc" / "gpuctl" / "keys.json"
    key_store.change(str(path), lambda keys: (*keys, key(1)))
    assert key_store.read(str(path)) == (key(1),)


def test_callers_at_once(tmp_path: Path) -> None:
    """No key is lost between them."""
    path = str(tmp_path / "keys.json")

    def add(number: int) -> None:
        key_store.change(path, lambda keys: (*keys, key(number)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(1, 33)))
    assert {one.id for one in key_store.read(path)} == {key(n).id for n in range(1, 33)}


@pytest.mark.parametrize("arguments", [("list",), ("create", "a"), ("revoke", "a")])
def test_a_damaged_file(inside: Inside, place: Path, arguments: tuple[str, ...]) -> None:
    """It is never taken for an empty one, nor written over."""
    path = place / "keys.json"
    path.write_text('{"schema": 1')

    done = inside("keys", *arguments)

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: {path}: not JSON: ")
    assert done.err.endswith("\nhint: mend it, or move it away and make new keys\n")
    assert path.read_text() == '{"schema": 1'


def test_a_place_that_is_none(tmp_path: Path) -> None:
    """What the system refuses is told with where, and nothing is made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(GpuctlError, match=re.escape(f"{tmp_path}/file: File exists")):
        key_store.change(f"{tmp_path}/file/keys.json", lambda keys: keys)


def test_a_place_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not write there is told whose it is."""

    def denied(path: str, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "makedirs", denied)
    with pytest.raises(GpuctlError, match="Permission denied") as caught:
        key_store.change(f"{tmp_path}/keys.json", lambda keys: keys)
    assert caught.value.hint.startswith(("use sudo", "join the group"))
