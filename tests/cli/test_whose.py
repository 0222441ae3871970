"""A simulated host never acts on a real one's directories, nor a real one on a simulated one's."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl.cli import bring_up, whose
from gpuctl.cli.session import Session
from gpuctl.errors import UsageError
from gpuctl.model import HostSettings, Profile
from tests.cli.conftest import Done

PROFILE = Profile(host=HostSettings(name="rig", runtime="docker"))
REAL = "status.json is of a real host, and --simulate cpu is not for it"

#: Each would command a daemon, or write what one, or a gateway, goes by.
ACTING = [
    pytest.param(("up", "cpu", "--detach"), id="up"),
    pytest.param(("down",), id="down"),
    pytest.param(("start", "chat"), id="start"),
    pytest.param(("stop", "chat"), id="stop"),
    pytest.param(("restart", "chat"), id="restart"),
    pytest.param(("scale", "chat=1"), id="scale"),
    pytest.param(("cordon", "0"), id="cordon"),
    pytest.param(("uncordon", "0"), id="uncordon"),
    pytest.param(("failover", "cpu"), id="failover"),
    pytest.param(("keys", "create", "reports"), id="keys create"),
    pytest.param(("keys", "revoke", "reports"), id="keys revoke"),
    pytest.param(("daemon",), id="daemon"),
]


@pytest.mark.parametrize("arguments", ACTING)
def test_a_simulation_leaves_a_real_host_alone(
    arguments: tuple[str, ...],
    inside: Callable[..., Done],
    publish: Callable[..., Any],
    place: Path,
) -> None:
    """Named directories are those of the real host: one error, before anything is written."""
    publish(simulated=False)
    done = inside("--simulate", "cpu", *arguments)
    assert (done.code, done.out) == (2, "")
    assert f"error: {place}/{REAL}\nhint: leave --simulate out, or name other" in done.err
    assert [each.name for each in place.iterdir()] == ["status.json"]


@pytest.mark.parametrize("arguments", ACTING)
def test_a_real_host_leaves_a_simulation_alone(
    arguments: tuple[str, ...],
    inside: Callable[..., Done],
    publish: Callable[..., Any],
    place: Path,
) -> None:
    """The other way round, with what to do once the simulation is over."""
    publish(simulated=True)
    done = inside(*arguments)
    assert (done.code, done.out) == (2, "")
    assert f"error: {place}/status.json is of a simulated host, and this is not\n" in done.err
    assert f"; if it is over, remove {place}/status.json" in done.err
    assert [each.name for each in place.iterdir()] == ["status.json"]


@pytest.mark.parametrize("arguments", [("status",), ("keys", "list"), ("plan", "cpu")])
def test_who_only_looks_may(
    arguments: tuple[str, ...], inside: Callable[..., Done], publish: Callable[..., Any]
) -> None:
    """Reading harms nobody."""
    publish(simulated=False)
    assert "is not for it" not in inside("--simulate", "cpu", *arguments).err


def test_status_says_whose_it_is(
    inside: Callable[..., Done], publish: Callable[..., Any], place: Path
) -> None:
    """What is shown is not what --simulate said it would be."""
    publish(simulated=False)
    told = f"warning: {place}/status.json is of a real host, not of simulated cpu\n"
    assert told in inside("--simulate", "cpu", "status").err
    assert told not in inside("status").err
    publish(simulated=True)
    assert told not in inside("--simulate", "cpu", "status").err


@pytest.mark.parametrize(
    ("applied_by", "asked_by", "refused"),
    [
        pytest.param("", "", False, id="real, real"),
        pytest.param("cpu", "cpu", False, id="simulated, simulated"),
        pytest.param("", "cpu", True, id="real, simulated"),
        pytest.param("cpu", "", True, id="simulated, real"),
    ],
)
def test_an_applied_profile_tells_too(
    applied_by: str, asked_by: str, refused: bool, here: Session, place: Path
) -> None:
    """Of a daemon that has not begun, or whose status went with a reboot."""
    bring_up.apply(replace(here, simulate=applied_by), PROFILE)
    if not refused:
        whose.refuse(replace(here, simulate=asked_by))
        return
    with pytest.raises(UsageError, match=rf"{place}/applied\.json is of a "):
        whose.refuse(replace(here, simulate=asked_by))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"schema": 1}', id="of an earlier version"),
        pytest.param("{", id="damaged"),
        pytest.param("[]", id="no document"),
        pytest.param("\udcff", id="no text"),
    ],
)
def test_what_does_not_tell_is_passed_over(text: str, here: Session, place: Path) -> None:
    """Who mends it is `up`, and the other file may tell."""
    for name in ("applied.json", "status.json"):
        (place / name).write_text(text, errors="surrogateescape")
    whose.refuse(here)
    whose.refuse(replace(here, simulate="cpu"))


def test_the_keys_of_a_real_host_beside_a_simulated_one(
    inside: Callable[..., Done],
    publish: Callable[..., Any],
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A simulated host has the user's own configuration: its keys are the real gateway's."""
    for name in ("CONFIG", "STATE", "RUNTIME"):
        monkeypatch.delenv(f"GPUCTL_{name}_DIR")
    for name in ("CONFIG", "STATE", "RUNTIME"):
        monkeypatch.setenv(f"XDG_{name}_{'DIR' if name == 'RUNTIME' else 'HOME'}", str(tmp_path))
    monkeypatch.setattr("gpuctl.cli.session._root", lambda: False)
    (tmp_path / "gpuctl").mkdir()
    assert inside("--simulate", "cpu", "keys", "create", "mine").code == 0
    document = publish(simulated=False)
    (place / "gpuctl" / "status.json").write_text(json.dumps(document))
    done = inside("--simulate", "cpu", "keys", "create", "other")
    assert (done.code, done.out) == (2, "")
    assert f"error: {tmp_path}/gpuctl/{REAL}\n" in done.err
