"""
`doctor` on the four hosts that ship, their GPUs read by the real NVML binding.

Everything but GPUs and plan is a host on which nothing is wrong, so that the whole list of
(check, level, reason) can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.nvml import NvmlGpus
from gpuctl.cli import host_facts
from gpuctl.cli.session import Session
from gpuctl.diagnosis import Facts
from gpuctl.diagnosis.facts import Unread
from tests.cli import fake_docker
from tests.diagnosis import make
from tests.diagnosis.make import judged
from tests.diagnosis.test_diagnosis import WELL
from tests.rig.nvml import FakeNvml

pytestmark = pytest.mark.nvml

HOSTS = ("p106x8", "a100x8", "a6000x2", "rtx3090")
Row = tuple[str, str, str]

SKIP, UNTOLD = ("skip", "not_applicable"), ("skip", "not_reported")
#: What every one of them has in common: no image is here yet.
COMMON: Mapping[str, tuple[str, str]] = {"images": SKIP}
NO_GROUP = {"peers": SKIP, "numa": SKIP, "shared_memory": SKIP}
#: Neither ECC nor anything that came after Pascal.
OLD = {name: UNTOLD for name in ("recovery", "memory_rows", "ecc", "mig")}
OWN: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "p106x8": {**NO_GROUP, **OLD, "pcie": ("warn", "pcie_narrow"), "swap": ("ok", "ok")},
    "a100x8": {},
    "a6000x2": {"ecc": UNTOLD, "mig": UNTOLD},
    "rtx3090": {
        **NO_GROUP,
        **{name: UNTOLD for name in ("memory_rows", "ecc", "mig")},
        "swap": ("ok", "ok"),
    },
}


def expected(host: str, **changes: tuple[str, str]) -> list[Row]:
    """Return the whole list of a host, with what a test expects otherwise."""
    other = {**COMMON, **OWN[host], **changes}
    return [(check, *other.get(check, (level, reason))) for check, level, reason in WELL]


class Bench:
    """One fake host, and the doctor's facts of it."""

    def __init__(self, host: str, folder: Path, session: Session, docker: Path) -> None:
        self.host, self._session, self._docker = host, session, docker
        self.fake = FakeNvml(host, folder)

    def facts(self) -> Facts:
        """Look at it as the program does; what is not of NVIDIA's is replaced by what is well."""
        with fake_docker.answering(self._docker, has_images=False):
            found = host_facts.gathered(self._session, self.host, lambda _line, _ratio: None)
        gpus = () if isinstance(found.gpus, Unread) else found.gpus
        told = next((gpu.facts.driver_version for gpu in gpus if gpu.facts is not None), None)
        version = told or make.DRIVER
        names = tuple(gpu.uuid for gpu in gpus) or ("GPU-0",)
        spec = replace(make.CDI_SPEC, names=names, driver_version=version, modified_at=found.at)
        return replace(
            found,
            driver=replace(make.DRIVER_FACTS, module_version=version, library_version=version),
            toolkit=make.TOOLKIT,
            cdi=replace(make.CDI, specs=(spec,)),
            docker=replace(make.DOCKER, images={}),
            disks=make.host().disks,
            ports=make.host().ports,
            files=make.host().files,
            system=make.SYSTEM,
            service=make.SERVICE,
        )


@pytest.fixture
def bench(
    tmp_path: Path, here: Session, docker: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Bench]:
    def make_bench(host: str) -> Bench:
        made = Bench(host, tmp_path, here, docker)
        environment = made.fake.environment()
        for name in ("LD_LIBRARY_PATH", "GPUCTL_FAKE_NVML"):
            monkeypatch.setenv(name, environment[name])
        return made

    return make_bench


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_as_it_ships(bench: Callable[[str], Bench], host: str) -> None:
    """Every check by its level and reason, on each of the four hosts."""
    assert judged(bench(host).facts()) == expected(host)


#: What is done to a card, and what the doctor says differently.
FAULTS: tuple[Any, ...] = (
    pytest.param(
        lambda fake: fake.lose(7),
        # Nothing was ever read of it, so it is none of the eight A100 that the plan needs.
        {
            "count": ("warn", "fewer_gpus"),
            "lost": ("fail", "gpu_lost"),
            "plan": ("fail", "plan_refused"),
            "memory": SKIP,
            **NO_GROUP,
        },
        id="a card off the bus",
    ),
    pytest.param(
        lambda fake: fake.set(1, remapped_rows_pending=True),
        {"memory_rows": ("warn", "rows_pending")},
        id="rows pending",
    ),
    pytest.param(
        lambda fake: fake.set(1, remapped_rows_failure=True),
        {"memory_rows": ("fail", "rows_failed")},
        id="no spare row",
    ),
    pytest.param(
        lambda fake: fake.set(1, recovery_action="gpu_reset"),
        {"recovery": ("fail", "recovery_action")},
        id="a reset asked for",
    ),
    pytest.param(
        lambda fake: fake.set(1, ecc_uncorrected_volatile=3),
        {"ecc": ("warn", "ecc_uncorrected")},
        id="uncorrected errors",
    ),
    pytest.param(
        lambda fake: fake.set(1, mig_enabled=True), {"mig": ("fail", "mig_enabled")}, id="MIG"
    ),
    pytest.param(
        lambda fake: fake.set(1, pcie_width=8), {"pcie": ("warn", "pcie_narrow")}, id="half a slot"
    ),
)


@pytest.mark.parametrize(("break_it", "changes"), FAULTS)
def test_a_fault_of_a_card(
    bench: Callable[[str], Bench],
    break_it: Callable[[FakeNvml], None],
    changes: dict[str, tuple[str, str]],
) -> None:
    """One thing is wrong, one line says so, and nothing else on the list moves."""
    made = bench("a100x8")
    break_it(made.fake)
    assert judged(made.facts()) == expected("a100x8", **changes)


def test_a_driver_of_another_version(bench: Callable[[str], Bench]) -> None:
    """NVML's code 18: the driver was upgraded and not reloaded, so nothing of a GPU is judged."""
    made = bench("a6000x2")
    made.fake.mismatch()
    found = judged(made.facts())
    unread = ("count", "lost", "recovery", "memory_rows", "ecc", "mig", "pcie", "peers", "numa")
    changed = {
        "nvml": ("fail", "version_mismatch"),
        **dict.fromkeys(unread, ("skip", "version_mismatch")),
        "plan": ("skip", "no_answer"),
        "memory": SKIP,
        "shared_memory": SKIP,
    }
    assert found == expected("a6000x2", **changed)


def test_a_card_that_is_gone(bench: Callable[[str], Bench]) -> None:
    """One of two is not listed: the count says so, and the plan that needed it."""
    made = bench("a6000x2")
    made.fake.remove(1)
    found = {(check, level, reason) for check, level, reason in judged(made.facts())}
    assert {("count", "fail", "fewer_gpus"), ("plan", "fail", "plan_refused")} <= found


def test_a_call_that_hangs(bench: Callable[[str], Bench]) -> None:
    """A driver that never answers is left behind at the deadline, and told as that."""
    made = bench("a100x8")
    made.fake.hang("nvmlDeviceGetMemoryInfo_v2")
    gpus = NvmlGpus(environment=made.fake.environment(), deadline_seconds=1.0)
    found = host_facts.read_gpus(gpus)
    assert isinstance(found, Unread)
    assert found.reason == "no_answer"
    facts = make.host(gpus=found)
    assert judged(facts, "nvml") == [("nvml", "fail", "no_answer")]
    made.fake.release()
