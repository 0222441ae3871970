"""Where the gateway has its keys from; what cannot be had is never taken for none."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from gpuctl.errors import GpuctlError
from gpuctl.gateway import key_files, keyring
from gpuctl.gateway.keyring import Key, digest
from gpuctl.gateway.log import Lines
from gpuctl.gateway.outages import Outages
from gpuctl.model import GatewaySettings
from tests.gateway.inside import Heard

OWN = Key(id="key-00000001", name="ci", sha256=digest("sk-own"))


def test_every_place_of_keys(tmp_path: Path) -> None:
    """keys.json, the profile's files, and the gateway's own environment add up."""
    (tmp_path / "keys.json").write_bytes(keyring.write((OWN,)))
    (tmp_path / "profile").write_text("sk-1\nsk-2\n")
    (tmp_path / "own").write_text("sk-3")
    environment = {
        "API_KEYS": "sk-4,sk-5",
        "GATEWAY_API_KEYS": "sk-1",
        "API_KEYS_FILE": str(tmp_path / "own"),
    }
    settings = GatewaySettings(key_files=(str(tmp_path / "profile"),), keys_from=("API_KEYS",))
    ring = key_files.load(str(tmp_path / "keys.json"), settings, environment)
    found = [ring.find(f"sk-{name}", 0.0) for name in ("own", 1, 2, 3, 4, 5, 6)]
    assert found[0] == OWN
    assert [one is not None for one in found] == [True] * 6 + [False]
    assert len(ring) == 6


def test_no_key_anywhere(tmp_path: Path) -> None:
    """A host where nobody made one has none, and a variable that is "" is not set."""
    ring = key_files.load(str(tmp_path / "keys.json"), GatewaySettings(), {"API_KEYS": ""})
    assert ring.empty


@pytest.mark.parametrize(
    ("name", "content", "settings", "environment", "message"),
    [
        pytest.param(
            "keys.json", b"", GatewaySettings(), {}, "{0}/keys.json: the file is empty", id="empty"
        ),
        pytest.param(
            "keys.json", b"{}", GatewaySettings(), {}, "{0}/keys.json: its schema", id="damaged"
        ),
        pytest.param(
            "x",
            b"",
            GatewaySettings(),
            {"API_KEYS_FILE": "{0}/none"},
            "{0}/none: no such file of keys",
            id="file-missing",
        ),
        pytest.param(
            "x",
            b" \n",
            GatewaySettings(),
            {"API_KEYS_FILE": "{0}/x"},
            "{0}/x: no key is in it",
            id="file-without-a-key",
        ),
        pytest.param(
            "x",
            "sk-1 kéy".encode(),
            GatewaySettings(),
            {"API_KEYS_FILE": "{0}/x"},
            "{0}/x: a key of other characters than a header may have",
            id="file-with-an-accent",
        ),
        pytest.param(
            "x",
            b"\xff,\x01",
            GatewaySettings(),
            {"API_KEYS_FILE": "{0}/x"},
            "{0}/x: 2 keys of other characters than a header may have",
            id="file-that-is-no-text",
        ),
        pytest.param(
            "x",
            b"",
            GatewaySettings(),
            {"API_KEYS_FILE": "{0}"},
            "{0}: Is a directory",
            id="directory",
        ),
        pytest.param(
            "x",
            b"a" * (16 * 1024**2 + 1),
            GatewaySettings(),
            {"API_KEYS_FILE": "{0}/x"},
            "{0}/x: over 16 MiB: these are no keys",
            id="too-large",
        ),
        pytest.param(
            "x",
            b"",
            GatewaySettings(keys_from=("API_KEYS",)),
            {"GATEWAY_API_KEYS": "sk-1"},
            "API_KEYS: not in the gateway's environment, and the profile was applied with it",
            id="variable-missing",
        ),
        pytest.param(
            "x",
            b"",
            GatewaySettings(),
            {"API_KEYS": ", "},
            "API_KEYS: no key is in it",
            id="variable-without-a-key",
        ),
    ],
)
def test_keys_that_cannot_be_had(
    tmp_path: Path,
    name: str,
    content: bytes,
    settings: GatewaySettings,
    environment: dict[str, str],
    message: str,
) -> None:
    """It is an error: without them everyone would be let in. No key is in the message."""
    (tmp_path / name).write_bytes(content)
    own = {variable: text.format(tmp_path) for variable, text in environment.items()}
    with pytest.raises(GpuctlError) as caught:
        key_files.load(str(tmp_path / "keys.json"), settings, own)
    assert caught.value.message.startswith(message.format(tmp_path))
    assert "sk-" not in caught.value.message


def test_a_stamp(tmp_path: Path) -> None:
    """
    It is another when a file of keys comes, changes or goes, or the profile names others.

    So it is when another may read it: that is what mends a file of the wrong group.
    """
    path, other = tmp_path / "keys.json", tmp_path / "other"
    environment = {"API_KEYS_FILE": str(other)}

    def now(**changes: Any) -> tuple[object, ...]:
        return key_files.stamp(str(path), GatewaySettings(**changes), environment)

    seen = [now()]
    path.write_text("1")
    seen.append(now())
    other.write_text("1")
    seen.append(now())
    other.write_text("22")
    seen.append(now())
    path.chmod(0o600)
    seen.append(now())
    path.unlink()
    seen.append(now())
    seen.append(now(keys_from=("API_KEYS",)))
    seen.append(now(key_files=("/nowhere",)))
    seen.append(now())
    assert len(set(seen)) == 8
    assert now() == seen[-1]


def test_the_same_key_keeps_its_id(tmp_path: Path) -> None:
    """What is read again is who it was."""
    ids: dict[str, str] = {}
    for keys in ("sk-1,sk-2", "sk-2"):
        environment = {"API_KEYS": keys}
        ring = key_files.load(str(tmp_path / "keys.json"), GatewaySettings(), environment, ids)
    found = ring.find("sk-2", 0.0)
    assert found is not None
    assert found.id == "inline-2"


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def keys(tmp_path: Path, heard: Heard) -> key_files.Keys:
    lines = cast(Lines, heard)
    return key_files.Keys(str(tmp_path / "keys.json"), {}, lines, Outages(heard.event))


class Door:
    """What a gateway makes of `look`, every second."""

    def __init__(self, keys: key_files.Keys, listen: str = "127.0.0.1:1") -> None:
        self._keys, self._listen = keys, listen
        self.ring, stamp = keys.read(GatewaySettings())
        keys.hold(stamp)

    def look(self) -> list[str]:
        """Look; return who gets in, "" being who shows no key."""
        self.ring = self._keys.look(GatewaySettings(), self._listen, self.ring)
        named = [token for token in ("sk-own",) if self.ring.find(token, 0.0)]
        return ["", *named] if self.ring.empty else named


@contextmanager
def no_descriptor() -> Iterator[None]:
    """Let nothing be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_looking_at_what_is_the_same(tmp_path: Path, keys: key_files.Keys, heard: Heard) -> None:
    """It is neither read again nor told."""
    (tmp_path / "keys.json").write_bytes(keyring.write((OWN,)))
    door = Door(keys)
    with no_descriptor():
        assert door.look() == ["sk-own"]
    assert heard.events == []


