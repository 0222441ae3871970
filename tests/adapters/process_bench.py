"""Real processes of the process runtime, and what the tests of it share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.adapters.process import ProcessRuntime, launch, records, shim
from gpuctl.model import ContainerSpec
from tests.adapters.runtime_bench import Bench, marked
from tests.rig.images import REPOSITORY
from tests.rig.waiting import wait_for

#: So often a watcher looks at what another client of the directory did.
RESCAN_SECONDS = 0.05

SIMULATOR = (sys.executable, "-IS", str(REPOSITORY / "tests" / "rig" / "gpusim.py"))


def simulator(port: int) -> ContainerSpec:
    command = (*SIMULATOR, "--host", "127.0.0.1", "--port", str(port))
    return ContainerSpec(image="", command=command, host_port=port, container_port=port)


def shell(script: str, **fields: object) -> ContainerSpec:
    spec = ContainerSpec(image="", command=("sh", "-c", script), host_port=0, container_port=0)
    return replace(spec, **fields)  # type: ignore[arg-type]


def bench_in(root: Path) -> Bench:
    runtime = ProcessRuntime(root, units=False)

    def foreign() -> str:
        """Run something in the very directory that does not have our label."""
        stranger = runtime.create("stranger", shell("exec sleep 600"), {})
        launch.launch(root / stranger, records.read(root / stranger), unit=False)
        wait_for(lambda: alive(stranger), "the stranger")
        return stranger

    def alive(stranger: str) -> bool:
        run = records.read_run(root / stranger)
        return run is not None and run.going()

    return Bench(
        client=lambda: ProcessRuntime(root, units=False, rescan_seconds=RESCAN_SECONDS),
        spec=simulator,
        broken=replace(shell(""), command=("/no-such-program",)),
        foreign=foreign,
        alive=alive,
    )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    root = tmp_path / "processes"
    made = bench_in(root)
    yield made
    made.close()
    for directory in records.directories(root):
        run = records.read_run(directory)
        if run is not None:
            for identity in (run.engine, run.shim):
                if identity.alive(zombie=False):
                    os.kill(identity.pid, signal.SIGKILL)
    made.runtime.close()


def run(bench: Bench, spec: ContainerSpec) -> str:
    """Create and start *spec*; return its id."""
    container = bench.runtime.create("gpuctl-shell-0", spec, marked("shell-0"))
    bench.runtime.start(container)
    return container


def directory(bench: Bench, container: str) -> Path:
    return Path(bench.runtime.identity()) / container


def shim_of(bench: Bench, container: str) -> int:
    found = records.read_run(directory(bench, container))
    assert found is not None
    return found.shim.pid


def exists(pid: int) -> bool:
    found = shim.start_ticks(pid)
    return found is not None and found[1] != "Z"
