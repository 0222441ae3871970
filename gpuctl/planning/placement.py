"""
Which GPUs each replica of a workload gets: the profile's words in, groups of GPUs out.

A GPU that the profile names and the host lacks gets a stand-in, so that its replica keeps its
name and number until the GPU is back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from gpuctl.model import ExpectedGpus, GpuIdentity, GpuName, HostSettings, Inventory, Workload
from gpuctl.planning.mistakes import Mistakes

Group = tuple[GpuIdentity, ...]

#: What a stand-in's UUID begins with; no GPU's does.
MISSING = "missing:"


class Placement:
    """The GPUs of the host as one profile sees them."""

    def __init__(self, host: HostSettings, inventory: Inventory, mistakes: Mistakes) -> None:
        self._mistakes = mistakes
        self._found = inventory.gpus
        self._here = (*inventory.gpus, *self._unfound(host.gpus))
        self._by_name: dict[GpuName, GpuIdentity] = {}
        for gpu in self._here:
            self._by_name[gpu.index] = gpu
            self._by_name[gpu.uuid] = gpu
        self._stand_ins: dict[GpuName, GpuIdentity] = {}
        self._check_expected(host.gpus)
        self.reserve = self._resolve("host.reserve", host.reserve)

    @property
    def gpus(self) -> Group:
        """Every GPU found or counted on, those found first, by index."""
        return (*self._here, *self._stand_ins.values())

    @property
    def missing(self) -> tuple[str, ...]:
        """UUIDs, or indexes, of the GPUs that the profile counts on and the host lacks."""
        found = {gpu.uuid for gpu in self._found}
        lacking = (gpu for gpu in self.gpus if gpu.uuid not in found)
        return tuple(gpu.uuid.removeprefix(MISSING) for gpu in lacking)

    def place(self, workload: Workload) -> tuple[Group, ...]:
        """Return one group a replica, in the replicas' order; an empty group is the CPU."""
        if workload.gpus == "none":
            return ((),) * workload.replicas
        if workload.gpus == "each":
            groups = self._each(workload)
        else:
            groups = self._named(workload, workload.gpus)
        return tuple(group for group in groups for _ in range(workload.replicas_per_gpu))

    def moved(self, uuids: Iterable[str]) -> Group:
        """Return the GPUs that a replica was moved to; one that is gone gets a stand-in."""
        return tuple(
            self._by_name.get(uuid)
            or self._stand_ins.setdefault(uuid, GpuIdentity(index=-1, uuid=uuid))
            for uuid in uuids
        )

    def unused(self, workloads: Iterable[Workload]) -> Group:
        """Return the GPUs found that are neither in reserve nor any workload's."""
        named: set[str] = {gpu.uuid for gpu in self.reserve}
        for workload in workloads:
            if workload.gpus == "each":
                return ()
            groups = () if workload.gpus == "none" else workload.gpus
            known = (self._by_name.get(name) for group in groups for name in group)
            named |= {gpu.uuid for gpu in known if gpu is not None}
        return tuple(gpu for gpu in self._found if gpu.uuid not in named)

    def _each(self, workload: Workload) -> tuple[Group, ...]:
        reserved = {gpu.uuid for gpu in self.reserve}
        groups = tuple((gpu,) for gpu in self._here if gpu.uuid not in reserved)
        if not groups:
            self._mistakes.host(
                f"workloads.{workload.name}.gpus: no GPU to place it on: {self._none_left()}",
                'write gpus = "none" to run it on the CPU',
            )
        return groups

    def _named(
        self, workload: Workload, names: tuple[tuple[GpuName, ...], ...]
    ) -> tuple[Group, ...]:
        where = f"workloads.{workload.name}.gpus"
        groups = tuple(self._resolve(where, group) for group in names)
        reserved = {gpu.uuid for gpu in self.reserve}
        seen: set[str] = set()
        for gpu in (gpu for group in groups for gpu in group):
            if gpu.uuid in reserved:
                self._mistakes.profile(
                    f"{where}: {label(gpu)} is in reserve",
                    "take it out of host.reserve, or choose another GPU",
                )
            if gpu.uuid in seen:
                self._mistakes.profile(
                    f"{where}: {label(gpu)} is named in two groups",
                    "write replicas_per_gpu to run several replicas on one GPU",
                )
            seen.add(gpu.uuid)
        return groups

    def _resolve(self, where: str, names: Iterable[GpuName]) -> Group:
        group: dict[str, GpuIdentity] = {}
        for name in names:
            gpu = self._by_name.get(name) or self._stand_in(where, name)
            if gpu.uuid in group:
                self._mistakes.profile(
                    f"{where}: {label(gpu)} is named twice", "name each GPU once"
                )
            group[gpu.uuid] = gpu
        return tuple(group.values())

    def _stand_in(self, where: str, name: GpuName) -> GpuIdentity:
        self._mistakes.host(
            f"{where}: GPU {name} is not on this host, which has {self._indexes()}",
            "name a GPU that is there, or run `gpuctl init` to write a profile for those found",
        )
        if isinstance(name, int):
            gpu = GpuIdentity(index=name, uuid=f"{MISSING}{name}")
        else:
            gpu = GpuIdentity(index=-1, uuid=name)
        return self._stand_ins.setdefault(name, gpu)

    def _unfound(self, expected: tuple[ExpectedGpus, ...]) -> Group:
        """Return stand-ins for the GPUs the profile expects beyond those found."""
        count = sum(entry.count for entry in expected)
        found = {gpu.index for gpu in self._found}
        lacking = max(0, count - len(found))
        unfound = [index for index in range(count) if index not in found][:lacking]
        return tuple(GpuIdentity(index=i, uuid=f"{MISSING}{i}") for i in unfound)

    def _check_expected(self, expected: tuple[ExpectedGpus, ...]) -> None:
        for entry in expected:
            matching = [gpu for gpu in self._found if entry.name.lower() in gpu.name.lower()]
            if len(matching) < entry.count:
                wanted = f"{entry.count}x {entry.name}".rstrip("x ")
                self._mistakes.host(
                    f"host.gpus: {wanted} expected, {len(matching)} found: {self._models()}",
                    "see what the driver finds with `gpuctl gpus`, or correct host.gpus",
                )

    def _none_left(self) -> str:
        return "every one is in reserve" if self._here else "this host has none"

    def _indexes(self) -> str:
        """Return which GPUs there are, as one may write them: `0 to 7`, `0, 2, 3`, `none`."""
        found = sorted(gpu.index for gpu in self._found)
        if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
            return f"{found[0]} to {found[-1]}"
        return ", ".join(map(str, found)) or "none"

    def _models(self) -> str:
        """Return what this host has, model by model: `this host has 8x NVIDIA P106-100`."""
        counts = Counter(gpu.name for gpu in self._found)
        each = ", ".join(f"{count}x {name}".rstrip() for name, count in counts.items())
        return f"this host has {each or 'none'}"


def label(gpu: GpuIdentity) -> str:
    """Return how a message names a GPU."""
    return f"GPU {gpu.index}" if gpu.index >= 0 else f"GPU {gpu.uuid}"
