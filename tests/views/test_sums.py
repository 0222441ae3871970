"""The sums of VRAM for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gpuctl.model import GpuIdentity, Inventory, Plan, Tuned, VramLine, VramPlan, WatchdogSettings
from gpuctl.planning.capacity import Room
from gpuctl.views import planned, sums
from tests.make import replica

GIB = 2**30
GPU = GpuIdentity(index=0, uuid="GPU-0", name="P106-100", memory_total_bytes=8 * GIB)
OTHER = GpuIdentity(index=1, uuid="GPU-1", name="P106-100", memory_total_bytes=8 * GIB)
SUM = VramPlan(
    total_bytes=5 * GIB,
    weights_bytes=3 * GIB,
    kv_bytes=GIB,
    overhead_bytes=GIB,
    source="headers",
    lines=(
        VramLine(label="weights", amount_bytes=3 * GIB, why="Q4_K_M"),
        VramLine(label="KV cache", amount_bytes=GIB, why="32 layers x 8 KV heads"),
        VramLine(label="measured", amount_bytes=-GIB // 2, why="less than estimated"),
    ),
    notes=("-ub stands in args",),
)


def plan(vram: VramPlan | None = SUM, *gpus: GpuIdentity, count: int = 1) -> Plan:
    made = (
        replica(
            f"chat-{index}",
            vram=vram,
            vram_bytes=vram.total_bytes if vram else None,
        )
        for index in range(count)
    )
    on = gpus or (GPU,)
    return Plan(
        profile="p",
        watchdog=WatchdogSettings(),
        replicas=tuple(replace(one, gpus=on) for one in made),
        gpus=on,
        vram_headroom_bytes=GIB,
    )


def drawn(made: Plan, gpu: GpuIdentity = GPU) -> str:
    return sums.bar(Room.of(gpu, made.replicas, made.vram_headroom_bytes), made).plain


def test_line_by_line(text: Callable[..., list[str]]) -> None:
    """Replicas that take the same stand once, with every line of the sum and what is to be said."""
    assert text(sums.replicas(plan(SUM, count=2))) == [
        "chat-0 … chat-1, each     5 GiB  estimated from the model's headers",
        "  weights                 3 GiB  Q4_K_M",
        "  KV cache                1 GiB  32 layers x 8 KV heads",
        "  measured             -512 MiB  less than estimated",
        "  note                           -ub stands in args",
    ]


@pytest.mark.parametrize(
    ("uneven", "row"),
    [
        pytest.param(0, "  each of 2 GPUs   2.5 GiB  all alike", id="tensor parallel"),
        pytest.param(
            GIB // 2,
            "  each of 2 GPUs     3 GiB  as on the fullest of them: layers are whole",
            id="layers",
        ),
    ],
)
def test_a_group_s_share(uneven: int, row: str, text: Callable[..., list[str]]) -> None:
    """Of several GPUs, what is planned on each stands below the sum."""
    made = plan(replace(SUM, uneven_bytes=uneven), GPU, OTHER)
    assert text(sums.replicas(made))[4] == row


def test_a_replica_of_which_nothing_is_known(text: Callable[..., list[str]]) -> None:
    """It has no sum to show."""
    assert text(sums.replicas(plan(None))) == []


def test_a_bar() -> None:
    """A GPU's memory, each part with a sign of its own."""
    assert drawn(plan()) == "████████████▓▓▓▓▒▒▒▒········----"


def test_a_bar_of_what_is_stated() -> None:
    """A sum without parts is drawn as one, and not called weights."""
    stated = VramPlan(total_bytes=4 * GIB, source="profile")
    assert drawn(plan(stated)) == "================············----"


def test_the_legend_names_what_is_drawn(text: Callable[..., list[str]]) -> None:
    """Signs that are in no bar need no explanation."""
    stated = VramPlan(total_bytes=4 * GIB, source="profile")
    assert text(sums.gpus(plan(stated)))[-1] == "= in one sum   · free   - headroom"
    whole = text(sums.gpus(plan(SUM)))[-1]
    assert whole == "█ weights   ▓ KV cache   ▒ the rest of it   · free   - headroom"


