"""What the Docker Engine answers, and is asked, written down by hand: no engine needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.docker import cgroup, creation, reading
from gpuctl.adapters.docker.pulling import Layers
from gpuctl.model import ContainerReading, ContainerSpec, Mount, RuntimeEvent

ID = "4f" * 32


def inspected(**state: object) -> dict[str, Any]:
    """Return what the engine answers for a running container, with *state* changed."""
    running = {"Status": "running", "Pid": 4321, "ExitCode": 0, "OOMKilled": False, "Error": ""}
    times = {"StartedAt": "2026-11-21T04:23:34.510286077Z", "FinishedAt": "0001-01-01T00:00:00Z"}
    labels = {
        "gpuctl.schema": "1",
        "gpuctl.profile": "p106x8",
        "gpuctl.replica": "chat-0",
        "gpuctl.gpus": "GPU-a,GPU-b",
        "gpuctl.attempt": "7",
        "gpuctl.digest": "v1:abc",
    }
    return {
        "Id": ID,
        "Name": "/gpuctl-chat-0",
        "State": {**running, **times, **state},
        "Config": {"Labels": labels},
    }


def test_a_running_container_is_read() -> None:
    """Every field of a reading comes from the inspection; an end that never came is None."""
    assert reading.reading(inspected(), boot_seconds=12.5) == ContainerReading(
        id=ID,
        name="gpuctl-chat-0",
        replica="chat-0",
        profile="p106x8",
        state="running",
        pid=4321,
        started_at=1795235014.510286,
        gpus=("GPU-a", "GPU-b"),
        attempt="7",
        digest="v1:abc",
        boot_seconds=12.5,
    )


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(
            {"Status": "exited", "Pid": 0, "ExitCode": 137, "OOMKilled": True},
            ("exited", None, 137, True),
            id="out-of-memory",
        ),
        pytest.param({"Status": "exited", "Pid": 0}, ("exited", None, 0, False), id="ended-well"),
        pytest.param({"Status": "paused"}, ("paused", 4321, None, False), id="paused"),
        pytest.param({"Status": "created", "Pid": 0}, ("created", None, None, False), id="created"),
        pytest.param(
            {"Status": "created", "Pid": 0, "ExitCode": 128},
            ("created", None, 128, False),
            id="start-refused",
        ),
        pytest.param(
            {"Status": "restarting", "Pid": 0, "ExitCode": 1},
            ("exited", None, 1, False),
            id="restarted-by-a-policy-of-someone-else",
        ),
    ],
)
def test_the_state_is_told(state: dict[str, object], expected: tuple[object, ...]) -> None:
    """State, pid, exit code and OOM flag as the engine means them."""
    found = reading.reading(inspected(**state), boot_seconds=0.0)
    assert (found.state, found.pid, found.exit_code, found.oom_killed) == expected


def test_a_container_without_labels_is_read() -> None:
    """Docker answers null where there are none."""
    bare = {**inspected(), "Config": {"Labels": None}}
    assert reading.reading(bare, boot_seconds=0.0).replica == ""


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        pytest.param("2026-11-21T04:23:34.510286077Z", 1795235014.510286, id="nanoseconds"),
        pytest.param("2026-11-21T04:23:34Z", 1795235014.0, id="whole"),
        pytest.param("2026-11-21T06:23:34.5+02:00", 1795235014.5, id="offset"),
        pytest.param("2026-11-21T04:23:34", 1795235014.0, id="without-a-zone"),
        pytest.param("0001-01-01T00:00:00Z", None, id="never"),
        pytest.param("", None, id="empty"),
    ],
)
def test_timestamps(timestamp: str, seconds: float | None) -> None:
    """RFC 3339 becomes Unix seconds; Go's zero time is no time."""
    assert reading.unix_seconds(timestamp) == seconds


def test_an_event_is_read() -> None:
    """A die event carries its exit code; the time is the engine's, in nanoseconds."""
    attributes = {"gpuctl.replica": "chat-0", "exitCode": "137", "image": "x", "name": "y"}
    told = {
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": ID, "Attributes": attributes},
        "time": 1795235014,
        "timeNano": 1795235014510286077,
    }
    assert reading.event(told) == RuntimeEvent(
        at=1795235014.510286077,
        action="die",
        container=ID,
        replica="chat-0",
        exit_code=137,
    )


def secretive(**changes: Any) -> ContainerSpec:
    values: dict[str, Any] = {"secrets": {"API_KEY": "/etc/key"}, **changes}
    return ContainerSpec(image="e", host_port=1, container_port=2, **values)


