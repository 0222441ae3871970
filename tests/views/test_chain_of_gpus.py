"""`why` of a GPU: what became of the card, and of what was on it."""

from datetime import UTC

from gpuctl.model import Event
from gpuctl.views import chain
from tests.views.test_chain import Make, killed, lost


def lost_again(happened: Make) -> list[Event]:
    """A GPU that nothing is on: lost, uncordoned when it was back, and lost again."""
    return [
        happened("condition", "GPU-0", 0, "gpu_lost"),
        happened("cordoned", "GPU-0", 0, "gpu_lost"),
        happened("intent", "GPU-0", 600, "uncordon"),
        happened("condition", "GPU-0", 601, "ok"),
        happened("condition", "GPU-0", 660, "gpu_lost"),
        happened("cordoned", "GPU-0", 660, "gpu_lost"),
        happened("condition", "GPU-0", 661, "gpu_cordoned"),
    ]


def test_the_newest_cordon_begins_the_story_of_a_gpu(happened: Make) -> None:
    """Not the command before it, nor what had passed."""
    events = lost_again(happened)
    found = chain.last(events, "GPU-0")

    assert found == tuple(events[4:])
    assert chain.headline("GPU-0", found) == "GPU-0: cordoned, because gpu_lost"


def test_what_replicas_did_since_is_not_the_story_of_a_gpu(happened: Make) -> None:
    """One that was moved off it and crashes elsewhere has a story of its own."""
    crashed = happened("failed", "chat-3", 900, "exited")
    events = [
        happened("condition", "GPU-2", 0, "gpu_lost"),
        happened("cordoned", "GPU-2", 0, "gpu_lost"),
        *lost(happened)[2:],
        crashed,
    ]
    found = chain.last(events, "GPU-2")

    assert found == tuple(events[:-1])
    assert chain.headline("GPU-2", found) == (
        "GPU-2: cordoned, because gpu_lost; chat-3 ready again after 14 s"
    )
    assert chain.headline("GPU-2", found[:-1]) == (
        "GPU-2: cordoned, because gpu_lost; chat-3 not ready yet"
    )
    assert chain.last(events, "chat-3") == (crashed,)


def test_what_an_xid_led_to_is_the_headline(happened: Make) -> None:
    """One more that follows the cordon belongs to it; much later it is a story of its own."""
    events = [
        happened("xid", "GPU-0", 0, "79"),
        happened("cordoned", "GPU-0", 1, "xid_79"),
        happened("xid", "GPU-0", 2, "154"),
    ]
    later = happened("xid", "GPU-0", 9000, "13")

    assert chain.last(events, "GPU-0") == tuple(events)
    assert chain.headline("GPU-0", events) == "GPU-0: cordoned, because xid_79"
    assert chain.last([*events, later], "GPU-0") == (later,)
    assert chain.headline("GPU-0", [later]) == "GPU-0: xid: 13"


def test_an_operators_cordon_is_a_story_of_its_gpu(happened: Make) -> None:
    """With the replica that went elsewhere for it."""
    events = [
        happened("cordoned", "GPU-0", -9000, "gpu_lost"),
        happened("intent", "GPU-0", 0, "cordon"),
        happened("moved", "chat-0", 0.1, "cordoned", gpus=("GPU-5",), voluntary=True),
        happened("attempt", "chat-0", 0.2, "cordoned", action="drain"),
    ]

    assert chain.headline("GPU-0", chain.last(events, "GPU-0")) == (
        "GPU-0: an operator asked for `cordon`; chat-0 not ready yet"
    )


def test_a_log_is_where_its_replica_is_named(happened: Make) -> None:
    """The chain of a GPU shows what its replica wrote: a GPU has no log."""
    told = list(chain.lines("GPU-2", chain.last(lost(happened)), UTC))

    assert [line.strip() for line in told if "has more" in line] == [
        "last lines of its log (`gpuctl logs chat-3 --previous` has more):"
    ]


def test_of_signs_alone_the_last_ones_are_told(happened: Make) -> None:
    """A GPU that nothing was done about has the story of its last trouble, not of all its life."""
    old = [
        happened("condition", "GPU-0", 0, "heat_warning"),
        happened("condition", "GPU-0", 900, "ok"),
    ]
    new = [
        happened("xid", "GPU-0", 5000, "79"),
        happened("condition", "GPU-0", 5001, "xid_79"),
        happened("condition", "GPU-0", 7000, "ok"),
    ]

    assert chain.last([*old, *new]) == tuple(new)
    assert chain.last(old) == tuple(old)
    assert chain.last(old[1:]) == (old[1],)


def test_peaks_are_no_link_of_a_chain(happened: Make) -> None:
    """What a GPU was like, hour by hour, is for the report."""
    peaks = [happened("peak", "GPU-0", hour, "hour", power_watts=9.0) for hour in range(3)]

    assert chain.last(peaks) == ()
    assert chain.last([*killed(happened), *peaks]) == chain.last(killed(happened))
