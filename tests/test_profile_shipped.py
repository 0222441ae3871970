"""The profiles we ship are good: loaded, planned, stored, and true to the hosts they are for."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
import tomlkit

from gpuctl import applied, profile
from gpuctl.model import (
    GIB,
    MIB,
    ExpectedGpus,
    GateSettings,
    GatewaySettings,
    GpuIdentity,
    Inventory,
    Profile,
    TimeoutSettings,
    WatchdogSettings,
)
from gpuctl.planning.plan import plan
from gpuctl.plugin import load_engines

ENGINES = load_engines()
SHIPPED = profile.shipped()
SCHEMA_FILE = Path(str(resources.files("gpuctl"))) / "data" / "profile.schema.json"

#: VRAM of one GPU of each host. Source: the vendor's data sheets.
VRAM_BYTES = {
    "p106x8": 6 * GIB,
    "a100x8": 80 * GIB,
    "a6000x2": 48 * GIB,
    "a6000x2-tp1": 48 * GIB,
    "rtx3090": 24 * GIB,
    "cpu": 0,
}


def load(name: str) -> Profile:
    return profile.load(SHIPPED[name], engines=ENGINES)


def inventory(loaded: Profile, vram_bytes: int) -> Inventory:
    expected = [group for group in loaded.host.gpus for _ in range(group.count)]
    gpus = tuple(
        GpuIdentity(index=i, uuid=f"GPU-{i}", name=group.name, memory_total_bytes=vram_bytes)
        for i, group in enumerate(expected)
    )
    return Inventory(gpus=gpus, memory_total_bytes=16 * GIB)


def test_six_profiles_are_shipped() -> None:
    """One for each kind of host, and one for none."""
    assert sorted(SHIPPED) == sorted(VRAM_BYTES)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_loads_the_same_every_time(name: str) -> None:
    """It is named after its file, and nothing in it depends on when or where it is read."""
    assert load(name) == load(name)
    assert load(name).host.name == name
    assert profile.warnings(SHIPPED[name]) == ()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_survives_being_stored(name: str) -> None:
    """The daemon's copy is equal to what was loaded."""
    loaded = load(name)
    text = applied.dump(loaded, source=str(SHIPPED[name]), overrides={}, at=1.5)
    assert applied.load(text) == loaded


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_can_be_planned_on_its_host(name: str) -> None:
    """Every GPU in use has a replica, and what they state of VRAM fits."""
    loaded = load(name)
    planned = plan(loaded, inventory(loaded, VRAM_BYTES[name]), ENGINES)
    used = {gpu.index for replica in planned.replicas for gpu in replica.gpus}
    reserve = {gpu.index for gpu in planned.reserve}
    assert used | reserve == {gpu.index for gpu in planned.gpus}
    assert len({replica.spec.host_port for replica in planned.replicas}) == len(planned.replicas)


def test_the_mining_host_is_as_it_was_proven() -> None:
    """Eight chat and eight embedding containers, with the limits and times of the real host."""
    loaded = load("p106x8")
    assert loaded.host.gpus == (ExpectedGpus(count=8, name="P106-100"),)
    assert [
        (w.name, w.gpus, w.port, w.memory_bytes, w.memory_swap_bytes) for w in loaded.workloads
    ] == [
        ("chat", "each", 8081, 1536 * MIB, 2048 * MIB),
        ("embed", "each", 8091, 512 * MIB, 768 * MIB),
    ]
    assert loaded.watchdog == WatchdogSettings(
        interval_seconds=5,
        health_timeout_seconds=3,
        hard_failures=2,
        hard_seconds=5,
        vram="strict",
        pcie_width=1,
    )
    assert loaded.gateway == GatewaySettings(
        max_in_flight=12,
        gate=GateSettings(allowed_fails=2, cooldown_seconds=60),
        timeouts=TimeoutSettings(attempt_seconds=90, streaming_seconds=200, batch_seconds=200),
    )
    assert "gpt-3.5-turbo" in loaded.workloads[0].aliases


