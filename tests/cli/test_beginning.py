"""`init` and `profiles`: a profile to start from."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gpuctl.cli import beginning
from gpuctl.cli.session import Session
from gpuctl.model import GpuIdentity
from gpuctl.profile import shipped


def gpus(count: int, name: str) -> tuple[GpuIdentity, ...]:
    return tuple(GpuIdentity(index=index, uuid=f"GPU-{index}", name=name) for index in range(count))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(gpus(8, "NVIDIA P106-100"), "p106x8", id="eight P106-100"),
        pytest.param(gpus(1, "NVIDIA GeForce RTX 3090"), "rtx3090", id="one 3090"),
        pytest.param(gpus(7, "NVIDIA P106-100"), None, id="one too few"),
        pytest.param(gpus(2, "Tesla P40"), None, id="a card no profile is for"),
        pytest.param((), "cpu", id="none"),
    ],
)
def test_matching(found: tuple[GpuIdentity, ...], expected: str | None) -> None:
    """A shipped profile fits when it expects exactly these GPUs."""
    assert beginning.matching(Session(environment={}), found) == expected


def test_profiles_are_listed_with_what_they_are_for(inside: Callable[..., Any]) -> None:
    """Every shipped profile has a description."""
    done = inside("profiles", "--json")

    rows = json.loads(done.out)["profiles"]
    assert [row["name"] for row in rows] == list(shipped())
    assert all(row["description"].endswith(".") for row in rows)


def test_a_pipe_gets_one_line_a_row(inside: Callable[..., Any]) -> None:
    """What is piped is neither wrapped nor cut, and no line ends in spaces."""
    lines = inside("profiles").out.splitlines()

    assert len(lines) == 1 + len(shipped())
    assert max(map(len, lines)) > 120
    assert all(line == line.rstrip() for line in lines)


def test_a_profile_is_shown_as_it_is(inside: Callable[..., Any]) -> None:
    """What is printed can be saved and used."""
    assert inside("profiles", "show", "cpu").out == shipped()["cpu"].read_text(encoding="utf-8")


def test_an_unknown_profile_suggests_the_nearest(inside: Callable[..., Any]) -> None:
    """A slip of the finger is exit code 2, and names what was meant."""
    done = inside("profiles", "show", "cpuu")

    assert (done.code, done.out) == (2, "")
    assert "cpu" in done.err


def test_init_overwrites_nothing(inside: Callable[..., Any], place: Any) -> None:
    """A file that is there stays, unless it is forced."""
    (place / "mine.toml").write_text("mine")

    done = inside("init", str(place / "mine.toml"))

    assert done.code == 2
    assert "--force" in done.err
    assert (place / "mine.toml").read_text() == "mine"


def test_description() -> None:
    """The comment at the head of a profile, as one paragraph."""
    assert beginning.description("# One\n# two.\n\n# not this\n") == "One two."
    assert beginning.description("schema = 1\n") == ""
