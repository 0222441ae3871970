"""Driver, GPUs and their links, judged both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.diagnosis import Facts
from gpuctl.diagnosis.facts import DeviceFile, DriverFacts, Unread
from gpuctl.model import ExpectedGpus, GpuPeer, GpuReading, HostSettings
from tests.diagnosis.make import DRIVER_FACTS, bare, finding, gpu, host, judged, wanted


def driver(**changes: Any) -> Facts:
    return host(driver=replace(DRIVER_FACTS, **changes))


def gpus(*changed: GpuReading) -> Facts:
    """The host with other cards, those not named being well."""
    return host(gpus=(*changed, *(gpu(index) for index in range(len(changed), 2))))


def unread(reason: str) -> Facts:
    return host(gpus=Unread(reason=reason, message="NVML: no"))


def ungrouped() -> Facts:
    facts = host()
    assert facts.wanted is not None
    return replace(facts, wanted=replace(facts.wanted, plan=None, profile=None))


HELD = DeviceFile(path="/dev/nvidia0", usable=False)
NO_CARD = DriverFacts()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(unread(reason), ("nvml", "fail", reason), id=reason)
        for reason in (
            "version_mismatch",
            "driver_not_loaded",
            "library_missing",
            "no_permission",
            "no_answer",
            "nvml_failed",
        )
    ]
    + [
        pytest.param(unread("simulated"), ("nvml", "skip", "simulated"), id="simulated"),
        pytest.param(
            replace(host(), gpus=()),
            ("nvml", "fail", "driver_missing"),
            id="cards without a driver",
        ),
        pytest.param(
            host(gpus=(), driver=NO_CARD), ("nvml", "fail", "no_gpu"), id="no card, and one wanted"
        ),
        pytest.param(
            host(gpus=(), driver=NO_CARD, wanted=None),
            ("nvml", "skip", "not_applicable"),
            id="no card, and none wanted",
        ),
        pytest.param(host(gpus=(bare(0),)), ("nvml", "ok", "ok"), id="an old card"),
        pytest.param(
            driver(cards={"0000:01:00.0": "nouveau"}),
            ("nouveau", "fail", "nouveau_loaded"),
            id="nouveau",
        ),
        pytest.param(driver(cards={}), ("nouveau", "skip", "not_applicable"), id="no card"),
        pytest.param(
            driver(persistence=False),
            ("persistence", "warn", "persistence_off"),
            id="no persistence",
        ),
        pytest.param(
            driver(module_version=None),
            ("persistence", "skip", "not_applicable"),
            id="persistence without a driver",
        ),
        pytest.param(
            driver(switches=6),
            ("fabric_manager", "fail", "fabric_manager_down"),
            id="no fabric manager",
        ),
        pytest.param(
            driver(switches=6, fabric_manager=True), ("fabric_manager", "ok", "ok"), id="a fabric"
        ),
        pytest.param(
            driver(devices=(HELD,)), ("device_files", "fail", "device_denied"), id="not ours"
        ),
        pytest.param(
            driver(devices=DRIVER_FACTS.devices[1:]),
            ("device_files", "warn", "uvm_missing"),
            id="no nvidia-uvm",
        ),
        pytest.param(
            driver(module_version=None),
            ("device_files", "skip", "not_applicable"),
            id="device files without a driver",
        ),
    ],
)
def test_the_driver(facts: Facts, expected: tuple[str, str, str]) -> None:
    """Each thing that keeps CUDA from starting has its own word."""
    assert judged(facts, expected[0]) == [expected]


def test_a_mismatch_names_both_versions() -> None:
    """What is loaded and what is installed stand beside each other."""
    facts = replace(
        unread("version_mismatch"),
        driver=replace(DRIVER_FACTS, module_version="570.1", library_version="580.2"),
    )
    found = finding(facts, "nvml")
    assert found.message == "NVML: no (kernel module 570.1, library 580.2)"
    assert found.fix == "sudo reboot"
    plain = replace(facts, driver=DriverFacts())
    assert finding(plain, "nvml").message == "NVML: no"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(host(gpus=(gpu(0),)), ("count", "fail", "fewer_gpus"), id="one of two"),
        pytest.param(
            host(gpus=(bare(0), bare(1))),
            ("count", "ok", "ok"),
            id="two of two",
        ),
        pytest.param(
            gpus(gpu(0, state="lost")), ("count", "warn", "fewer_gpus"), id="one of two is lost"
        ),
        pytest.param(host(wanted=None), ("count", "ok", "ok"), id="no profile"),
        pytest.param(
            host(wanted=None, gpus=()), ("count", "skip", "not_applicable"), id="no GPU, no profile"
        ),
        pytest.param(gpus(gpu(0, state="lost")), ("lost", "fail", "gpu_lost"), id="lost"),
        pytest.param(host(gpus=()), ("lost", "skip", "not_applicable"), id="nothing to lose"),
        pytest.param(
            gpus(gpu(0, health={"recovery_action": "gpu_reset"})),
            ("recovery", "fail", "recovery_action"),
            id="reset asked for",
        ),
        pytest.param(
            gpus(gpu(0, health={"recovery_action": "node_reboot"})),
            ("recovery", "fail", "recovery_action"),
            id="reboot asked for",
        ),
        pytest.param(
            gpus(gpu(0, health={"remapped_rows_failure": True})),
            ("memory_rows", "fail", "rows_failed"),
            id="no spare row",
        ),
        pytest.param(
            gpus(gpu(0, health={"remapped_rows_pending": True})),
            ("memory_rows", "warn", "rows_pending"),
            id="rows pending",
        ),
        pytest.param(
            gpus(gpu(0, health={"retired_pages_pending": True})),
            ("memory_rows", "warn", "rows_pending"),
            id="pages pending",
        ),
        pytest.param(
            gpus(gpu(0, health={"ecc_uncorrected_volatile": 2})),
            ("ecc", "warn", "ecc_uncorrected"),
            id="uncorrected errors",
        ),
        pytest.param(
            gpus(gpu(0, facts={"mig_enabled": True})), ("mig", "fail", "mig_enabled"), id="MIG"
        ),
        pytest.param(
            gpus(gpu(0, health={"pcie_width": 4})), ("pcie", "warn", "pcie_narrow"), id="narrow"
        ),
    ]
    + [
        pytest.param(
            host(gpus=(bare(0), bare(1))), (check, "skip", "not_reported"), id=f"{check}, old card"
        )
        for check in ("recovery", "memory_rows", "ecc", "mig", "pcie")
    ],
)
def test_the_gpus(facts: Facts, expected: tuple[str, str, str]) -> None:
    """A card that is missing, sick or not whole is told; one that reports nothing is not judged."""
    assert judged(facts, expected[0]) == [expected]


def test_a_card_is_named_with_its_number() -> None:
    """The message has the card and the value, the fix the same card."""
    found = finding(gpus(gpu(0), gpu(1, health={"recovery_action": "gpu_reset"})), "recovery")
    assert found.message == "the driver asks for: gpu 1 gpu_reset"
    assert found.fix.endswith("`sudo nvidia-smi --gpu-reset -i 1`")


def test_rows_pending_and_failed_are_both_told() -> None:
    """One card waits for a reset, another for its replacement."""
    facts = gpus(
        gpu(0, health={"remapped_rows_pending": True}),
        gpu(1, health={"remapped_rows_failure": True}),
    )
    assert judged(facts, "memory_rows") == [
        ("memory_rows", "fail", "rows_failed"),
        ("memory_rows", "warn", "rows_pending"),
    ]


def test_a_profile_that_counts_on_other_cards() -> None:
    """The number of each kind is compared, and what is there is said."""
    expected = (ExpectedGpus(count=2, name="A6000"), ExpectedGpus(count=1))
    profile = wanted().profile
    assert profile is not None
    other = replace(profile, host=HostSettings(name="rack", gpus=(*expected[:1],)))
    more = replace(profile, host=HostSettings(name="rack", gpus=(ExpectedGpus(count=3),)))
    assert finding(host(wanted=wanted(profile=other)), "count").level == "ok"
    found = finding(host(wanted=wanted(profile=more)), "count")
    assert found.message == ("the profile counts on more: 2 of 3 GPUs here (2x NVIDIA RTX A6000)")


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        pytest.param(
            (gpu(0, state="lost"), gpu(1)),
            "2x NVIDIA RTX A6000, and gpu 0 of them is lost",
            id="known before",
        ),
        pytest.param(
            (replace(gpu(0, state="lost"), name="unknown"), gpu(1)),
            "1x unknown, 1x NVIDIA RTX A6000, and gpu 0 of them is lost",
            id="never read",
        ),
        pytest.param(
            (gpu(0, state="lost"), gpu(1, state="lost")),
            "2x NVIDIA RTX A6000, and gpus 0, 1 of them are lost",
            id="two",
        ),
    ],
)
def test_a_lost_card_is_counted_as_lost(cards: tuple[GpuReading, ...], message: str) -> None:
    """`up` starts with it, which a reserve makes useful: so it is no failure, and it is said."""
    found = finding(host(gpus=cards), "count")
    assert (found.level, found.message) == ("warn", message)
    assert found.fix == "see `lost`; `up` starts what runs without it, or on a reserve GPU"


def linked(path: str, p2p: bool | None = True) -> Facts:
    return host(
        gpus=tuple(
            gpu(index, facts={"peers": (GpuPeer(uuid=f"GPU-{1 - index}", path=path, p2p=p2p),)})  # type: ignore[arg-type]
            for index in (0, 1)
        )
    )


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(linked("nvlink"), ("peers", "ok", "ok"), id="NVLink"),
        pytest.param(linked("single"), ("peers", "ok", "ok"), id="one switch"),
        pytest.param(linked("system"), ("peers", "warn", "far_apart"), id="across sockets"),
        pytest.param(linked("single", p2p=False), ("peers", "warn", "no_p2p"), id="no P2P"),
        pytest.param(host(gpus=(bare(0), bare(1))), ("peers", "skip", "not_reported"), id="untold"),
        pytest.param(host(gpus=()), ("peers", "skip", "not_reported"), id="not there"),
        pytest.param(ungrouped(), ("peers", "skip", "not_applicable"), id="no group"),
        pytest.param(
            gpus(gpu(0), gpu(1, facts={"numa_node": 1})), ("numa", "warn", "numa_split"), id="split"
        ),
        pytest.param(host(gpus=(bare(0), bare(1))), ("numa", "skip", "not_reported"), id="no node"),
        pytest.param(ungrouped(), ("numa", "skip", "not_applicable"), id="no group for a node"),
    ],
)
def test_the_links_of_a_group(facts: Facts, expected: tuple[str, str, str]) -> None:
    """The worst link between any two GPUs of a replica decides."""
    assert judged(facts, expected[0]) == [expected]


def test_a_link_in_words() -> None:
    """Not by its name in the code, nor by that of `nvidia-smi`."""
    found = finding(linked("node"), "peers")
    assert found.message == "llm-0: its GPUs are joined by the host bridges of one NUMA node"
