"""`plan` for people: which replica on which GPU, the sums of VRAM and RAM, what was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from gpuctl.model import Action, Inventory, Plan, Replica, Stop
from gpuctl.planning.capacity import host_memory
from gpuctl.views import sums, words
from gpuctl.views.tables import Columns


def planned(plan: Plan, inventory: Inventory) -> Group:
    """Return the table of replicas, what they add up to, and the warnings."""
    made = Columns(
        "replica", "engine", "gpu", "port>", "vram>", "ram>", "swap>", "image or program",
        spare=("swap>", "engine", "image or program", "port>"),
    )  # fmt: skip
    for replica in plan.replicas:
        made.add_row(*_row(replica))
    parts: list[RenderableType] = [made, Text()]
    if any(replica.vram is not None for replica in plan.replicas):
        parts += [sums.replicas(plan), Text()]
    if plan.gpus:
        parts += [sums.gpus(plan), *map(Text, sums.strangers(plan)), Text()]
    if (chosen := sums.settings(plan)) is not None:
        parts += [chosen, Text()]
    parts.append(Text(ram(plan, inventory)))
    parts += [Text(f"missing: gpu {name}", style="red") for name in plan.missing_gpus]
    parts += [Text(f"warning: {warning}", style="yellow") for warning in plan.warnings]
    return Group(*parts)


def actions(found: Sequence[Action] | None) -> Iterator[str]:
    """Yield what a daemon would do next; `None` is not known, as nothing was observed."""
    if found is None:
        return
    yield ""
    if not found:
        yield "next: nothing to begin at this moment"
    for action in found:
        step = f" ({action.step})" if isinstance(action, Stop) else ""
        because = f", because {action.reason}" if action.reason else ""
        yield f"next: {type(action).__name__.lower()}{step} {action.replica}{because}"


def ram(plan: Plan, inventory: Inventory) -> str:
    """Return what the limits of host RAM add up to, beside what the host has."""
    limits = [amount for r in plan.replicas if (amount := host_memory(r)) is not None]
    unlimited = len(plan.replicas) - len(limits)
    count = words.counted(len(plan.replicas), "replica")
    if not limits:
        return f"{count}, none with a limit of RAM"
    total = f"{count}: RAM limits add up to {words.size(sum(limits))}"
    if inventory.memory_total_bytes is not None:
        total += f" of {words.size(inventory.memory_total_bytes)}"
    return f"{total} ({unlimited} without a limit)" if unlimited else total


def _row(replica: Replica) -> tuple[str, ...]:
    spec = replica.spec
    swap = None
    if spec.memory_bytes is not None and spec.memory_swap_bytes is not None:
        swap = spec.memory_swap_bytes - spec.memory_bytes
    return (
        replica.name,
        replica.engine,
        ",".join(str(gpu.index) for gpu in replica.gpus) or "cpu",
        str(spec.host_port),
        words.size(replica.vram_bytes),
        words.size(spec.memory_bytes),
        words.size(swap),
        # Without its registry and namespace, which `plan --json` has.
        (spec.image or " ".join((*(spec.entrypoint or ()), *spec.command)[:1])).rpartition("/")[2],
    )
