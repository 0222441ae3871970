"""The process runtime on real processes: the shared contract, then its own facts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.adapters.process import ProcessRuntime, container_of, launch, records, shim
from gpuctl.errors import RuntimeUnavailable, StartRefused
from gpuctl.model import MIB, ContainerSpec, LogRotation, Ulimit
from tests.adapters.runtime_bench import Bench, Watcher, marked, watched
from tests.adapters.runtime_contract import RuntimeContract
from tests.rig import http
from tests.rig.images import REPOSITORY
from tests.rig.waiting import wait_for

__all__ = ["watched"]

GPU = "GPU-5e8c0f6a-2f1d-4c62-9d0f-0a1b2c3d4e5f"
SIMULATOR = (sys.executable, "-IS", str(REPOSITORY / "tests" / "rig" / "gpusim.py"))


def simulator(port: int) -> ContainerSpec:
    command = (*SIMULATOR, "--host", "127.0.0.1", "--port", str(port))
    return ContainerSpec(image="", command=command, host_port=port, container_port=port)


def shell(script: str, **fields: object) -> ContainerSpec:
    spec = ContainerSpec(image="", command=("sh", "-c", script), host_port=0, container_port=0)
    return replace(spec, **fields)  # type: ignore[arg-type]


def bench_in(root: Path) -> Bench:
    runtime = ProcessRuntime(root, units=False)

    def foreign() -> str:
        """Run something in the very directory that does not have our label."""
        stranger = runtime.create("stranger", shell("exec sleep 600"), {})
        launch.launch(root / stranger, records.read(root / stranger), unit=False)
        wait_for(lambda: alive(stranger), "the stranger")
        return stranger

    def alive(stranger: str) -> bool:
        run = records.read_run(root / stranger)
        return run is not None and run.going()

    return Bench(
        open=lambda: ProcessRuntime(root, units=False),
        spec=simulator,
        broken=replace(shell(""), command=("/no-such-program",)),
        foreign=foreign,
        alive=alive,
    )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    root = tmp_path / "processes"
    made = bench_in(root)
    yield made
    for directory in records.directories(root):
        run = records.read_run(directory)
        if run is not None:
            for identity in (run.engine, run.shim):
                if identity.alive(zombie=False):
                    os.kill(identity.pid, signal.SIGKILL)
    made.runtime.close()


def run(bench: Bench, spec: ContainerSpec) -> str:
    """Create and start *spec*; return its id."""
    container = bench.runtime.create("gpuctl-shell-0", spec, marked("shell-0"))
    bench.runtime.start(container)
    return container


def directory(bench: Bench, container: str) -> Path:
    return Path(bench.runtime.identity()) / container


def shim_of(bench: Bench, container: str) -> int:
    found = records.read_run(directory(bench, container))
    assert found is not None
    return found.shim.pid


class TestContract(RuntimeContract):
    """The shared contract, on real processes."""


CREATOR = """
import os, signal, sys
from pathlib import Path
from gpuctl.adapters.process import ProcessRuntime
from gpuctl.model import ContainerSpec
runtime = ProcessRuntime(Path(sys.argv[1]), units=False)
spec = ContainerSpec(image="", command=tuple(sys.argv[2:]), host_port=0, container_port=0)
container = runtime.create("gpuctl-orphan-0", spec, {"gpuctl.replica": "orphan-0"})
runtime.start(container)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_engine_outlives_the_daemon_that_started_it(bench: Bench) -> None:
    """SIGKILL of the creator: the engine runs on, and its exit code is told to the next one."""
    command = ("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done")
    root = bench.runtime.identity()
    killed = subprocess.run([sys.executable, "-c", CREATOR, root, *command], check=False)
    assert killed.returncode == -signal.SIGKILL
    (adopted,) = bench.runtime.list()
    assert (adopted.state, adopted.replica) == ("running", "orphan-0")
    bench.runtime.signal(adopted.id, "SIGTERM")
    assert bench.ended(adopted.id).exit_code == 7


def test_an_end_that_nobody_watched_is_remembered(bench: Bench) -> None:
    """An engine that came and went while no daemon ran has left its code."""
    command = ("sh", "-c", "exit 9")
    root = bench.runtime.identity()
    subprocess.run([sys.executable, "-c", CREATOR, root, *command], check=False)
    (found,) = bench.runtime.list()
    assert bench.ended(found.id).exit_code == 9


