"""`plan` for people."""

from collections.abc import Callable
from dataclasses import replace

from rich.console import Console

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
GPU = GpuIdentity(index=0, uuid="GPU-0", name="P106-100", memory_total_bytes=6 * GIB)


def replica(name: str, memory_bytes: int | None, swap_bytes: int | None = None) -> Replica:
    return Replica(
        name=name,
        workload="chat",
        engine="llama.cpp",
        gpus=(GPU,),
        spec=ContainerSpec(
            image="registry.example/ai/server:cuda",
            host_port=8081,
            container_port=8080,
            memory_bytes=memory_bytes,
            memory_swap_bytes=swap_bytes,
        ),
        probe=ProbeSpec(port=8081, health_path="/health"),
        watchdog=WatchdogSettings(),
        vram_bytes=None if memory_bytes is None else 3 * GIB,
        digest="v1:a",
        spec_digest="b",
    )


def test_planned(text: Callable[..., list[str]]) -> None:
    """Replicas with what they take, the sum of host RAM, and what is to be known."""
    spare = GpuIdentity(index=7, uuid="GPU-7", name="spare")
    plan = Plan(
        profile="p",
        watchdog=WatchdogSettings(),
        replicas=(replica("chat-0", 2 * GIB, 3 * GIB), replica("chat-1", None)),
        gpus=(GPU, spare),
        vram_headroom_bytes=GIB,
        reserve=(spare,),
        missing_gpus=("9",),
        warnings=("tight",),
    )

    assert text(planned.planned(plan, Inventory(memory_total_bytes=16 * GIB))) == [
        "replica  engine     gpu  port   vram    ram   swap  image or program",
        "chat-0   llama.cpp  0    8081  3 GiB  2 GiB  1 GiB  server:cuda",
        "chat-1   llama.cpp  0    8081      -      -      -  server:cuda",
        "",
        "gpu  name      vram                                planned  free  headroom  driver  others"
        "     of  replicas",
        "  0  P106-100  ================···········-----  not known     -     1 GiB       -       -"
        "  6 GiB  chat-0, chat-1",
        "  7  spare     -                                       0 B     -     1 GiB       -       -"
        "      -  reserve",
        "= in one sum   · free   - headroom",
        "",
        "2 replicas: RAM limits add up to 2 GiB of 16 GiB (1 without a limit)",
        "missing: gpu 9",
        "warning: tight",
    ]


def test_a_narrow_terminal() -> None:
    """Without room for the bars there is no legend to them, and every replica is named."""
    plan = Plan(
        profile="p",
        watchdog=WatchdogSettings(),
        replicas=tuple(replica(f"a-long-name-{index}", GIB) for index in range(3)),
        gpus=(GPU,),
    )
    console = Console(width=60, no_color=True, color_system=None)
    with console.capture() as captured:
        console.print(planned.planned(plan, Inventory()))
    told = captured.get()
    assert ("weights" in told, "…" in told, "a-long-name-2" in told.split("planned")[1]) == (
        False,
        False,
        True,
    )


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
    assert list(planned.actions(())) == ["", "next: nothing to begin at this moment"]
    assert list(planned.actions(None)) == []


def test_no_sum_of_ram() -> None:
    """Without a limit of RAM there is no sum."""
    plan = Plan(profile="p", watchdog=WatchdogSettings(), replicas=(replica("chat-0", None),))
    assert planned.ram(plan, Inventory()) == "1 replica, none with a limit of RAM"


def test_planned_for_the_cpu(text: Callable[..., list[str]]) -> None:
    """Without GPUs there is no table of them."""
    on_cpu = replace(replica("chat-0", 2 * GIB), gpus=(), vram_bytes=None)
    plan = Plan(profile="p", watchdog=WatchdogSettings(), replicas=(on_cpu,))

    assert text(planned.planned(plan, Inventory())) == [
        "replica  engine     gpu  port  vram    ram  swap  image or program",
        "chat-0   llama.cpp  cpu  8081     -  2 GiB     -  server:cuda",
        "",
        "1 replica: RAM limits add up to 2 GiB",
    ]