def test_a_key_revoked_while_it_cannot_be_read(
    tmp_path: Path, keys: key_files.Keys, heard: Heard
) -> None:
    """It is read again until it can, and what was in the way is told once."""
    (tmp_path / "keys.json").write_bytes(keyring.write((OWN,)))
    door = Door(keys)
    (tmp_path / "keys.json").write_bytes(keyring.write((keyring.revoked(OWN, at=1.0, by=0),)))
    with no_descriptor():
        assert [door.look() for _ in range(3)] == [["sk-own"]] * 3
    assert door.look() == []
    error = f"{tmp_path}/keys.json: Too many open files"
    assert heard.events == [("keys_unreadable", {"error": error}), ("keys", {"count": 1})]


def test_a_first_key_that_cannot_be_read(tmp_path: Path, keys: key_files.Keys) -> None:
    """The door is shut by it, and opens when the file is gone again: that is what was there."""
    door = Door(keys)
    assert door.look() == [""]
    (tmp_path / "keys.json").mkdir()
    assert [door.look() for _ in range(2)] == [[], []]
    (tmp_path / "keys.json").rmdir()
    assert door.look() == [""]


def test_the_file_is_gone_where_others_reach(tmp_path: Path, keys: key_files.Keys) -> None:
    """There nobody gets in without a key."""
    (tmp_path / "keys.json").write_bytes(keyring.write((OWN,)))
    door = Door(keys, "0.0.0.0:1")
    (tmp_path / "keys.json").unlink()
    assert door.look() == []


def test_an_engines_key(tmp_path: Path, heard: Heard) -> None:
    """What cannot be read is told once, and once more when it could be read meanwhile."""
    keys = key_files.EngineKeys(Outages(heard.event))
    path = tmp_path / "key"
    assert [keys.read(str(path)) for _ in range(3)] == ["", "", ""]
    path.write_text(" secret\n")
    assert keys.read(str(path)) == "secret"
    path.unlink()
    assert keys.read(str(path)) == "secret"
    missing = f"[Errno 2] No such file or directory: '{path}'"
    assert heard.of("key_file_unreadable") == [{"file": str(path), "error": missing}] * 2


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(b"", "no key is in it", id="empty"),
        pytest.param(
            b"sk-one\nsk-two\n", "it is not one line of ASCII letters, digits and signs", id="two"
        ),
        pytest.param(
            b"\xffsk", "it is not one line of ASCII letters, digits and signs", id="no-text"
        ),
    ],
)
def test_no_key_for_an_engine(tmp_path: Path, heard: Heard, content: bytes, error: str) -> None:
    """The one before holds on: a head is never broken by a file, nor the engine shut out."""
    keys = key_files.EngineKeys(Outages(heard.event))
    path = tmp_path / "key"
    path.write_bytes(content)
    assert keys.read(str(path)) == ""
    path.write_text("sk-one")
    assert keys.read(str(path)) == "sk-one"
    path.write_bytes(content)
    assert [keys.read(str(path)) for _ in range(2)] == ["sk-one"] * 2
    assert heard.of("key_file_unreadable") == [{"file": str(path), "error": error}] * 2
