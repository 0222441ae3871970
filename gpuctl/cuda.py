"""
Which CUDA an image brings, and whether a driver and a card run it: found before anything is pulled.

An image is known by the name under which its project publishes it, whatever registry mirrors it;
what a name does not tell is a warning, never a guess. Pure; called by the engines' `fit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from gpuctl import cards
from gpuctl.model import GpuIdentity
from gpuctl.plugin import Slot, Unfit

#: The oldest driver for an image of each CUDA, by its major version.
#: Source: https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html and,
#: for the last figures of 525, https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/.
DRIVERS = {12: (525, 60, 13), 13: (580,)}

#: CUDA 13 compiles for Turing and newer only. Source: CUDA 13.0 release notes, "Deprecated
#: Architectures" (Maxwell, Pascal and Volta removed).
CUDA_13_CAPABILITY = (7, 5)

#: The last minor version that there will be, of a major version that is closed.
#: Source: https://developer.nvidia.com/cuda-toolkit-archive
_LAST_MINOR = {12: 9}

#: A driver from here on runs images of every CUDA there is, so an unknown one is no matter.
_NEWEST_DRIVER = DRIVERS[13]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What an image was built for, as far as its name tells."""

    platform: Literal["cuda", "rocm", "cpu", "other"]
    major: int | None = None  # of CUDA
    minor: int | None = None
    version: tuple[int, ...] | None = None  # of the engine in it

    @property
    def cuda(self) -> tuple[int, int] | None:
        """CUDA's version; `None` unless both parts are known."""
        if self.major is None or self.minor is None:
            return None
        return self.major, self.minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Instead:
    """What an engine has to offer where its image does not fit."""

    cuda_12: str  # its image for drivers before 580 ...
    minor: int | None = None  # ... and which CUDA 12 that brings
    #: Whether the image holds no code for such a card, so that the driver compiles it.
    jit: Callable[[cards.Capability], bool] = lambda _: False
    #: Whether the image brings NVIDIA's libraries for older drivers, and is told to use them.
    forward: bool = False


def parts(image: str) -> tuple[str, str]:
    """Return the last word of an image's repository, and its tag, `latest` where it has none."""
    name = image.partition("@")[0].rpartition("/")[2]
    repository, _, tag = name.partition(":")
    return repository, tag or "latest"


def numbers(version: str) -> tuple[int, ...]:
    """Return a driver's version as numbers; () where it is none."""
    found = version.split(".")
    return tuple(int(part) for part in found) if all(part.isdecimal() for part in found) else ()


def unfit(image: str, build: Build | None, slot: Slot, instead: Instead) -> Iterator[Unfit]:
    """Yield what stands between an image and the GPUs of a slot; `None` is an unknown image."""
    if slot.runtime == "process" or not image:
        return
    if build is None:
        yield from _untold(image, slot)
    elif not slot.gpus:
        return
    elif build.platform != "cuda":
        yield from _other_platform(image, build, instead)
    else:
        yield from _driver(image, build, slot, instead)
        # Of equal cards it is said once.
        yield from dict.fromkeys(_cards(image, build, slot, instead))


def _untold(image: str, slot: Slot) -> Iterator[Unfit]:
    """Yield a warning where the CUDA of an unknown image would matter to this driver or card."""
    old = [gpu for gpu in slot.gpus if (cards.capability(gpu) or (99, 0)) < CUDA_13_CAPABILITY]
    driver = numbers(slot.driver_version or "")
    if not slot.gpus or not driver or (driver >= _NEWEST_DRIVER and not old):
        return
    who = cards.shown(old[0]) if old else f"driver {slot.driver_version}"
    yield Unfit(
        key="image",
        what=f"the name {image} does not tell which CUDA is in it: whether {who} runs it was not"
        " checked",
        hint="",
        warning=True,
    )


def _other_platform(image: str, build: Build, instead: Instead) -> Iterator[Unfit]:
    names = {"rocm": "AMD's GPUs", "cpu": "the CPU", "other": "other devices"}
    yield Unfit(
        key="image",
        what=f"{image} is built for {names[build.platform]}, and the workload is on NVIDIA's",
        hint=f'use image = "{instead.cuda_12}", or gpus = "none"',
    )


