"""
What every Runtime must do, shown on the real thing.

A runtime's test module subclasses `RuntimeContract` and defines one fixture, `bench`, that yields
a `Bench` of its own; pytest then runs every test here on it. Programs are gpusims.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from gpuctl.errors import ContainerMissing, NameTaken, StartRefused
from gpuctl.model import ContainerReading
from tests.adapters.runtime_bench import Bench, Watcher, marked, watched
from tests.rig import http
from tests.rig.waiting import wait_for

__all__ = ["Bench", "RuntimeContract", "Watcher", "marked", "watched"]


class RuntimeContract:
    """The tests; `bench` comes from the subclass."""

    def test_identity_is_the_same_for_every_client(self, bench: Bench) -> None:
        """Two clients of one engine see one identity, which is not empty."""
        assert bench.runtime.identity() == bench.open().identity() != ""

    def test_a_created_container_is_listed_and_not_running(self, bench: Bench) -> None:
        """Creating starts nothing; the labels come back in the reading."""
        container, replica = bench.create()
        (found,) = bench.runtime.list()
        assert replace(found, boot_seconds=0.0) == ContainerReading(
            id=container,
            name=f"gpuctl-{replica}",
            replica=replica,
            profile="test",
            state="created",
            gpus=("GPU-a", "GPU-b"),
            attempt="7",
            digest="v1:abc",
        )

    def test_a_started_container_serves_and_tells_its_process(self, bench: Bench) -> None:
        """A running container has a pid, a start time of now, and no end."""
        before = time.time()
        container, _ = bench.started()
        found = bench.read(container)
        assert (found.state, found.exit_code, found.finished_at) == ("running", None, None)
        assert found.pid is not None
        assert found.started_at is not None
        assert before - 1 <= found.started_at <= time.time()

    def test_starting_a_running_container_changes_nothing(self, bench: Bench) -> None:
        """Start can be repeated."""
        container, _ = bench.started()
        before = bench.read(container)
        bench.runtime.start(container)
        assert settled(bench.read(container)) == settled(before)

    def test_the_list_agrees_with_an_inspection(self, bench: Bench) -> None:
        """What is listed of a running container is what an inspection tells."""
        container, _ = bench.started()
        (listed,) = bench.runtime.list()
        assert settled(listed) == settled(bench.read(container))

    @pytest.mark.parametrize("code", [0, 1, 3])
    def test_the_exit_code_is_told(self, bench: Bench, code: int) -> None:
        """A program that ends by itself leaves its code and the time."""
        container, port = bench.started()
        before = time.time()
        http.order(port, exit=code)
        found = bench.ended(container)
        assert (found.exit_code, found.oom_killed, found.pid) == (code, False, None)
        assert found.finished_at is not None
        assert before - 1 <= found.finished_at <= time.time()

    def test_the_list_follows_a_death_without_an_event_stream(self, bench: Bench) -> None:
        """With nothing watching, the next list after the end says so."""
        container, port = bench.started()
        assert bench.runtime.list()[0].state == "running"
        http.order(port, exit=1)
        bench.ended(container)
        assert [found.state for found in bench.runtime.list()] == ["exited"]

    def test_sigterm_ends_it(self, bench: Bench) -> None:
        """SIGTERM reaches the program, which dies of it: 143."""
        container, _ = bench.started()
        bench.runtime.signal(container, "SIGTERM")
        assert bench.ended(container).exit_code == 143

    def test_sigkill_ends_what_ignores_sigterm(self, bench: Bench) -> None:
        """A program may ignore SIGTERM; SIGKILL ends it with 137."""
        container, port = bench.started()
        http.order(port, ignore_term=True)
        bench.runtime.signal(container, "SIGTERM")
        assert http.get(port, "/health") is not None
        bench.runtime.signal(container, "SIGKILL")
        assert bench.ended(container).exit_code == 137

    def test_signalling_what_has_ended_is_no_error(self, bench: Bench) -> None:
        """A signal that comes too late, or for something removed, is passed over."""
        container, port = bench.started()
        http.order(port, exit=0)
        bench.ended(container)
        bench.runtime.signal(container, "SIGKILL")
        assert bench.ended(container).exit_code == 0
        bench.runtime.remove(container)
        bench.runtime.signal(container, "SIGKILL")
        assert bench.runtime.inspect(container) is None

    def test_a_name_is_taken_once(self, bench: Bench) -> None:
        """A second container of the same name is a conflict, never a twin."""
        _, replica = bench.create()
        spec = bench.spec(http.free_port())
        with pytest.raises(NameTaken):
            bench.runtime.create(f"gpuctl-{replica}", spec, marked(replica))
        assert len(bench.runtime.list()) == 1

    def test_renaming_frees_the_name(self, bench: Bench) -> None:
        """An old container is renamed aside while it runs, and its name given to a new one."""
        container, _ = bench.started()
        name = bench.read(container).name
        bench.runtime.rename(container, f"{name}-old")
        successor = bench.runtime.create(name, bench.spec(http.free_port()), marked("chat"))
        assert {found.id: found.name for found in bench.runtime.list()} == {
            container: f"{name}-old",
            successor: name,
        }

    def test_renaming_can_be_repeated(self, bench: Bench) -> None:
        """Renaming to the name that it has already is no error."""
        container, replica = bench.create()
        bench.runtime.rename(container, f"gpuctl-{replica}-old")
        bench.runtime.rename(container, f"gpuctl-{replica}-old")
        assert bench.read(container).name == f"gpuctl-{replica}-old"

    def test_renaming_to_a_taken_name_is_a_conflict(self, bench: Bench) -> None:
        """Two containers never share a name."""
        (first, _), (_, other) = bench.create(), bench.create()
        with pytest.raises(NameTaken):
            bench.runtime.rename(first, f"gpuctl-{other}")

    def test_removing_can_be_repeated(self, bench: Bench) -> None:
        """A removed container is gone from list and inspection; removing it again is no error."""
        container, _ = bench.create()
        bench.runtime.remove(container)
        bench.runtime.remove(container)
        assert (bench.runtime.list(), bench.runtime.inspect(container)) == ((), None)

    def test_what_is_gone_cannot_be_started(self, bench: Bench) -> None:
        """Starting or renaming a removed container says that it is missing."""
        container, _ = bench.create()
        bench.runtime.remove(container)
        with pytest.raises(ContainerMissing):
            bench.runtime.start(container)
        with pytest.raises(ContainerMissing):
            bench.runtime.rename(container, "gpuctl-elsewhere")

    def test_a_program_that_does_not_exist_is_named(self, bench: Bench) -> None:
        """It is refused, or it ends at once with 127; either way the program is named."""
        assert "no-such-program" in _words_of_a_failed_start(bench)

    def test_logs_are_the_last_lines(self, bench: Bench) -> None:
        """The last lines come oldest first, with control characters made visible."""
        container, port = bench.started()
        for text in ("one", "two \x1b[31mred\x1b[0m", "three\x07"):
            http.order(port, print=text)
        expected = ("two red", "three\\x07")
        wait_for(lambda: bench.runtime.logs(container, 2) == expected, "the printed lines")

    def test_logs_of_what_has_ended_remain(self, bench: Bench) -> None:
        """The evidence outlives the program."""
        container, port = bench.started()
        http.order(port, print="the end is near")
        http.order(port, exit=1)
        bench.ended(container)
        assert bench.runtime.logs(container, 1) == ("the end is near",)

    def test_following_ends_with_the_program(self, bench: Bench) -> None:
        """A follower gets the past, the present, and an end."""
        container, port = bench.started()
        followed: list[str] = []
        source = bench.runtime.follow(container, 10)
        followed.append(next(source))
        http.order(port, print="last words")
        http.order(port, exit=0)
        followed.extend(source)
        assert followed[0].startswith("gpusim: listening")
        assert followed[-1] == "last words"

    def test_events_tell_a_life(self, bench: Bench, watched: Callable[[], Watcher]) -> None:
        """Start, die with its code, and destroy arrive with the replica's name, in order."""
        watcher = watched()
        container, port = bench.started()
        replica = bench.read(container).replica
        watcher.wait("start", container)
        http.order(port, exit=3)
        died = watcher.wait("die", container)
        bench.ended(container)
        bench.runtime.remove(container)
        watcher.wait("destroy", container)
        assert (died.exit_code, died.replica) == (3, replica)
        assert abs(died.at - time.time()) < 10
        actions = [event.action for event in watcher.events if event.container == container]
        assert actions == ["start", "die", "destroy"]

    def test_closing_ends_the_event_stream(self, bench: Bench) -> None:
        """A thread that waits for events returns within a second of close()."""
        runtime = bench.open()
        watcher = Watcher(runtime)
        container, _ = bench.started()
        watcher.wait("start", container)
        runtime.close()
        watcher.thread.join(1.0)
        assert not watcher.thread.is_alive()

    def test_another_client_adopts_what_runs(self, bench: Bench) -> None:
        """A client that starts later sees the same containers and can act on them."""
        container, _ = bench.started()
        before = bench.read(container)
        other = bench.open()
        (adopted,) = other.list()
        assert settled(adopted) == settled(before)
        other.signal(container, "SIGKILL")
        assert bench.ended(container).exit_code == 137
        other.close()

    def test_closing_a_client_leaves_containers_alone(self, bench: Bench) -> None:
        """The end of a client is not the end of what it started."""
        runtime = bench.open()
        port = http.free_port()
        container = runtime.create("gpuctl-left-0", bench.spec(port), marked("left-0"))
        runtime.start(container)
        http.state(port)
        runtime.close()
        assert bench.read(container).state == "running"

    def test_what_is_not_ours_is_neither_seen_nor_touched(self, bench: Bench) -> None:
        """A container without our label is not listed, not inspected, and refuses every write."""
        stranger = bench.foreign()
        assert (bench.runtime.list(), bench.runtime.inspect(stranger)) == ((), None)
        for touch in (
            lambda: bench.runtime.rename(stranger, "gpuctl-mine"),
            lambda: bench.runtime.disconnect(stranger),
            lambda: bench.runtime.logs(stranger, 1),
        ):
            with pytest.raises(ContainerMissing):
                touch()
        for attempt in (
            lambda: bench.runtime.signal(stranger, "SIGKILL"),
            lambda: bench.runtime.remove(stranger),
        ):
            _ignoring_missing(attempt)
        assert bench.alive(stranger)

    def test_a_profile_sees_only_its_own(self, bench: Bench) -> None:
        """Two replicas are told apart by their labels, whoever created them."""
        (mine, _), (other, _) = bench.create(profile="a"), bench.create(profile="b")
        profiles = {found.id: found.profile for found in bench.runtime.list()}
        assert profiles == {mine: "a", other: "b"}


def settled(reading: ContainerReading) -> ContainerReading:
    """Return what of a reading does not change while its container runs."""
    return replace(reading, memory_bytes=None, cpu_seconds=None, boot_seconds=0.0)


def _ignoring_missing(touch: Callable[[], None]) -> None:
    """A runtime may say that it knows no such container, or pass over it."""
    try:
        touch()
    except ContainerMissing:
        return


def _words_of_a_failed_start(bench: Bench) -> str:
    """Return the refusal of a program that does not exist, or the last line of what it ran as."""
    try:
        container = bench.runtime.create("gpuctl-x-0", bench.broken, marked("x-0"))
        bench.runtime.start(container)
    except StartRefused as refused:
        return refused.message
    assert bench.ended(container).exit_code == 127
    return bench.runtime.logs(container, 1)[0]