def test_a_bar_with_strangers() -> None:
    """What strangers hold is neither planned nor free."""
    gpu = replace(GPU, foreign_bytes=GIB, foreign=("Xorg (pid 812)",))
    made = plan(SUM, gpu)
    assert drawn(made, gpu) == "████████████▓▓▓▓▒▒▒▒xxxx····----"
    assert list(sums.strangers(made)) == ["gpu 0: 1 GiB held by Xorg (pid 812)"]


def test_a_bar_with_what_the_driver_keeps(text: Callable[..., list[str]]) -> None:
    """It is neither planned nor free, and has a column where any card reports it."""
    gpu = replace(GPU, reserved_bytes=GIB)
    made = plan(SUM, gpu)
    assert drawn(made, gpu) == "████████████▓▓▓▓▒▒▒▒####····----"
    head, row = text(sums.gpus(made))[:2]
    assert head.split()[3:8] == ["planned", "free", "headroom", "driver", "others"]
    assert row.split("  ")[-1] == "chat-0"
    assert "1 GiB     1 GiB" in row


def test_a_bar_over_two_gpus() -> None:
    """A replica over two GPUs takes half of its sum from each."""
    wide = VramPlan(total_bytes=8 * GIB, source="profile")
    made = plan(wide, GPU, OTHER)
    assert drawn(made) == drawn(made, OTHER) == "================············----"


def test_a_bar_of_whole_layers() -> None:
    """Each is drawn with as much as any of its GPUs takes, which is what is planned."""
    wide = VramPlan(total_bytes=8 * GIB, uneven_bytes=GIB, source="profile")
    made = plan(wide, GPU, OTHER)
    assert drawn(made) == drawn(made, OTHER) == "====================········----"


def test_a_bar_of_what_cannot_be_measured() -> None:
    """A card that does not tell its size has no bar."""
    gpu = replace(GPU, memory_total_bytes=None)
    assert drawn(plan(SUM, gpu), gpu) == "-"


def test_parts_that_do_not_divide() -> None:
    """A bar is as wide as every other, whatever its parts."""
    odd = replace(SUM, total_bytes=5 * GIB + 12345, weights_bytes=3 * GIB + 6789)
    assert len(drawn(plan(odd))) == len(drawn(plan()))


def test_too_much(text: Callable[..., list[str]]) -> None:
    """What does not fit is shown as less than nothing."""
    heavy = VramPlan(total_bytes=9 * GIB, source="profile")
    assert "-2 GiB" in text(sums.gpus(plan(heavy)))[1]


def test_settings(text: Callable[..., list[str]]) -> None:
    """What was chosen for the card stands with its reason, and the operator's own is called so."""
    chosen = (
        Tuned(key="dtype", value="half", why="no bfloat16 before 8.0"),
        Tuned(key="flash", value=None, why="auto"),
        Tuned(key="eager", value=True, why="saves VRAM", by_operator=True),
    )
    made = plan()
    made = replace(made, replicas=tuple(replace(one, tuned=chosen) for one in made.replicas))
    found = sums.settings(made)
    assert found is not None
    assert text(found) == [
        "workload  setting  value             why",
        "chat      dtype    half              no bfloat16 before 8.0",
        "chat      flash    the engine's own  auto",
        "chat      eager    true              yours: saves VRAM",
    ]
    assert "chat      dtype" in "\n".join(text(planned.planned(made, Inventory())))


def test_no_settings() -> None:
    """Nothing chosen, nothing shown."""
    assert sums.settings(plan()) is None


def test_what_holds_for_all_replicas_of_a_workload_is_said_once(
    text: Callable[..., list[str]],
) -> None:
    """They were tuned alike."""
    chosen = (Tuned(key="dtype", value="half", why="no bfloat16 before 8.0"),)
    made = plan(count=2)
    found = sums.settings(
        replace(made, replicas=tuple(replace(one, tuned=chosen) for one in made.replicas))
    )
    assert found is not None
    assert text(found) == [
        "workload  setting  value  why",
        "chat      dtype    half   no bfloat16 before 8.0",
    ]