def test_an_engine_survives_its_shim(bench: Bench) -> None:
    """SIGKILL of the shim: the engine serves on, and when it ends its exit code is unknown."""
    container, port = bench.started()
    before = bench.read(container)
    os.kill(shim_of(bench, container), signal.SIGKILL)
    wait_for(lambda: not _exists(shim_of(bench, container)), "the shim's end")
    assert http.get(port, "/health") is not None
    after = bench.read(container)
    assert (after.state, after.pid, after.started_at) == ("running", before.pid, before.started_at)
    bench.runtime.start(container)
    assert bench.read(container).pid == before.pid
    bench.runtime.signal(container, "SIGKILL")
    assert bench.ended(container).exit_code is None


def _exists(pid: int) -> bool:
    found = shim.start_ticks(pid)
    return found is not None and found[1] != "Z"


@pytest.mark.parametrize("field", ["start_ticks", "boot_id"])
def test_a_pid_in_other_hands_is_not_ours(bench: Bench, field: str) -> None:
    """A process with our pid but another start time, or of another boot, is never touched."""
    container, port = bench.started()
    state = directory(bench, container) / shim.STATE
    value = json.loads(state.read_text())
    forged = {"start_ticks": value["start_ticks"] + 1, "boot_id": "another"}[field]
    shim.write_json(str(state), {**value, field: forged})
    assert bench.read(container).state == "exited"
    bench.runtime.signal(container, "SIGKILL")
    assert http.get(port, "/health") is not None
    shim.write_json(str(state), value)


def test_a_frozen_engine_is_running(bench: Bench) -> None:
    """SIGSTOP is a fault that health must find, not a state that an operator asked for."""
    container, _ = bench.started()
    pid = bench.read(container).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert bench.read(container).state == "running"


def test_a_killed_engine_takes_its_workers_along(bench: Bench) -> None:
    """What the engine has started ends with it, however it ends: VRAM must come free."""
    spec = shell("sleep 600 & echo $!; wait")
    container = run(bench, spec)
    (worker,) = wait_for(lambda: bench.runtime.logs(container, 1), "the worker's pid")
    pid = bench.read(container).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    bench.ended(container)
    wait_for(lambda: not _exists(int(worker)), "the worker's end")


def test_what_has_ended_can_be_started_again(bench: Bench) -> None:
    """A second start has a new process and forgets the first one's end; the log goes on."""
    container = run(bench, shell("echo run; exec sleep 0.2"))
    bench.ended(container)
    first = bench.read(container).started_at
    bench.runtime.start(container)
    again = bench.read(container)
    assert (again.state, again.exit_code) == ("running", None)
    assert again.started_at != first
    assert bench.runtime.logs(container, 5) == ("run", "run")


def test_many_starts_at_once_are_one_start(bench: Bench) -> None:
    """Eight threads, each with a runtime of its own, start one engine once."""
    container = bench.runtime.create("gpuctl-a-0", shell("echo up; exec sleep 60"), marked("a-0"))
    threads = [
        threading.Thread(target=runtime.start, args=(container,))
        for runtime in [bench.open() for _ in range(8)]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: bench.runtime.logs(container, 9), "its line")
    assert bench.runtime.logs(container, 9) == ("up",)


def test_the_environment_is_minimal_and_names_gpus_by_uuid(tmp_path: Path) -> None:
    """PATH, HOME, LANG, the spec's own, the GPUs by UUID, and the container's id; no more."""
    minimal = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "LANG": "C.UTF-8"}
    runtime = ProcessRuntime(tmp_path, environment=minimal, units=False)
    spec = replace(simulator(http.free_port()), gpus=(GPU, "GPU-2"), environment={"A": "b"})
    container = runtime.create("gpuctl-gpu-0", spec, marked("gpu-0"))
    runtime.start(container)
    told = http.state(spec.host_port)["environment"]
    runtime.signal(container, "SIGKILL")
    assert told == {
        **minimal,
        "A": "b",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": f"{GPU},GPU-2",
        "GPUCTL_CONTAINER": container,
    }


def test_a_worker_is_told_by_its_environment(bench: Bench) -> None:
    """What an engine has started is the engine's; we, and what has ended, are strangers."""
    container = run(bench, shell("sleep 600 & echo $!; wait"))
    (worker,) = wait_for(lambda: bench.runtime.logs(container, 1), "the worker's pid")
    assert container_of(int(worker)) == container
    assert container_of(os.getpid()) is None
    assert container_of(2**22) is None


def test_a_replica_on_the_cpu_sees_no_gpu(bench: Bench) -> None:
    """No GPU in the plan means none in the process, whatever the host has."""
    _, port = bench.started()
    assert http.state(port)["environment"]["CUDA_VISIBLE_DEVICES"] == ""


