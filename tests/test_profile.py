"""What a good profile becomes, and what of it decides what a container is."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from gpuctl import profile
from gpuctl.errors import ProfileError
from gpuctl.model import (
    GIB,
    MIB,
    DockerHealth,
    ExpectedGpus,
    GateSettings,
    GatewaySettings,
    HealthSettings,
    HostSettings,
    LimitSettings,
    LogRotation,
    Mount,
    Profile,
    QueueSettings,
    TimeoutSettings,
    Ulimit,
    WatchdogSettings,
    Workload,
)
from gpuctl.plugin import load_engines

ENGINES = load_engines()

FULL = """
schema = 1
[host]
name = "rig"
gpus = ["2x RTX 3090", "1x"]
reserve = ["GPU-1f", 2]
runtime = "docker"
vram_headroom = "3g"
[watchdog]
mode = "observe"
interval = "2s"
vram_ratio = "20%"
backoff = [0, "1m30s"]
hard_failures = 2
[workloads.chat]
engine = "llama.cpp"
image = "server-cuda"
model = "chat.gguf"
gpus = [0, "GPU-2a"]
replicas_per_gpu = 2
vram = "5g"
port = 8081
context = 4096
parallel = 2
kind = "chat"
aliases = ["gpt-4"]
command = ["serve"]
args = ["--verbose"]
container_port = 8080
environment = { A = "1", HF_TOKEN = { file = "/etc/token" } }
mounts = ["models:/models:ro", "/cache:/root/.cache"]
memory = "1536m"
memory_swap = "2g"
shm = "32g"
ulimits = { stack = ["64m", 67108864], memlock = -1 }
user = "1000:1000"
cap_add = ["IPC_LOCK"]
network = "host"
pids_limit = 100
log = { max_size = "10m", max_files = 5 }
health = { path = "/ok", interval = "30s", timeout = "10s", retries = 4 }
docker_health = { test = ["CMD", "true"], start_period = "2m" }
stop_grace = "5s"
startup = "20m"
options = { batch = 256, flash_attention = "on" }
[gateway]
listen = "0.0.0.0:80"
max_in_flight = 12
queue = { size = 5, timeout = "1s" }
routing = "round_robin"
affinity = "prefix"
retries = 0
keep_alive_interval = "15s"
priorities = { chat = 0, rerank = 100 }
pass_through = { "/a" = "chat", "/b/c.d" = "chat" }
metrics_key = true
key_files = ["/etc/gpuctl/keys"]
gate = { allowed_fails = 1, cooldown = "1m" }
[gateway.timeouts]
connect = "1s"
streaming = "10m"
batch = "2m"
attempt = "90s"
idle = "20s"
head = "5s"
body = "30s"
keep_alive = "10s"
drain = 0
[gateway.limits]
head = "8k"
headers = 50
body = "1m"
connections = 10
connections_per_ip = 5
requests_per_minute_per_ip = 60
"""


def load(text: str) -> Profile:
    return profile.loads(text, "p.toml", engines=ENGINES)


def test_every_key_of_a_profile_reaches_its_field() -> None:
    """Quantities in base units, notations resolved, nothing lost."""
    chat = Workload(
        name="chat",
        engine="llama.cpp",
        image="server-cuda",
        model="chat.gguf",
        gpus=((0,), ("GPU-2a",)),
        replicas_per_gpu=2,
        vram_bytes=5 * GIB,
        port=8081,
        context=4096,
        parallel=2,
        kind="chat",
        aliases=("gpt-4",),
        command=("serve",),
        args=("--verbose",),
        container_port=8080,
        environment={"A": "1"},
        secrets={"HF_TOKEN": "/etc/token"},
        mounts=(
            Mount(source="models", target="/models", read_only=True),
            Mount(source="/cache", target="/root/.cache"),
        ),
        memory_bytes=1536 * MIB,
        memory_swap_bytes=2 * GIB,
        shm_bytes=32 * GIB,
        ulimits=(
            Ulimit(name="memlock", soft=-1, hard=-1),
            Ulimit(name="stack", soft=64 * MIB, hard=64 * MIB),
        ),
        user="1000:1000",
        cap_add=("IPC_LOCK",),
        network="host",
        pids_limit=100,
        log=LogRotation(max_bytes=10 * MIB, files=5),
        health=HealthSettings(path="/ok", interval_seconds=30, timeout_seconds=10, retries=4),
        docker_health=DockerHealth(test=("CMD", "true"), start_period_seconds=120),
        stop_grace_seconds=5,
        startup_seconds=1200,
        options={"batch": 256, "flash_attention": "on"},
    )
    loaded = load(FULL)
    assert {
        item.name: getattr(loaded.workloads[0], item.name)
        for item in fields(Workload)
        if item.name != "intent"
    } == {item.name: getattr(chat, item.name) for item in fields(Workload) if item.name != "intent"}
    assert loaded.host == HostSettings(
        name="rig",
        gpus=(ExpectedGpus(count=2, name="RTX 3090"), ExpectedGpus(count=1)),
        reserve=("GPU-1f", 2),
        runtime="docker",
        vram_headroom_bytes=3 * GIB,
    )
    assert loaded.watchdog == WatchdogSettings(
        mode="observe",
        interval_seconds=2,
        vram_ratio=0.2,
        backoff_seconds=(0, 90),
        hard_failures=2,
    )
    assert loaded.gateway == GatewaySettings(
        listen="0.0.0.0:80",
        max_in_flight=12,
        queue=QueueSettings(size=5, timeout_seconds=1),
        routing="round_robin",
        affinity="prefix",
        retries=0,
        gate=GateSettings(allowed_fails=1, cooldown_seconds=60),
        timeouts=TimeoutSettings(
            connect_seconds=1,
            streaming_seconds=600,
            batch_seconds=120,
            attempt_seconds=90,
            idle_seconds=20,
            head_seconds=5,
            body_seconds=30,
            keep_alive_seconds=10,
            drain_seconds=0,
        ),
        limits=LimitSettings(
            head_bytes=8192,
            headers=50,
            body_bytes=MIB,
            connections=10,
            connections_per_ip=5,
            requests_per_minute_per_ip=60,
        ),
        keep_alive_interval_seconds=15,
        priorities={"chat": 0, "embedding": 10, "rerank": 100, "transcription": 5, "other": 5},
        pass_through={"/a": "chat", "/b/c.d": "chat"},
        metrics_key=True,
        key_files=("/etc/gpuctl/keys",),
    )
    assert loaded.source == "p.toml"


MINIMAL = """
schema = 1
[host]
name = "rig"
[workloads.b]
engine = "llama.cpp"
model = "b.gguf"
port = 1
[workloads.a]
engine = "vllm"
model = "org/a"
port = 100
"""


def test_what_is_not_written_has_the_models_default() -> None:
    """Defaults stand in one place, and workloads keep the order of the file."""
    loaded = load(MINIMAL)
    assert [workload.name for workload in loaded.workloads] == ["b", "a"]
    assert loaded.watchdog == WatchdogSettings()
    assert loaded.gateway is None
    assert loaded.workloads[0] == Workload(
        name="b",
        engine="llama.cpp",
        model="b.gguf",
        port=1,
        intent='{"engine":"llama.cpp","model":"b.gguf"}',
    )


@pytest.mark.parametrize(
    ("gpus", "groups"),
    [
        ('"each"', "each"),
        ('"none"', "none"),
        ("[0, 1]", ((0,), (1,))),
        ("[[2, 3]]", ((2, 3),)),
        ("[0, [1, 2]]", ((0,), (1, 2))),
        ('["GPU-aa-01", "MIG-bb"]', (("GPU-aa-01",), ("MIG-bb",))),
        ('"GPU-aa-01"', (("GPU-aa-01",),)),
    ],
)
def test_gpus_are_named_in_each_of_the_ways(gpus: str, groups: object) -> None:
    """All, none, one a replica, or a group a replica; by index or UUID."""
    text = MINIMAL.replace('"llama.cpp"', f'"llama.cpp"\ngpus = {gpus}')
    assert load(text).workloads[0].gpus == groups


def intent(line: str) -> str:
    return (
        load(MINIMAL.replace('model = "b.gguf"', f'model = "b.gguf"\n{line}')).workloads[0].intent
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param('memory = "1536m"', "memory = 1610612736", id="units"),
        pytest.param("args = []\nshm = '1g'", "shm = '1024m' # more\nargs = []", id="order"),
        pytest.param("log.max_size = '1g'", "log = { max_size = '1024m' }", id="notation"),
        pytest.param("mounts = ['a:/b']", "mounts = ['a:/b:rw']", id="mounts"),
        pytest.param("options = { batch = 8 }", "options.batch = 8", id="options"),
    ],
)
def test_the_same_intent_written_otherwise_is_the_same(one: str, other: str) -> None:
    """Units, order, comments and notation of the file do not replace a container."""
    assert intent(one) == intent(other)


@pytest.mark.parametrize(
    "line",
    [
        "gpus = [0]",
        "replicas_per_gpu = 2",
        "vram = '1g'",
        "aliases = ['x']",
        "health = { interval = '9s' }",
        "stop_grace = '9s'",
        "startup = '9m'",
    ],
)
def test_what_is_read_anew_every_tick_is_no_intent(line: str) -> None:
    """Numbers of the watchdog, names and placement change without replacing a container."""
    assert intent(line) == intent("")


@pytest.mark.parametrize(
    "line",
    [
        "image = 'x'",
        "context = 1",
        "parallel = 2",
        "kind = 'embedding'",
        "args = ['x']",
        "environment = { A = '1' }",
        "environment = { A_KEY = { file = '/a' } }",
        "memory = '1g'",
        "log = { max_files = 3 }",
        "docker_health = { test = ['CMD', 'x'] }",
        "options = { batch = 8 }",
    ],
)
def test_what_makes_a_container_is_intent(line: str) -> None:
    """A change of it replaces the container, even where the value is today's default."""
    assert intent(line) != intent("")


def test_intent_holds_nothing_that_was_not_written() -> None:
    """A default that changes with an upgrade must not replace what runs."""
    line = "log = { max_files = 5 }\nenvironment = { A_KEY = { file = '/a' } }"
    assert json.loads(intent(line)) == {
        "engine": "llama.cpp",
        "environment": {"A_KEY": {"file": "/a"}},
        "log": {"max_files": 5},
        "model": "b.gguf",
    }


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Some editors begin a file with one."""
    path = tmp_path / "p.toml"
    path.write_text(MINIMAL, encoding="utf-8-sig")
    assert profile.load(path, engines=ENGINES).host.name == "rig"


def test_the_environment_stands_above_the_file() -> None:
    """`load` takes overrides where it is handed an environment, and refuses what is none."""
    loaded = profile.loads(MINIMAL, "p", environment={"POLL_INTERVAL": "2"}, engines=ENGINES)
    assert loaded.watchdog.interval_seconds == 2
    with pytest.raises(ProfileError, match="environment: POLL_INTERVAL"):
        profile.loads(MINIMAL, "p", environment={"POLL_INTERVAL": "soon"}, engines=ENGINES)
