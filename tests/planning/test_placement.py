"""Which GPUs each replica gets."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.errors import PlanRefused
from gpuctl.model import ExpectedGpus, GpuIdentity, Plan

from .make import gpu, host, planned, workload


def placed(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {r.name: tuple(g.uuid.removeprefix("GPU-000") for g in r.gpus) for r in plan.replicas}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"gpus": "none"}, {"chat-0": ()}, id="on the CPU"),
        pytest.param(
            {"gpus": "none", "replicas": 2}, {"chat-0": (), "chat-1": ()}, id="two on the CPU"
        ),
        pytest.param(
            {"gpus": "each"},
            {"chat-0": ("0",), "chat-1": ("1",), "chat-2": ("2",), "chat-3": ("3",)},
            id="one on each",
        ),
        pytest.param(
            {"gpus": ((2,), (0,))}, {"chat-0": ("2",), "chat-1": ("0",)}, id="in the order written"
        ),
        pytest.param({"gpus": ((2, 3),)}, {"chat-0": ("2", "3")}, id="one on two"),
        pytest.param({"gpus": (("GPU-0001",),)}, {"chat-0": ("1",)}, id="by UUID"),
        pytest.param(
            {"gpus": ((0,), (1,)), "replicas_per_gpu": 2},
            {"chat-0": ("0",), "chat-1": ("0",), "chat-2": ("1",), "chat-3": ("1",)},
            id="two on each of two",
        ),
    ],
)
def test_placed(changes: dict[str, Any], expected: dict[str, tuple[str, ...]]) -> None:
    """Replicas are numbered over the workload, in the order of its GPUs."""
    assert placed(planned(workload(**changes))) == expected


def test_each_leaves_the_reserve_alone() -> None:
    """A GPU in reserve runs nothing until another is avoided."""
    plan = planned(workload(), reserve=(1, "GPU-0003"))
    assert placed(plan) == {"chat-0": ("0",), "chat-1": ("2",)}
    assert plan.reserve == (gpu(1), gpu(3))


@pytest.mark.parametrize(
    ("gpus", "reserve", "message"),
    [
        pytest.param(((9,),), (), "GPU 9 is not on this host, which has 0 to 3$", id="index"),
        pytest.param((("GPU-x",),), (), "GPU GPU-x is not on this host", id="UUID"),
        pytest.param(((0, "GPU-0000"),), (), "GPU 0 is named twice", id="twice, by two names"),
        pytest.param(((0,), (0,)), (), "GPU 0 is named in two groups", id="two groups"),
        pytest.param(((0, 1),), (1,), "GPU 1 is in reserve", id="reserve"),
        pytest.param(
            "each", (0, 1, 2, 3), "place it on: every one is in reserve", id="all in reserve"
        ),
    ],
)
def test_refused(gpus: Any, reserve: tuple[int, ...], message: str) -> None:
    """A placement that cannot be is refused, in words that name the key and the GPU."""
    with pytest.raises(PlanRefused, match=message):
        planned(workload(gpus=gpus), reserve=reserve)


def test_reserve_is_not_there() -> None:
    """A reserve that does not exist would fail when it is needed."""
    with pytest.raises(PlanRefused, match=r"host\.reserve: GPU 7 is not on this host"):
        planned(workload(), reserve=(7,))


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        pytest.param(
            ExpectedGpus(count=5, name="p106"), "host.gpus: 5x p106 expected, 4 found", id="fewer"
        ),
        pytest.param(
            ExpectedGpus(count=1, name="A100"), "host.gpus: 1x A100 expected, 0 found", id="others"
        ),
        pytest.param(ExpectedGpus(count=8), "host.gpus: 8 expected, 4 found", id="any name"),
    ],
)
def test_expected(expected: ExpectedGpus, message: str) -> None:
    """Fewer GPUs than the profile counts on refuse `up`, and those found are listed."""
    with pytest.raises(PlanRefused, match=message) as refusal:
        planned(workload(), gpus=(expected,))
    assert refusal.value.message.endswith(": this host has 4x P106-100")
    assert "`gpuctl gpus`" in refusal.value.hint


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        pytest.param((gpu(0), gpu(2), gpu(3)), "0, 2, 3", id="with a gap"),
        pytest.param((gpu(0), gpu(1)), "0, 1", id="two"),
        pytest.param((), "none", id="none"),
    ],
)
def test_what_there_is(on: tuple[GpuIdentity, ...], expected: str) -> None:
    """Who names a GPU that is not there is told which are."""
    with pytest.raises(PlanRefused, match=f"GPU 9 is not on this host, which has {expected}$"):
        planned(workload(gpus=((9,),)), on=host(on))


def test_more_than_expected() -> None:
    """More GPUs than expected are no mistake."""
    assert planned(workload(), gpus=(ExpectedGpus(count=3),)).expected_gpus == 3


def test_no_gpu_at_all() -> None:
    """A host without a GPU is told what to write instead."""
    with pytest.raises(PlanRefused, match="this host has none") as refusal:
        planned(workload(), on=host(0))
    assert 'gpus = "none"' in refusal.value.hint


def test_a_gpu_is_gone_and_the_daemon_goes_on() -> None:
    """Replicas keep their names and numbers on a GPU that is missing, and it is named."""
    plan = planned(
        workload(),
        workload("embed", port=9001, gpus=((7,), ("GPU-x",))),
        gpus=(ExpectedGpus(count=5),),
        strict=False,
    )
    assert placed(plan) == {
        "chat-0": ("0",),
        "chat-1": ("1",),
        "chat-2": ("2",),
        "chat-3": ("3",),
        "chat-4": ("missing:4",),
        "embed-0": ("missing:7",),
        "embed-1": ("GPU-x",),
    }
    assert plan.missing_gpus == ("4", "7", "GPU-x")
    assert [g.uuid for g in plan.gpus[4:]] == ["missing:4", "missing:7", "GPU-x"]
    assert any("host.gpus: 5 expected, 4 found" in warning for warning in plan.warnings)


def test_a_missing_gpu_is_no_excuse() -> None:
    """What the profile itself has wrong is refused for a daemon too."""
    with pytest.raises(PlanRefused, match="GPU GPU-x is in reserve"):
        planned(workload(gpus=(("GPU-x",),)), reserve=("GPU-x",), strict=False)
