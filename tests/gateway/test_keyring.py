"""API keys: what keys.json may say, whose a token is, and why it is nobody's."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.gateway import keyring
from gpuctl.gateway.keyring import Key, Keyring, digest

NOW = 1_000.0


def key(text: str, number: int = 1, **changes: Any) -> Key:
    """Return the key of a text; ids count up."""
    return replace(
        Key(id=f"key-{number:08x}", name="ci", sha256=digest(text), created_at=1.0), **changes
    )


FULL = key(
    "sk-full",
    models=("chat", "org/model:Q4"),
    requests_per_minute=60,
    tokens_per_minute=1000,
    priority=100,
    admin=True,
    created_by=1000,
    expires_at=2_000.0,
    revoked_at=3.0,
    revoked_by=0,
)


def test_a_document_comes_back_equal() -> None:
    """What is written is read again, in its order, and holds no key's text."""
    keys = (key("sk-1", 2), FULL)
    document = keyring.write(keys)
    assert keyring.read(document) == keys
    assert b"sk-" not in document
    assert list(json.loads(document)) == ["schema", "keys"]
    assert FULL.sha256 not in repr(FULL)


def test_what_is_left_out_has_its_default() -> None:
    """A key without limits may be written by hand."""
    least = {"id": "key-00000001", "name": "ci", "sha256": digest("sk-1")}
    document = json.dumps({"schema": 1, "keys": [least]}).encode()
    assert keyring.read(document) == (key("sk-1", created_at=0.0),)


@pytest.mark.parametrize(
    ("document", "what"),
    [
        pytest.param(b"{", "not JSON: Expecting property name", id="not-json"),
        pytest.param(b"[" * 100_000, "not JSON: maximum recursion depth", id="too-deep"),
        pytest.param(b"[]", "its schema is not 1", id="no-object"),
        pytest.param(b'{"schema": 2, "keys": []}', "its schema is not 1", id="schema"),
        pytest.param(b'{"schema": 1}', "keys is not a list", id="no-keys"),
        pytest.param(b'{"schema": 1, "keys": [1]}', "keys[0] is not a table", id="no-key"),
    ],
)
def test_a_document_that_is_none(document: bytes, what: str) -> None:
    """It is refused as a whole: with half of the keys somebody would be shut out, or let in."""
    with pytest.raises(ValueError, match=f"^{re.escape(what)}"):
        keyring.read(document)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        pytest.param({"id": "key-1"}, "key-1: its id is none", id="id"),
        pytest.param({"name": ""}, "its name is none", id="name"),
        pytest.param({"sha256": "00"}, "its sha256 is none", id="digest"),
        pytest.param({"models": ["a b"]}, "a model's name is none", id="model"),
        pytest.param({"requests_per_minute": 0}, "a limit below 1", id="requests"),
        pytest.param({"tokens_per_minute": -1}, "a limit below 1", id="tokens"),
        pytest.param({"priority": 101}, "a priority is a number from 0 to 100", id="priority"),
        pytest.param({"admin": "yes"}, "keys[0].admin is not what it should be", id="type"),
        pytest.param({"ip": "::1"}, "keys[0].ip is not known to this gpuctl", id="unknown"),
    ],
)
def test_a_key_that_is_not_understood(changes: dict[str, Any], what: str) -> None:
    """What a key says beyond what is known could be what keeps it from being used."""
    document = json.loads(keyring.write((key("sk-1"),)))
    document["keys"][0] |= changes
    with pytest.raises(ValueError, match=f"^(key-00000001: )?{re.escape(what)}$"):
        keyring.read(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("second", "what"),
    [
        pytest.param(key("sk-2", 1), "two keys have one id", id="id"),
        pytest.param(key("sk-1", 2), "two keys have one sha256", id="text"),
    ],
)
def test_two_that_are_one(second: Key, what: str) -> None:
    """Which of them is meant nobody can tell."""
    with pytest.raises(ValueError, match=what):
        keyring.read(keyring.write((key("sk-1"), second)))


@pytest.mark.parametrize(
    ("token", "now", "found", "refusal"),
    [
        pytest.param("sk-live", NOW, "key-00000001", None, id="live"),
        pytest.param("sk-short", NOW - 0.1, "key-00000002", None, id="not-yet-expired"),
        pytest.param("sk-short", NOW, None, ("expired", "key-00000002"), id="expired"),
        pytest.param("sk-gone", NOW, None, ("revoked", "key-00000003"), id="revoked"),
        pytest.param("sk-inline", NOW, "inline-1", None, id="inline"),
        pytest.param("sk-liv", NOW, None, ("unknown", ""), id="shorter"),
        pytest.param("", NOW, None, ("unknown", ""), id="nothing"),
        pytest.param("\udcff\u20ac", NOW, None, ("unknown", ""), id="no-ascii"),
    ],
)
def test_whose_a_token_is(
    token: str, now: float, found: str | None, refusal: tuple[str, str] | None
) -> None:
    """A live key is found; of any other it is said why, for the audit."""
    ring = Keyring.of(
        keyring.write(
            (
                key("sk-live", 1),
                key("sk-short", 2, expires_at=NOW),
                key("sk-gone", 3, expires_at=5.0, revoked_at=4.0, revoked_by=0),
            )
        ),
        ["sk-inline"],
    )
    match = ring.find(token, now)
    assert (match.id if match else None) == found
    if found is None:
        assert ring.refusal(token) == refusal


