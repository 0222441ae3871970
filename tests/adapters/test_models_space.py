"""Room for what is to be fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuctl.adapters.models.space import HEADROOM_BYTES, free_bytes, require
from gpuctl.errors import GpuctlError

PLACE = Path("/models")


@pytest.mark.parametrize(
    ("needed", "free"),
    [
        pytest.param(5, HEADROOM_BYTES + 5, id="just enough"),
        pytest.param(0, 0, id="nothing to fetch, however full"),
    ],
)
def test_there_is_room(needed: int, free: int) -> None:
    require(PLACE, needed, lambda _: free)


def test_what_would_eat_into_the_headroom_is_refused() -> None:
    """The message has needed, free and where; the hint, how much more it takes."""
    with pytest.raises(GpuctlError) as raised:
        require(PLACE, 4 * 1024**3, lambda _: 3 * 1024**3)
    assert str(raised.value) == (
        "/models: 3 GiB free, 4 GiB to fetch, and 1 GiB of the disk is to stay free"
    )
    assert raised.value.hint == "make room for 2 GiB more, or name another disk with --to"


def test_a_directory_that_is_not_there_yet_is_measured(tmp_path: Path) -> None:
    """By the disk that it would be on."""
    assert free_bytes(tmp_path / "a" / "b") > 0
