"""Host-state files: what ships, what is read back, and what is refused in words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.errors import NotFound, UsageError
from gpuctl.host_state import (
    RECOVERY_ACTIONS,
    THROTTLE_REASONS,
    GpuState,
    HostState,
    LinkState,
    ProcessState,
    XidState,
    dump,
    facts,
    find,
    health,
    load,
    read,
)
from gpuctl.model import GpuFacts, GpuHealth, GpuPeer

GIB = 1024**3

CARD: dict[str, Any] = {"index": 0, "uuid": "GPU-0", "name": "card"}


def written(**changes: Any) -> str:
    """Return the smallest host with these fields changed."""
    return json.dumps({"schema": 1, "name": "h", "memory_total_bytes": GIB, **changes})


def test_the_first_link_that_has_two_cards_is_theirs() -> None:
    """A bridge between two is written before the board that all are on."""
    cards = [CARD | {"index": index, "uuid": f"GPU-{index}"} for index in range(3)]
    links = [{"gpus": [0, 1], "path": "nvlink", "p2p": True}, {"gpus": [0, 1, 2], "path": "node"}]
    host = load(written(gpus=cards, links=links))
    assert facts(host, host.gpus[0]).peers == (
        GpuPeer(uuid="GPU-1", path="nvlink", p2p=True),
        GpuPeer(uuid="GPU-2", path="node"),
    )


@pytest.mark.parametrize(
    ("told", "ratio"),
    [
        pytest.param(GpuHealth(pcie_generation=1), 0.4, id="generation"),
        pytest.param(GpuHealth(pcie_width=1), 0.4, id="width"),
        pytest.param(GpuHealth(pcie_replays=0), None, id="neither"),
    ],
)
def test_a_link_is_read_with_the_load_of_its_card(told: GpuHealth, ratio: float | None) -> None:
    """An idle card lowers its link: without the load, a low one says nothing."""
    gpu = GpuState(index=0, uuid="u", name="n", utilization_ratio=0.4, health=told)
    expected = dataclasses.replace(told, pcie_utilization_ratio=ratio, boot_seconds=7.0)
    assert health(gpu, 7.0) == expected


@pytest.mark.parametrize("name", ["./mine.json", "mine.json", "/etc/hosts/mine"])
def test_a_path_is_taken_as_it_is(name: str) -> None:
    """Whether it exists is for whoever reads it to say."""
    assert find(name) == Path(name)


def test_a_path_that_no_file_can_have_is_refused() -> None:
    """A NUL from a command line is no traceback."""
    with pytest.raises(UsageError, match="null"):
        read(Path("a\0b"))


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    """The hint is the next step."""
    with pytest.raises(NotFound) as raised:
        find("p106x9")
    assert "'p106x8'" in raised.value.hint


def test_an_unknown_name_is_answered_with_all() -> None:
    """With none near, every shipped one is named."""
    with pytest.raises(NotFound) as raised:
        find("dgx")
    assert "a100x8, a6000x2, cpu, p106x8, rtx3090" in raised.value.hint


def test_the_smallest_host_has_defaults() -> None:
    """A name and a size of memory are a host without a GPU."""
    assert load(written()) == HostState(name="h", memory_total_bytes=GIB)


def test_null_and_absent_are_the_same() -> None:
    """Both are "not reported"."""
    bare = load(written(gpus=[CARD]))
    nulls = {name: None for name in GpuState.__slots__} | CARD
    assert load(written(gpus=[nulls], init_error=None)) == bare
    assert bare.gpus == (GpuState(index=0, uuid="GPU-0", name="card"),)


def test_cards_are_ordered_by_index() -> None:
    """The order in the file does not matter, NVML's is that of the indexes."""
    cards = [CARD | {"index": index, "uuid": f"GPU-{index}"} for index in (2, 0, 1)]
    assert [gpu.uuid for gpu in load(written(gpus=cards)).gpus] == ["GPU-0", "GPU-1", "GPU-2"]


