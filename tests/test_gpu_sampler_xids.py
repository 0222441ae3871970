"""The Xids on the board: of both sources, with their GPUs' names, and what they silence."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.gpu_sampler import XidSource
from gpuctl.model import Xid
from gpuctl.observe import Latest
from tests import make
from tests.fakes import FakeWorld
from tests.make import AT, NOW

BUS = "00000000:01:00.0"
CARD = make.gpu(pci_bus_id=BUS)


def xid(number: int = 31, at: float = 1.0, **fields: Any) -> Xid:
    """An Xid so many seconds after the source began."""
    return Xid(
        **{
            "number": number,
            "pci_bus_id": BUS,
            "source": "kernel",
            "at": AT + at,
            "boot_seconds": NOW + at,
            **fields,
        }
    )


class Heard:
    """A source of Xids on fakes, and what woke the loop."""

    def __init__(self, *, log: bool = True) -> None:
        self.fakes, self.latest, self.woken = FakeWorld(), Latest(), list[str]()
        self.source = XidSource(
            self.fakes.gpus,
            self.fakes.kernel_log if log else None,
            self.fakes.clock,
            self.latest,
            self.woken.append,
        )

    def hear(self, *, nvml: tuple[Xid, ...] = (), kernel: tuple[Xid, ...] = ()) -> tuple[Xid, ...]:
        """Let these be told; return what is on the board."""
        self.fakes.gpus.told, self.fakes.kernel_log.told = nvml, kernel
        self.source.sample()
        return self.latest.xids


def of(uuid: str, **fields: Any) -> Xid:
    return xid(gpu=uuid, **fields)


def test_a_line_of_the_kernel_is_of_the_gpu_with_its_bus_id() -> None:
    """The board has it with the UUID, and the loop is woken once."""
    heard = Heard()
    heard.latest.gpus = (CARD,)
    assert heard.hear(kernel=(xid(),)) == (of("GPU-0"),)
    heard.hear()
    assert heard.woken == ["xids"]


def test_a_line_of_before_the_first_reading_gets_its_gpu_later() -> None:
    """What the log had at the start is named as soon as it is known whose bus id is whose."""
    heard = Heard()
    assert heard.hear(kernel=(xid(),)) == (xid(gpu=""),)
    heard.latest.gpus = (CARD,)
    assert heard.hear() == (of("GPU-0"),)
    assert heard.woken == ["xids", "xids"]


def test_a_gpu_that_is_not_listed_any_more_keeps_its_name() -> None:
    """The kernel tells of it when it is gone already."""
    heard = Heard()
    heard.latest.gpus = (CARD,)
    heard.hear()
    heard.latest.gpus = ()
    assert heard.hear(kernel=(xid(79),)) == (of("GPU-0", number=79),)


def test_what_has_no_bus_id_stays_without_a_gpu() -> None:
    """It is on the board all the same."""
    heard = Heard()
    heard.latest.gpus = (CARD,)
    nameless = xid(pci_bus_id=None)
    assert heard.hear(kernel=(nameless,)) == (nameless,)


def test_nvml_waits_a_pass_for_the_kernels_words() -> None:
    """The kernel's line comes to the board first, by its time, however late it was read."""
    heard = Heard()
    early, late = xid(48, 1.0, pid=7, gpu="GPU-0"), of("GPU-0", number=48, at=1.1, source="nvml")
    assert heard.hear(nvml=(late,)) == ()
    assert heard.hear(kernel=(early,)) == (early, late)


def test_without_a_kernel_log_nvml_waits_for_nothing() -> None:
    """A simulated host has none."""
    heard = Heard(log=False)
    told = of("GPU-0", source="nvml")
    assert heard.hear(nvml=(told,)) == (told,)
    heard.source.end()


def test_the_newest_are_kept() -> None:
    """A flood makes way for what comes after it."""
    heard = Heard()
    heard.hear(kernel=tuple(xid(13, at) for at in range(300)))
    board = heard.hear(kernel=(xid(79, 500),))
    assert (len(board), board[0].boot_seconds, board[-1].number) == (256, NOW + 45, 79)


@pytest.mark.parametrize("number", [79, 119, 120])
@pytest.mark.parametrize("source", ["nvml", "kernel"])
def test_an_xid_that_hangs_the_driver_silences_us_at_once(number: int, source: str) -> None:
    """Whoever tells of it, NVML is asked nothing more, by the name of the GPU."""
    heard = Heard()
    heard.latest.gpus = (CARD,)
    told = (of("GPU-0", number=number, source=source),)
    heard.hear(**{source: told})
    assert heard.fakes.gpus.distrusted == [f"Xid {number} of GPU-0"]


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(xid(48), id="another"),
        pytest.param(xid(79, -1.0), id="of-before"),
    ],
)
def test_other_xids_silence_nobody(told: Xid) -> None:
    """A daemon that begins asks with a new process anyway."""
    heard = Heard()
    heard.hear(kernel=(told,))
    assert heard.fakes.gpus.distrusted == []


def test_a_gpu_of_no_name_silences_us_by_its_bus_id() -> None:
    """It need not be known to be dangerous."""
    heard = Heard()
    heard.hear(kernel=(xid(119),))
    assert heard.fakes.gpus.distrusted == [f"Xid 119 of {BUS}"]


def test_a_log_that_cannot_be_followed_is_an_error_where_there_are_gpus() -> None:
    """It is told once, with its words, and taken back when it is followed again."""
    heard = Heard()
    heard.fakes.kernel_log.trouble = "/dev/kmsg: Operation not permitted"
    heard.hear()
    assert heard.latest.errors == {}
    heard.latest.gpus = (CARD,)
    heard.hear()
    heard.hear()
    assert heard.latest.errors["kernel_log"].message == "/dev/kmsg: Operation not permitted"
    assert heard.woken == ["kernel_log"]
    heard.fakes.kernel_log.trouble = ""
    heard.hear()
    assert heard.latest.errors == {}


def test_the_end_lets_go_of_the_log() -> None:
    """Its thread and its file are the source's."""
    heard = Heard()
    heard.source.end()
    assert heard.fakes.kernel_log.trouble == "closed"
