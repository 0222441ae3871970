"""Where the gateway has its keys from; what cannot be had is never taken for none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpuctl.errors import GpuctlError
from gpuctl.gateway import key_files, keyring
from gpuctl.gateway.keyring import Key, digest
from gpuctl.model import GatewaySettings

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
    """It is another when a file of keys comes, changes or goes, or the profile names others."""
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
    path.unlink()
    seen.append(now())
    seen.append(now(keys_from=("API_KEYS",)))
    seen.append(now(key_files=("/nowhere",)))
    seen.append(now())
    assert len(set(seen)) == 7
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


def test_an_engines_key(tmp_path: Path) -> None:
    """What cannot be read is told once, and once more when it could be read meanwhile."""
    told: list[tuple[str, str]] = []
    keys = key_files.EngineKeys(lambda path, error: told.append((path, error)))
    path = tmp_path / "key"
    assert [keys.read(str(path)) for _ in range(3)] == ["", "", ""]
    path.write_text("secret\n")
    assert keys.read(str(path)) == "secret\n"
    path.write_bytes(b"\xff")
    assert [keys.read(str(path)) for _ in range(2)] == ["", ""]
    path.unlink()
    assert keys.read(str(path)) == ""
    missing = f"[Errno 2] No such file or directory: '{path}'"
    broken = "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    assert told == [(str(path), missing), (str(path), broken), (str(path), missing)]
