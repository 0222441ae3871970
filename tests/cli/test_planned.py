"""`plan` and `check`: what they say of a profile on a host."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.sqlite import SqliteStore
from gpuctl.applied import dump
from gpuctl.model import EventKind, HostSettings, Profile
from tests import make

HOST = """\
schema = 1
[host]
name = "h"
[workloads.chat]
engine = "llama.cpp"
image = "i"
model = "m.gguf"
mounts = ["/srv/models:/models:ro"]
port = 8081
"""


def test_what_a_host_cannot_carry_has_its_line(inside: Callable[..., Any], place: Path) -> None:
    """A mistake that only the host shows is told with file and line too."""
    path = place / "mine.toml"
    path.write_text(f"{HOST}gpus = [0, 9]\n")

    done = inside("--simulate", "rtx3090", "check", str(path))

    assert done.code == 2
    where = f"error: {path}:10: workloads.chat.gpus"
    assert f"{where}: GPU 9 is not on this host, which has 0\n" in done.err


def test_the_configured_profile_is_meant_where_none_is_named(
    inside: Callable[..., Any], place: Path
) -> None:
    """`check` and `plan` take the profile that `up` would, and say which."""
    path = place / "profile.toml"
    path.write_text(f'{HOST}gpus = "none"\n')

    checked = inside("--simulate", "cpu", "check")
    planned = inside("--simulate", "cpu", "plan")

    assert (checked.code, planned.code) == (0, 0)
    assert checked.err.endswith(f"{path}: fine: 1 replica\n")
    assert planned.err.endswith(f"profile: {path}\n")
    assert planned.out.splitlines()[1].startswith("chat-0 ")


def test_a_gateway_that_others_reach_is_warned_of(inside: Callable[..., Any], place: Path) -> None:
    """`check` says that it needs keys, as long as there is none."""
    path = place / "profile.toml"
    path.write_text(f'{HOST}gpus = "none"\n[gateway]\nlisten = "0.0.0.0:4000"\n')

    bare = inside("--simulate", "cpu", "check")
    inside("keys", "create", "ci")
    keyed = inside("--simulate", "cpu", "check")

    assert (bare.code, keyed.code) == (0, 0)
    assert "warning: gateway.listen: 0.0.0.0:4000 is reached from elsewhere" in bare.err
    assert "gateway.listen" not in keyed.err


def test_a_gateway_s_port_that_is_taken_is_warned_of(
    inside: Callable[..., Any], place: Path
) -> None:
    """`check` says so of a real host; it is no mistake of the profile's."""
    path = place / "profile.toml"
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        listen = f"127.0.0.1:{holder.getsockname()[1]}"
        path.write_text(f'{HOST}gpus = "none"\n[gateway]\nlisten = "{listen}"\n')
        real, simulated = inside("check"), inside("--simulate", "cpu", "check")

    told = f"warning: gateway.listen: {listen}: another program listens there already\nhint: see"
    assert (real.code, told in real.err, told in simulated.err) == (0, True, False)


@pytest.mark.parametrize(
    ("applied", "index"),
    [
        pytest.param("h", 1, id="the-applied-one"),
        pytest.param("other", 0, id="another-one"),
        pytest.param(None, 0, id="none-is-applied"),
    ],
)
def test_what_has_moved_is_planned_in_the_applied_profile_alone(
    inside: Callable[..., Any], place: Path, applied: str | None, index: int
) -> None:
    """A workload of another profile may have the same name, and has moved nowhere."""
    path = place / "mine.toml"
    path.write_text(HOST.replace('"h"\n', '"h"\nreserve = [1]\n') + "gpus = [0]\n")
    listed = json.loads(inside("--simulate", "a6000x2", "gpus", "--json").out)["gpus"]
    store = SqliteStore(place / "state.db", place / "status.json")
    store.append([make.event(EventKind.MOVED, "chat-0", "gpu_lost", gpus=[listed[1]["uuid"]])])
    store.close()
    if applied is not None:
        profile = Profile(host=HostSettings(name=applied))
        text = dump(profile, source="p.toml", overrides={}, at=0.0)
        (place / "applied.json").write_text(text)

    done = inside("--simulate", "a6000x2", "plan", str(path), "--json")

    (replica,) = json.loads(done.out)["replicas"]
    assert [gpu["index"] for gpu in replica["gpus"]] == [index]


KEYED = """\
schema = 1
[host]
name = "h"
runtime = "process"
[workloads.chat]
engine = "llama.cpp"
model = "/nowhere/m.gguf"
port = 8081
"""


@pytest.mark.parametrize(
    ("gpus", "others"),
    [
        pytest.param('"none"', [], id="a plan that is fine"),
        pytest.param("[99]", ["10: workloads.chat.gpus: GPU 99 is not on this host"], id="refused"),
    ],
)
def test_a_secret_that_is_not_there_is_named_by_check(
    inside: Callable[..., Any], place: Path, gpus: str, others: list[str]
) -> None:
    """With the mistakes of the plan, and with its line; not only once something starts."""
    path, secret = place / "mine.toml", place / "token"
    keyed = f'environment = {{ HF_TOKEN = {{ file = "{secret}" }} }}\n'
    path.write_text(f"{KEYED}{keyed}gpus = {gpus}\n")

    done = inside("check", str(path))

    assert done.code == 2
    told = [line for line in done.err.splitlines() if line.startswith("error: ")]
    said = f"9: workloads.chat.environment.HF_TOKEN: {secret} does not exist"
    assert len(told) == len(others) + 1
    assert all(
        line.startswith(f"error: {path}:{what}")
        for line, what in zip(told, (*others, said), strict=True)
    )
    assert "hint: write the secret into it, or correct the path" in done.err


def test_a_simulated_host_has_no_secrets(inside: Callable[..., Any], place: Path) -> None:
    """What is rehearsed on a laptop needs none of the files of the host."""
    path = place / "mine.toml"
    path.write_text(f'{KEYED}environment = {{ HF_TOKEN = {{ file = "/no/token" }} }}\n')
    assert inside("--simulate", "rtx3090", "check", str(path)).code == 0


def test_plan_names_the_variable_of_a_setting(
    inside: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a replica in its table, and of a shape that does not run yet in a line below."""
    path = place / "mine.toml"
    path.write_text(
        HOST.replace("llama.cpp", "vllm").replace('"i"', '"vllm/vllm-openai:v0.33.0"')
        + "gpus = [0]\nscaled = { options = { max_num_seqs = 4 } }\n"
    )
    monkeypatch.setenv("GPU_MEMORY_UTILIZATION", "0.8")
    monkeypatch.setenv("MAX_NUM_SEQS", "8")

    done = inside("--simulate", "a6000x2", "plan", str(path))

    assert done.code == 0
    assert "yours: from MAX_NUM_SEQS" in done.out
    assert "yours: from GPU_MEMORY_UTILIZATION" in done.out
    assert "chat, scaled: gpu_memory_utilization = 0.8, from GPU_MEMORY_UTILIZATION\n" in done.out
    own = "as it says itself, whatever MAX_NUM_SEQS says"
    assert f"chat, scaled: max_num_seqs = 4, {own}\n" in done.out
