"""`scale`: counts in, Events out, or everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.errors import GpuctlError, NotFound, PlanRefused, UsageError
from gpuctl.model import Assignments, Event, Plan
from gpuctl.moving import NoRoom
from tests import make
from tests.moving_bench import CHAT, OTHER, ask, intent, present, refused, scaled


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param(
            {"chat": 3},
            [
                intent("chat", "scale", replicas=3, as_profile=False, profile="test"),
                scaled("chat-1", "GPU-2"),
                scaled("chat-2", "GPU-3"),
            ],
            id="two-more",
        ),
        pytest.param(
            {"chat": 2, "other": 2},
            [
                intent("chat", "scale", replicas=2, as_profile=False, profile="test"),
                scaled("chat-1", "GPU-2"),
                intent("other", "scale", replicas=2, as_profile=False, profile="test"),
                scaled("other-1", "GPU-3"),
            ],
            id="one-more-of-each",
        ),
        pytest.param(
            {"chat": 1},
            [intent("chat", "scale", replicas=1, as_profile=True, profile="test")],
            id="as-the-profile-has-it",
        ),
    ],
)
def test_scale_gives_each_replica_more_its_gpus(
    counts: dict[str, int], expected: list[Event]
) -> None:
    """The intent first; what is asked for together is counted together."""
    assert ask("scale", counts=counts) == expected


def test_a_replica_that_is_there_needs_no_place() -> None:
    """Scaled from two to three, one is added."""
    at = present()
    at = at.after(ask("scale", at=at, counts={"chat": 2}))
    assert ask("scale", at=at, counts={"chat": 3})[1:] == [scaled("chat-2", "GPU-3")]


def test_what_cannot_be_planned_is_refused() -> None:
    """A port, say, that another has: the planner has the last word."""

    def refuse(_: Assignments) -> Plan:
        raise PlanRefused("chat-1 would listen on 8082, which other-0 has already", "")

    with pytest.raises(PlanRefused, match="which other-0 has already"):
        ask("scale", at=replace(present(), arrange=refuse), counts={"chat": 2})


@pytest.mark.parametrize(
    ("workload", "reserve", "expected"),
    [
        pytest.param(
            {},
            (),
            (
                "no room for chat-1: it takes one GPU, neither unused nor in reserve",
                "keep some in reserve (host.reserve), or take a workload off one",
            ),
            id="no-reserve",
        ),
        pytest.param(
            {"scaled_gpus": 3, "scaled_need_bytes": 3 * 2**29},
            (2, 3),
            (
                "no room for chat-1: it takes 3 GPUs with 1.5 GiB free, neither unused nor in"
                " reserve",
                "`gpuctl gpus` shows what is on each; `gpuctl uncordon` gives one back",
            ),
            id="too-few",
        ),
    ],
)
def test_without_room_nothing_is_added(
    workload: dict[str, Any], reserve: Sequence[int], expected: tuple[str, str]
) -> None:
    """What it takes is said, and where that could come from."""
    at = present(replace(CHAT, **workload), reserve=reserve)
    assert refused("scale", at=at, counts={"chat": 2}) == (NoRoom, *expected)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param(
            None, (UsageError, "scale to how many?", "write `gpuctl scale NAME=2`"), id="nothing"
        ),
        pytest.param(
            {}, (UsageError, "scale to how many?", "write `gpuctl scale NAME=2`"), id="none"
        ),
        pytest.param(
            {"chat": 0},
            (UsageError, "chat=0: not 1 or more", "`gpuctl stop chat` stops all of it"),
            id="zero",
        ),
        pytest.param(
            {"chat": "2"},
            (UsageError, "chat=2: not 1 or more", "`gpuctl stop chat` stops all of it"),
            id="text",
        ),
        pytest.param(
            {"chat": True},
            (UsageError, "chat=True: not 1 or more", "`gpuctl stop chat` stops all of it"),
            id="truth",
        ),
        pytest.param(
            {"moon": 2},
            (NotFound, "no workload is named 'moon'", "there are chat, other"),
            id="unknown",
        ),
        pytest.param(
            {"chat": 3},
            (
                UsageError,
                "chat: 3 replicas would take more than its max_gpus (2)",
                "raise max_gpus in the profile, then `gpuctl up`",
            ),
            id="more-than-allowed",
        ),
    ],
)
def test_a_scale_that_makes_no_sense_is_refused(counts: Any, expected: Any) -> None:
    """With what to write instead."""
    at = present(replace(CHAT, max_gpus=2), OTHER)
    assert refused("scale", at=at, counts=counts) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param(
            {"chat": 5, "moon": 9, "other": 0},
            (
                GpuctlError,
                "chat: 5 replicas would take more than its max_gpus (2)\n"
                "no workload is named 'moon'\n"
                "other=0: not 1 or more",
                "raise max_gpus in the profile, then `gpuctl up`\n"
                "there are chat, other\n"
                "`gpuctl stop other` stops all of it",
                2,
            ),
            id="each-another",
        ),
        pytest.param(
            {"moon": 1, "sun": 1},
            (
                GpuctlError,
                "no workload is named 'moon'\nno workload is named 'sun'",
                "there are chat, other",
                2,
            ),
            id="a-hint-is-given-once",
        ),
        pytest.param(
            {"other": 9, "chat": 2},
            (
                NoRoom,
                "no room for other-3: it takes one GPU, neither unused nor in reserve",
                "`gpuctl gpus` shows what is on each; `gpuctl uncordon` gives one back",
                1,
            ),
            id="one-alone-stays-what-it-is",
        ),
        pytest.param(
            {"other": 9, "moon": 1},
            (
                GpuctlError,
                "no room for other-3: it takes one GPU, neither unused nor in reserve\n"
                "no workload is named 'moon'",
                "`gpuctl gpus` shows what is on each; `gpuctl uncordon` gives one back\n"
                "there are chat, other",
                2,
            ),
            id="no-sense-stands-above-no-room",
        ),
    ],
)
def test_what_is_wrong_with_several_counts_is_told_at_once(counts: Any, expected: Any) -> None:
    """One error with a line for each, and the exit code of the worst."""
    with pytest.raises(GpuctlError) as caught:
        ask("scale", at=present(replace(CHAT, max_gpus=2), OTHER), counts=counts)
    error = caught.value
    assert (type(error), error.message, error.hint, error.exit_code) == expected


@pytest.mark.parametrize("count", [1001, 10**9])
def test_more_than_any_host_runs_is_refused_before_it_is_counted_out(count: int) -> None:
    """On the CPU no GPU is the limit: the daemon would be at it for as long as they are many."""
    at = present(replace(CHAT, scaled_gpus=0), OTHER)
    assert refused("scale", at=at, counts={"chat": count}) == (
        UsageError,
        f"chat={count}: more than 1000 replicas",
        "write a number from 1 to 1000",
    )


def test_as_many_as_the_profile_has_are_never_too_many() -> None:
    """What was applied can be scaled back to."""
    at = present(replace(CHAT, replicas=1200, wanted=1200), OTHER)
    told = intent("chat", "scale", replicas=1200, as_profile=True, profile="test")
    assert ask("scale", at=at, counts={"chat": 1200}) == [told]


def test_no_place_is_chosen_among_gpus_that_cannot_be_read() -> None:
    """Whoever asks is told why, and nothing is recorded."""
    at = present()
    unread = make.snapshot(gpus=at.now.gpus.values(), errors={"gpus": "NVML: no answer for 40 s"})
    assert refused("scale", at=replace(at, now=unread), counts={"chat": 2}) == (
        NoRoom,
        "no room for chat-1: the GPUs cannot be read (NVML: no answer for 40 s)",
        "`gpuctl doctor` shows what is wrong with the driver",
    )
