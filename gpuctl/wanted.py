"""What the operator wants of a replica, from the latest intent that concerns it. PURE."""

from __future__ import annotations

from gpuctl.history import History, ReplicaHistory
from gpuctl.model import ContainerReading, Replica


def desired(history: History, replica: Replica, *, running: bool) -> bool:
    """
    Return whether a replica should run: the latest intent decides, and without one it should.

    One more than `scale` wants or `max_gpus` allows should not, whatever else was said.

    After the events were lost, only what was found running is kept running, until the next `up`:
    a `down` among them must not be undone.
    """
    if replica.surplus:
        return False
    intent = history.wanted(replica.name, replica.workload)
    if intent is not None:
        return intent.verb in ("run", "up")
    return not history.cautious or running or bool(history.replica(replica.name).container)


def must_go(history: History, replica: Replica, container: ContainerReading) -> tuple[str, bool]:
    """Return why a running container must go ("" if it may stay), and whether that is voluntary."""
    known = history.replica(replica.name)
    if known.failure is not None and known.failure.container == container.id:
        return known.failure.reason, False
    moved = known.moved if container.digest != replica.digest else None
    if moved is not None and not moved.voluntary:
        return moved.reason, False
    if replica.surplus:
        return replica.surplus_because, True
    if not desired(history, replica, running=True):
        intent = history.wanted(replica.name, replica.workload)
        return (intent.verb if intent is not None else "stop"), True
    renewal = history.renewed(replica.name, replica.workload)
    if renewal is not None and renewal.at > known.container_at:
        return "renew", True
    if container.digest == replica.digest or (history.cautious and moved is None):
        return "", True  # where it was moved to may be among what was lost
    return (moved.reason if moved is not None else "profile_changed"), True


def renewed_since(history: History, replica: Replica, at: float) -> bool:
    """
    Return whether an operator asked for it after *at* (boot seconds), or it was moved since.

    That wipes the slate: on another GPU it is not held to what it did on the one it left.
    """
    intents = (
        history.wanted(replica.name, replica.workload),
        history.renewed(replica.name, replica.workload),
    )
    known = history.replica(replica.name)
    if known.moved is not None and known.moved_at > at:
        return True
    return any(i is not None and i.at > at and i.verb in ("run", "up", "renew") for i in intents)


def placed(container: ContainerReading, replica: Replica) -> tuple[str, ...]:
    """Return the UUIDs of the GPUs a container runs on: one that is to move is not there yet."""
    if container.digest == replica.digest:
        return tuple(gpu.uuid for gpu in replica.gpus)
    return container.gpus


def outdated(replica: Replica, container: ContainerReading | None, history: ReplicaHistory) -> bool:
    """
    Return whether its container was started with other defaults than today's.

    One that differs by more than these, as it was moved or the profile edited, goes for that.
    """
    if container is None or container.digest != replica.digest:
        return False
    return bool(history.spec_digest) and history.spec_digest != replica.spec_digest
