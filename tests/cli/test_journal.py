"""`events`, `why`, `report` and `logs --previous`, on a real journal."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.sqlite import SqliteStore
from gpuctl.model import Event, EventKind


@pytest.fixture
def record(place: Path) -> Callable[..., None]:
    """Write events to the journal, the last of them now."""

    def write(*events: tuple[str, str, float, str, dict[str, Any]]) -> None:
        store = SqliteStore(place / "state.db", place / "unused.json")
        now = time.time()
        store.append(
            [
                Event(
                    kind=EventKind(kind),
                    subject=subject,
                    reason=reason,
                    evidence=evidence,
                    at=now + after,
                    boot_id="b",
                    boot_seconds=90_000 + after,
                )
                for kind, subject, after, reason, evidence in events
            ]
        )
        store.close()

    return write


HISTORY: tuple[tuple[str, str, float, str, dict[str, Any]], ...] = (
    ("ready", "chat-2", -7200, "", {}),
    ("failed", "chat-2", -60, "oom_killed", {"exit_code": 137}),
    ("attempt", "chat-2", -59, "oom_killed", {"action": "start", "attempt": "a", "restart": True}),
    ("evidence", "chat-2", -58, "oom_killed", {"log": ["one", "two", "three"]}),
    ("done", "chat-2", -58, "oom_killed", {"attempt": "a", "seconds": 0.5}),
    ("ready", "chat-2", -40, "", {}),
    ("condition", "GPU-2", -30, "gpu_lost", {"check": "gpu_missing"}),
)


def test_events_are_lines(inside: Callable[..., Any], record: Callable[..., None]) -> None:
    """Every event is one line, oldest first."""
    record(*HISTORY)

    done = inside("events")

    assert (done.code, done.err) == (0, "")
    assert [line.split()[3] for line in done.out.splitlines()] == [kind for kind, *_ in HISTORY]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["chat-2", "--kind", "failed"], ["failed"], id="one kind"),
        pytest.param(["--since", "45s"], ["ready", "condition"], id="since"),
        pytest.param(["-n", "2"], ["ready", "condition"], id="tail"),
        pytest.param(["gpu2"], ["condition"], id="a GPU by its index"),
        pytest.param(["GPU-2"], ["condition"], id="a GPU by its UUID"),
        pytest.param(["chat-0"], [], id="one without events"),
    ],
)
def test_events_are_filtered(
    inside: Callable[..., Any],
    record: Callable[..., None],
    publish: Callable[..., Any],
    arguments: list[str],
    expected: list[str],
) -> None:
    """Filters narrow the journal; --json prints one object a line."""
    record(*HISTORY)
    publish()

    done = inside("events", "--json", *arguments)

    assert [json.loads(line)["kind"] for line in done.out.splitlines()] == expected


@pytest.mark.parametrize(
    "arguments", [["--kind", "nonsense"], ["--since", "yesterday"]], ids=["kind", "since"]
)
def test_a_wrong_filter_is_a_usage_error(
    inside: Callable[..., Any], record: Callable[..., None], arguments: list[str]
) -> None:
    """A filter that means nothing is exit code 2 with the forms accepted."""
    record(*HISTORY)

    done = inside("events", *arguments)

    assert (done.code, done.out) == (2, "")
    assert "write seconds" not in done.err  # the hint has the forms
    assert "hint: " in done.err


@pytest.mark.parametrize("arguments", [["events"], ["why", "chat-0"]], ids=["events", "why"])
def test_events_without_a_journal(inside: Callable[..., Any], arguments: list[str]) -> None:
    """Before the first `up` there is no journal, which is said; nothing runs: exit code 3."""
    done = inside(*arguments)

    assert (done.code, done.out) == (3, "")
    assert "there is no journal" in done.err


def test_why(
    inside: Callable[..., Any], record: Callable[..., None], publish: Callable[..., Any]
) -> None:
    """The chain: seen, decided, kept, done, ready."""
    record(*HISTORY)
    publish()

    done = inside("why", "chat-2")

    lines = done.out.splitlines()
    assert (done.code, lines[0]) == (0, "chat-2: failed: oom_killed; ready again after 20 s")
    told = [line.split()[0] for line in lines[1:] if line and not line.startswith(" ")]
    assert told == ["seen", "decided", "kept", "done", "ready"]


def test_why_ends_with_what_is_wrong_now(
    inside: Callable[..., Any],
    record: Callable[..., None],
    publish: Callable[..., Any],
    place: Path,
) -> None:
    """A GPU that was lost after the last deed is told; by a daemon that is gone, nothing is."""
    import fcntl

    record(*HISTORY)
    publish(at=time.time())
    assert "\nnow " not in inside("why", "chat-2").out

    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = [line for line in inside("why", "chat-2").out.splitlines() if line[:4] == "now "]

    assert [line[29:].strip() for line in told] == [
        "gpu 2: failed: gpu_lost (gpu_missing)",
        "degraded: many_restarts (restarts)",
    ]


def test_why_of_an_unknown_name(
    inside: Callable[..., Any], record: Callable[..., None], publish: Callable[..., Any]
) -> None:
    """The nearest name is suggested."""
    record(*HISTORY)
    publish()

    done = inside("why", "caht-2")

    assert (done.code, done.out) == (2, "")
    assert "hint: did you mean chat-2, chat-1 or chat-0?" in done.err


def test_events_of_an_unknown_name(
    inside: Callable[..., Any], record: Callable[..., None], publish: Callable[..., Any]
) -> None:
    """A name that is none is no replica to which nothing has happened."""
    record(*HISTORY)
    publish()

    done = inside("events", "caht-2")

    assert (done.code, done.out) == (2, "")
    assert "error: no replica, workload or GPU is named 'caht-2'" in done.err


@pytest.mark.parametrize("command", ["events", "logs"])
def test_a_tail_is_counted_from_nothing(inside: Callable[..., Any], command: str) -> None:
    """Less than no line is refused."""
    done = inside(command, "chat-2", "--tail", "-3")

    assert (done.code, done.out) == (2, "")
    assert "--tail" in done.err


@pytest.mark.parametrize("previous", [[], ["--previous"]], ids=["now", "before"])
def test_the_log_of_a_workload(
    inside: Callable[..., Any], publish: Callable[..., Any], previous: list[str]
) -> None:
    """Each replica has a log of its own: the names of those there are, in the order of the plan."""
    publish()

    done = inside("logs", "chat", *previous)

    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: chat is a workload of several replicas: chat-0, chat-1, chat-2\n"
        "hint: each has a log of its own: `gpuctl logs chat-0`\n"
    )


def test_the_log_of_the_one_before(
    inside: Callable[..., Any], record: Callable[..., None], publish: Callable[..., Any]
) -> None:
    """The last lines of a replaced container stay in the journal."""
    record(*HISTORY)
    publish()

    assert inside("logs", "chat-2", "--previous", "-n", "2").out == "two\nthree\n"


def test_no_log_of_one_before(
    inside: Callable[..., Any], record: Callable[..., None], publish: Callable[..., Any]
) -> None:
    """A replica that was never replaced has no earlier log."""
    record(*HISTORY)
    publish()

    done = inside("logs", "chat-1", "--previous")

    assert (done.code, done.out) == (2, "")


def test_a_degraded_report_is_exit_code_3(
    inside: Callable[..., Any], record: Callable[..., None], publish: Callable[..., Any]
) -> None:
    """Restarts are counted by reason; what is wrong makes it exit code 3."""
    record(*HISTORY)
    publish(at=time.time())

    done = inside("report", "--json", "--since", "1h")

    document = json.loads(done.out)
    assert (done.code, document["healthy"]) == (3, False)
    assert document["replicas"][2]["failures"] == {"oom_killed": 1}


def test_a_quiet_report_of_health_prints_nothing(
    inside: Callable[..., Any], publish: Callable[..., Any], place: Path
) -> None:
    """Cron mails only what was printed: with --quiet, nothing when all is well."""
    import fcntl

    publish(at=time.time(), conditions=[], replicas=[])

    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        quiet = inside("report", "--quiet")
        loud = inside("report", "--format", "markdown")

    assert (quiet.code, quiet.out) == (0, "")
    assert loud.out.startswith("# gpuctl report: p106x8: healthy")


def test_gpus_have_names_for_people(
    inside: Callable[..., Any], record: Callable[..., None], publish: Callable[..., Any]
) -> None:
    """A UUID is written as the GPU's index, in the journal and in a chain; not in JSON."""
    publish(at=time.time())
    record(*HISTORY)

    assert "gpu 2" in inside("events", "--kind", "condition").out
    assert inside("why", "gpu2").out.startswith("gpu 2: ")
    assert json.loads(inside("events", "gpu2", "--json").out)["subject"] == "GPU-2"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["events"], id="events"),
        pytest.param(["why", "chat-2"], id="why"),
        pytest.param(["logs", "chat-2", "--previous"], id="logs"),
        pytest.param(["status"], id="status"),
        pytest.param(["report"], id="report"),
        pytest.param(["report", "--format", "markdown"], id="markdown"),
    ],
)
def test_what_an_engine_writes_does_not_drive_the_terminal(
    inside: Callable[..., Any],
    record: Callable[..., None],
    publish: Callable[..., Any],
    arguments: list[str],
) -> None:
    """Escape sequences in evidence, a reason or a name are shown, and never obeyed."""
    hostile = "a\x1b[2J\x9b2Jb"
    now = publish(at=time.time(), warnings=[hostile])
    now["gpus"][0]["name"] = hostile
    publish(**now)
    record(
        ("failed", "chat-2", -60, hostile, {"error": hostile}),
        ("attempt", "chat-2", -59, hostile, {"action": "start", "attempt": "a"}),
        ("evidence", "chat-2", -58, "killed", {"log": [hostile]}),
    )

    done = inside(*arguments)

    assert "a\\x1b[2J\\x9b2Jb" in done.out
    assert not {"\x1b", "\x9b"} & set(done.out + done.err)


def test_an_event_is_one_line(inside: Callable[..., Any], record: Callable[..., None]) -> None:
    """Words of several lines forge no event."""
    record(("undone", "chat-2", -1, "start_refused", {"error": "no\n2027-01-15  all is well"}))

    assert len(inside("events").out.splitlines()) == 1