names = st.text(alphabet=st.characters(codec="ascii", categories=("L", "N")), min_size=1)
sizes = st.integers(0, 2**63 - 1)
numbers = st.floats(0, 1e15)
processes = st.builds(
    ProcessState,
    pid=st.integers(0, 2**22),
    used_bytes=st.none() | sizes,
    container=st.none() | names.filter(lambda name: len(name) < 96),
    name=st.none() | st.just("llama-server"),
    type=st.sampled_from(["C", "G", "C+G"]),
)
fact_sheets = st.builds(
    GpuFacts,
    serial=st.none() | st.just("1565020012345"),
    architecture=st.none() | st.sampled_from(["pascal", "ampere"]),
    numa_node=st.none() | st.integers(0, 7),
    mig_enabled=st.none() | st.booleans(),
    sm_clock_max_hertz=st.none() | numbers,
    temperature_shutdown_celsius=st.none() | numbers,
)
healths = st.builds(
    GpuHealth,
    ecc_uncorrected_volatile=st.none() | sizes,
    remapped_rows_pending=st.none() | st.booleans(),
    recovery_action=st.none() | st.sampled_from(RECOVERY_ACTIONS),
    energy_joules=st.none() | numbers,
)
cards = st.builds(
    GpuState,
    index=st.integers(0, 63),
    uuid=st.uuids().map(lambda uuid: f"GPU-{uuid}"),
    name=st.sampled_from(["NVIDIA P106-100", "Karte Nr. 1 (ü)"]),
    memory_total_bytes=st.none() | sizes,
    memory_reserved_bytes=st.none() | sizes,
    compute_capability=st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99)),
    pci_bus_id=st.none()
    | st.from_regex(r"[0-9a-f]{8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", fullmatch=True),
    temperature_celsius=st.none() | numbers,
    power_watts=st.none() | numbers,
    power_limit_watts=st.none() | numbers,
    sm_clock_hertz=st.none() | numbers,
    memory_clock_hertz=st.none() | numbers,
    utilization_ratio=st.none() | st.floats(0, 1),
    memory_utilization_ratio=st.none() | st.floats(0, 1),
    memory_temperature_celsius=st.none() | numbers,
    fan_ratio=st.none() | st.floats(0, 1),
    performance_state=st.none() | st.integers(0, 15),
    facts=fact_sheets,
    health=healths,
    throttle_reasons=st.none() | st.lists(st.sampled_from(THROTTLE_REASONS)).map(tuple),
    processes=st.none() | st.lists(processes, max_size=3).map(tuple),
    lost=st.booleans(),
)


def _joined(host: HostState) -> HostState:
    """Give a host links and Xids of the cards it has."""
    indexes = tuple(gpu.index for gpu in host.gpus)
    return dataclasses.replace(
        host,
        links=(LinkState(gpus=indexes, path="nvlink", p2p=True), LinkState(gpus=(), path="node")),
        xids=tuple(
            XidState(gpu=index, number=79, source="kernel", pid=4, message="it fell")
            for index in indexes
        ),
    )


hosts = st.builds(
    HostState,
    name=st.just("h"),
    driver_version=st.none() | st.just("580.95.05"),
    cuda_version=st.none() | st.just((13, 0)),
    cpus=st.integers(0, 512),
    memory_total_bytes=sizes,
    load_seconds=numbers,
    gpus=st.lists(cards, max_size=4, unique_by=(lambda gpu: gpu.index, lambda gpu: gpu.uuid)).map(
        lambda listed: tuple(sorted(listed, key=lambda gpu: gpu.index))
    ),
    calls=st.dictionaries(st.just("nvmlInit"), st.sampled_from(["hang", "missing"]) | numbers),
    init_error=st.none() | st.integers(1, 999),
    replicas=st.dictionaries(
        st.just("chat-0"), st.sampled_from(["exit:1", "oom", "slow_load:30", "slow_load:0.5"])
    ),
).map(_joined)


