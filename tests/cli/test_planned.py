"""`plan` and `check`: what they say of a profile on a host."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.sqlite import SqliteStore
from gpuctl.applied import dump
from gpuctl.model import EventKind, HostSettings, Profile
from tests import make

HOST = """\
schema = 1
[host]
name = "h"
[workloads.chat]
engine = "llama.cpp"
image = "i"
model = "m.gguf"
mounts = ["/srv/models:/models:ro"]
port = 8081
"""


def test_what_a_host_cannot_carry_has_its_line(inside: Callable[..., Any], place: Path) -> None:
    """A mistake that only the host shows is told with file and line too."""
    path = place / "mine.toml"
    path.write_text(f"{HOST}gpus = [0, 9]\n")

    done = inside("--simulate", "rtx3090", "check", str(path))

    assert done.code == 2
    where = f"error: {path}:10: workloads.chat.gpus"
    assert f"{where}: GPU 9 is not on this host, which has 0\n" in done.err


def test_the_configured_profile_is_meant_where_none_is_named(
    inside: Callable[..., Any], place: Path
) -> None:
    """`check` and `plan` take the profile that `up` would, and say which."""
    path = place / "profile.toml"
    path.write_text(f'{HOST}gpus = "none"\n')

    checked = inside("--simulate", "cpu", "check")
    planned = inside("--simulate", "cpu", "plan")

    assert (checked.code, planned.code) == (0, 0)
    assert checked.err.endswith(f"{path}: fine: 1 replica\n")
    assert planned.err.endswith(f"profile: {path}\n")
    assert planned.out.splitlines()[1].startswith("chat-0 ")


@pytest.mark.parametrize(
    ("applied", "index"),
    [
        pytest.param("h", 1, id="the-applied-one"),
        pytest.param("other", 0, id="another-one"),
        pytest.param(None, 0, id="none-is-applied"),
    ],
)
def test_what_has_moved_is_planned_in_the_applied_profile_alone(
    inside: Callable[..., Any], place: Path, applied: str | None, index: int
) -> None:
    """A workload of another profile may have the same name, and has moved nowhere."""
    path = place / "mine.toml"
    path.write_text(HOST.replace('"h"\n', '"h"\nreserve = [1]\n') + "gpus = [0]\n")
    listed = json.loads(inside("--simulate", "a6000x2", "gpus", "--json").out)["gpus"]
    store = SqliteStore(place / "state.db", place / "status.json")
    store.append([make.event(EventKind.MOVED, "chat-0", "gpu_lost", gpus=[listed[1]["uuid"]])])
    store.close()
    if applied is not None:
        profile = Profile(host=HostSettings(name=applied))
        text = dump(profile, source="p.toml", overrides={}, at=0.0)
        (place / "applied.json").write_text(text)

    done = inside("--simulate", "a6000x2", "plan", str(path), "--json")

    (replica,) = json.loads(done.out)["replicas"]
    assert [gpu["index"] for gpu in replica["gpus"]] == [index]
