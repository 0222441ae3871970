"""The hosts that ship: what their cards report, and what no card of their kind does."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gpuctl.host_state import GpuState, facts, find, health, read, shipped


@pytest.mark.parametrize(
    ("name", "cards", "memory_mib", "capability"),
    [
        pytest.param("p106x8", ["NVIDIA P106-100"] * 8, 6144, (6, 1), id="p106x8"),
        pytest.param("a100x8", ["NVIDIA A100-SXM4-80GB"] * 8, 81920, (8, 0), id="a100x8"),
        pytest.param("a6000x2", ["NVIDIA RTX A6000"] * 2, 49140, (8, 6), id="a6000x2"),
        pytest.param("rtx3090", ["NVIDIA GeForce RTX 3090"], 24576, (8, 6), id="rtx3090"),
        pytest.param("cpu", [], None, None, id="cpu"),
    ],
)
def test_a_shipped_host_has_its_cards(
    name: str, cards: list[str], memory_mib: int | None, capability: tuple[int, int] | None
) -> None:
    """Every shipped host is readable and at rest, and its cards tell what all cards tell."""
    host = read(find(name))
    assert (host.name, [gpu.name for gpu in host.gpus]) == (name, cards)
    assert (host.calls, host.init_error, host.replicas) == ({}, None, {})
    for gpu in host.gpus:
        assert gpu.memory_total_bytes == (memory_mib or 0) * 1024**2
        assert (gpu.compute_capability, gpu.processes, gpu.lost) == (capability, (), False)
        told = set(GpuState.__slots__) - {"memory_temperature_celsius", "fan_ratio"}
        assert None not in [getattr(gpu, field) for field in told]
        assert (gpu.facts.minor_number, gpu.health.pcie_replays) == (gpu.index, 0)


#: What no card of that host reports: NVML answers NotSupported.
UNTOLD = {
    "p106x8": {
        "memory_temperature_celsius", "serial", "mig_enabled", "ecc_enabled",
        "temperature_max_celsius", "memory_temperature_max_celsius", "recovery_action",
        "energy_joules",
    },
    "a100x8": {"fan_ratio"},
    "a6000x2": {
        "memory_temperature_celsius", "mig_enabled", "memory_temperature_max_celsius",
    },
    "rtx3090": {
        "memory_temperature_celsius", "serial", "mig_enabled", "ecc_enabled",
        "memory_temperature_max_celsius",
    },
}  # fmt: skip
ROWS = {f"remapped_rows_{what}" for what in ("correctable", "uncorrectable", "pending", "failure")}
ECC = {
    f"ecc_{what}_{since}"
    for what in ("corrected", "uncorrected")
    for since in ("volatile", "aggregate")
}


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        pytest.param("p106x8", set(), id="p106x8"),
        pytest.param("a100x8", ROWS | ECC, id="a100x8"),
        pytest.param("a6000x2", ROWS, id="a6000x2"),
        pytest.param("rtx3090", set(), id="rtx3090"),
    ],
)
def test_a_shipped_card_lacks_what_its_kind_lacks(name: str, counted: set[str]) -> None:
    """Only some cards have ECC, spare rows, an energy counter, a fan of their own."""
    host = read(find(name))
    for gpu in host.gpus:
        said = {**_fields(gpu), **_fields(facts(host, gpu)), **_fields(health(gpu, 1.0))}
        untold = {field for field, value in said.items() if value is None}
        peers = {"peers"} if name == "rtx3090" else set()
        uncounted = (ROWS | ECC) - counted
        assert untold == UNTOLD[name] | uncounted | peers | {"retired_pages_pending"}


def _fields(state: Any) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


@pytest.mark.parametrize(
    ("name", "driver", "cuda", "links"),
    [
        pytest.param("p106x8", "570.195.03", (12, 8), {("hostbridge", False)}, id="p106x8"),
        pytest.param("a100x8", "580.95.05", (13, 0), {("nvlink", True)}, id="a100x8"),
        pytest.param("a6000x2", "580.95.05", (13, 0), {("node", True)}, id="a6000x2"),
        pytest.param("rtx3090", "580.95.05", (13, 0), set(), id="rtx3090"),
    ],
)
def test_a_host_tells_each_card_its_driver_and_its_peers(
    name: str, driver: str, cuda: tuple[int, int], links: set[tuple[str, bool]]
) -> None:
    """What the cards of a host share is written once, and belongs to the facts of each."""
    host = read(find(name))
    for gpu in host.gpus:
        found = facts(host, gpu)
        assert (found.driver_version, found.cuda_version) == (driver, cuda)
        peers = found.peers or ()
        assert {(peer.path, peer.p2p) for peer in peers} == links
        others = [other.uuid for other in host.gpus if other != gpu]
        assert [peer.uuid for peer in peers] == others


def test_shipped_hosts_are_found_by_name() -> None:
    """The names that `--simulate` takes, and a file for each."""
    assert list(shipped()) == ["a100x8", "a6000x2", "cpu", "p106x8", "rtx3090"]
    assert all(path.is_file() for path in shipped().values())


def test_no_two_cards_of_the_shipped_hosts_are_the_same() -> None:
    """A UUID names one card in the world."""
    uuids = [gpu.uuid for path in shipped().values() for gpu in read(path).gpus]
    assert len(set(uuids)) == len(uuids) == 19
