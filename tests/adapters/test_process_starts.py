"""What the process runtime gives an engine, and what it refuses to start."""

from __future__ import annotations

import os
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.adapters.process import ProcessRuntime, launch
from gpuctl.errors import RuntimeUnavailable, StartRefused
from gpuctl.model import ContainerSpec, Ulimit
from tests.adapters.process_bench import bench, directory, run, shell, simulator
from tests.adapters.runtime_bench import Bench, marked
from tests.rig import http
from tests.rig.waiting import wait_for

__all__ = ["bench"]

GPU = "GPU-5e8c0f6a-2f1d-4c62-9d0f-0a1b2c3d4e5f"


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


def test_a_secret_is_read_at_the_start_and_written_down_nowhere(tmp_path: Path) -> None:
    """The engine has it in its environment; the record has only where it is kept."""
    kept = tmp_path / "token"
    kept.write_text("hf_canary\n")
    runtime = ProcessRuntime(tmp_path / "state", units=False)
    spec = replace(simulator(http.free_port()), secrets={"HF_TOKEN": str(kept)})
    container = runtime.create("gpuctl-chat-0", spec, marked("chat-0"))
    runtime.start(container)
    told = http.state(spec.host_port)["environment"]
    runtime.signal(container, "SIGKILL")
    assert told["HF_TOKEN"] == "hf_canary"
    written = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert [path for path in written if b"hf_canary" in path.read_bytes()] == []


def test_a_secret_that_is_not_there_refuses_the_start(tmp_path: Path) -> None:
    """The words name the file."""
    runtime = ProcessRuntime(tmp_path / "state", units=False)
    spec = replace(simulator(http.free_port()), secrets={"HF_TOKEN": "/nowhere/token"})
    container = runtime.create("gpuctl-chat-0", spec, marked("chat-0"))
    with pytest.raises(StartRefused, match="/nowhere/token"):
        runtime.start(container)


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


def test_a_shim_that_cannot_work_says_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start is refused with the shim's own last line."""
    container, _ = bench.create()
    monkeypatch.setattr(launch, "SHIM", (sys.executable, "-c", "import sys; sys.exit('no luck')"))
    with pytest.raises(StartRefused, match="no luck"):
        bench.runtime.start(container)


def test_an_image_is_never_missing(bench: Bench) -> None:
    """A process needs none, so there is none to pull."""
    bench.runtime.pull("any:image", lambda line, ratio: pytest.fail("nothing to tell"))
    assert bench.runtime.has_image("any:image")


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


def test_what_an_interrupted_create_left_is_swept_away(bench: Bench) -> None:
    """A creation or removal killed half-way is never listed, and goes with the next create."""
    bench.create()
    root = Path(bench.runtime.identity())
    (root / ".half").mkdir()
    (root / ".half" / "spec.json").write_text("{")
    assert len(bench.runtime.list()) == 1
    bench.create()
    assert not (root / ".half").exists()


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
