"""A request in, its Events out, or why not: `cordon`, `uncordon`, `failover`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.errors import NotFound, UsageError
from gpuctl.model import Event, GpuHealth
from gpuctl.moving import named, requested
from tests import make
from tests.moving_bench import CHAT, OTHER, ask, intent, present, refused


@pytest.mark.parametrize(
    ("verb", "subject", "arguments", "expected"),
    [
        pytest.param("cordon", "1", {}, intent("GPU-1", "cordon"), id="cordon"),
        pytest.param(
            "cordon",
            "GPU-1",
            {"note": "new fan"},
            intent("GPU-1", "cordon", note="new fan"),
            id="with-a-note",
        ),
        pytest.param("uncordon", "0", {"note": ""}, intent("GPU-0", "uncordon"), id="uncordon"),
        pytest.param(
            "failover",
            "chat",
            {"to": "cpu"},
            intent("chat", "failover", to="cpu", profile="test"),
            id="one",
        ),
        pytest.param("failover", "", {"to": "gpu"}, intent("", "failover", to="gpu"), id="back"),
    ],
)
def test_what_needs_no_place_is_one_event(
    verb: str, subject: str, arguments: dict[str, Any], expected: Event
) -> None:
    """The operator's intent, with who it was; a GPU is recorded by its UUID."""
    assert ask(verb, subject, **arguments) == [expected]


def test_a_gpu_that_is_found_well_is_so_with_what_it_had_counted() -> None:
    """Errors of before are no news afterwards, and only those."""
    health = GpuHealth(ecc_uncorrected_volatile=3)
    planned = tuple(make.identity(index) for index in range(4))
    gpus = [make.gpu(0, health=health), make.gpu(1, health=GpuHealth()), make.gpu(2)]
    at = replace(present(gpus=planned), now=make.snapshot(gpus=gpus))
    assert requested("uncordon", "0", {}, {}, at)[0].evidence == {"ecc_uncorrected": 3}
    assert requested("uncordon", "1", {}, {}, at)[0].evidence == {}
    assert requested("uncordon", "2", {}, {}, at)[0].evidence == {}
    assert requested("uncordon", "3", {}, {}, at)[0].evidence == {}
    assert requested("cordon", "0", {}, {}, at)[0].evidence == {}


ON_CPU = make.replica("chat-0", gpus=())
IN_PROFILE = (
    "'moon' is no replica or workload of the profile 'test'",
    "`gpuctl status` lists them",
)
ADD = 'add fallback = "cpu" to it in the profile, then `gpuctl up`'


@pytest.mark.parametrize(
    ("subject", "to", "fields", "expected"),
    [
        pytest.param(
            "",
            "moon",
            {},
            (
                UsageError,
                "failover goes to cpu or gpu, not 'moon'",
                "write `gpuctl failover cpu`, and `gpuctl failover gpu` to end it",
            ),
            id="nowhere",
        ),
        pytest.param("moon", "cpu", {}, (NotFound, *IN_PROFILE), id="unknown"),
        pytest.param(
            "other-0", "cpu", {}, (UsageError, "no fallback to the CPU: other", ADD), id="one"
        ),
        pytest.param(
            "",
            "cpu",
            {"workloads": (replace(CHAT, fallback=False), OTHER)},
            (UsageError, "no fallback to the CPU: chat, other", ADD),
            id="all",
        ),
        pytest.param(
            "",
            "cpu",
            {"replicas": (ON_CPU,)},
            (
                UsageError,
                "it runs on the CPU already",
                "`gpuctl status` shows what runs where",
            ),
            id="there-by-its-profile",
        ),
    ],
)
def test_a_failover_that_cannot_be_is_refused(
    subject: str, to: str, fields: dict[str, Any], expected: Any
) -> None:
    """By name."""
    assert refused("failover", subject, present(**fields), to=to) == expected


def test_in_an_emergency_what_may_goes_and_what_cannot_is_named() -> None:
    assert ask("failover", to="cpu") == [intent("", "failover", to="cpu", staying=("other",))]
    assert ask("failover", to="gpu") == [intent("", "failover", to="gpu")]


def test_what_is_on_the_cpu_for_want_of_a_gpu_may_be_told_to_stay() -> None:
    """It would go back by itself otherwise."""
    at = present(replicas=(replace(ON_CPU, on_cpu=True),))
    assert ask("failover", at=at, to="cpu") == [intent("", "failover", to="cpu")]


GPUS = ((0, "GPU-abcd-1"), (1, "GPU-abcd-2"), (2, "GPU-efgh-3"), (-1, "GPU-gone-4"))


@pytest.mark.parametrize(
    ("name", "uuid"),
    [
        pytest.param("0", "GPU-abcd-1", id="index"),
        pytest.param("GPU-abcd-2", "GPU-abcd-2", id="uuid"),
        pytest.param("abcd-2", "GPU-abcd-2", id="uuid-without-its-prefix"),
        pytest.param("GPU-efgh", "GPU-efgh-3", id="beginning"),
        pytest.param("efgh", "GPU-efgh-3", id="beginning-without-its-prefix"),
        pytest.param("gone", "GPU-gone-4", id="one-without-an-index"),
    ],
)
def test_a_gpu_has_several_names(name: str, uuid: str) -> None:
    """Its index, its UUID, or four characters of its UUID that no other has."""
    assert named(name, GPUS) == uuid


@pytest.mark.parametrize(
    ("name", "gpus", "message", "hint"),
    [
        pytest.param(
            "abcd",
            GPUS,
            "'abcd' is the beginning of several GPUs",
            "write more of it: GPU-abcd-1, GPU-abcd-2",
            id="of-several",
        ),
        pytest.param(
            "efg",
            GPUS,
            "no GPU is known by 'efg'",
            "there are 0, 1, 2; `gpuctl gpus` lists them",
            id="too-short",
        ),
        pytest.param(
            "-1",
            GPUS,
            "no GPU is known by '-1'",
            "there are 0, 1, 2; `gpuctl gpus` lists them",
            id="no-index",
        ),
        pytest.param(
            "0", (), "no GPU is known by '0'", "there are none; `gpuctl gpus` lists them", id="none"
        ),
    ],
)
def test_a_name_that_means_no_gpu_is_refused(
    name: str, gpus: Sequence[tuple[int, str]], message: str, hint: str
) -> None:
    """With those that there are."""
    with pytest.raises(NotFound) as caught:
        named(name, gpus)
    assert (caught.value.message, caught.value.hint) == (message, hint)
