"""Does it fit: host RAM, VRAM and ports."""

from __future__ import annotations

import pytest

from gpuctl.errors import PlanRefused
from gpuctl.model import GIB, MIB, GatewaySettings

from .make import gpu, host, planned, workload


def test_limits_above_the_ram_warn() -> None:
    """The sum of the limits is told where it is more than the host has."""
    plan = planned(
        workload(memory_bytes=1536 * MIB),
        workload("embed", port=9000, memory_bytes=512 * MIB),
        workload("free", port=9100),
        on=host(8, memory_total_bytes=15 * GIB),
    )
    assert plan.warnings == (
        "host RAM: the limits of 16 replicas add up to 16.0 GiB, the host has 15.0 GiB",
    )


def test_limits_within_the_ram() -> None:
    """What fits is not remarked upon."""
    assert planned(workload(memory_bytes=GIB), on=host(memory_total_bytes=4 * GIB)).warnings == ()


def test_a_limit_above_the_ram() -> None:
    """A limit that the host can never reach is refused."""
    with pytest.raises(PlanRefused, match=r"workloads\.big-one\.memory: 9\.0 GiB is more than"):
        planned(
            workload("big-one", gpus=((0,),), memory_bytes=9 * GIB),
            on=host(memory_total_bytes=8 * GIB),
        )


def test_vram_that_fits() -> None:
    """Three models share a card when their sum leaves the headroom."""
    card = gpu(0, name="RTX 3090", memory_total_bytes=24 * GIB)
    plan = planned(
        workload("a", vram_bytes=8 * GIB),
        workload("b", port=9000, vram_bytes=8 * GIB),
        workload("c", port=9100, vram_bytes=5 * GIB),
        on=host(gpus=(card,)),
        vram_headroom_bytes=3 * GIB,
    )
    assert len(plan.replicas) == 3


def test_vram_that_does_not_fit() -> None:
    """What would not fit is refused with the sum and its parts."""
    with pytest.raises(PlanRefused) as refusal:
        planned(
            workload("a", gpus=((0,),), vram_bytes=4 * GIB),
            workload("b", gpus=((0,),), port=9000, vram_bytes=2 * GIB),
            workload("unstated", gpus=((0,),), port=9100),
            vram_headroom_bytes=256 * MIB,
        )
    assert refusal.value.message == (
        "GPU 0: 6.0 GiB of VRAM planned (a-0 4.0 GiB, b-0 2.0 GiB), 5.8 GiB to give "
        "(0.2 GiB of headroom kept)"
    )


def test_vram_over_a_group() -> None:
    """A replica on two GPUs takes half of its VRAM from each."""
    planned(workload(gpus=((0, 1),), vram_bytes=10 * GIB))
    with pytest.raises(PlanRefused, match=r"GPU 0: 6\.5 GiB"):
        planned(workload(gpus=((0, 1),), vram_bytes=13 * GIB))


def test_vram_of_an_unknown_card() -> None:
    """A card whose size is not reported cannot refuse anything."""
    plan = planned(workload(vram_bytes=99 * GIB), on=host(gpus=(gpu(0, memory_total_bytes=None),)))
    assert [replica.name for replica in plan.replicas] == ["chat-0"]


def test_ports_clash() -> None:
    """Two replicas cannot listen on one port."""
    with pytest.raises(PlanRefused, match=r"embed-0 would listen on 8083, which chat-2 has"):
        planned(workload(port=8081), workload("embed", port=8083, gpus=((0,),)))


def test_port_of_the_gateway() -> None:
    """The gateway's port is taken."""
    with pytest.raises(PlanRefused, match="chat-1 would listen on 4000, which the gateway has"):
        planned(workload(port=3999), gateway=GatewaySettings(listen="127.0.0.1:4000"))


def test_ports_run_out() -> None:
    """The last port is 65535."""
    with pytest.raises(PlanRefused, match="chat-1 would listen on 65536"):
        planned(workload(port=65535, gpus=((0,), (1,))))