def test_a_secret_travels_as_a_file() -> None:
    """`inspect` shows where a secret is mounted, never what it is; what is no secret stays so."""
    made = creation.body(secretive(environment={"A": "1"}, command=("serve",)), {})
    assert made["Env"] == ["A=1"]
    (mount,) = made["HostConfig"]["Mounts"]
    assert (mount["Source"], mount["Target"]) == ("/etc/key", "/run/secrets/API_KEY")
    assert mount["ReadOnly"]


IMAGE = {"Entrypoint": ["vllm", "serve"], "Cmd": ["--help"]}


@pytest.mark.parametrize(
    ("entrypoint", "command", "image", "runs"),
    [
        pytest.param(None, (), IMAGE, ["vllm", "serve", "--help"], id="the-image-s"),
        pytest.param(None, ("m",), IMAGE, ["vllm", "serve", "m"], id="a-command"),
        pytest.param(("x",), (), IMAGE, ["x"], id="an-entrypoint"),
        pytest.param(("x",), ("m",), IMAGE, ["x", "m"], id="both"),
        pytest.param((), (), IMAGE, ["--help"], id="no-entrypoint"),
        pytest.param(None, (), {"Cmd": ["sleep"]}, ["sleep"], id="an-image-with-a-command"),
        pytest.param(None, ("m",), {"Entrypoint": None, "Cmd": None}, ["m"], id="a-bare-image"),
    ],
)
def test_with_a_secret_the_same_program_runs(
    entrypoint: tuple[str, ...] | None,
    command: tuple[str, ...],
    image: dict[str, Any],
    runs: list[str],
) -> None:
    """The wrapper becomes what Docker would have run: the image's words, or the spec's."""
    made = creation.body(secretive(entrypoint=entrypoint, command=command), {}, image)
    assert made["Entrypoint"][:2] == ["/bin/sh", "-c"]
    assert made["Cmd"] == runs


def test_with_nothing_to_run_there_is_nothing_to_wrap() -> None:
    """The engine's own refusal is told."""
    assert not {"Entrypoint", "Cmd"} & creation.body(secretive(), {}, {}).keys()


def wrapped(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Run the wrapper of these secrets, which lie in *folder*, before a program that shows all."""
    spec = secretive(secrets=dict.fromkeys(names, ""), command=("env", "-0"))
    made = creation.body(spec, {})
    words = [word.replace("/run/secrets", str(folder)) for word in made["Entrypoint"]]
    clean = {"PATH": os.environ["PATH"], "text": "of the image"}
    return subprocess.run([*words, *made["Cmd"]], env=clean, capture_output=True, text=True)


def test_a_secret_is_a_variable_of_the_engine(tmp_path: Path) -> None:
    """Each has its own value to the letter, without the space around it, and nothing is added."""
    letters = """a b  $HOME `id` $(id) "quoted" 'so' \\ * ; é\nsecond line"""
    (tmp_path / "API_KEY").write_text(f" {letters}\r\n\n")
    (tmp_path / "_B2").write_text("b")
    (tmp_path / "EMPTY").write_text("\n")
    ran = wrapped(tmp_path, "API_KEY", "_B2", "EMPTY")
    shown = dict(line.split("=", 1) for line in ran.stdout.split("\0") if line)
    assert {name: value for name, value in shown.items() if name not in ("PATH", "PWD")} == {
        "API_KEY": letters,
        "_B2": "b",
        "EMPTY": "",
        "text": "of the image",
    }


def test_a_secret_that_cannot_be_read_ends_the_start_in_words(tmp_path: Path) -> None:
    """Nothing runs without its secret, and the last line of the log names it."""
    ran = wrapped(tmp_path, "API_KEY")
    said = f"the secret {tmp_path}/API_KEY cannot be read by user {os.getuid()} of this container"
    assert (ran.returncode, ran.stdout) == (78, "")
    assert ran.stderr.splitlines()[-1] == f"gpuctl: {said}"


def test_a_small_spec_sets_no_limit_it_does_not_have() -> None:
    """What the profile leaves open stays Docker's default, and no GPU is asked for."""
    spec = ContainerSpec(
        image="image:tag",
        host_port=8081,
        container_port=8080,
        mounts=(Mount(source="models", target="/models", read_only=True),),
    )
    assert creation.body(spec, {"gpuctl.replica": "chat-0"}) == {
        "Image": "image:tag",
        "Env": [],
        "Labels": {"gpuctl.replica": "chat-0"},
        "StopTimeout": 30,
        "Healthcheck": {"Test": ["NONE"]},
        "ExposedPorts": {"8080/tcp": {}},
        "HostConfig": {
            "PidsLimit": 4096,
            "Ulimits": [],
            "CapDrop": ["ALL"],
            "CapAdd": [],
            "SecurityOpt": ["no-new-privileges:true"],
            "Init": True,
            "NetworkMode": "bridge",
            "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8081"}]},
            "Mounts": [
                {"Type": "volume", "Source": "models", "Target": "/models", "ReadOnly": True}
            ],
            "DeviceRequests": [],
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": "52428800", "max-file": "3"},
            },
            "RestartPolicy": {"Name": "no"},
        },
    }


