"""How the child that holds NVML is asked, waited for and given up, on children with a script."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.nvml import gpus
from gpuctl.adapters.nvml.process import ChildProcess
from gpuctl.errors import GpuUnavailable
from gpuctl.model import GpuFacts, GpuHealth, GpuPeer, GpuProcess, GpuReading
from tests.rig.nvml.played import Played
from tests.rig.processes import lives

#: Of a child that is to hang: one that runs answers in a hundredth of this.
SHORT_SECONDS = 0.25
NONE = json.dumps({"gpus": [], "at": 1.0, "boot_seconds": 2.0})
CARD: dict[str, Any] = {
    "index": 0,
    "uuid": "GPU-0",
    "name": "card",
    "compute_capability": [8, 6],
    "pci_bus_id": "0000:0A:00.0",
    "memory_total": 1000,
    "memory_used": 300,
    "memory_reserved": 20,
    "utilization": 29,
    "memory_utilization": 7,
    "temperature": 61,
    "memory_temperature": 88,
    "power": 119_750,
    "power_limit": 120_000,
    "sm_clock": 1709,
    "memory_clock": 4004,
    "fan": 57,
    "performance_state": 2,
    "throttle_reasons": 0x44,
    "processes": [[17, 300], [18, None]],
    "facts": {
        "driver_version": "580.95.05",
        "cuda_version": [13, 0],
        "peers": [{"uuid": "GPU-1", "path": "nvlink", "p2p": True}],
    },
    "health": {"pcie_generation": 3, "boot_seconds": 1.5},
}
FACTS = GpuFacts(
    driver_version="580.95.05",
    cuda_version=(13, 0),
    peers=(GpuPeer(uuid="GPU-1", path="nvlink", p2p=True),),
)
READING = GpuReading(
    index=0,
    uuid="GPU-0",
    name="card",
    memory_total_bytes=1000,
    memory_used_bytes=300,
    memory_reserved_bytes=20,
    utilization_ratio=0.29,
    memory_utilization_ratio=0.07,
    temperature_celsius=61.0,
    memory_temperature_celsius=88.0,
    power_watts=119.75,
    power_limit_watts=120.0,
    sm_clock_hertz=1.709e9,
    memory_clock_hertz=4.004e9,
    fan_ratio=0.57,
    performance_state=2,
    throttle_reasons=("sw_power_cap", "hw_thermal"),
    compute_capability=(8, 6),
    pci_bus_id="00000000:0a:00.0",
    processes=(GpuProcess(pid=17, used_bytes=300), GpuProcess(pid=18)),
    facts=FACTS,
    health=GpuHealth(pcie_generation=3, boot_seconds=1.5),
    at=1.0,
    boot_seconds=2.0,
)


def answer(*cards: dict[str, Any]) -> str:
    return json.dumps({"gpus": cards, "at": 1.0, "boot_seconds": 2.0})


def failed(code: int) -> str:
    return json.dumps({"error": code, "message": "Some words"})


Play = Callable[..., Played]


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    made: list[Played] = []

    def make(*script: tuple[str, ...], deadline_seconds: float = 10.0) -> Played:
        made.append(Played(tmp_path, script, deadline_seconds))
        return made[-1]

    yield make
    for played in made:
        played.gpus.close()


def test_importing_the_adapter_loads_no_nvml() -> None:
    """The daemon's process never holds the binding: only the child does."""
    code = "import gpuctl.adapters.nvml, sys; sys.exit('pynvml' in sys.modules)"
    assert subprocess.run((sys.executable, "-c", code), check=False).returncode == 0


def test_readings_are_in_base_units(play: Play) -> None:
    """Percent, milliwatts and megahertz become ratios, watts and hertz; bits become names."""
    assert play((answer(CARD),)).read() == (READING,)


def test_what_a_card_lacks_is_none(play: Play) -> None:
    """A card that reports nothing but its name has a reading of that."""
    told: dict[str, Any] = {"index": 0, "uuid": "GPU-0", "name": "card"}
    asked = {"facts": {"cuda_version": None, "peers": None}, "health": {}}
    bare = dict.fromkeys(CARD) | told | asked
    expected = GpuReading(**told, facts=GpuFacts(), health=GpuHealth(), at=1.0, boot_seconds=2.0)
    assert play((answer(bare),)).read() == (expected,)