def _driver(image: str, build: Build, slot: Slot, instead: Instead) -> Iterator[Unfit]:
    driver = numbers(slot.driver_version or "")
    least = DRIVERS.get(build.major or 0)
    if not driver or least is None or driver >= least:
        return
    if build.major == 13 and instead.forward and not any(map(cards.is_consumer, slot.gpus)):
        return
    what = (
        f"{image} brings CUDA {build.major}, which needs driver {cards.written(least)} or newer,"
        f" and this host has {slot.driver_version}"
    )
    update = _newer(least)
    other = f"{_brings_12(instead)}, or {update}"
    usable = build.major != 12 and not _lacking(slot, instead)
    yield Unfit(key="image", what=what, hint=other if usable else update)


def _cards(image: str, build: Build, slot: Slot, instead: Instead) -> Iterator[Unfit]:
    for gpu in slot.gpus:
        found = cards.capability(gpu)
        if build.major == 13 and found is not None and found < CUDA_13_CAPABILITY:
            lacking = _lacking(slot, instead)
            yield Unfit(
                key="image",
                what=f"{image} brings CUDA 13, which has dropped {cards.shown(gpu)}",
                hint=f"{_brings_12(instead)}, and {lacking}" if lacking else _brings_12(instead),
            )
            return
        yield from _older_cuda(image, build, slot, instead, gpu)


def _brings_12(instead: Instead) -> str:
    return f'use image = "{instead.cuda_12}", which brings CUDA 12'


def _newer(driver: tuple[int, ...]) -> str:
    return f"update the driver to {cards.written(driver)} or newer"


def _lacking(slot: Slot, instead: Instead) -> str:
    """Return what the image for CUDA 12 lacks on this host, "" where it runs."""
    driver = numbers(slot.driver_version or "")
    if driver and driver < DRIVERS[12]:
        return _newer(DRIVERS[12])
    build = Build(platform="cuda", major=12, minor=instead.minor)
    found = (
        unfit
        for gpu in slot.gpus
        for unfit in _older_cuda(instead.cuda_12, build, slot, instead, gpu)
    )
    return next((unfit.hint for unfit in found if not unfit.warning), "")


def _older_cuda(
    image: str, build: Build, slot: Slot, instead: Instead, gpu: GpuIdentity
) -> Iterator[Unfit]:
    """
    Yield why a driver of the right major version is still too old for a card for games or mining.

    Within a major version an older driver runs newer code, but does not compile it: PTX of a newer
    CUDA is refused. And NVIDIA's images ask the container toolkit for a driver of their own CUDA
    there. On other cards the images bring the libraries that lift the driver.
    Source: https://docs.nvidia.com/deploy/cuda-compatibility/ and `NVIDIA_REQUIRE_CUDA` of
    docker.io/nvidia/cuda.
    """
    served, wanted = slot.cuda_version, build.cuda
    if served is None or served[0] != build.major or not cards.is_consumer(gpu):
        return
    if wanted is None:
        yield from _open_minor(image, served, gpu)
        return
    if served >= wanted:
        return
    found = cards.capability(gpu)
    newer = f"update the driver to one that serves CUDA {cards.written(wanted)}"
    has = f"this driver serves {cards.written(served)}"
    if found is not None and instead.jit(found):
        what = f"{image} has no code for {cards.shown(gpu)} but what the driver compiles"
        what += f", and PTX of CUDA {cards.written(wanted)} is too new for it: {has}"
        yield Unfit(key="image", what=what, hint=newer)
    else:
        what = f"{image} asks for CUDA {cards.written(wanted)} on {cards.shown(gpu)}, and {has}"
        yield Unfit(key="image", what=what, hint=newer)


def _open_minor(image: str, served: tuple[int, int], gpu: GpuIdentity) -> Iterator[Unfit]:
    """Yield a warning, unless the driver serves all there is of this major version."""
    major, minor = served
    if minor >= _LAST_MINOR.get(major, minor + 1):
        return
    what = f"the name {image} does not tell which CUDA {major} is in it: whether it runs on"
    what += f" {cards.shown(gpu)}, which this driver serves up to {cards.written(served)},"
    yield Unfit(key="image", what=f"{what} was not checked", hint="", warning=True)
