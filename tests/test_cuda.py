"""The fit of image, driver and card: each cell of the table, both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl import cuda
from gpuctl.cuda import Build, Instead
from gpuctl.model import GpuIdentity
from gpuctl.plugin import Slot, Unfit

INSTEAD = Instead(cuda_12="project/image:12", minor=8, jit=lambda capability: capability < (8, 6))

P106 = GpuIdentity(index=0, uuid="GPU-0", name="NVIDIA P106-100", compute_capability=(6, 1))
V100 = GpuIdentity(index=0, uuid="GPU-0", name="Tesla V100", compute_capability=(7, 0))
T4 = GpuIdentity(index=0, uuid="GPU-0", name="Tesla T4", compute_capability=(7, 5))
A6000 = GpuIdentity(index=0, uuid="GPU-0", name="NVIDIA RTX A6000", compute_capability=(8, 6))
GAMES = GpuIdentity(
    index=0, uuid="GPU-0", name="NVIDIA GeForce RTX 3090", compute_capability=(8, 6)
)
UNKNOWN = GpuIdentity(index=0, uuid="GPU-0")

CUDA_12 = Build(platform="cuda", major=12, minor=8)
CUDA_12_OPEN = Build(platform="cuda", major=12)
CUDA_13 = Build(platform="cuda", major=13, minor=0)


def slot(
    gpu: GpuIdentity | None, driver: str | None, served: tuple[int, int] | None, **changes: Any
) -> Slot:
    values: dict[str, Any] = {"index": 0, "port": 1, "runtime": "docker"}
    values |= {"driver_version": driver, "cuda_version": served, "gpus": (gpu,) if gpu else ()}
    return Slot(**(values | changes))


def unfit(build: Build | None, where: Slot, **changes: Any) -> list[Unfit]:
    return list(cuda.unfit("project/image", build, where, replace(INSTEAD, **changes)))


@pytest.mark.parametrize(
    ("build", "where"),
    [
        pytest.param(CUDA_12, slot(A6000, "525.60.13", (12, 0)), id="12 on the oldest of 12"),
        pytest.param(CUDA_12, slot(A6000, "535.183.01", (12, 2)), id="12.8 on 12.2, own code"),
        pytest.param(CUDA_12, slot(T4, "535.183.01", (12, 2)), id="12.8 lifted, compiled"),
        pytest.param(CUDA_12, slot(P106, "570.86.15", (12, 8)), id="12.8 compiled by 12.8"),
        pytest.param(CUDA_12, slot(P106, "580.95.05", (13, 0)), id="12.8 compiled by 13"),
        pytest.param(CUDA_12, slot(GAMES, "570.86.15", (12, 8)), id="12.8 on GeForce with 12.8"),
        pytest.param(
            CUDA_12_OPEN, slot(A6000, "535.183.01", (12, 2)), id="12 of any minor, lifted"
        ),
        pytest.param(CUDA_12_OPEN, slot(GAMES, "575.57.08", (12, 9)), id="12 of any minor on 12.9"),
        pytest.param(CUDA_12_OPEN, slot(GAMES, "580.95.05", (13, 0)), id="12 of any minor on 13"),
        pytest.param(CUDA_12, slot(UNKNOWN, "535.183.01", (12, 2)), id="a card that is not known"),
        pytest.param(CUDA_13, slot(T4, "580.65.06", (13, 0)), id="13 on Turing"),
        pytest.param(CUDA_13, slot(A6000, "590.10", (13, 1)), id="13 on a newer driver"),
        pytest.param(CUDA_13, slot(A6000, None, None), id="no driver to judge"),
        pytest.param(CUDA_13, slot(A6000, "R580", None), id="a driver that is no number"),
        pytest.param(CUDA_13, slot(None, "535.183.01", (12, 2)), id="on the CPU"),
        pytest.param(Build(platform="rocm"), slot(None, None, None), id="of AMD's, on the CPU"),
        pytest.param(CUDA_13, slot(P106, "535.1", (12, 2), runtime="process"), id="a process"),
        pytest.param(Build(platform="cuda", major=14), slot(A6000, "580.1", None), id="CUDA 14"),
        pytest.param(None, slot(None, "535.183.01", (12, 2)), id="unknown image, on the CPU"),
        pytest.param(None, slot(A6000, "580.65.06", (13, 0)), id="unknown image, newest driver"),
        pytest.param(None, slot(P106, None, None), id="unknown image, unknown driver"),
    ],
)
def test_fits(build: Build | None, where: Slot) -> None:
    """What runs is let through, and what cannot be judged is not guessed."""
    assert unfit(build, where) == []


OTHER = 'use image = "project/image:12", which brings CUDA 12'


@pytest.mark.parametrize(
    ("build", "where", "what", "hint"),
    [
        pytest.param(
            CUDA_13,
            slot(A6000, "570.86.15", (12, 8)),
            "project/image brings CUDA 13, which needs driver 580 or newer, and this host has"
            " 570.86.15",
            f"{OTHER}, or update the driver to 580 or newer",
            id="13 on a driver of 12",
        ),
        pytest.param(
            CUDA_13,
            slot(A6000, "470.256.02", (11, 4)),
            "project/image brings CUDA 13, which needs driver 580 or newer, and this host has"
            " 470.256.02",
            "update the driver to 580 or newer",
            id="13 on a driver of 11",
        ),
        pytest.param(
            CUDA_12,
            slot(A6000, "525.60.12", (12, 0)),
            "project/image brings CUDA 12, which needs driver 525.60.13 or newer, and this host"
            " has 525.60.12",
            "update the driver to 525.60.13 or newer",
            id="12 on a driver just too old",
        ),
        pytest.param(
            CUDA_13,
            slot(P106, "580.95.05", (13, 0)),
            "project/image brings CUDA 13, which has dropped P106-100 (compute capability 6.1)",
            OTHER,
            id="13 on Pascal",
        ),
        pytest.param(
            CUDA_13,
            slot(V100, "580.95.05", (13, 0)),
            "project/image brings CUDA 13, which has dropped Tesla V100 (compute capability 7.0)",
            OTHER,
            id="13 on Volta",
        ),
        pytest.param(
            CUDA_12,
            slot(P106, "535.183.01", (12, 2)),
            "project/image has no code for P106-100 (compute capability 6.1) but what the driver"
            " compiles, and PTX of CUDA 12.8 is too new for it: this driver serves 12.2",
            "update the driver to one that serves CUDA 12.8",
            id="PTX that the driver cannot read",
        ),
        pytest.param(
            CUDA_12,
            slot(GAMES, "535.183.01", (12, 2)),
            "project/image asks for CUDA 12.8 on GeForce RTX 3090 (compute capability 8.6), and"
            " this driver serves 12.2",
            "update the driver to one that serves CUDA 12.8",
            id="GeForce on an older minor version",
        ),
        *(
            pytest.param(
                build,
                slot(A6000, "580.95.05", (13, 0)),
                f"project/image is built for {whom}, and the workload is on NVIDIA's",
                'use image = "project/image:12", or gpus = "none"',
                id=build.platform,
            )
            for build, whom in (
                (Build(platform="rocm"), "AMD's GPUs"),
                (Build(platform="cpu"), "the CPU"),
                (Build(platform="other"), "other devices"),
            )
        ),
    ],
)
def test_refused(build: Build, where: Slot, what: str, hint: str) -> None:
    """What cannot run is refused before anything is pulled, with what to use instead."""
    assert unfit(build, where) == [Unfit(key="image", what=what, hint=hint)]


@pytest.mark.parametrize(
    ("gpu", "driver", "served", "minor", "hints"),
    [
        pytest.param(
            GAMES, "535.183.01", (12, 2), 8, ["update the driver to 580 or newer"], id="GeForce"
        ),
        pytest.param(
            GAMES,
            "570.86.15",
            (12, 8),
            8,
            [f"{OTHER}, or update the driver to 580 or newer"],
            id="GeForce on a driver that serves it",
        ),
        pytest.param(
            GAMES,
            "535.183.01",
            (12, 2),
            None,
            [f"{OTHER}, or update the driver to 580 or newer"],
            id="GeForce, and nobody knows which 12 that is",
        ),
        pytest.param(
            P106,
            "535.183.01",
            (12, 2),
            8,
            [
                "update the driver to 580 or newer",
                f"{OTHER}, and update the driver to one that serves CUDA 12.8",
            ],
            id="Pascal, which needs both",
        ),
        pytest.param(
            V100,
            "525.60.12",
            (12, 0),
            8,
            [
                "update the driver to 580 or newer",
                f"{OTHER}, and update the driver to 525.60.13 or newer",
            ],
            id="Volta on a driver too old for either",
        ),
    ],
)
def test_what_is_named_instead_of_cuda_13_runs(
    gpu: GpuIdentity, driver: str, served: tuple[int, int], minor: int | None, hints: list[str]
) -> None:
    """An image that would be refused there as well is named with what it needs, or not at all."""
    assert [one.hint for one in unfit(CUDA_13, slot(gpu, driver, served), minor=minor)] == hints


@pytest.mark.parametrize(
    ("build", "where", "who"),
    [
        pytest.param(
            CUDA_12_OPEN,
            slot(GAMES, "535.183.01", (12, 2)),
            "GeForce RTX 3090 (compute capability 8.6), which this driver serves up to 12.2",
            id="of 12",
        ),
        pytest.param(
            Build(platform="cuda", major=13),
            slot(GAMES, "580.95.05", (13, 0)),
            "GeForce RTX 3090 (compute capability 8.6), which this driver serves up to 13.0",
            id="of 13",
        ),
    ],
)
def test_a_minor_version_that_is_not_known(build: Build, where: Slot, who: str) -> None:
    """On a card that older drivers do not serve newer minor versions on, that is said."""
    what = f"the name project/image does not tell which CUDA {build.major} is in it: whether it"
    assert unfit(build, where) == [
        Unfit(key="image", what=f"{what} runs on {who}, was not checked", hint="", warning=True)
    ]


@pytest.mark.parametrize(
    ("gpu", "driver", "who"),
    [
        pytest.param(A6000, "570.86.15", "driver 570.86.15", id="an older driver"),
        pytest.param(P106, "580.95.05", "P106-100 (compute capability 6.1)", id="an older card"),
    ],
)
def test_not_told(gpu: GpuIdentity, driver: str, who: str) -> None:
    """Where the name of an image does not tell its CUDA and it would matter, that is said."""
    what = f"the name project/image does not tell which CUDA is in it: whether {who} runs it was"
    assert unfit(None, slot(gpu, driver, None)) == [
        Unfit(key="image", what=f"{what} not checked", hint="", warning=True)
    ]


def test_of_equal_cards_it_is_said_once() -> None:
    """Two of a kind are one mistake."""
    where = replace(slot(GAMES, "535.183.01", (12, 2)), gpus=(GAMES, replace(GAMES, index=1)))
    assert len(unfit(CUDA_12, where)) == 1


def test_a_dropped_card_under_a_driver_that_is_not_known() -> None:
    """Nothing is said of a driver that nobody could read."""
    assert [one.hint for one in unfit(CUDA_13, slot(P106, None, None))] == [OTHER]


def test_no_image() -> None:
    """Where no image is named there is none to judge."""
    assert list(cuda.unfit("", None, slot(P106, "535.1", (12, 2)), INSTEAD)) == []


def test_forward_compatibility() -> None:
    """NVIDIA's libraries for older drivers serve cards of data centres, and none for games."""
    old = ("570.86.15", (12, 8))
    assert unfit(CUDA_13, slot(A6000, *old), forward=True) == []
    assert len(unfit(CUDA_13, slot(GAMES, *old), forward=True)) == 1


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        pytest.param("vllm/vllm-openai", ("vllm-openai", "latest"), id="no tag"),
        pytest.param("vllm/vllm-openai:v1", ("vllm-openai", "v1"), id="a tag"),
        pytest.param("host:5000/a/llama.cpp:server", ("llama.cpp", "server"), id="a mirror"),
        pytest.param("a/b:c@sha256:00", ("b", "c"), id="a digest"),
        pytest.param("local", ("local", "latest"), id="a bare name"),
    ],
)
def test_parts(image: str, parts: tuple[str, str]) -> None:
    """Repository and tag are told apart whatever registry is before them."""
    assert cuda.parts(image) == parts
