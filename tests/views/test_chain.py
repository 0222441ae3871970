"""`why`: the chain behind the last action."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest

from gpuctl.model import Event
from gpuctl.views import chain
from tests.views.conftest import NOW

Make = Callable[..., Event]


def killed(happened: Make) -> list[Event]:
    """An `up`, a first start, then a death with its restart."""
    return [
        happened("intent", "", -900, "up"),
        happened("attempt", "chat-3", -900, "missing", action="start", attempt="a"),
        happened("done", "chat-3", -899, "missing", attempt="a", seconds=0.4),
        happened("ready", "chat-3", -890, container="old", seconds=9.0),
        happened("failed", "chat-3", 0, "oom_killed", exit_code=137, failures=1),
        happened("attempt", "chat-3", 0.1, "oom_killed", action="start", restart=True, attempt="b"),
        happened("evidence", "chat-3", 0.4, "oom_killed", log=("loading", "killed")),
        happened("done", "chat-3", 0.5, "oom_killed", attempt="b", seconds=0.4),
        happened("ready", "chat-3", 14.0, container="new", seconds=13.5),
    ]


EXPECTED = """\
chat-3: failed: oom_killed; ready again after 14 s

seen     2027-01-15 08:00:00  failed: oom_killed
                              exit code: 137
                              failures: 1

decided  + 100 ms             start, because oom_killed
                              restart: yes

kept     + 400 ms             what the old container left behind
                              last lines of its log (`gpuctl logs chat-3 --previous` has more):
                              | loading
                              | killed

done     + 500 ms             start ended well
                              took: 400 ms

ready    + 14 s               it answers, its model is loaded
                              container: new
                              took: 14 s"""


def test_a_restart_explains_itself(happened: Make) -> None:
    """What was seen, decided, kept and done, and when it served again."""
    told = chain.lines("chat-3", chain.last(killed(happened)), UTC)

    assert "\n".join(line.rstrip() for line in told) == EXPECTED


def test_the_newest_failure_comes_before_its_restart(happened: Make) -> None:
    """A failure nothing was done about yet is the story, not the restart before it."""
    events = [*killed(happened), happened("failed", "chat-3", 60, "health_refused")]

    assert [event.reason for event in chain.last(events)] == ["health_refused"]


def test_a_condition_just_before_belongs_to_the_failure(happened: Make) -> None:
    """What was noticed on the way to a failure is part of what was seen."""
    events = [
        happened("condition", "chat-3", -500, "health_slow"),
        happened("condition", "chat-3", -30, "health_refused"),
        happened("failed", "chat-3", 0, "health_refused"),
    ]

    assert [event.boot_seconds for event in chain.last(events)] == [4970.0, 5000.0]


def test_a_condition_that_repeats_the_failure_is_left_out(happened: Make) -> None:
    """The same finding is told once, and its end goes without saying."""
    events = [
        happened("failed", "chat-3", 0, "exited"),
        happened("condition", "chat-3", 0, "exited"),
        happened("condition", "chat-3", 1, "ok"),
        happened("condition", "chat-3", 2, "many_restarts"),
    ]

    assert [event.reason for event in chain.last(events)] == ["exited", "many_restarts"]


def test_an_operators_wish_is_a_cause(happened: Make) -> None:
    """A restart that was asked for says so."""
    events = [
        *killed(happened),
        happened("intent", "chat", 100, "renew"),
        happened("attempt", "chat-3", 100.1, "renew", action="drain"),
        happened("ready", "chat-3", 120),
    ]

    told = list(chain.lines("chat-3", chain.last(events), UTC))

    assert told[0] == "chat-3: an operator asked for `renew`; ready after 20 s"


def test_a_renewal_of_gpuctls_own_has_its_reason(happened: Make) -> None:
    """Nobody else asked for it."""
    events = [
        happened("intent", "chat-3", 100, "renew", by="gpuctl", because="devices_denied"),
        happened("attempt", "chat-3", 100.1, "renew", action="drain"),
        happened("ready", "chat-3", 120),
    ]

    told = list(chain.lines("chat-3", chain.last(events), UTC))

    assert told[0] == ("chat-3: gpuctl asked for `renew`, because devices_denied; ready after 20 s")


def test_a_start_that_does_not_work(happened: Make) -> None:
    """What was tried in vain is the headline."""
    events = [
        happened("failed", "chat-3", 0, "exited"),
        happened("attempt", "chat-3", 1, "exited", action="start", attempt="x"),
        happened("undone", "chat-3", 2, "start_refused", attempt="x", error="no such image"),
    ]

    told = list(chain.lines("chat-3", chain.last(events), UTC))

    assert told[0] == "chat-3: failed: exited; what was tried did not work: start_refused"
    assert any("no such image" in line for line in told)


def test_a_wish_after_the_deed_is_not_its_cause(happened: Make) -> None:
    """Nobody asked for what was begun before: a start keeps its own reason, and all of it."""
    events = [
        happened("attempt", "chat-3", 0, "wanted", action="start", attempt="x"),
        happened("done", "chat-3", 1, "wanted", attempt="x"),
        happened("intent", "", 2, "up"),
        happened("ready", "chat-3", 3),
    ]

    told = list(chain.lines("chat-3", chain.last(events), UTC))

    assert told[0] == "chat-3: start, because wanted; ready after 3 s"
    assert [line for line in told if "start, because wanted" in line][1:] == [
        "decided  2027-01-15 08:00:00  start, because wanted"
    ]


def test_a_deed_whose_beginning_is_lost(happened: Make) -> None:
    """A journal that begins in the middle is told from there."""
    events = [happened("done", "chat-3", 0, "wanted", attempt="x")]

    assert list(chain.last(events)) == events
    assert next(chain.lines("chat-3", events, UTC)) == "chat-3: done: wanted; not ready yet"


@pytest.mark.parametrize("reason", ["stop", "down"])
def test_who_asked_for_the_end_waits_for_nothing(happened: Make, reason: str) -> None:
    """After a stop that was asked for, nobody is told that it is not ready."""
    events = [
        happened("intent", "chat-3", 0, reason),
        happened("attempt", "chat-3", 0, reason, action="terminate", attempt="x"),
    ]

    headline = next(chain.lines("chat-3", chain.last(events), UTC))

    assert headline == f"chat-3: an operator asked for `{reason}`"


def test_a_start_that_is_still_under_way(happened: Make) -> None:
    """Until it answers, that is said."""
    events = [
        happened("failed", "chat-3", 0, "exited"),
        happened("attempt", "chat-3", 0, "exited", action="start", attempt="x"),
    ]

    headline = next(chain.lines("chat-3", chain.last(events), UTC))

    assert headline == "chat-3: failed: exited; not ready yet"


def test_what_is_no_replica_is_never_ready(happened: Make) -> None:
    """The daemon's own chain says what became of it, and waits for nothing."""
    events = [happened("daemon", "daemon", 0, "started", pid=7)]

    assert next(chain.lines("daemon", chain.last(events), UTC)) == "daemon: started"