def test_a_reason_without_a_name_is_left_out(play: Play) -> None:
    """A bit that only a newer driver knows does not hide the others."""
    (reading,) = play((answer(CARD | {"throttle_reasons": 0x10004}),)).gpus.read()
    assert reading.throttle_reasons == ("sw_power_cap",)


def test_a_lost_card_keeps_its_identity_and_nothing_else(play: Play) -> None:
    """Readings of before the loss are not shown as if they were of now."""
    played = play((answer(CARD), answer({"index": 0, "lost": True})))
    played.read()
    assert played.read() == (
        GpuReading(
            index=0,
            uuid="GPU-0",
            name="card",
            state="lost",
            memory_total_bytes=1000,
            compute_capability=(8, 6),
            pci_bus_id="00000000:0a:00.0",
            facts=FACTS,
            at=1.0,
            boot_seconds=2.0,
        ),
    )


def test_a_lost_card_is_never_named_as_one_that_is_read(play: Play) -> None:
    """A card that moved to another index is not taken for the one lost at its old index."""
    moved = answer({"index": 0, "lost": True}, CARD | {"index": 1})
    played = play((answer(CARD), moved))
    played.read()
    assert [(gpu.uuid, gpu.state) for gpu in played.gpus.read()] == [
        ("unknown-0", "lost"),
        ("GPU-0", "ok"),
    ]


def test_identities_outlive_the_child(play: Play) -> None:
    """A card lost before the second child came is still named."""
    played = play((answer(CARD), "exit"), (answer({"index": 0, "lost": True}),))
    played.read()
    (reading,) = played.gpus.read()
    assert (reading.uuid, reading.state, played.children) == ("GPU-0", "lost", 2)


