"""`plan` for people: which replica on which GPU, what it takes, and the sum of host RAM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from gpuctl.model import Action, Inventory, Plan, Replica, Stop
from gpuctl.views import words
from gpuctl.views.tables import table


def planned(plan: Plan, inventory: Inventory) -> Group:
    """Return the table of replicas, what they add up to, and the warnings."""
    made = table("replica", "engine", "gpu", "port>", "ram>", "swap>", "image or program", "model")
    for replica in plan.replicas:
        made.add_row(*_row(replica))
    parts: list[RenderableType] = [made, Text(), Text(ram(plan, inventory))]
    parts += [Text(f"reserve: gpu {gpu.index} {gpu.name}") for gpu in plan.reserve]
    parts += [Text(f"missing: gpu {name}", style="red") for name in plan.missing_gpus]
    parts += [Text(f"warning: {warning}", style="yellow") for warning in plan.warnings]
    return Group(*parts)


def actions(found: Sequence[Action] | None) -> Iterator[str]:
    """Yield what a daemon would do next; `None` is not known, as nothing was observed."""
    if found is None:
        return
    yield ""
    if not found:
        yield "next: nothing, all is as planned"
    for action in found:
        step = f" ({action.step})" if isinstance(action, Stop) else ""
        because = f", because {action.reason}" if action.reason else ""
        yield f"next: {type(action).__name__.lower()}{step} {action.replica}{because}"


def ram(plan: Plan, inventory: Inventory) -> str:
    """Return what the limits of host RAM add up to, beside what the host has."""
    limits = [r.spec.memory_bytes for r in plan.replicas if r.spec.memory_bytes is not None]
    unlimited = len(plan.replicas) - len(limits)
    count = words.counted(len(plan.replicas), "replica")
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
        words.size(spec.memory_bytes),
        words.size(swap),
        spec.image or " ".join((*(spec.entrypoint or ()), *spec.command)[:1]),
        replica.model,
    )
