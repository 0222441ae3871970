"""`plan` for people."""

from collections.abc import Callable

from gpuctl.model import (
    ContainerSpec,
    Drain,
    GpuIdentity,
    Inventory,
    Plan,
    ProbeSpec,
    Replica,
    Start,
    Stop,
    WatchdogSettings,
)
from gpuctl.views import planned

GIB = 2**30
GPU = GpuIdentity(index=0, uuid="GPU-0", name="P106-100")


def replica(name: str, memory_bytes: int | None, swap_bytes: int | None = None) -> Replica:
    return Replica(
        name=name,
        workload="chat",
        engine="llama.cpp",
        gpus=(GPU,),
        spec=ContainerSpec(
            image="server",
            host_port=8081,
            container_port=8080,
            memory_bytes=memory_bytes,
            memory_swap_bytes=swap_bytes,
        ),
        probe=ProbeSpec(port=8081, health_path="/health"),
        watchdog=WatchdogSettings(),
        model="m.gguf",
        digest="v1:a",
        spec_digest="b",
    )


def test_planned(text: Callable[..., list[str]]) -> None:
    """Replicas with what they take, the sum of host RAM, and what is to be known."""
    plan = Plan(
        profile="p",
        watchdog=WatchdogSettings(),
        replicas=(replica("chat-0", 2 * GIB, 3 * GIB), replica("chat-1", None)),
        reserve=(GpuIdentity(index=7, uuid="GPU-7", name="spare"),),
        missing_gpus=("9",),
        warnings=("tight",),
    )

    assert text(planned.planned(plan, Inventory(memory_total_bytes=16 * GIB))) == [
        "replica  engine     gpu  port    ram   swap  image or program  model",
        "chat-0   llama.cpp  0    8081  2 GiB  1 GiB  server            m.gguf",
        "chat-1   llama.cpp  0    8081      -      -  server            m.gguf",
        "",
        "2 replicas: RAM limits add up to 2 GiB of 16 GiB (1 without a limit)",
        "reserve: gpu 7 spare",
        "missing: gpu 9",
        "warning: tight",
    ]


def test_next_actions() -> None:
    """What a daemon would do next, each with its reason."""
    found = (
        Start(replica="a", reason="missing"),
        Stop(replica="b", container="c", reason="digest", step="kill"),
        Drain(replica="d", container="e", reason="", deadline_seconds=30),
    )

    assert list(planned.actions(found)) == [
        "",
        "next: start a, because missing",
        "next: stop (kill) b, because digest",
        "next: drain d",
    ]


def test_no_next_actions() -> None:
    """Nothing to do is said; nothing known is not."""
    assert list(planned.actions(())) == ["", "next: nothing, all is as planned"]
    assert list(planned.actions(None)) == []
