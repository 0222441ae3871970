"""What a container's own processes hold on its GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.model import GpuProcess, GpuReading
from tests import make

OWN = make.container()  # id c1, pid 100


def process(pid: int, used: int | None, container: str | None = None) -> GpuProcess:
    return GpuProcess(pid=pid, used_bytes=used, container=container)


@pytest.mark.parametrize(
    ("processes", "held"),
    [
        pytest.param([], 0, id="none"),
        pytest.param([process(7, 5, "c1"), process(8, 6, "c1")], 11, id="several-of-its-own"),
        pytest.param([process(100, 5)], 5, id="by-its-first-process"),
        pytest.param([process(100, 5, "c1")], 5, id="counted-once"),
        pytest.param([process(100, 5, "c2"), process(7, 6, "c1")], 11, id="a-pid-of-elsewhere"),
        pytest.param([process(7, 5, "c2"), process(8, 6)], 0, id="strangers"),
        pytest.param([process(7, 5, "c1"), process(8, None, "c1")], None, id="one-unreported"),
        pytest.param([process(7, 5, "c1"), process(8, None)], 5, id="a-stranger-unreported"),
        pytest.param(None, None, id="processes-unreported"),
    ],
)
def test_what_is_its_own(processes: list[GpuProcess] | None, held: int | None) -> None:
    """Its processes are known by the container they are in, or as its first process."""
    now = make.snapshot(OWN, gpus=[make.gpu(processes=processes)])
    assert now.vram_bytes(OWN, ("GPU-0",)) == held


def test_a_container_without_a_process_holds_what_is_named_after_it() -> None:
    """Where no pid is known, a process of no container is not taken for its own."""
    ended = make.container(pid=None)
    now = make.snapshot(ended, gpus=[make.gpu(processes=[process(7, 5), process(8, 6, "c1")])])
    assert now.vram_bytes(ended, ("GPU-0",)) == 6


@pytest.mark.parametrize(
    ("other", "held"),
    [
        pytest.param(make.gpu(1, processes=[process(9, 7, "c1")]), 12, id="both"),
        pytest.param(make.gpu(1, state="lost"), None, id="one-lost"),
        pytest.param(make.gpu(2), None, id="one-unread"),
    ],
)
def test_it_is_summed_over_its_gpus(other: GpuReading, held: int | None) -> None:
    """A replica on two GPUs holds what it holds on both, where both are read."""
    now = make.snapshot(OWN, gpus=[make.gpu(0, processes=[process(7, 5, "c1")]), other])
    assert now.vram_bytes(OWN, ("GPU-0", "GPU-1")) == held


def test_each_process_is_looked_at_once() -> None:
    """What asking for every container costs grows with them, not with their square."""
    looks = [0]

    class Counted(tuple[GpuProcess, ...]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            looks[0] += 1
            return super().__iter__()

    containers = [make.container(f"chat-{n}", f"c{n}", pid=n) for n in range(50)]
    crowded = replace(make.gpu(), processes=Counted(process(n, n, f"c{n}") for n in range(50)))
    now = make.snapshot(*containers, gpus=[crowded])
    assert [now.vram_bytes(each, ("GPU-0",)) for each in containers] == list(range(50))
    assert looks == [1]