def test_the_child_inherits_the_environment(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """LD_LIBRARY_PATH and the like reach the driver's library."""
    monkeypatch.setenv("MARK", "inherited")
    (reading,) = play((answer(CARD | {"name": "$MARK"}),)).gpus.read()
    assert reading.name == "inherited"


def test_one_child_answers_many_reads(play: Play) -> None:
    """A child is started once, not for each reading."""
    played = play((NONE,) * 5)
    assert [played.read() for _ in range(5)] == [()] * 5
    assert played.children == 1


def test_a_child_that_ended_is_replaced_at_once(play: Play) -> None:
    """A child that was killed costs no reading."""
    played = play((NONE, "exit"), (NONE,))
    assert (played.read(), played.read(), played.children) == ((), (), 2)


def test_a_child_that_never_answers_is_not_started_in_a_row(play: Play) -> None:
    """One that dies of its first question is refused for ten seconds, then tried again."""
    played = play(("exit",), (NONE,))
    words = "NVML: its reader ended without an answer: no whole line came"
    assert played.read() == words
    assert played.read_after(9.9) == words
    assert played.children == 1
    assert played.read_after(0.2) == ()


@pytest.mark.parametrize(
    "act",
    [
        pytest.param("nonsense", id="no-json"),
        pytest.param("[]", id="no-object"),
        pytest.param("{}", id="no-gpus"),
        pytest.param('{"gpus": [{"index": 0}], "at": 1, "boot_seconds": 2}', id="half-a-gpu"),
        pytest.param(answer(CARD | {"health": {"mood": 1}}), id="no-health"),
        pytest.param("endless", id="endless"),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_in_words(play: Play, act: str) -> None:
    """Nothing a child writes can raise anything else, and the child is done with."""
    played = play((act,), (NONE,))
    assert "its reader" in str(played.read())
    assert played.gpus.child_pid is None
    assert played.read_after(10) == ()


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        pytest.param(4, "no permission", "/dev/nvidiactl", id="permission"),
        pytest.param(9, "the driver is not loaded", "modprobe nvidia", id="driver"),
        pytest.param(18, "driver/library version mismatch", "reboot", id="mismatch"),
        pytest.param(999, "Some words (code 999)", "nvidia-smi", id="unknown"),
    ],
)
def test_a_failure_of_nvml_says_what_to_do(play: Play, code: int, message: str, hint: str) -> None:
    """NVML's code becomes words and a next step, also while it is not asked again."""
    played = play((failed(code),))
    for _ in range(2):
        with pytest.raises(GpuUnavailable) as raised:
            played.gpus.read()
        assert raised.value.message == f"NVML: {message}"
        assert hint in raised.value.hint
        assert raised.value.code == code
    assert played.children == 1


def test_a_host_without_a_driver_has_no_gpu(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither library nor device is no error; it is asked again after a minute."""
    monkeypatch.setattr(gpus, "_CONTROL", tmp_path / "absent")
    played = play((failed(12),), (answer(CARD),))
    assert (played.read(), played.read_after(59)) == ((), ())
    assert (played.children, played.gpus.child_pid) == (1, None)
    assert played.read_after(2) == (READING,)


def test_a_device_without_a_library_is_an_error(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that is loaded and cannot be asked is not a host without a GPU."""
    monkeypatch.setattr(gpus, "_CONTROL", tmp_path)
    assert play((failed(12),)).read() == "NVML: /dev/nvidiactl is there, libnvidia-ml.so.1 is not"


def test_a_hang_is_told_within_the_deadline(play: Play) -> None:
    """A child that answered before and does not now is abandoned, and read() returns."""
    played = play((NONE, "hang"), deadline_seconds=SHORT_SECONDS)
    played.read()
    before = time.monotonic()
    assert played.read() == "NVML: no answer for 250 ms"
    assert time.monotonic() - before < SHORT_SECONDS + 1
    assert played.gpus.child_pid is None


def test_after_a_hang_another_child_is_tried_after_60_then_300_seconds(play: Play) -> None:
    """In between the error tells for how long there was no answer, and no child is started."""
    played = play((NONE, "hang"), ("hang",), (NONE,), deadline_seconds=SHORT_SECONDS)
    played.read()
    assert played.read() == "NVML: no answer for 250 ms"
    assert (played.read_after(59), played.children) == ("NVML: no answer for 59 s", 1)
    # A child that has just started has 30 s, for cards that are initialised anew.
    assert (played.read_after(1), played.children) == ("NVML: no answer for 1 m", 2)
    assert (played.read_after(30), played.children) == ("NVML: no answer for 1 m 30 s", 2)
    assert (played.read_after(299), played.children) == ("NVML: no answer for 6 m 29 s", 2)
    assert (played.read_after(1), played.children) == ((), 3)


def test_an_answer_ends_the_count_of_hangs(play: Play) -> None:
    """The next hang after a recovery is retried after 60 s again."""
    played = play((NONE, "hang"), (NONE, "hang"), (NONE,), deadline_seconds=SHORT_SECONDS)
    played.read()
    played.read()
    assert played.read_after(60) == ()
    played.read()
    assert played.read_after(60) == ()


def test_a_child_stuck_in_the_kernel_is_never_joined_by_another(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most one child is abandoned: while it cannot be ended, no other is started."""
    played = play((NONE, "hang"), (NONE,), deadline_seconds=SHORT_SECONDS)
    played.read()
    with monkeypatch.context() as stuck:
        stuck.setattr(ChildProcess, "ended", lambda self, seconds=0.0: False)
        played.read()
        assert played.read_after(1000) == "NVML: no answer for 16 m 40 s"
        assert played.children == 1
    assert (played.read_after(0), played.children) == ((), 2)


def test_cards_that_are_initialised_anew_have_their_time(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first answer later than the deadline is an error now, and the next read's answer."""
    monkeypatch.setenv("SLOW_UNTIL", str(tmp_path / "initialised"))
    played = play(("slow",), deadline_seconds=SHORT_SECONDS)
    with pytest.raises(GpuUnavailable) as raised:
        played.gpus.read()
    assert "nvidia-persistenced" in raised.value.hint
    assert played.read() == "NVML: no answer for 250 ms"
    (tmp_path / "initialised").touch()
    assert (played.read(), played.children) == ((), 1)


def test_close_ends_the_child_and_is_not_the_end(play: Play) -> None:
    """A closed reader leaves no process behind; closing it twice is no error."""
    played = play((NONE,), (NONE,))
    played.read()
    pid = played.gpus.child_pid
    played.gpus.close()
    played.gpus.close()
    assert pid is not None
    assert not lives(pid)


def test_any_thread_may_read(play: Play) -> None:
    """Questions of several threads never mix their answers."""
    played = play((answer(CARD),) * 40)
    read: list[object] = []
    threads = [
        threading.Thread(target=lambda: read.extend(played.read() for _ in range(10)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [(READING,)] * 40
