"""Does it fit: host RAM, VRAM and ports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.errors import PlanRefused
from gpuctl.model import GIB, MIB, GatewaySettings, Known, ModelFacts, Workload
from gpuctl.planning import plan as make_plan

from .make import ENGINES, gpu, host, planned, profile, workload


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


CARD = gpu(0, name="RTX A6000", memory_total_bytes=48 * GIB, compute_capability=(8, 6))


def offloading(name: str = "llm", **changes: Any) -> Workload:
    """A vLLM on the card that keeps 8 GiB of KV blocks in host RAM."""
    options = {"kv_offloading_gib": 8.0, "gpu_memory_utilization": 0.4}
    image = "vllm/vllm-openai:v0.33.0"
    values = {"engine": "vllm", "image": image, "options": options, "gpus": ((0,),)}
    return workload(name, **(values | changes))


@pytest.mark.parametrize(
    ("workloads", "ram_gib", "what"),
    [
        pytest.param(
            (offloading(memory_bytes=8 * GIB),),
            64,
            "workloads.llm.options.kv_offloading_gib: 8.0 GiB of host RAM are taken at the start,"
            " and its memory is limited to 8.0 GiB",
            id="its own limit",
        ),
        pytest.param(
            (offloading(set_by={"kv_offloading_gib": "SWAP_SPACE_GB"}),),
            8,
            "workloads.llm.options.kv_offloading_gib (from SWAP_SPACE_GB): 8.0 GiB of host RAM"
            " would be taken at the start and kept (llm-0 8.0 GiB), and this host has 8.0 GiB",
            id="the host",
        ),
        pytest.param(
            (offloading(), offloading("other", port=9000)),
            15,
            "workloads.llm.options.kv_offloading_gib: 16.0 GiB of host RAM would be taken at the"
            " start and kept (llm-0 8.0 GiB, other-0 8.0 GiB), and this host has 15.0 GiB",
            id="the host, by all",
        ),
    ],
)
def test_ram_that_is_taken_at_the_start_and_is_not_there(
    workloads: tuple[Workload, ...], ram_gib: int, what: str
) -> None:
    """It is no limit that may never be reached: refused, with what to do; a daemon goes on."""
    on = host(
        (CARD,), memory_total_bytes=ram_gib * GIB, driver_version="580.65", cuda_version=(13, 0)
    )
    with pytest.raises(PlanRefused) as refusal:
        planned(*workloads, on=on)
    assert refusal.value.message == what
    assert refusal.value.hint.startswith("write a smaller one, or ")
    assert what in planned(*workloads, on=on, strict=False).warnings


@pytest.mark.parametrize("ram_gib", [None, 32])
def test_ram_that_is_taken_at_the_start_and_is_there(ram_gib: int | None) -> None:
    """It counts in the sum with the limits, once: a limit holds it."""
    ram = None if ram_gib is None else ram_gib * GIB
    on = host((CARD,), memory_total_bytes=ram, driver_version="580.65", cuda_version=(13, 0))
    limited = workload("chat", gpus=((0,),), port=9100, memory_bytes=20 * GIB)
    within = offloading("within", port=9000, memory_bytes=9 * GIB)
    said = ("host RAM: the limits of 3 replicas add up to 37.0 GiB, the host has 32.0 GiB",)
    found = planned(offloading(), limited, within, on=on).warnings
    assert tuple(line for line in found if line.startswith("host RAM")) == (said if ram else ())


BIG = ModelFacts(
    source="m", format="config", architecture="llama", weights_bytes=40 * GIB, context_max=512
)
ELSE = "move a workload to another GPU, or choose a smaller model or context"


@pytest.mark.parametrize(
    ("share", "other_gib", "facts", "hint"),
    [
        pytest.param(0.999, 0, None, "llm: gpu_memory_utilization = 0.99 would fit", id="alone"),
        pytest.param(0.9, 10, None, "llm: gpu_memory_utilization = 0.78 would fit", id="beside"),
        pytest.param(0.9, 47.5, None, ELSE, id="no room for any"),
        pytest.param(0.9, 10, BIG, ELSE, id="no room for its weights"),
    ],
)
def test_a_share_of_a_card_that_is_too_large(
    share: float, other_gib: float, facts: ModelFacts | None, hint: str
) -> None:
    """The share that would do is told, where the model would do with it."""
    asked = offloading(options={"gpu_memory_utilization": share})
    beside = workload("beside", gpus=((0,),), port=9000, vram_bytes=int(other_gib * GIB))
    both = profile(asked, *((beside,) if other_gib else ()), vram_headroom_bytes=256 * MIB)
    on = host((CARD,), driver_version="580.65", cuda_version=(13, 0))
    known = Known(facts={} if facts is None else {"llm": facts})
    with pytest.raises(PlanRefused) as refusal:
        make_plan(both, on, ENGINES, known=known)
    assert refusal.value.hint.splitlines()[0] == hint


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


RESERVED = gpu(0, name="RTX 3090", memory_total_bytes=24 * GIB, reserved_bytes=316 * MIB)


def test_vram_that_the_driver_keeps() -> None:
    """It is neither used nor free, and nobody's to take: no replica is planned into it."""
    within = workload(vram_bytes=24 * GIB - 316 * MIB - 256 * MIB)
    assert planned(within, on=host((RESERVED,)), vram_headroom_bytes=256 * MIB).replicas
    with pytest.raises(PlanRefused) as refusal:
        planned(
            replace(within, vram_bytes=24 * GIB - 256 * MIB),
            on=host((RESERVED,)),
            vram_headroom_bytes=256 * MIB,
        )
    assert refusal.value.message == (
        "GPU 0: 23.8 GiB of VRAM planned (chat-0 23.8 GiB), 23.4 GiB to give "
        "(0.2 GiB of headroom kept, 0.3 GiB kept by the driver)"
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
