"""A machine with NVIDIA GPUs: what gpuctl reads of each card is what `nvidia-smi` says of it."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import UTC, datetime

import pytest

from gpuctl.adapters.nvml import NvmlGpus
from gpuctl.model import GpuReading
from tests.rig.nvml import compared
from tests.rig.nvml.cited import MODULES, cited
from tests.rig.nvml.compared import WRONG, Compared

pytestmark = pytest.mark.gpu

#: The two are read one after the other: what moved too far in between is read again.
_READINGS = 3
#: Without nvidia-persistenced the first touch initialises every card anew.
_FIRST_SECONDS = 30.0

Cards = dict[int, tuple[GpuReading, tuple[Compared, ...]]]


@pytest.fixture(scope="module")
def cards() -> Cards:
    """Every card by index with its fields compared; shown, and recorded where that is asked for."""
    with closing(NvmlGpus(deadline_seconds=_FIRST_SECONDS)) as gpus:
        for _ in range(_READINGS):
            found = _read(gpus)
            if not any(each.outcome in WRONG for _, fields in found.values() for each in fields):
                break
    text = _page(found)
    sys.stdout.write(f"\n{text}\n")
    compared.record(text)
    return found


def _read(gpus: NvmlGpus) -> Cards:
    gpus.read()  # what is asked first wakes a card
    told = {int(fields["index"]): fields for fields in compared.ask()}
    read = {gpu.index: gpu for gpu in gpus.read()}
    assert read.keys() == told.keys()
    return {index: (gpu, compared.compare(gpu, told[index])) for index, gpu in read.items()}


def _page(cards: Cards) -> str:
    """Return a table for the first card of each name, and how many of it there are."""
    names = {gpu.name: (gpu, fields) for gpu, fields in reversed(cards.values())}
    parts = []
    for name, (first, fields) in sorted(names.items()):
        count = sum(gpu.name == name for gpu, _ in cards.values())
        driver = next(each.told for each in fields if each.field == "driver_version")
        title = f"{count} x {name}, driver {driver}, {datetime.now(UTC):%Y-%m-%d}"
        parts.append(f"### {title}\n\n{compared.table(fields)}\n\n{compared.left_over(first)}")
    return "\n\n".join(parts)


def test_every_field_of_every_card_is_as_nvidia_smi_says(cards: Cards) -> None:
    """To the unit; what moves between two readings by what it may move."""
    wrong = {
        index: [each for each in fields if each.outcome in WRONG]
        for index, (_, fields) in cards.items()
    }
    assert wrong == {index: [] for index in cards}


def test_enough_of_a_card_is_compared(cards: Cards) -> None:
    """A comparison with nothing would find nothing wrong."""
    names = {"name", "uuid", "memory.total", "memory.used", "temperature.gpu", "pstate"}
    for _, fields in cards.values():
        agreed = {each.field for each in fields if each.outcome in ("equal", "moved")}
        assert names <= agreed


def test_nvidia_smi_lists_every_field_that_a_source_cites() -> None:
    """What the docstrings send a reader to is there, on this driver too."""
    named = {field for path in MODULES for query, field in cited(path) if query == "query-gpu"}
    assert named - set(compared.listed()) == set()
