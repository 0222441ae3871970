"""What the operator wants of a replica, from the latest intent that concerns it. PURE."""

from __future__ import annotations

from gpuctl.history import History, ReplicaHistory
from gpuctl.model import Replica


def desired(history: History, replica: Replica, *, running: bool) -> bool:
    """
    Return whether a replica should run: the latest intent decides, and without one it should.

    After the events were lost, only what still runs is kept running, until the next `up`: a
    `down` among them must not be undone.
    """
    intent = history.wanted(replica.name, replica.workload)
    if history.cautious and not running:
        return False
    return intent is None or intent.verb in ("run", "up")


def renewed_since(history: History, replica: Replica, at: float) -> bool:
    """Return whether an operator asked for it after *at* (boot seconds): that wipes the slate."""
    intents = (
        history.wanted(replica.name, replica.workload),
        history.renewed(replica.name, replica.workload),
    )
    return any(i is not None and i.at > at and i.verb in ("run", "up", "renew") for i in intents)


def outdated(replica: Replica, history: ReplicaHistory) -> bool:
    """Return whether its container was started with other defaults than today's."""
    return bool(history.spec_digest) and history.spec_digest != replica.spec_digest
