"""Caches in a Docker Engine: what was compiled is there for the next container of its kind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl import caches
from gpuctl.engines.llamacpp.options import COMPILED
from gpuctl.model import ContainerSpec
from tests.adapters.docker_bench import bench, simulator
from tests.adapters.runtime_contract import Bench, marked

__all__ = ["bench"]

pytestmark = pytest.mark.docker


def shell(script: str) -> ContainerSpec:
    """Return a container that runs a script, with a llama.cpp server's cache mounted."""
    spec = simulator(1)
    mounts = (*spec.mounts, *caches.mounts((COMPILED,)))
    return replace(spec, mounts=mounts, entrypoint=("/bin/sh", "-c", script), command=())


def ran(bench: Bench, name: str, script: str) -> int | None:
    container = bench.runtime.create(f"gpuctl-{name}", shell(script), marked(name))
    bench.runtime.start(container)
    return bench.ended(container).exit_code


def test_what_was_compiled_is_found_again(bench: Bench) -> None:
    """A container without any capability writes to the volume, and the one after it reads that."""
    file = f"{COMPILED.target}/kernel"
    assert ran(bench, "cache-0", f"echo compiled > {file}") == 0
    assert ran(bench, "cache-1", f'test "$(cat {file})" = compiled') == 0
