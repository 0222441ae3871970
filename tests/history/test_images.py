"""What is remembered of images for a failover: those that could not be fetched."""

from __future__ import annotations

from typing import Any

import pytest

from tests import make


def image(reason: str, name: str = "engine:cpu", **told: Any) -> Any:
    return make.event("image", "chat", reason, image=name, **told)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([image("fetching")], {}, id="under-way"),
        pytest.param([image("not_fetched", error="no host")], {"engine:cpu": "no host"}, id="not"),
        pytest.param(
            [image("not_fetched", error="no host"), image("fetching")],
            {"engine:cpu": "no host"},
            id="tried-again",
        ),
        pytest.param([image("not_fetched", error="no host"), image("fetched")], {}, id="at-last"),
        pytest.param(
            [image("not_fetched", "other:cpu", error="full"), image("fetched")],
            {"other:cpu": "full"},
            id="another",
        ),
    ],
)
def test_what_could_not_be_fetched_is_remembered(events: Any, expected: dict[str, str]) -> None:
    """Until it is there, whatever is tried meanwhile."""
    assert make.history(events).images == expected
