"""Cards: known by a word of their name, else by what the driver tells."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl import cards
from gpuctl.model import GIB, GpuIdentity


def gpu(name: str = "", gibibytes: int | None = None, **changes: Any) -> GpuIdentity:
    size = None if gibibytes is None else gibibytes * GIB
    return GpuIdentity(index=0, uuid="GPU-0", name=name, memory_total_bytes=size, **changes)


@pytest.mark.parametrize(
    ("name", "gibibytes", "capability", "sequences", "why"),
    [
        pytest.param("NVIDIA P106-100", 6, (6, 1), 4, "what P106 cards keep up with", id="p106"),
        pytest.param("Tesla T4", 16, (7, 5), 8, "what T4 cards keep up with", id="t4"),
        pytest.param("NVIDIA L4", 24, (8, 9), 16, "what L4 cards keep up with", id="l4"),
        pytest.param("NVIDIA RTX A4000", 16, (8, 6), 20, "what A4000 cards keep up with", id="a4"),
        pytest.param(
            "NVIDIA GeForce RTX 3090", 24, (8, 6), 32, "what 3090 cards keep up with", id="3090"
        ),
        pytest.param("NVIDIA RTX A6000", 48, (8, 6), 64, "what A6000 cards keep up with", id="a6"),
        pytest.param(
            "NVIDIA A100-SXM4-80GB",
            80,
            (8, 0),
            256,
            "what A100 cards of 80 GiB keep up with",
            id="a100",
        ),
        pytest.param(
            "NVIDIA A100-PCIE-40GB",
            40,
            (8, 0),
            128,
            "what A100 cards of 40 GiB keep up with",
            id="a100 of 40 GB",
        ),
        pytest.param(
            "NVIDIA H100 80GB HBM3", 80, (9, 0), 1024, "what H100 cards keep up with", id="h100"
        ),
        pytest.param("NVIDIA H200", 141, (9, 0), 1024, "what H200 cards keep up with", id="h200"),
    ],
)
def test_listed(
    name: str, gibibytes: int, capability: tuple[int, int], sequences: int, why: str
) -> None:
    """Each card that gpuctl is for has its compute capability and its figure."""
    found = gpu(name, gibibytes)
    assert (cards.capability(found), cards.sequences(found)) == (capability, (sequences, why))


@pytest.mark.parametrize("name", ["NVIDIA L40S", "NVIDIA A40", "NVIDIA GH200 480GB", "A1000", ""])
def test_a_name_is_matched_by_whole_words(name: str) -> None:
    """An L40S is no L4, and an A40 no A4000."""
    assert cards.card(gpu(name)) is None
    assert cards.capability(gpu(name)) is None


@pytest.mark.parametrize(
    ("gibibytes", "sequences"),
    [
        pytest.param(8, 4, id="8"),
        pytest.param(12, 8, id="12"),
        pytest.param(24, 16, id="24"),
        pytest.param(48, 64, id="48"),
        pytest.param(96, 1024, id="96"),
    ],
)
def test_not_listed(gibibytes: int, sequences: int) -> None:
    """Another card has the figure of its VRAM, and that is said."""
    why = f"Other is not a card gpuctl knows: by its {gibibytes} GiB of VRAM"
    assert cards.sequences(gpu("NVIDIA Other", gibibytes)) == (sequences, why)


def test_nothing_known() -> None:
    """Without a name and without a size there is nothing to choose by."""
    assert cards.sequences(gpu()) is None


def test_the_driver_s_word_prevails() -> None:
    """What the driver reports of a card is what counts."""
    assert cards.capability(gpu("NVIDIA L4", compute_capability=(12, 0))) == (12, 0)


def test_the_weakest_of_a_group() -> None:
    """A group is as capable as its least, and of two alike as large as the smaller."""
    large, small = gpu("NVIDIA A100", 80), gpu("NVIDIA A100", 40)
    assert cards.weakest((large, small)) == small
    assert cards.weakest((gpu("Tesla T4", 16), gpu("NVIDIA P106-100", 6))).name.endswith("P106-100")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        pytest.param(gpu("NVIDIA P106-100"), "P106-100 (compute capability 6.1)", id="known"),
        pytest.param(gpu("NVIDIA Other"), "Other", id="name only"),
        pytest.param(
            gpu(compute_capability=(5, 2)), "GPU 0 (compute capability 5.2)", id="nameless"
        ),
    ],
)
def test_shown(found: GpuIdentity, text: str) -> None:
    """A message names the model, so that eight of one kind make one line."""
    assert cards.shown(found) == text


@pytest.mark.parametrize(
    ("name", "consumer"),
    [
        pytest.param("NVIDIA GeForce RTX 3090", True, id="games"),
        pytest.param("NVIDIA TITAN V", True, id="titan"),
        pytest.param("NVIDIA P106-100", True, id="mining"),
        pytest.param("NVIDIA RTX A6000", False, id="workstation"),
        pytest.param("Tesla T4", False, id="data centre"),
        pytest.param("", False, id="no name"),
    ],
)
def test_consumer(name: str, consumer: bool) -> None:
    """Cards for games and mining are told by their name."""
    assert cards.is_consumer(gpu(name)) is consumer


@pytest.mark.parametrize(
    ("found", "tokens"),
    [
        pytest.param(gpu("Tesla T4", 16), 2048, id="t4"),
        pytest.param(gpu("NVIDIA A100-SXM4-80GB", 80), 2048, id="a100 of 80 GB"),
        pytest.param(gpu("NVIDIA A100X", 80), 2048, id="a100x"),
        pytest.param(gpu("NVIDIA H100 80GB HBM3", 80), 8192, id="h100"),
        pytest.param(gpu("NVIDIA H100", 70, reserved_bytes=1), 2048, id="less for CUDA"),
        pytest.param(gpu("NVIDIA B200", 180), 16384, id="b200"),
        pytest.param(gpu(), 2048, id="not known"),
    ],
)
def test_tokens_of_a_step(found: GpuIdentity, tokens: int) -> None:
    """As vLLM has them, by VRAM; an A100 counts as a small card, of any size."""
    assert cards.batched_tokens(found) == tokens