def test_digests_that_begin_alike() -> None:
    """Keys are looked up by how their digests begin, and told apart by the whole."""
    first = key("sk-1")
    second = key("x", 2, sha256=digest("sk-1")[:8] + "0" * 56)
    ring = Keyring((second, first))
    assert ring.find("sk-1", NOW) == first
    assert Keyring((second,)).find("sk-1", NOW) is None


def test_a_bare_key_that_was_revoked() -> None:
    """What keys.json says of a key holds for the same text elsewhere; others are counted."""
    document = keyring.write((key("sk-1", revoked_at=1.0),))
    ring = Keyring.of(document, ["sk-1", "sk-2", "sk-2", "sk-3"])
    assert ring.find("sk-1", NOW) is None
    assert ring.find("sk-2", NOW) == Key(id="inline-1", name="inline", sha256=digest("sk-2"))
    assert ring.find("sk-3", NOW) == Key(id="inline-2", name="inline", sha256=digest("sk-3"))
    assert len(ring) == 3


def test_an_id_is_one_keys_alone() -> None:
    """A bare key that goes leaves its id to nobody, and finds it again when it comes back."""
    ids: dict[str, str] = {}
    Keyring.of(b"", ["sk-1", "sk-2"], ids)
    left = Keyring.of(b"", ["sk-2", "sk-3"], ids)
    back = Keyring.of(b"", ["sk-3", "sk-1"], ids)
    found = [
        ring.find(text, NOW) for ring, text in ((left, "sk-2"), (left, "sk-3"), (back, "sk-1"))
    ]
    assert [key and key.id for key in found] == ["inline-2", "inline-3", "inline-1"]


@pytest.mark.parametrize(
    ("document", "inline", "empty"),
    [
        pytest.param(b"", (), True, id="nothing"),
        pytest.param(keyring.write(()), (), True, id="no-key"),
        pytest.param(keyring.write((FULL,)), (), False, id="all-revoked"),
        pytest.param(b"", ("sk-1",), False, id="inline"),
    ],
)
def test_whether_there_are_keys(document: bytes, inline: tuple[str, ...], empty: bool) -> None:
    """The last one that is revoked leaves the door shut, not open."""
    ring = Keyring.of(document, inline)
    assert (ring.empty, len(ring) == 0) == (empty, empty)


def test_keys_that_cannot_be_read() -> None:
    """They let nobody in, as none would."""
    ring = Keyring.shut()
    assert (ring.empty, len(ring), ring.find("sk-1", NOW)) == (False, 0, None)
    assert ring.refusal("sk-1") == ("unknown", "")


def test_what_a_key_is_for() -> None:
    """A route counts by any of its names; a key without models is for all."""
    assert key("a").allows("chat")
    assert FULL.allows("gpt-4", "chat")
    assert not FULL.allows("embed")


def test_a_key_is_revoked() -> None:
    """When and by whom is kept."""
    gone = keyring.revoked(key("a"), at=5.0, by=7)
    assert gone == key("a", revoked_at=5.0, revoked_by=7)
    assert gone.state(NOW) == "revoked"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", ()),
        (" , \n", ()),
        ("key1,key2", ("key1", "key2")),
        ("key1, key2\nkey1\r\n", ("key1", "key2")),
    ],
)
def test_keys_in_a_text(text: str, keys: tuple[str, ...]) -> None:
    """Commas, spaces and lines part them, and each counts once."""
    assert keyring.listed(text) == keys


@pytest.mark.parametrize(
    ("listen", "needed"),
    [
        ("127.0.0.1:4000", False),
        ("127.8.0.1:4000", False),
        ("localhost:80", False),
        ("[::1]:80", False),
        ("0.0.0.0:80", True),
        ("[::]:80", True),
        ("10.0.0.1:80", True),
        ("127.example.com:80", True),
    ],
)
def test_where_keys_are_needed(listen: str, needed: bool) -> None:
    """What only this host reaches may do without; a name that looks like it may not."""
    assert keyring.needs_keys(listen) is needed


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ci", ""),
        ("Team.a_b@host-2", ""),
        ("-ci", "is no name; use letters, digits and ._@- between them, at most 64"),
        ("a" * 65, "is no name; use letters, digits and ._@- between them, at most 64"),
        ("key-0a1b2c3d", "reads as the id of a key; choose another name"),
    ],
)
def test_names_of_keys(name: str, wrong: str) -> None:
    """A name is one word of plain signs, and never what `revoke` would take for an id."""
    assert keyring.wrong_name(name) == wrong


@given(
    texts=st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)),
    other=st.text(),
)
def test_only_keys_are_found(texts: list[str], other: str) -> None:
    """Every key opens, and nothing else does."""
    keys = [key(text, number) for number, text in enumerate(dict.fromkeys(texts))]
    ring = Keyring.of(keyring.write(keys))
    assert [ring.find(text, NOW) for text in dict.fromkeys(texts)] == keys
    assert (ring.find(other, NOW) is None) == (other not in texts)