def test_nothing_happened() -> None:
    """A subject without events has no chain."""
    assert list(chain.lines("chat-3", chain.last([]), UTC)) == [
        "chat-3: nothing has happened to it yet"
    ]


def lost(happened: Make) -> list[Event]:
    """A GPU that is lost soon after an operator scaled the workload."""
    return [
        happened("intent", "chat", -60, "scale", counts={"chat": 4}),
        happened("condition", "GPU-2", 0, "gpu_lost"),
        happened("moved", "chat-3", 0, "gpu_lost", gpus=("GPU-5",), voluntary=False),
        happened("attempt", "chat-3", 0.1, "gpu_lost", action="start", attempt="b"),
        happened("evidence", "chat-3", 0.4, "gpu_lost", log=("lost",)),
        happened("done", "chat-3", 0.5, "gpu_lost", attempt="b", seconds=0.4),
        happened("ready", "chat-3", 14.0, container="new"),
    ]


def test_a_wish_that_did_not_lead_to_the_move_is_not_its_cause(happened: Make) -> None:
    """What an operator asked for a minute before has nothing to do with a GPU that is lost."""
    found = chain.last(lost(happened))

    assert chain.headline("chat-3", found) == (
        "chat-3: moved to GPU-5, because gpu_lost; ready again after 14 s"
    )
    assert [str(event.kind) for event in found][:2] == ["condition", "moved"]


def test_a_cordon_is_the_cause_of_its_move(happened: Make) -> None:
    """The wish and the move that follows from it are one chain."""
    events = [
        happened("intent", "GPU-2", 0, "cordon"),
        happened("moved", "chat-3", 0.1, "cordoned", gpus=("GPU-5",), voluntary=True),
        happened("attempt", "chat-3", 0.2, "cordoned", action="start", attempt="b"),
    ]

    assert chain.headline("chat-3", chain.last(events)) == (
        "chat-3: an operator asked for `cordon`; not ready yet"
    )