@pytest.mark.parametrize(
    ("groups", "folder", "usage", "inactive"),
    [
        pytest.param(
            f"9:memory:/docker/{ID}\n0::/docker/{ID}",
            f"memory/docker/{ID}",
            "memory.usage_in_bytes",
            "total_inactive_file",
            id="v1",
        ),
        pytest.param(
            f"0::/system.slice/docker-{ID}.scope",
            f"system.slice/docker-{ID}.scope",
            "memory.current",
            "inactive_file",
            id="v2",
        ),
    ],
)
def test_host_ram_is_read_from_the_control_group(
    tmp_path: Path, groups: str, folder: str, usage: str, inactive: str
) -> None:
    """What the kernel would give back is not held; both versions are understood."""
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "7").mkdir(parents=True)
    (proc / "7" / "cgroup").write_text(groups + "\n")
    (root / folder).mkdir(parents=True)
    (root / folder / usage).write_text("5000\n")
    (root / folder / "memory.stat").write_text(f"rss 1\n{inactive} 1200\n")
    assert cgroup.memory_bytes(7, ID, proc=proc, root=root) == 3800
    # The same pid on another machine's engine is some other process here.
    assert cgroup.memory_bytes(7, "ab" * 32, proc=proc, root=root) is None
    assert cgroup.memory_bytes(8, ID, proc=proc, root=root) is None
    assert cgroup.memory_bytes(None, ID, proc=proc, root=root) is None


@pytest.mark.parametrize(
    ("groups", "file", "text"),
    [
        pytest.param(
            f"4:cpu,cpuacct:/docker/{ID}\n0::/docker/{ID}",
            f"cpuacct/docker/{ID}/cpuacct.usage",
            "2500000000\n",
            id="v1",
        ),
        pytest.param(
            f"0::/system.slice/docker-{ID}.scope",
            f"system.slice/docker-{ID}.scope/cpu.stat",
            "usage_usec 2500000\nuser_usec 2000000\n",
            id="v2",
        ),
    ],
)
def test_processor_time_is_read_from_the_control_group(
    tmp_path: Path, groups: str, file: str, text: str
) -> None:
    """All processes of the container count; where it cannot be read it is unknown, not nothing."""
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "7").mkdir(parents=True)
    (proc / "7" / "cgroup").write_text(groups + "\n")
    assert cgroup.cpu_seconds(7, ID, proc=proc, root=root) is None
    (root / file).parent.mkdir(parents=True)
    (root / file).write_text(text)
    assert cgroup.cpu_seconds(7, ID, proc=proc, root=root) == 2.5
    assert cgroup.cpu_seconds(7, "ab" * 32, proc=proc, root=root) is None
    assert cgroup.cpu_seconds(None, ID, proc=proc, root=root) is None


def test_a_pull_is_told_as_one_ratio() -> None:
    """Layers that are fetched at once add up; one whose size is unknown does not count."""
    layers = Layers()
    half = {"current": 50, "total": 100}
    tenth = {"current": 30, "total": 300}
    assert [
        layers.told({"status": "Pulling from x", "id": "latest"}),
        layers.told({"status": "Downloading", "id": "a", "progressDetail": half}),
        layers.told({"status": "Downloading", "id": "b", "progressDetail": tenth}),
        layers.told({"status": "Download complete", "id": "a"}),
        layers.told({"status": "Status: done"}),
    ] == [
        ("latest: Pulling from x", None),
        ("a: Downloading", 0.5),
        ("b: Downloading", 0.2),
        ("a: Download complete", 130 / 400),
        ("Status: done", 130 / 400),
    ]


def test_importing_the_runtime_does_not_import_the_sdk() -> None:
    """`gpuctl status` may import this package and must not pay for the Docker SDK."""
    program = "import sys, gpuctl.adapters.docker; print('docker' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == "False\n"
