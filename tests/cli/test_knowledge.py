"""What commands know of the models: their files' headers, measurements, and who else holds VRAM."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from gpuctl.cli import bring_up, choose, compose, foreground, knowledge, planned
from gpuctl.cli.session import Session
from gpuctl.journal import Journal
from gpuctl.model import EventKind, Profile
from tests.adapters.gguf_files import LLAMA, write

GIB = 2**30


def large(path: Path, size_bytes: int) -> Path:
    """Write a file whose tensors are a hole of this size: a header, and nothing on the disk."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in {**LLAMA, "embedding_length": 4096, "context_length": 4096}.items():
        writer.add_uint32(f"llama.{name}", value)
    rows = size_bytes // 4096 // 2
    writer.add_tensor_info("blk.0.ffn_up.weight", [rows, 4096], np.dtype(np.float16), 0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        # And a little more, which aligns the data.
        file.truncate(path.stat().st_size + rows * 4096 * 2 + 32)
    return path


def described(place: Path, model: str = "m.gguf", **keys: object) -> Path:
    path = place / "mine.toml"
    more = "\n".join(f"{name} = {json.dumps(value)}" for name, value in keys.items())
    path.write_text(
        f"""schema = 1
[host]
name = "h"
[workloads.chat]
engine = "llama.cpp"
image = "i"
model = "{model}"
mounts = ["{place}:/models:ro"]
gpus = [0]
port = 8081
{more}
"""
    )
    return path


def test_a_model_of_13_gb_on_a_p106(inside: Callable[..., Any], place: Path) -> None:
    """A model that no card of the host can hold is refused before anything starts."""
    large(place / "m.gguf", 13 * GIB)

    done = inside("--simulate", "p106x8", "plan", str(described(place)))

    assert done.code == 2
    assert "GPU 0: 13." in done.err
    assert "of VRAM planned (chat-0 13." in done.err


def test_the_sum_is_shown(inside: Callable[..., Any], place: Path) -> None:
    """What fits is shown line by line, and is in the document to the byte."""
    large(place / "m.gguf", 2 * GIB)
    path = str(described(place, context=1024))

    shown = inside("--simulate", "p106x8", "plan", path)
    document = json.loads(inside("--simulate", "p106x8", "plan", path, "--json").out)

    assert shown.code == 0
    assert "weights" in shown.out
    assert "estimated from the model's headers" in shown.out
    vram = document["replicas"][0]["vram"]
    assert vram["weights_bytes"] == 2 * GIB
    # 4 layers x 2 KV heads x (512 + 512) x 16 bits x 1024 tokens.
    assert vram["kv_bytes"] == 4 * 2 * 1024 * 2 * 1024
    assert sum(line["amount_bytes"] for line in vram["lines"]) == vram["total_bytes"]
    assert document["gpus"][0]["planned_bytes"] == vram["total_bytes"]


def test_a_model_file_that_is_damaged(inside: Callable[..., Any], place: Path) -> None:
    """A damaged file is told, and planned without: its engine has the last word."""
    (place / "m.gguf").write_bytes(b"GGUF")

    done = inside("--simulate", "p106x8", "plan", str(described(place)))

    assert done.code == 0
    assert f"workloads.chat.model: {place}/m.gguf: byte 4: the file ends" in done.err
    assert "not known" in done.out


@pytest.fixture
def simulated(here: Session) -> Session:
    return Session(environment=here.environment, simulate="p106x8")


def profile(session: Session, path: Path) -> Profile:
    return compose.resolved(session, choose.load(session, str(path)))


def test_every_shape_has_its_model(simulated: Session, place: Path) -> None:
    """What a workload runs on the CPU or when it is scaled is read as well."""
    write(place / "m.gguf")
    write(place / "small.gguf", block_count=2)
    path = described(place, fallback="cpu", on_cpu={})
    path.write_text(path.read_text().replace("on_cpu = {}", 'on_cpu = { model = "small.gguf" }'))

    found = knowledge.known(simulated, profile(simulated, path)).facts

    assert {name: facts.blocks for name, facts in found.items()} == {"chat": 4, "chat/on_cpu": 2}


def test_the_daemon_plans_as_up_did(simulated: Session, place: Path) -> None:
    """What was measured is planned with, by `plan`, by `up` and by the daemon, without the file."""
    model = large(place / "m.gguf", 2 * GIB)
    mine = profile(simulated, described(place, context=1024))
    before, _ = planned.made(simulated, mine)
    vram = before.replicas[0].vram
    assert vram is not None
    world = compose.world(simulated, mine)
    journal = Journal(world.store, world.clock)
    for held in (3 * GIB, 4 * GIB):
        told = {"vram_bytes": held, "predicted_bytes": vram.total_bytes}
        journal.record([journal.event(EventKind.MEASURED, vram.measure_key, "peak", told)])
    world.store.close()

    known = knowledge.known(simulated, mine)
    plan, inventory = planned.made(simulated, mine, known)
    bring_up.apply(simulated, mine, inventory.gpus, known)
    model.unlink()
    daemons = foreground.setting(simulated, "simulated").plan

    assert plan.replicas[0].vram is not None
    assert plan.replicas[0].vram.source == "measured"
    assert plan.replicas[0].vram_bytes == 4 * GIB
    assert daemons.replicas[0].vram == plan.replicas[0].vram
