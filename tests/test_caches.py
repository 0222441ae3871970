"""What an engine compiles is kept between starts, unless the operator sees to it."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl import caches
from gpuctl.caches import Cache
from gpuctl.model import Mount, Tuned
from tests.engines.make import slot, workload

CACHE = Cache(volume="gpuctl-cuda", target="/root/.cache/cuda", variables=("MOVE",), why="kept")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="nobody says who"),
        pytest.param({"user": "0:0"}, id="root by number"),
        pytest.param({"user": "root"}, id="root by name"),
        pytest.param({"mounts": (Mount(source="x", target="/root/.cachet"),)}, id="another place"),
        pytest.param({"mounts": (Mount(source="x", target="/root/.cache/cuda/a"),)}, id="below"),
    ],
)
def test_kept(changes: dict[str, Any]) -> None:
    """A container that runs as root writes to a volume of gpuctl's own, and `plan` shows it."""
    asked = workload(**changes)
    assert caches.mounts(caches.kept(asked, slot(), (CACHE,))) == (
        Mount(source="gpuctl-cuda", target="/root/.cache/cuda"),
    )
    shown = Tuned(key="mounts", value="gpuctl-cuda:/root/.cache/cuda", why="kept")
    assert list(caches.tuned(asked, slot(), (CACHE,))) == [shown]


@pytest.mark.parametrize(
    ("changes", "runtime"),
    [
        pytest.param(
            {"mounts": (Mount(source="x", target="/root/.cache/cuda/"),)}, "docker", id="mounted"
        ),
        pytest.param(
            {"mounts": (Mount(source="/x", target="/root/.cache"),)}, "docker", id="mounted above"
        ),
        pytest.param({"environment": {"MOVE": "/elsewhere"}}, "docker", id="moved"),
        pytest.param({}, "process", id="a process"),
    ],
)
def test_the_operator_s(changes: dict[str, Any], runtime: str) -> None:
    """What the profile mounts or moves stays as it is; a process writes to the host anyway."""
    asked = workload(**changes)
    assert caches.kept(asked, slot(runtime=runtime), (CACHE,)) == ()
    assert list(caches.tuned(asked, slot(runtime=runtime), (CACHE,))) == []


def test_another_user() -> None:
    """A volume is root's: for another user none is added, and `plan` says what to do instead."""
    asked = workload(user="1000:1000")
    assert caches.kept(asked, slot(), (CACHE,)) == ()
    assert list(caches.tuned(asked, slot(), (CACHE,))) == [
        Tuned(
            key="mounts",
            value=None,
            why="user 1000:1000 cannot write to a volume, which is root's: to keep"
            " /root/.cache/cuda, mount directories of its own there",
        )
    ]