def test_the_a100_host_has_a_route_to_its_ocr() -> None:
    """What is no OpenAI endpoint is reached by a path of its own."""
    assert load("a100x8").gateway == GatewaySettings(pass_through={"/ocr": "ocr"})


def test_the_mining_host_is_warned_of_its_ram() -> None:
    """The limits take all of 16 GiB; on a board that reports a little less it is said."""
    loaded = load("p106x8")
    host = inventory(loaded, VRAM_BYTES["p106x8"])
    board = Inventory(gpus=host.gpus, memory_total_bytes=15 * GIB)
    assert len(plan(loaded, host, ENGINES).replicas) == 16
    assert any("16.0 GiB" in warning for warning in plan(loaded, board, ENGINES).warnings)


def test_the_server_gives_each_service_its_gpus() -> None:
    """Speech, embeddings, language over two GPUs, OCR; three GPUs in reserve."""
    loaded = load("a100x8")
    services = {w.name: (w.gpus, w.port) for w in loaded.workloads}
    assert services == {
        "whisper": (((0,),), 8004),
        "embedding": (((1,),), 8001),
        "llm": (((2, 3),), 8003),
        "ocr": (((4,),), 8002),
    }
    assert loaded.host.reserve == (5, 6, 7)
    for workload in loaded.workloads:
        health = workload.health
        times = (health.interval_seconds, health.timeout_seconds, health.retries)
        assert times == (30, 10, 3)
        assert workload.environment["HF_HUB_OFFLINE"] == "1"
    llm = loaded.workloads[2]
    # 1,024 is n_positions in the config.json of microsoft/DialoGPT-medium.
    assert (llm.shm_bytes, llm.context) == (32 * GIB, 1024)


def test_three_models_share_one_gpu_and_leave_three_gigabytes() -> None:
    """What they state of VRAM and the headroom fit the card together."""
    loaded = load("rtx3090")
    vram = [workload.vram_bytes or 0 for workload in loaded.workloads]
    assert len(vram) == 3
    assert loaded.host.vram_headroom_bytes == 3 * GIB
    assert sum(vram) + 3 * GIB <= 24 * GIB


def test_the_schema_file_is_current() -> None:
    """Editors read the file; it says what the code says."""
    program = (
        "import json; from gpuctl import profile; print(json.dumps(profile.schema(), indent=2))"
    )
    stale = f"write it anew: python -c {program!r} > gpuctl/data/profile.schema.json"
    assert json.loads(SCHEMA_FILE.read_text()) == profile.schema(), stale


@pytest.mark.parametrize("name", SHIPPED)
def test_the_schema_accepts_what_is_shipped(name: str) -> None:
    """An editor marks nothing in a good profile."""
    validator = jsonschema.Draft202012Validator(profile.schema())
    document = tomlkit.parse(SHIPPED[name].read_text()).unwrap()
    assert list(validator.iter_errors(document)) == []


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        (("host",), "nmae", "x"),
        (("watchdog",), "interval", "5 parsecs"),
        (("watchdog",), "vram", "sometimes"),
        (("workloads", "chat"), "prot", 1),
        (("workloads", "chat"), "port", 70000),
        (("workloads", "chat"), "memory", -1),
        (("workloads", "chat", "log"), "size", 1),
        (("gateway",), "listen", 4000),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(
    table: tuple[str, ...], key: str, value: object
) -> None:
    """An editor marks an unknown key and a value out of range."""
    document = tomlkit.parse(SHIPPED["p106x8"].read_text()).unwrap()
    part = document
    for name in table:
        part = part[name]
    part[key] = value
    validator = jsonschema.Draft202012Validator(profile.schema())
    assert [*next(iter(validator.iter_errors(document))).absolute_path][: len(table)] == [*table]


def test_shipped_profiles_are_found_from_anywhere(tmp_path: Path) -> None:
    """They belong to the package, not to the directory gpuctl is run in."""
    program = "from gpuctl import profile; print(*profile.shipped())"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert run.stdout.split() == sorted(SHIPPED)
