"""Who is on a card, of the two lists in which NVML has its processes."""

from __future__ import annotations

import pytest

from gpuctl.adapters.nvml.child.measuring import Held, merged


@pytest.mark.parametrize(
    ("compute", "graphics", "expected"),
    [
        pytest.param([], [], [], id="nobody"),
        pytest.param([(7, 5)], [(9, 4)], [(7, 5), (9, 4)], id="each-does-one"),
        pytest.param([(7, 5)], [(7, 6)], [(7, 6)], id="the-second-list-has-more"),
        pytest.param([(7, 6)], [(7, 5)], [(7, 6)], id="the-first-list-has-more"),
        pytest.param([(7, None)], [(7, 5)], [(7, 5)], id="one-list-tells-no-bytes"),
        pytest.param([(7, 0)], [(7, None)], [(7, 0)], id="nothing-is-not-unknown"),
        pytest.param([(7, None)], [(7, None)], [(7, None)], id="neither-tells-bytes"),
        pytest.param([(7, 1), (7, 2)], [], [(7, 1), (7, 2)], id="as-on-two-mig-instances"),
    ],
)
def test_who_computes_and_who_draws_are_told_once_each(
    compute: list[Held], graphics: list[Held], expected: list[Held]
) -> None:
    """By the larger number, which is None only where no list has one."""
    assert merged(compute, graphics) == expected
