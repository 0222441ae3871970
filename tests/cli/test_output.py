"""`logs`, where no Status tells which replicas there are."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.cli import bring_up, choose, compose, output, planned
from gpuctl.cli.session import Session
from gpuctl.errors import NotFound


@pytest.fixture
def left(here: Session) -> Session:
    """A simulated host with containers of every replica, and no daemon or Status."""
    own = replace(here, simulate="a6000x2")
    profile = choose.load(own, "a6000x2-tp1")
    bring_up.apply(own, profile)
    plan, _ = planned.made(own, profile)
    with closing(compose.runtime(own, profile)) as runtime:
        for each in plan.replicas:
            labels = {"gpuctl.schema": "1", "gpuctl.replica": each.name, "gpuctl.attempt": "a"}
            runtime.start(runtime.create(each.container_name, each.spec, labels))
    return own


@pytest.mark.parametrize("status", [None, "{"], ids=["no status", "a damaged one"])
def test_the_replicas_of_a_workload_are_named(
    left: Session, place: Path, status: str | None
) -> None:
    """A workload has no log; those of its replicas that are there are told."""
    if status is not None:
        (place / "status.json").write_text(status)

    with pytest.raises(NotFound) as caught:
        output.current(left, "llm", 10, follow=False)

    assert caught.value.message == "llm is a workload of several replicas: llm-0, llm-1"
    assert caught.value.hint == "each has a log of its own: `gpuctl logs llm-0`"


def test_what_is_not_there_has_no_log(left: Session) -> None:
    """A name of which nothing is there is said to have no container."""
    with pytest.raises(NotFound, match="llm-7 has no container now"):
        output.current(left, "llm-7", 10, follow=False)
