"""
What a model really takes: Plan, Snapshot, History, Conditions in, VRAM out. PURE.

The daemon stores it as an Event; the next plan takes it instead of the estimate.
"""

from __future__ import annotations

from collections.abc import Mapping

from gpuctl.avoidance import Conditions
from gpuctl.history import History
from gpuctl.model import Evidence, Plan, Replica, Snapshot

#: A peak that is higher by less is no news.
_NEWS_RATIO = 1.01


def measured(
    plan: Plan, now: Snapshot, history: History, conditions: Conditions
) -> Mapping[str, Evidence]:
    """
    Return what to store, by what `planning` looks it up under.

    Replicas of one workload on like cards are one: the highest of them counts. A claim is taken
    whatever the model, and tells nothing of it; what one that leaks has grown to is no more of it.
    """
    if "gpus" in now.errors:
        return {}
    found: dict[str, Evidence] = {}
    highest = dict(history.measured)
    for replica in plan.replicas:
        vram = replica.vram
        if vram is None or not vram.measure_key or vram.source == "claim":
            continue
        leak = conditions.get(("vram_creep", replica.name))
        if leak is not None and leak.verdict.state != "ok":
            continue
        held = _held(replica, now, history)
        if held is None or held <= highest.get(vram.measure_key, 0) * _NEWS_RATIO:
            continue
        highest[vram.measure_key] = held
        found[vram.measure_key] = {
            "vram_bytes": held,
            "predicted_bytes": vram.total_bytes,
            "source": vram.source,
            "replica": replica.name,
        }
    return found


def _held(replica: Replica, now: Snapshot, history: History) -> int | None:
    """Return the VRAM of a replica that has settled as it is planned, `None` for any other."""
    container, known = now.own(replica.name), history.replica(replica.name)
    if container is None or container.state != "running":
        return None
    if container.id != known.ready_container or container.digest != replica.digest:
        return None
    # What runs may be of before the plan was changed; of an adopted one that is not known.
    if known.spec_digest and known.spec_digest != replica.spec_digest:
        return None
    gpus = tuple(gpu.uuid for gpu in replica.gpus)
    if container.gpus != gpus or now.gpus_boot_seconds is None:
        return None
    if now.gpus_boot_seconds - known.ready_at < replica.watchdog.vram_settle_seconds:
        return None
    return now.vram_bytes(container, gpus)
