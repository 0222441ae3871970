"""Whether the host can carry the profile, judged both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.diagnosis import Facts
from gpuctl.diagnosis.facts import (
    FileFacts,
    FilesFacts,
    ImageFacts,
    PortFacts,
    Step,
    Unread,
    Wanted,
)
from gpuctl.model import GIB, MIB, Ulimit
from tests import make
from tests.diagnosis.make import (
    DOCKER,
    IMAGE,
    SYSTEM,
    finding,
    host,
    judged,
    model,
    plan_of,
    replica,
    secret,
    wanted,
)

FREE = PortFacts(number=8081, owner="llm-0", state="free")
TAKEN = PortFacts(number=8081, owner="llm-0", state="taken", holder="nginx (pid 812)")


def planned(**changes: Any) -> Facts:
    """The host with one replica whose spec is changed."""
    return host(wanted=wanted(replica(**changes)))


def system(facts: Facts, **changes: Any) -> Facts:
    return replace(facts, system=replace(SYSTEM, **changes))


def models(*files: FileFacts, **changes: Any) -> Facts:
    return host(files=FilesFacts(models=files), **changes)


def with_mode(mode: int, **changes: Any) -> FileFacts:
    """The model with this mode, owned by root, or by who *owner* says."""
    uid, gid = changes.pop("owner", (0, 0))
    steps = (
        Step(path="/models", uid=0, gid=0, mode=changes.pop("folder", 0o755)),
        Step(path="/models/m.gguf", uid=uid, gid=gid, mode=mode),
    )
    return model(steps=steps, **changes)


def as_processes(**changes: Any) -> Facts:
    return host(wanted=wanted(replica(**changes), runtime="process"))


def test_one_replica_is_not_several() -> None:
    """The plan is counted as people count."""
    assert finding(host(), "plan").message.endswith(": 1 replica")


LOCKING: dict[str, Any] = {"command": ("-m", "x.gguf", "--load-mode", "mlock")}
SWAPPING: dict[str, Any] = {"memory_bytes": 8 * GIB, "memory_swap_bytes": 12 * GIB}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(host(wanted=None), ("plan", "skip", "not_applicable"), id="no profile"),
        pytest.param(
            host(wanted=wanted(plan=None, mistakes=(("chat: no", "do"),))),
            ("plan", "fail", "plan_refused"),
            id="refused",
        ),
        pytest.param(host(wanted=wanted(plan=None)), ("plan", "skip", "no_answer"), id="unplanned"),
        pytest.param(
            host(wanted=wanted(plan=plan_of(warnings=("tight",)))),
            ("plan", "warn", "plan_warning"),
            id="with a warning",
        ),
        pytest.param(host(ports=(TAKEN,)), ("ports", "fail", "port_taken"), id="taken"),
        pytest.param(
            host(ports=(replace(FREE, state="ours"), FREE)), ("ports", "ok", "ok"), id="our own"
        ),
        pytest.param(host(ports=()), ("ports", "skip", "not_applicable"), id="no ports"),
        pytest.param(
            planned(memory_bytes=200 * GIB), ("memory", "warn", "memory_overcommitted"), id="sum"
        ),
        pytest.param(planned(memory_bytes=None), ("memory", "ok", "ok"), id="no limits"),
        pytest.param(host(wanted=None), ("memory", "skip", "not_applicable"), id="nothing to add"),
        pytest.param(
            system(host(), memory_total_bytes=None),
            ("memory", "skip", "not_applicable"),
            id="RAM untold",
        ),
        pytest.param(planned(**SWAPPING), ("swap", "ok", "ok"), id="swap enough"),
        pytest.param(
            system(planned(**SWAPPING), swap_total_bytes=0),
            ("swap", "warn", "swap_short"),
            id="none",
        ),
        pytest.param(
            system(planned(**SWAPPING), swap_total_bytes=None), ("swap", "ok", "ok"), id="untold"
        ),
        pytest.param(
            replace(planned(**SWAPPING), docker=replace(DOCKER, swap_limit=False)),
            ("swap", "warn", "swap_not_counted"),
            id="swap not counted",
        ),
        pytest.param(
            replace(planned(**SWAPPING), docker=Unread(reason="absent")),
            ("swap", "ok", "ok"),
            id="no engine to count it",
        ),
        pytest.param(
            planned(shm_bytes=None), ("shared_memory", "warn", "shm_small"), id="Docker's default"
        ),
        pytest.param(
            as_processes(shm_bytes=None), ("shared_memory", "ok", "ok"), id="the host's own"
        ),
        pytest.param(
            system(as_processes(shm_bytes=None), shm_total_bytes=64 * MIB),
            ("shared_memory", "warn", "shm_small"),
            id="the host's own is small",
        ),
        pytest.param(
            host(wanted=wanted(make.replica())),
            ("shared_memory", "skip", "not_applicable"),
            id="one GPU each",
        ),
        pytest.param(planned(**LOCKING), ("locked_memory", "ok", "ok"), id="locks, no limit"),
        pytest.param(
            system(planned(**LOCKING), locked_memory_limit=8 * MIB),
            ("locked_memory", "warn", "memlock_limited"),
            id="locks, limited",
        ),
        pytest.param(
            system(
                planned(**LOCKING, ulimits=(Ulimit(name="memlock", soft=-1, hard=-1),)),
                locked_memory_limit=8 * MIB,
            ),
            ("locked_memory", "ok", "ok"),
            id="locks, its own limit",
        ),
        pytest.param(models(model(there=False)), ("models", "fail", "model_missing"), id="missing"),
        pytest.param(models(model(there=None)), ("models", "skip", "no_permission"), id="hidden"),
        pytest.param(models(), ("models", "skip", "not_applicable"), id="a hub's name"),
        pytest.param(
            models(with_mode(0o600)), ("models", "fail", "model_unreadable"), id="closed to others"
        ),
        pytest.param(
            models(with_mode(0o640, owner=(0, 7))), ("models", "ok", "ok"), id="by its group"
        ),
        pytest.param(
            models(with_mode(0o604, owner=(0, 7))),
            ("models", "fail", "model_unreadable"),
            id="not by its group",
        ),
        pytest.param(
            models(with_mode(0o400, owner=(7, 0))), ("models", "ok", "ok"), id="by its owner"
        ),
        pytest.param(
            models(with_mode(0o644, folder=0o700)),
            ("models", "fail", "model_unreadable"),
            id="folder closed",
        ),
        pytest.param(
            models(with_mode(0o600, privileged=True)), ("models", "ok", "ok"), id="reads all"
        ),
        pytest.param(
            models(with_mode(0o600, user=None, owner=(1000, 1000))),
            ("models", "fail", "model_unreadable"),
            id="a root without capabilities",
        ),
        pytest.param(
            models(
                with_mode(0o600, user=None),
                docker=replace(
                    DOCKER, images={IMAGE: ImageFacts(architecture="amd64", user="vllm")}
                ),
            ),
            ("models", "ok", "ok"),
            id="an image's own user",
        ),
        pytest.param(
            models(with_mode(0o600, user=None), docker=replace(DOCKER, images={})),
            ("models", "ok", "ok"),
            id="the image is not here",
        ),
        pytest.param(
            models(with_mode(0o600, user=None), docker=Unread(reason="absent")),
            ("models", "ok", "ok"),
            id="nobody to ask for the user",
        ),
        pytest.param(
            models(with_mode(0o600), docker=replace(DOCKER, remapped=True)),
            ("models", "ok", "ok"),
            id="users of another name space",
        ),
        pytest.param(
            models(with_mode(0o600), docker=Unread(reason="absent")),
            ("models", "fail", "model_unreadable"),
            id="a user that is told, and no engine",
        ),
        pytest.param(
            host(files=FilesFacts(secrets=(secret(0o640),))),
            ("secrets", "warn", "secret_open"),
            id="an open secret",
        ),
        pytest.param(
            host(files=FilesFacts(secrets=(secret(there=False),))),
            ("secrets", "fail", "secret_missing"),
            id="no secret",
        ),
        pytest.param(
            host(files=FilesFacts(secrets=(secret(steps=()),))),
            ("secrets", "ok", "ok"),
            id="unseen",
        ),
        pytest.param(
            host(files=FilesFacts(programs={"llama-server": None})),
            ("programs", "fail", "program_missing"),
            id="no program",
        ),
        pytest.param(
            host(files=FilesFacts(programs={"llama-server": "/usr/bin/llama-server"})),
            ("programs", "ok", "ok"),
            id="a program",
        ),
    ],
)
def test_the_profile_on_this_host(facts: Facts, expected: tuple[str, str, str]) -> None:
    """What a start would fall over, found before it."""
    assert judged(facts, expected[0]) == [expected]


def test_who_has_a_port() -> None:
    """The holder is named where it may be seen, and is owned up to where not."""
    assert finding(host(ports=(TAKEN,)), "ports").message == (
        "8081 for llm-0 is taken by nginx (pid 812)"
    )
    unseen = finding(host(ports=(replace(TAKEN, holder=""),)), "ports")
    assert unseen.message == "8081 for llm-0 is taken by somebody this user may not see"


def test_a_missing_model_comes_with_what_fetches_it() -> None:
    """The command is the whole one, where somebody knows it; a secret has none."""
    known = models(model(there=False, fetch="gpuctl models pull demo --to /models"))
    assert finding(known, "models").fix == (
        "fetch it with `gpuctl models pull demo --to /models`, or correct the profile"
    )
    assert finding(models(model(there=False)), "models").fix == (
        "put it there, or correct the profile"
    )


def test_ports_without_a_plan() -> None:
    """Only the ports that the profile tells by itself were looked at, and that is said."""
    free = (FREE, replace(FREE, number=4000, owner="the gateway"))
    unplanned = wanted(plan=None, mistakes=(("m", "h"),))
    assert finding(host(ports=free), "ports").message == "2 free, 0 held by gpuctl"
    found = finding(host(ports=free, wanted=unplanned), "ports")
    assert (found.level, found.message) == (
        "ok",
        "2 free, 0 held by gpuctl; without a plan, of each workload only what it surely has",
    )
    taken = host(ports=(TAKEN,), wanted=unplanned)
    assert judged(taken, "ports") == [("ports", "fail", "port_taken")]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        pytest.param(None, "no profile, so no ports are known", id="none"),
        pytest.param(
            Wanted(source="p.toml", mistakes=(("m", "h"),)),
            "the profile has mistakes, so no ports are known",
            id="broken",
        ),
    ],
)
def test_no_ports_to_look_at(asked: Wanted | None, message: str) -> None:
    """Nothing was looked at, and why is said: it is not `ok`."""
    found = finding(host(ports=(), wanted=asked), "ports")
    assert (found.level, found.message) == ("skip", message)


def test_the_first_closed_step_is_the_one_to_open() -> None:
    """A file below a closed directory: the directory is named, with what lets its reader in."""
    found = finding(models(with_mode(0o600, folder=0o700)), "models")
    assert (
        found.message == "workloads.llm: uid 7 of the container may not enter /models (mode 0700)"
    )
    assert found.fix == "sudo chmod a+x /models"
    last = finding(models(with_mode(0o600)), "models")
    assert last.fix == "sudo chmod a+r /models/m.gguf"