@given(hosts)
def test_what_is_written_is_read_back(host: HostState) -> None:
    """`load` of `dump` is the same host, whatever it lacks."""
    assert load(dump(host)) == host


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", ":1:1: it is not JSON: Expecting value", id="empty"),
        pytest.param('{\n "a": }', ":2:7: it is not JSON: Expecting value", id="syntax"),
        pytest.param('{"a": NaN}', ": it is not JSON: NaN is no number of it", id="nan"),
        pytest.param("[" * 100_000, ": it is not JSON: ", id="deep"),
        pytest.param("[]", ": it must be an object, not []", id="list"),
        pytest.param("{}", ": schema: it must be 1, not null", id="no-schema"),
        pytest.param(written(schema=2), ": schema: it must be 1, not 2", id="other-schema"),
        pytest.param('{"schema": 1, "name": "h"}', ": it lacks 'memory_total_bytes'", id="lacks"),
        pytest.param(written(gpu=[]), ": it has no field 'gpu'; did you mean 'gpus'?", id="field"),
        pytest.param(written(cpus=-1), ": cpus: it must be a whole number from 0", id="negative"),
        pytest.param(written(cpus=True), ": cpus: it must be a whole number from 0", id="bool"),
        pytest.param(written(cpus=2**63), ": cpus: it must be a whole number from 0", id="large"),
        pytest.param(written(cpus=10**50), ": cpus: it must be a whole number from 0", id="vast"),
        pytest.param(written(name="a\nb"), ': name: it must be a line of text, not "a', id="line"),
        pytest.param(written(gpus={}), ": gpus: it must be a list, not {}", id="gpus"),
        pytest.param(written(gpus=[{}]), ": gpus[0]: it lacks 'index'", id="gpu"),
        pytest.param(written(gpus=[CARD, CARD]), ": gpus: two have the index 0", id="index-twice"),
        pytest.param(
            written(gpus=[CARD, CARD | {"index": 1}]),
            ": gpus: two have the uuid 'GPU-0'",
            id="uuid-twice",
        ),
        pytest.param(
            written(gpus=[CARD, CARD | {"index": 1, "power_watts": "6 W"}]),
            ': gpus[1].power_watts: it must be a number from 0, not "6 W"',
            id="watts",
        ),
        pytest.param(
            written(gpus=[CARD | {"utilization_ratio": 29}]),
            ": gpus[0].utilization_ratio: it must be from 0 to 1, not 29",
            id="percent",
        ),
        pytest.param(
            written(gpus=[CARD | {"lost": 1}]),
            ": gpus[0].lost: it must be true or false, not 1",
            id="truth",
        ),
        pytest.param(
            written(gpus=[CARD | {"compute_capability": [6, 1]}]),
            ': gpus[0].compute_capability: it must be like "6.1", not [6, 1]',
            id="capability",
        ),
        pytest.param(
            written(gpus=[CARD | {"pci_bus_id": "01:00.0"}]),
            ': gpus[0].pci_bus_id: it must be like "00000000:01:00.0", not "01:00.0"',
            id="bus",
        ),
        pytest.param(
            written(gpus=[CARD | {"throttle_reasons": ["idle", "hot"]}]),
            ': gpus[0].throttle_reasons[1]: "hot" is none of idle, ',
            id="reason",
        ),
        pytest.param(
            written(gpus=[CARD | {"facts": {"driver_version": "580"}}]),
            ": gpus[0].facts: it has no field 'driver_version'",
            id="shared-fact",
        ),
        pytest.param(
            written(gpus=[CARD | {"health": {"recovery_action": "pray"}}]),
            ': gpus[0].health.recovery_action: "pray" is none of none, gpu_reset, ',
            id="recovery",
        ),
        pytest.param(written(links=[{}]), ": links[0]: it lacks 'gpus'", id="link"),
        pytest.param(
            written(links=[{"gpus": [], "path": "tube"}]),
            ': links[0].path: "tube" is none of nvlink, internal, ',
            id="path",
        ),
        pytest.param(
            written(gpus=[CARD], links=[{"gpus": [0, 7], "path": "node"}]),
            ": links[0].gpus: there is no GPU 7",
            id="link-of-none",
        ),
        pytest.param(written(xids=[{"gpu": 0}]), ": xids[0]: it lacks 'number'", id="xid"),
        pytest.param(
            written(xids=[{"gpu": 0, "number": 79}]),
            ": xids[0].gpu: there is no GPU 0",
            id="xid-of-none",
        ),
        pytest.param(
            written(gpus=[CARD | {"processes": [{"used_bytes": 1}]}]),
            ": gpus[0].processes[0]: it lacks 'pid'",
            id="process",
        ),
        pytest.param(
            written(calls={"nvmlInit": "hangs"}),
            ': calls.nvmlInit: it must be a number from 0, not "hangs"',
            id="call",
        ),
        pytest.param(written(calls=[]), ": calls: it must be an object, not []", id="calls"),
        pytest.param(
            written(replicas={"chat-0": "explode"}),
            ": replicas.chat-0: 'explode' is no fault; they are exit:CODE, ",
            id="fault",
        ),
    ],
)
def test_a_bad_file_is_refused_with_file_and_place(text: str, message: str) -> None:
    """Whatever is wrong, the error is UsageError and says where."""
    with pytest.raises(UsageError) as raised:
        load(text, source="mine.json")
    assert raised.value.message.startswith(f"mine.json{message}")
    assert raised.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "No such file or directory", id="missing"),
        pytest.param(b"\xff\xfe", "byte 0 is not UTF-8 text", id="binary"),
        pytest.param(b" " * (1024**2 + 1), "it is over 1 MiB: that is no host state", id="huge"),
        pytest.param(b"{", "1:2: it is not JSON: ", id="not-json"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    """The error begins with the file's path."""
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        read(path)
    assert raised.value.message.startswith(str(path))
    assert message in raised.value.message


def test_what_a_card_holds_is_the_sum_of_its_processes() -> None:
    """A process whose share is not known adds nothing."""
    processes = (ProcessState(pid=1, used_bytes=GIB), ProcessState(pid=2))
    assert GpuState(index=0, uuid="u", name="n", processes=processes).memory_used_bytes == GIB
    assert GpuState(index=0, uuid="u", name="n").memory_used_bytes == 0