def test_a_taken_port_refuses_the_start_and_names_its_owner(bench: Bench) -> None:
    """The message has the port, the program and its pid; the container keeps the words."""
    with socket.create_server(("127.0.0.1", 0)) as owner:
        port = owner.getsockname()[1]
        container, _ = bench.create(port)
        with pytest.raises(StartRefused) as refused:
            bench.runtime.start(container)
    program = Path("/proc/self/comm").read_text().strip()
    words = f"port {port} on 127.0.0.1 is taken by {program} (pid {os.getpid()})"
    assert str(refused.value) == words
    found = bench.read(container)
    assert (found.state, found.error, found.exit_code) == ("created", words, 128)
    bench.runtime.start(container)
    assert bench.read(container).state == "running"


def test_a_file_that_cannot_be_executed_refuses_the_start(bench: Bench, tmp_path: Path) -> None:
    """What only exec itself can tell comes back as the same kind of refusal."""
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF, but not really")
    program.chmod(0o755)
    spec = replace(shell(""), command=(str(program),))
    with pytest.raises(StartRefused, match=r"program: Exec format error"):
        run(bench, spec)
    (found,) = bench.runtime.list()
    assert (found.state, found.exit_code) == ("created", 126)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param(replace(shell(""), command=()), "no command to run", id="no command"),
        pytest.param(shell("", user="no-such-user"), "no user 'no-such-user'", id="user"),
        pytest.param(shell("", user="root:no-such"), "no group 'no-such'", id="group"),
        pytest.param(
            shell("", ulimits=(Ulimit(name="luck", soft=1, hard=1),)),
            "no ulimit 'luck'",
            id="limit",
        ),
    ],
)
def test_what_cannot_be_is_refused_when_created(
    bench: Bench, spec: ContainerSpec, words: str
) -> None:
    """A spec that no start could carry out leaves nothing behind."""
    with pytest.raises(StartRefused, match=words):
        bench.runtime.create("gpuctl-x-0", spec, marked("x-0"))
    assert bench.runtime.list() == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_user_and_ulimits_are_applied(bench: Bench) -> None:
    """The engine runs as the user that the spec names, with its limits."""
    limits = (Ulimit(name="nofile", soft=123, hard=456),)
    container = run(bench, shell("id -u; id -g; ulimit -n", user="nobody", ulimits=limits))
    bench.ended(container)
    assert bench.runtime.logs(container, 5) == ("65534", "65534", "123")


def test_a_running_engine_is_not_removed(bench: Bench) -> None:
    """Removing is for what has ended; the hint says what to do first."""
    container, _ = bench.started()
    with pytest.raises(RuntimeUnavailable, match="is running") as refused:
        bench.runtime.remove(container)
    assert "SIGTERM" in refused.value.hint
    assert bench.read(container).state == "running"


def test_disconnecting_leaves_it_as_it_is(bench: Bench) -> None:
    """A process has no network to be cut from."""
    container, port = bench.started()
    bench.runtime.disconnect(container)
    assert http.get(port, "/health") is not None


def test_an_image_is_never_missing(bench: Bench) -> None:
    """A process needs none, so there is none to pull."""
    bench.runtime.pull("any:image", lambda line, ratio: pytest.fail("nothing to tell"))
    assert bench.runtime.has_image("any:image")


def test_a_log_is_kept_within_its_bounds(bench: Bench) -> None:
    """Three files of some 8 KiB each, the newest lines last, none of them lost on the way."""
    script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); printf '%0500d\\n' $i; sleep 0.05; done"
    container = run(bench, shell(script, log=LogRotation(max_bytes=8192, files=3)))
    followed = [int(line) for line in bench.runtime.follow(container, 0)]
    bench.ended(container)
    assert followed == list(range(followed[0], 61))
    kept = [int(line) for line in bench.runtime.logs(container, 1000)]
    assert kept == list(range(kept[0], 61))
    assert bench.runtime.logs(container, 3) == tuple(f"{n:0500d}" for n in (58, 59, 60))
    sizes = [path.stat().st_size for path in directory(bench, container).glob("log*")]
    # Looked at once a second: 20 lines of 501 bytes may come on top.
    assert len(sizes) <= 3
    assert all(size <= 8192 + 30 * 501 for size in sizes)


