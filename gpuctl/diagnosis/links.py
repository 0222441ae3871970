"""How the GPUs of one replica reach each other: a tensor-parallel group is as fast as its links."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from gpuctl.diagnosis.facts import Facts
from gpuctl.diagnosis.finding import Finding, Group, needing, ok, skip, warn
from gpuctl.model import GpuPeer, GpuReading, Replica

#: From the nearest to the farthest, as `nvidia-smi topo -m` has them: NV#, X, PIX, PXB, PHB, NODE,
#: SYS. Only the last leads from one processor to another.
_PATHS = ("nvlink", "internal", "single", "multiple", "hostbridge", "node", "system")
#: The same in words; `nvidia-smi topo -m` has NV, PIX, PXB, PHB, NODE and SYS for them.
_WAYS = {
    "nvlink": "NVLink",
    "internal": "their own board",
    "single": "one PCIe bridge",
    "multiple": "several PCIe bridges",
    "hostbridge": "one host bridge",
    "node": "the host bridges of one NUMA node",
    "system": "the link between NUMA nodes",
}

Gpus = tuple[GpuReading, ...]


def peers(gpus: Gpus, facts: Facts) -> Iterator[Finding]:
    """Judge, of each replica on several GPUs, the worst link of its group."""
    groups = _groups(facts)
    if not groups:
        yield skip("peers", "no replica spans several GPUs")
    known = {gpu.uuid: gpu for gpu in gpus}
    for replica in groups:
        pairs = [_link(known, a.uuid, b.uuid) for a, b in combinations(replica.gpus, 2)]
        found = [pair for pair in pairs if pair is not None]
        if len(found) < len(pairs):
            message = f"{replica.name}: the driver does not tell how its GPUs are joined"
            yield skip("peers", message, "not_reported")
        else:
            yield _judged(replica, found)


def nodes(gpus: Gpus, facts: Facts) -> Iterator[Finding]:
    """Judge whether a group lies on one memory node of the host."""
    groups = _groups(facts)
    if not groups:
        yield skip("numa", "no replica spans several GPUs")
    nodes = {gpu.uuid: gpu.facts.numa_node for gpu in gpus if gpu.facts is not None}
    for replica in groups:
        own = [nodes.get(gpu.uuid) for gpu in replica.gpus]
        if None in own:
            yield skip("numa", f"{replica.name}: the node of its GPUs is not told", "not_reported")
        elif len(set(own)) > 1:
            message = f"{replica.name}: its GPUs are on nodes {', '.join(map(str, own))}"
            yield warn("numa", "numa_split", message, "nvidia-smi topo -m; group GPUs of one node")
        else:
            yield ok("numa", f"{replica.name}: all its GPUs are on node {own[0]}")


def _groups(facts: Facts) -> tuple[Replica, ...]:
    plan = facts.wanted.plan if facts.wanted else None
    return tuple(replica for replica in plan.replicas if len(replica.gpus) > 1) if plan else ()


def _link(known: dict[str, GpuReading], one: str, other: str) -> GpuPeer | None:
    gpu = known.get(one)
    peers = (gpu.facts.peers if gpu is not None and gpu.facts is not None else None) or ()
    return next((peer for peer in peers if peer.uuid == other), None)


def _judged(replica: Replica, links: list[GpuPeer]) -> Finding:
    worst = max((link.path for link in links), key=_PATHS.index)
    if any(link.p2p is False for link in links):
        message = f"{replica.name}: its GPUs cannot read each other's memory (by {_WAYS[worst]})"
        fix = "nvidia-smi topo -p2p r; turn off ACS and the IOMMU in the firmware, or use TP 1"
        return warn("peers", "no_p2p", message, fix)
    if worst == _PATHS[-1]:
        message = f"{replica.name}: the way between two of its GPUs leads from socket to socket"
        return warn("peers", "far_apart", message, "nvidia-smi topo -m; group nearer GPUs")
    return ok("peers", f"{replica.name}: its GPUs are joined by {_WAYS[worst]}")


GROUP = Group(
    name="links",
    checks=(needing("gpus", "peers", peers), needing("gpus", "numa", nodes)),
)
