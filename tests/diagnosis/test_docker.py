"""The container toolkit and the Docker Engine, judged both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.diagnosis import Facts
from gpuctl.diagnosis.facts import (
    CdiFacts,
    DaemonJson,
    DockerFacts,
    DriverFacts,
    ImageFacts,
    ToolkitFacts,
    Unread,
)
from gpuctl.model import HostSettings
from tests.diagnosis.make import (
    CDI,
    CDI_SPEC,
    CONFIG,
    DOCKER,
    DRIVER_FACTS,
    IMAGE,
    TOOLKIT,
    bare,
    finding,
    gpu,
    host,
    judged,
    wanted,
)

#: A profile without GPUs, on a host that has some.
PROFILE = wanted().profile
assert PROFILE is not None
CPU = wanted(
    profile=replace(
        PROFILE,
        host=HostSettings(name="rack"),
        workloads=(replace(PROFILE.workloads[0], gpus="none"),),
    )
)
OLD = replace(DOCKER, cdi_directories=())


def docker(**changes: Any) -> Facts:
    return host(docker=replace(DOCKER, **changes))


def spec(**changes: Any) -> Facts:
    return host(cdi=replace(CDI, specs=(replace(CDI_SPEC, **changes),)))


def by_cdi(docker: str = "29.0.0", cdi_hook: str | None = "/usr/bin/nvidia-cdi-hook") -> Facts:
    """The host without links in /dev/char, where only CDI keeps its GPUs in its containers."""
    return host(
        docker=replace(DOCKER, version=docker),
        toolkit=replace(TOOLKIT, cdi_hook=cdi_hook),
        driver=replace(DRIVER_FACTS, char_links=False),
    )


def config(**changes: Any) -> Facts:
    return docker(config=replace(CONFIG, **changes))


def away(reason: str, runtime: str | None = "docker", **changes: Any) -> Facts:
    """The engine does not answer; the profile asks for it, leaves it open, or is not there."""
    unread = Unread(reason=reason, message="cannot ask the Docker Engine")
    if runtime is None:
        return host(docker=unread, wanted=None)
    assert PROFILE is not None
    settings = replace(PROFILE.host, runtime=runtime)  # type: ignore[arg-type]
    asked = wanted(profile=replace(PROFILE, host=settings), runtime=runtime, **changes)
    return host(docker=unread, wanted=asked)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(
            host(toolkit=ToolkitFacts()), ("toolkit", "fail", "toolkit_missing"), id="no toolkit"
        ),
        pytest.param(
            host(toolkit=ToolkitFacts(runtime="/r"), docker=Unread(reason="absent")),
            ("toolkit", "ok", "ok"),
            id="a runtime, and no engine to ask",
        ),
        pytest.param(
            host(toolkit=ToolkitFacts(), docker=replace(OLD, runtimes=("nvidia", "runc"))),
            ("toolkit", "ok", "ok"),
            id="a runtime by configuration",
        ),
        pytest.param(
            host(toolkit=ToolkitFacts(cdi_hook="/h")), ("toolkit", "ok", "ok"), id="CDI with a hook"
        ),
        pytest.param(
            host(toolkit=ToolkitFacts(cdi_hook="/h"), docker=OLD),
            ("toolkit", "fail", "toolkit_missing"),
            id="a CDI hook, and an engine without CDI",
        ),
        pytest.param(
            host(toolkit=ToolkitFacts(cdi_hook="/h"), docker=replace(DOCKER, version="28.2.2")),
            ("toolkit", "fail", "toolkit_missing"),
            id="a CDI hook, and an engine that does not ask for it",
        ),
        pytest.param(
            host(toolkit=replace(TOOLKIT, version=(1, 17, 7))),
            ("toolkit", "warn", "toolkit_old"),
            id="a version with a hole",
        ),
        pytest.param(
            host(toolkit=replace(TOOLKIT, version=(1, 17, 8))), ("toolkit", "ok", "ok"), id="mended"
        ),
        pytest.param(host(wanted=CPU), ("toolkit", "skip", "not_applicable"), id="CPU only"),
        pytest.param(host(wanted=CPU), ("cdi", "skip", "not_applicable"), id="CDI, CPU only"),
        pytest.param(
            host(docker=OLD), ("cdi", "skip", "not_applicable"), id="an engine without CDI"
        ),
        pytest.param(
            replace(spec(names=("GPU-0",)), docker=replace(DOCKER, version="28.2.2")),
            ("cdi", "skip", "not_applicable"),
            id="an engine that reads CDI, and asks the hook",
        ),
        pytest.param(
            host(docker=Unread(reason="absent")), ("cdi", "skip", "not_applicable"), id="no engine"
        ),
        pytest.param(
            host(cdi=replace(CDI, specs=())), ("cdi", "warn", "cdi_missing"), id="no specification"
        ),
        pytest.param(
            host(cdi=replace(CDI, unreadable=("/etc/cdi/x.yaml",))),
            ("cdi", "warn", "cdi_unreadable"),
            id="not readable",
        ),
        pytest.param(
            spec(names=("0", "1", "all")), ("cdi", "fail", "cdi_without_uuids"), id="no UUIDs"
        ),
        pytest.param(spec(names=("GPU-0",)), ("cdi", "fail", "cdi_stale"), id="a card is new"),
        pytest.param(
            spec(driver_version="570.1"), ("cdi", "fail", "cdi_other_driver"), id="driver upgraded"
        ),
        pytest.param(spec(driver_version=None), ("cdi", "ok", "ok"), id="driver not told"),
        pytest.param(
            replace(spec(driver_version="570.1"), driver=Unread(reason="absent")),
            ("cdi", "ok", "ok"),
            id="no driver to compare with",
        ),
        pytest.param(
            replace(spec(names=("0",)), gpus=Unread(reason="no_answer")),
            ("cdi", "ok", "ok"),
            id="no cards to compare with",
        ),
    ],
)
def test_how_a_container_gets_a_gpu(facts: Facts, expected: tuple[str, str, str]) -> None:
    """One of three ways must be open, and what CDI says must be what is there."""
    assert judged(facts, expected[0]) == [expected]


def test_a_stale_specification_says_its_age_and_the_card() -> None:
    """Age and names stand in the sentence, and the command that writes it anew is the fix."""
    found = finding(spec(names=("GPU-0",)), "cdi")
    assert found.message == "/etc/cdi/nvidia.yaml, 1 h old, does not name GPU-1"
    assert found.fix == "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(
            away("no_permission"), ("engine", "fail", "docker_denied"), id="the socket is not ours"
        ),
        pytest.param(away("no_answer"), ("engine", "fail", "docker_silent"), id="hung"),
        pytest.param(away("absent"), ("engine", "fail", "docker_absent"), id="none listens"),
        pytest.param(
            away("absent", "auto"), ("engine", "warn", "docker_absent"), id="none, and none needed"
        ),
        pytest.param(
            away("absent", "auto", in_docker_only=("llm",)),
            ("engine", "fail", "docker_absent"),
            id="none, and one needed",
        ),
        pytest.param(
            away("no_permission", None), ("engine", "warn", "docker_denied"), id="no profile"
        ),
        pytest.param(
            away("absent", "process"), ("engine", "skip", "not_applicable"), id="processes"
        ),
        pytest.param(docker(api_version="1.40"), ("engine", "fail", "docker_old"), id="19.03"),
        pytest.param(docker(api_version="1.41"), ("engine", "ok", "ok"), id="20.10"),
        pytest.param(away("simulated"), ("engine", "skip", "simulated"), id="simulated"),
        pytest.param(docker(rootless=True), ("engine", "ok", "ok"), id="rootless answers"),
        pytest.param(
            host(docker=OLD, driver=replace(DRIVER_FACTS, char_links=False)),
            ("daemon_reload", "warn", "daemon_reload_trap"),
            id="systemd cgroups, no CDI, no links",
        ),
        pytest.param(
            host(docker=OLD, driver=DriverFacts(char_links=True)),
            ("daemon_reload", "warn", "daemon_reload_trap"),
            id="links to nothing",
        ),
        pytest.param(host(docker=OLD), ("daemon_reload", "ok", "ok"), id="links in /dev/char"),
        pytest.param(
            host(docker=replace(OLD, cgroup_driver="cgroupfs"), driver=DriverFacts()),
            ("daemon_reload", "ok", "ok"),
            id="cgroupfs",
        ),
        pytest.param(
            host(cdi=CdiFacts(), driver=DriverFacts()),
            ("daemon_reload", "warn", "daemon_reload_trap"),
            id="CDI without a specification",
        ),
        pytest.param(
            host(cdi=Unread(reason="no_answer"), driver=DriverFacts()),
            ("daemon_reload", "warn", "daemon_reload_trap"),
            id="CDI unread",
        ),
        pytest.param(
            by_cdi(docker="28.2.2"),
            ("daemon_reload", "warn", "daemon_reload_trap"),
            id="CDI, and an engine that asks the hook all the same",
        ),
        pytest.param(
            by_cdi(docker="unknown"),
            ("daemon_reload", "warn", "daemon_reload_trap"),
            id="CDI, and an engine of no version",
        ),
        pytest.param(
            by_cdi(cdi_hook=None),
            ("daemon_reload", "warn", "daemon_reload_trap"),
            id="CDI, and no hook for it",
        ),
        pytest.param(
            replace(by_cdi(), toolkit=Unread(reason="no_answer")),
            ("daemon_reload", "warn", "daemon_reload_trap"),
            id="CDI, and nobody knows with which hook",
        ),
        pytest.param(by_cdi(), ("daemon_reload", "ok", "ok"), id="devices come by CDI"),
        pytest.param(
            host(wanted=CPU), ("daemon_reload", "skip", "not_applicable"), id="no GPU to lose"
        ),
        pytest.param(
            docker(live_restore=False), ("live_restore", "warn", "live_restore_off"), id="off"
        ),
        pytest.param(docker(storage_driver="vfs"), ("storage", "warn", "storage_driver"), id="vfs"),
        pytest.param(
            config(log_max_size=False), ("logs", "warn", "logs_unbounded"), id="logs without end"
        ),
        pytest.param(docker(logging_driver="local"), ("logs", "ok", "ok"), id="local logs"),
        pytest.param(
            config(broken="no JSON"), ("logs", "skip", "not_applicable"), id="logs unknown"
        ),
        pytest.param(
            docker(config=Unread(reason="no_permission")),
            ("logs", "skip", "no_permission"),
            id="logs, file closed",
        ),
        pytest.param(
            config(broken="no JSON"),
            ("configuration", "fail", "daemon_json_broken"),
            id="broken file",
        ),
        pytest.param(config(there=False), ("configuration", "ok", "ok"), id="no file"),
        pytest.param(
            docker(config=Unread(reason="no_permission")),
            ("configuration", "skip", "no_permission"),
            id="closed file",
        ),
        pytest.param(docker(forwarding=False), ("loopback", "fail", "no_forwarding"), id="forward"),
        pytest.param(
            replace(config(userland_proxy=False)), ("loopback", "ok", "ok"), id="rules untold"
        ),
        pytest.param(
            docker(config=replace(CONFIG, userland_proxy=False), loopback_routed=False),
            ("loopback", "fail", "loopback_not_routed"),
            id="no proxy, no route",
        ),
        pytest.param(
            docker(config=replace(CONFIG, userland_proxy=False), loopback_routed=True),
            ("loopback", "ok", "ok"),
            id="rules of the kernel",
        ),
        pytest.param(
            docker(config=Unread(reason="absent"), loopback_routed=False),
            ("loopback", "ok", "ok"),
            id="proxy unknown",
        ),
        pytest.param(
            docker(default_runtime="nvidia"),
            ("default_runtime", "warn", "default_runtime_nvidia"),
            id="default runtime",
        ),
        pytest.param(docker(rootless=True), ("rootless", "warn", "rootless"), id="rootless"),
        pytest.param(
            docker(images={IMAGE: ImageFacts(architecture="arm64")}),
            ("images", "fail", "image_architecture"),
            id="an image of another architecture",
        ),
        pytest.param(
            docker(architecture="s390x", images={IMAGE: ImageFacts(architecture="s390x")}),
            ("images", "ok", "ok"),
            id="an architecture of one name",
        ),
        pytest.param(
            docker(images={IMAGE: ImageFacts(architecture="amd64", cuda_version=(14, 0))}),
            ("images", "fail", "image_cuda"),
            id="an image of a newer CUDA",
        ),
        pytest.param(
            docker(images={IMAGE: ImageFacts(architecture="amd64", cuda_version=(13, 9))}),
            ("images", "ok", "ok"),
            id="newer within its major",
        ),
        pytest.param(
            host(gpus=(bare(0), bare(1))), ("images", "ok", "ok"), id="CUDA of the driver untold"
        ),
        pytest.param(
            host(gpus=Unread(reason="no_answer")), ("images", "ok", "ok"), id="cards unread"
        ),
        pytest.param(docker(images={}), ("images", "skip", "not_applicable"), id="not here yet"),
    ],
)
def test_the_engine(facts: Facts, expected: tuple[str, str, str]) -> None:
    """Each setting that costs replicas their life, their GPUs or their disk is told."""
    assert judged(facts, expected[0]) == [expected]


def test_an_image_that_needs_a_newer_driver_says_both() -> None:
    """What the image needs, and what the driver serves."""
    images = {IMAGE: ImageFacts(architecture="amd64", cuda_version=(13, 0))}
    older = host(
        gpus=tuple(gpu(index, facts={"cuda_version": (12, 8)}) for index in (0, 1)),
        docker=replace(DOCKER, images=images),
    )
    assert finding(older, "images").message == (
        "engine:1 needs CUDA 13.0, and the driver serves 12.8"
    )


def test_the_engine_s_defaults_are_those_of_its_packages() -> None:
    """What a test leaves out is an engine as its packages set it up: live-restore is off."""
    plain = DockerFacts(version="29.2.0", api_version="1.53", config=DaemonJson(path="x"))
    assert [each for each in judged(host(docker=plain, wanted=CPU)) if each[1] == "warn"] == [
        ("live_restore", "warn", "live_restore_off"),
        ("logs", "warn", "logs_unbounded"),
    ]