@pytest.mark.parametrize(
    ("kind", "reason", "evidence", "story"),
    [
        pytest.param(
            "adopted",
            "",
            {},
            "was running when the daemon started, and was adopted",
            id="adopted",
        ),
        pytest.param("cordoned", "gpu_lost", {}, "cordoned, because gpu_lost", id="cordoned"),
        pytest.param(
            "moved", "moved_back", {"home": ("GPU-2",)}, "moved back, because moved_back", id="back"
        ),
        pytest.param(
            "moved", "cordoned", {"gpus": ()}, "moved to the CPU, because cordoned", id="to-the-cpu"
        ),
    ],
)
def test_what_a_chain_of_one_event_says(
    happened: Make, kind: str, reason: str, evidence: dict[str, Any], story: str
) -> None:
    """What happened, in words; nothing more is known, and what is well is not called otherwise."""
    event = happened(kind, "chat-3", 0, reason, voluntary=True, **evidence)

    assert chain.headline("chat-3", chain.last([event])) == f"chat-3: {story}"


def test_across_a_reboot_the_wall_clock_counts(happened: Make) -> None:
    """The clock of a boot says nothing of another one's."""
    before = replace(happened("failed", "chat-3", 0, "exited"), boot_id="a", boot_seconds=90_000.0)
    after = happened("ready", "chat-3", 75)

    assert chain.headline("chat-3", [before, after]) == (
        "chat-3: failed: exited; ready again after 1 m 15 s"
    )


def test_a_failure_of_the_same_moment_belongs_to_the_move(happened: Make) -> None:
    """What ended because its GPU was lost was moved for the same reason; an older end was not."""
    events = [
        happened("failed", "chat-3", -5, "exited"),
        happened("failed", "chat-3", 0, "gpu_lost"),
        happened("moved", "chat-3", 0, "gpu_lost", gpus=("GPU-5",), voluntary=False),
        happened("attempt", "chat-3", 0.1, "gpu_lost", action="start", attempt="b"),
    ]

    assert chain.last(events) == tuple(events[1:])


def test_what_is_wrong_now_follows_the_chain(status: Any) -> None:
    """A replica's own conditions and its GPUs', with what to do; a GPU's alone; and no other's."""
    one = {"check": "xid", "state": "failed", "since": NOW - 90, "reason": "xid_79"}
    lost = one | {"subject": "GPU-2", "evidence": {"advice": "reboot the host", "xid": 79}}
    moved = {"subject": "chat-2", "check": "placement", "state": "degraded", "evidence": {}}
    other = lost | {"subject": "GPU-1"}
    gone = one | moved | {"reason": "no_gpu_left"}
    sick = status | {"conditions": [lost, other, gone]}

    assert list(chain.present("chat-2", sick, NOW)) == [
        "",
        "now      for 1 m 30 s         GPU-2: failed: xid_79 (xid)",
        "                              advice: reboot the host",
        "",
        "now      for 1 m 30 s         degraded: no_gpu_left (placement)",
    ]
    assert list(chain.present("GPU-2", sick, NOW)) == [
        "",
        "now      for 1 m 30 s         failed: xid_79 (xid)",
        "                              advice: reboot the host",
    ]
    assert list(chain.present("chat-0", sick, NOW)) == []


@pytest.mark.parametrize(
    ("verb", "because", "story"),
    [
        pytest.param("renew", "outdated", "`up` renewed it: outdated", id="up"),
        pytest.param("run", "scale", "`scale` started it", id="scale"),
    ],
)
def test_what_a_command_does_beside_is_said_to_be_its_doing(
    happened: Make, verb: str, because: str, story: str
) -> None:
    """Nobody asked for it by that name."""
    events = [
        happened("intent", "chat-3", 0, verb, because=because, uid=0),
        happened("attempt", "chat-3", 0.1, verb, action="start", attempt="b"),
        happened("ready", "chat-3", 12),
    ]

    assert chain.headline("chat-3", chain.last(events, "chat-3")) == (
        f"chat-3: {story}; ready after 12 s"
    )


def test_an_up_on_the_way_is_not_the_cause(happened: Make) -> None:
    """What had failed or moved by then is; what an `up` finds ready and replaces is its doing."""
    events = [
        happened("failed", "chat-3", 0, "exited"),
        happened("intent", "", 1, "up"),
        happened("intent", "", 2, "up"),
        happened("attempt", "chat-3", 3, "exited", action="start", attempt="b"),
    ]
    ready = [*events, happened("ready", "chat-3", 9), happened("intent", "", 60, "up")]
    edited = [*ready, happened("attempt", "chat-3", 61, "profile_changed", action="drain")]

    assert chain.headline("chat-3", chain.last(events)) == "chat-3: failed: exited; not ready yet"
    assert chain.headline("chat-3", chain.last(edited)) == (
        "chat-3: an operator asked for `up`; not ready yet"
    )
