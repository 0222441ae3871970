"""`scale`, `cordon`, `uncordon`, `failover`: on a simulated host, as the program that users run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuctl.host_state import find

pytestmark = pytest.mark.program

PROFILE = """\
schema = 1
[host]
name = "rack"
reserve = [2, 3]
[watchdog]
interval = "200ms"
load_spacing = "0s"
[workloads.chat]
engine = "container"
image = "chat:1"
gpus = [0, 1]
max_gpus = 3
port = 8081
fallback = "cpu"
[workloads.embed]
engine = "container"
image = "embed:1"
gpus = "none"
port = 8091
"""


class Rack:
    """A simulated host of four cards, and the program."""

    def __init__(self, folder: Path, run: Callable[..., Any]) -> None:
        self.file, self._run, self._folder = folder / "host.json", run, folder
        host = json.loads(find("a100x8").read_text())
        host.pop("links", None)
        host["gpus"], host["load_seconds"] = host["gpus"][:4], 0.1
        self.file.write_text(json.dumps(host))

    def __call__(self, *arguments: str) -> Any:
        return self._run("--simulate", str(self.file), *arguments)

    def lose(self, index: int, *, lost: bool = True) -> None:
        host = json.loads(self.file.read_text())
        host["gpus"][index]["lost"] = lost
        self._write(host)

    def hang(self) -> None:
        """Have the driver answer nothing more."""
        self._write(json.loads(self.file.read_text()) | {"calls": {"nvmlInit_v2": "hang"}})

    def _write(self, host: dict[str, Any]) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(host))
        os.replace(new, self.file)

    def up(self, profile: str = PROFILE) -> None:
        (self._folder / "rack.toml").write_text(profile)
        done = self("up", str(self._folder / "rack.toml"), "--timeout", "30")
        assert done.code == 0, done.err

    def places(self) -> dict[str, list[int]]:
        """Return the GPUs of each replica that is not stopped."""
        rows = json.loads(self("status", "--json").out)["replicas"]
        return {
            row["name"]: [gpu["index"] for gpu in row["gpus"]]
            for row in rows
            if row["phase"] != "stopped" and row["workload"] == "chat"
        }


@pytest.fixture
def rack(gpuctl: Callable[..., Any], tmp_path: Path) -> Iterator[Rack]:
    made = Rack(tmp_path, gpuctl)
    made.up()
    yield made
    made("down")


def test_scale_waits_until_it_is_ready_or_gone(rack: Rack) -> None:
    """Up to `max_gpus`, and down to one."""
    done = rack("scale", "chat=3", "embed=2", "--timeout", "20")
    assert (done.code, "scaled: chat=3, embed=2" in done.err) == (0, True)
    assert rack.places() == {"chat-0": [0], "chat-1": [1], "chat-2": [2]}
    refused = rack("scale", "chat=4")
    assert (refused.code, "max_gpus (3)" in refused.err) == (2, True)
    assert rack("scale", "chat=1", "--timeout", "20").code == 0
    assert rack.places() == {"chat-0": [0]}


#: What makes no sense → words of the refusal.
REFUSED = {
    ("scale", "chat"): "'chat' is not a workload and a number",
    ("scale", "chat=x"): "'chat=x' is not a workload and a number",
    ("scale", "chat=0"): "`gpuctl stop chat` stops all of it",
    ("scale", "chat=2", "chat=3"): "chat is named twice",
    ("scale", "chat", "embed=x"): "'embed=x' is not a workload and a number",
    ("scale", "talk=2", "chat=9"): "max_gpus (3)",
    ("scale", "talk=2"): "no workload is named 'talk'",
    ("cordon", "9"): "no GPU is known by '9'",
    ("uncordon", "GPU-none"): "no GPU is known by",
    ("failover", "moon"): "hint: write `gpuctl failover cpu`",
    ("failover", "cpu", "talk"): "is named 'talk'",
    ("failover", "cpu", "embed"): "on the CPU already",
}


def test_what_makes_no_sense_is_refused(rack: Rack) -> None:
    """With exit code 2, before anything is done."""
    done = {arguments: rack(*arguments) for arguments in REFUSED}
    assert {arguments: each.code for arguments, each in done.items()} == dict.fromkeys(REFUSED, 2)
    missing = {a: done[a].err for a, words in REFUSED.items() if words not in done[a].err}
    assert missing == {}


def test_cordon_and_uncordon(rack: Rack) -> None:
    """There to the reserve, and back; the reason is told to those who look later."""
    done = rack("cordon", "1", "--reason", "new fan", "--timeout", "20")
    assert (done.code, "gpu 1: cordoned" in done.err) == (0, True)
    assert rack.places() == {"chat-0": [0], "chat-1": [2]}
    told = json.loads(rack("status", "--json").out)
    evidence = next(c["evidence"] for c in told["conditions"] if c["reason"] == "gpu_cordoned")
    assert (evidence["because"], told["gpus"][1]["state"]) == ("new fan", "cordoned")
    assert rack("uncordon", "1", "--timeout", "20").code == 0
    assert rack.places() == {"chat-0": [0], "chat-1": [1]}


def test_what_stays_on_a_cordoned_gpu_is_told(rack: Rack) -> None:
    """With no room elsewhere it goes on there."""
    for index in ("2", "3"):
        assert rack("cordon", index, "--timeout", "20").code == 0
    done = rack("cordon", "0", "--timeout", "20")
    assert (done.code, "chat-0: goes on there" in done.err) == (0, True)
    assert rack.places()["chat-0"] == [0]


def test_a_lost_gpu_is_not_waited_for(rack: Rack) -> None:
    """`uncordon` gives it back all the same, and says what is in the way by `status`."""
    rack.lose(0)
    deadline = time.monotonic() + 20
    while rack.places() != {"chat-0": [2], "chat-1": [1]}:
        assert time.monotonic() < deadline, rack.places()
    done = rack("uncordon", "0", "--timeout", "20")
    assert (done.code, "gpu 0: not cordoned any more, and still lost" in done.err) == (0, True)
    assert rack.places()["chat-0"] == [2]
    assert "moved to gpu 2, because gpu_lost" in rack("why", "chat-0").out
    assert "chat-0: moved to gpu 2" in rack("why", "0").out


def test_failover_to_the_cpu_and_back(rack: Rack) -> None:
    """Loudly, until it is ended."""
    done = rack("failover", "cpu", "--timeout", "20")
    assert (done.code, "far slower" in done.err) == (0, True)
    assert rack.places() == {"chat-0": [], "chat-1": []}
    assert 'gpuctl_replica_on_cpu{replica="chat-0",workload="chat"} 1.0' in rack("metrics").out
    assert rack("status").code == 3
    assert rack("failover", "gpu", "--timeout", "20").code == 0
    assert rack.places() == {"chat-0": [0], "chat-1": [1]}
    assert "chat-0 was on the CPU for" in rack("report").out


def test_in_an_emergency_what_cannot_go_is_named(rack: Rack) -> None:
    """All the others run on the CPU, and nothing more is waited for."""
    rack.up(PROFILE.replace('gpus = "none"\n', "gpus = [1]\n"))
    done = rack("failover", "cpu", "--timeout", "20")
    assert (done.code, "stays on its GPUs: embed" in done.err) == (0, True)
    assert rack.places() == {"chat-0": [], "chat-1": []}


def test_with_gpus_that_cannot_be_read_nothing_moves(rack: Rack) -> None:
    """What is added is refused, and what is on a cordoned GPU goes on there; both say why."""
    rack.hang()
    deadline = time.monotonic() + 20
    while "nvml_hung" not in rack("status", "--json").out:
        assert time.monotonic() < deadline
    done = rack("cordon", "0", "--timeout", "20")
    words = "chat-0: goes on there, as the GPUs cannot be read (simulated host: no answer from"
    assert (done.code, words in done.err) == (0, True)
    done = rack("scale", "chat=3")
    assert (done.code, "no room for chat-2: the GPUs cannot be read" in done.err) == (1, True)
    assert rack.places() == {"chat-0": [0], "chat-1": [1]}


def test_no_wait_returns_at_once(rack: Rack) -> None:
    done = rack("failover", "cpu", "chat-0", "--no-wait")
    assert (done.code, "under way" in done.err) == (0, True)


def test_without_a_daemon_there_is_nobody_to_ask(gpuctl: Callable[..., Any]) -> None:
    """As for any other order."""
    for arguments in (("scale", "chat=2"), ("cordon", "0"), ("failover", "cpu"), ("metrics",)):
        assert gpuctl("--simulate", "a100x8", *arguments).code == 3
