"""What the operator wants of a replica."""

from __future__ import annotations

import pytest

from gpuctl.history import History
from gpuctl.model import ContainerReading
from gpuctl.wanted import desired, must_go, outdated, renewed_since
from tests import make
from tests.make import NOW

CHAT = make.replica()
ADOPTED = make.event("adopted", container="c1")


@pytest.mark.parametrize(
    ("past", "running", "wanted"),
    [
        pytest.param(make.history(), False, True, id="planned-is-wanted"),
        pytest.param(make.history(make.event("intent", reason="stop")), True, False, id="stop"),
        pytest.param(
            make.history(make.event("intent", "", "down"), make.event("intent", "chat", "run")),
            False,
            True,
            id="run-after-down",
        ),
        pytest.param(make.history(cautious=True), True, True, id="cautious-and-running"),
        pytest.param(make.history(cautious=True), False, False, id="cautious-and-down"),
        pytest.param(
            make.history(ADOPTED, cautious=True), False, True, id="cautious-and-died-since"
        ),
        pytest.param(
            make.history(ADOPTED, make.event("intent", reason="stop"), cautious=True),
            False,
            False,
            id="cautious-and-stopped-since",
        ),
        pytest.param(
            make.history(make.event("intent", reason="run"), cautious=True),
            False,
            True,
            id="cautious-and-asked-for",
        ),
        pytest.param(
            make.history(make.event("intent", "", "up"), cautious=True), False, True, id="up"
        ),
    ],
)
def test_desired(past: History, running: bool, wanted: bool) -> None:
    """The latest intent decides; after a loss only what was found running, until the next `up`."""
    assert desired(past, CHAT, running=running) is wanted


@pytest.mark.parametrize(
    ("verb", "at", "renewed"),
    [
        ("run", NOW + 1, True),
        ("up", NOW + 1, True),
        ("renew", NOW + 1, True),
        ("stop", NOW + 1, False),
        ("run", NOW - 1, False),
    ],
)
def test_asking_again_wipes_the_slate(verb: str, at: float, renewed: bool) -> None:
    """What an operator asked for since is not held back by a failure before."""
    past = make.history(make.event("intent", reason=verb, at=at))
    assert renewed_since(past, CHAT, NOW) is renewed


def test_outdated() -> None:
    """A container whose spec is known to differ is outdated; an adopted one is not known to be."""
    other, there = make.replica(spec_digest="b"), make.container()
    assert outdated(other, there, make.history(make.served()).replica("chat-0"))
    assert not outdated(CHAT, there, make.history(make.served()).replica("chat-0"))
    assert not outdated(other, there, make.history(ADOPTED).replica("chat-0"))


def test_what_differs_by_more_than_defaults_is_not_outdated() -> None:
    """It was moved or its profile edited, and goes for that; one that is not there goes nowhere."""
    other, known = make.replica(spec_digest="b"), make.history(make.served()).replica("chat-0")
    assert not outdated(other, make.container(digest="v1:b"), known)
    assert not outdated(other, None, known)


RENEW = make.event("intent", "chat", "renew", at=NOW - 1)
STOP = make.event("intent", reason="stop", at=NOW - 1)


@pytest.mark.parametrize(
    ("past", "container", "found"),
    [
        pytest.param(make.history(make.served()), make.container(), ("", True), id="as-wanted"),
        pytest.param(
            make.history(make.served(), STOP, make.failed()),
            make.container(),
            ("exit_1", False),
            id="a-failure-comes-first",
        ),
        pytest.param(
            make.history(make.served(), make.failed(id_="c0")),
            make.container(),
            ("", True),
            id="another's-failure",
        ),
        pytest.param(
            make.history(make.served(), STOP), make.container(), ("stop", True), id="stop"
        ),
        pytest.param(
            make.history(make.served(), RENEW), make.container(), ("renew", True), id="renew"
        ),
        pytest.param(
            make.history(RENEW, make.served(at=NOW)), make.container(), ("", True), id="renewed"
        ),
        pytest.param(
            make.history(make.served()),
            make.container(digest="v1:b"),
            ("profile_changed", True),
            id="profile-changed",
        ),
    ],
)
def test_must_go(past: History, container: ContainerReading, found: tuple[str, bool]) -> None:
    """A running container goes when it failed, is not wanted, or is not what is wanted."""
    assert must_go(past, CHAT, container) == found