def test_a_log_that_cannot_be_kept_is_given_up(tmp_path: Path) -> None:
    """When the old lines find no place, they go: a full disk must not fill further."""
    log = tmp_path / "log"
    log.write_text("old lines\n")
    (tmp_path / "log.1").mkdir()
    shim.rotate(str(log), max_bytes=5, files=2)
    assert log.read_bytes() == b""


def test_one_file_is_cut_and_none_kept(tmp_path: Path) -> None:
    """A rotation of one file has room for nothing old."""
    log = tmp_path / "log"
    log.write_text("old lines\n")
    shim.rotate(str(log), max_bytes=5, files=1)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"log": ""}


def test_a_shim_that_cannot_work_says_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start is refused with the shim's own last line."""
    container, _ = bench.create()
    monkeypatch.setattr(launch, "SHIM", (sys.executable, "-c", "import sys; sys.exit('no luck')"))
    with pytest.raises(StartRefused, match="no luck"):
        bench.runtime.start(container)


def test_the_last_lines_are_read_without_the_rest(bench: Bench) -> None:
    """A long log is read from its end; a line without an end is a line."""
    container = run(bench, shell("seq 200000; printf unfinished"))
    bench.ended(container)
    assert bench.runtime.logs(container, 3) == ("199999", "200000", "unfinished")
    assert bench.runtime.logs(container, 0) == ()


def test_what_was_missed_is_told_again(bench: Bench) -> None:
    """A stream opened with *since* begins with what has happened from then on."""
    since = time.time()
    container = run(bench, shell("exit 4"))
    bench.ended(container)
    watcher = Watcher(bench.runtime, since)
    assert watcher.wait("die", container).exit_code == 4
    assert [event.action for event in watcher.events] == ["start", "die"]


def test_what_another_did_is_seen(bench: Bench) -> None:
    """A rename and a removal by another client of the directory arrive within two seconds."""
    watcher = Watcher(bench.open())
    container, replica = bench.create()
    other = bench.open()
    other.start(container)
    watcher.wait("start", container)
    other.rename(container, f"gpuctl-{replica}-old")
    assert watcher.wait("rename", container).replica == replica
    other.signal(container, "SIGKILL")
    bench.ended(container)
    other.remove(container)
    watcher.wait("destroy", container)


def test_a_death_is_told_at_once(bench: Bench) -> None:
    """An engine's end wakes the watcher; it does not wait for the next look."""
    container, _ = bench.started()
    watcher = Watcher(bench.runtime)
    pid = bench.read(container).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    began = time.time()
    assert watcher.wait("die", container).exit_code == 137
    assert time.time() - began < 0.5


def test_what_an_interrupted_create_left_is_swept_away(bench: Bench) -> None:
    """A creation or removal killed half-way is never listed, and goes with the next create."""
    bench.create()
    root = Path(bench.runtime.identity())
    (root / ".half").mkdir()
    (root / ".half" / "spec.json").write_text("{")
    assert len(bench.runtime.list()) == 1
    bench.create()
    assert not (root / ".half").exists()


def test_a_damaged_record_is_said_in_words(bench: Bench) -> None:
    """A file that is not JSON names itself, and what to do about it."""
    container, _ = bench.create()
    path = directory(bench, container) / "spec.json"
    path.write_text("{")
    with pytest.raises(RuntimeUnavailable, match=r"spec\.json is not JSON") as failed:
        bench.runtime.list()
    assert "by hand" in failed.value.hint
    path.unlink()


def test_a_directory_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    """A file where the directory should be is not a traceback."""
    (tmp_path / "file").write_text("")
    runtime = ProcessRuntime(tmp_path / "file" / "processes", units=False)
    with pytest.raises(RuntimeUnavailable, match="create gpuctl-a-0") as failed:
        runtime.create("gpuctl-a-0", shell(""), marked("a-0"))
    assert "state directory" in failed.value.hint


def test_nobody_else_can_read_what_an_engine_is_given(bench: Bench) -> None:
    """The environment may hold a token: files and directories are the owner's alone."""
    container = run(bench, shell("exec sleep 60"))
    folder = directory(bench, container)
    modes = {path.name: path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())}
    del modes["shim.err"]
    assert modes == dict.fromkeys(modes, 0)


def test_a_shim_is_small(bench: Bench) -> None:
    """Sixteen engines cost sixteen shims: each stays below 16 MiB, half of it shared."""
    container = run(bench, shell("exec sleep 60"))
    words = Path(f"/proc/{shim_of(bench, container)}/statm").read_text().split()
    assert int(words[1]) * records.PAGE_BYTES < 16 * MIB
