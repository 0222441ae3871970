"""What is remembered of replicas, GPUs and operators, as data: `folding` makes it of Events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuctl.model import Assignment, Assignments, Evidence

#: Starts remembered per replica: more than any budget counts in a day (8 and the tries of a loop).
STARTS_KEPT = 128
#: Xids remembered of each number per GPU, so that those of a faulty application, which may be any
#: number, drop none that tells of a sick card. Far more than call for anything within a month.
XIDS_KEPT = 64
#: Ends for want of VRAM remembered per replica: two within half an hour are told.
OOMS_KEPT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An action that has begun and not ended."""

    id: str
    action: str  # fetch | start | terminate | kill | remove
    reason: str
    at: float
    instance: str  # the daemon that began it
    container: str = ""
    overtaken: bool = False  # its replica was moved since


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The last failure of a replica."""

    reason: str
    at: float
    count: int  # failures in a row, this one included; 0 for one that is not held against it
    container: str = ""
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OomRecord:
    """A container that ended for want of VRAM, in its own words."""

    at: float
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaHistory:
    container: str = ""  # the newest one started or adopted
    container_at: float = 0.0
    spec_digest: str = ""  # of that container; "" when it was adopted
    ready_container: str = ""
    ready_at: float = 0.0
    failure: Failure | None = None
    restarts: tuple[float, ...] = ()  # starts after a failure, oldest first
    starts: tuple[float, ...] = ()  # all of them
    start_undone: bool = False  # the last one was not carried out, or its image not fetched
    baseline_bytes: int | None = None  # VRAM of that container when it had settled
    draining_container: str = ""
    draining_at: float = 0.0
    draining_seconds: float = 0.0
    draining_instance: str = ""  # the daemon that began it, and its first Status that shows it
    draining_seq: int = 0
    terminated_container: str = ""
    terminated_at: float = 0.0
    killed_container: str = ""
    removed_container: str = ""  # by us
    replaced_container: str = ""  # by a start that has begun: what becomes of it is our doing
    missing_image: str = ""  # which its last start did not find
    attempt: Attempt | None = None
    closed_at: float = 0.0  # when the last attempt ended
    undone_at: float | None = None  # the same, if it ended badly
    undone_container: str = ""  # what that attempt was about
    undone_action: str = ""
    ooms: tuple[OomRecord, ...] = ()  # oldest first
    #: Where it was last moved to since its container was ordered; () is the CPU, or its own place.
    moved: Assignment | None = None
    moved_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class XidRecord:
    number: int
    at: float
    pid: int | None = None
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """Nothing new is started on a GPU, until an operator says otherwise."""

    reason: str  # cordoned: by an operator; else the reason of the condition it was avoided for
    at: float
    by_operator: bool = False
    note: str = ""  # in the operator's words
    uid: int | None = None  # of the operator


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHistory:
    xids: tuple[XidRecord, ...] = ()  # oldest first; one for each burst
    cordon: Cordon | None = None
    cleared_at: float | None = None  # an operator found it well: nothing of before is due
    cleared_uncorrected: int | None = None  # ECC errors it had counted then; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentRecord:
    verb: str  # run | stop | up | down | renew | failover
    at: float
    order: int  # later is larger
    profile: str = ""  # of a failover of one subject: applied when it was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    replicas: Mapping[str, ReplicaHistory] = field(default_factory=dict)
    intents: Mapping[str, IntentRecord] = field(default_factory=dict)  # subject → run or stop
    renewals: Mapping[str, IntentRecord] = field(default_factory=dict)  # subject → renew
    #: Subject → where an operator wants it: on the `cpu`, or on `gpu`s as the profile has it.
    failovers: Mapping[str, tuple[IntentRecord, str]] = field(default_factory=dict)
    gpus: Mapping[str, GpuHistory] = field(default_factory=dict)  # by UUID
    assignments: Assignments = field(default_factory=Assignments)
    measured: Mapping[str, int] = field(default_factory=dict)  # VRAM by `VramPlan.measure_key`
    #: Of a failover's that could not be fetched: why not.
    images: Mapping[str, str] = field(default_factory=dict)
    host_fault_at: float | None = None  # starts are held since then
    host_fault_starts: tuple[float, ...] = ()  # probe starts made in it
    last_start_at: float | None = None  # of any replica
    began_at: float | None = None  # the first thing remembered: what is older was never looked at
    cautious: bool = False  # the events of before were lost
    order: int = 0  # of the latest intent

    def replica(self, name: str) -> ReplicaHistory:
        return self.replicas.get(name, _BLANK)

    def gpu(self, uuid: str) -> GpuHistory:
        return self.gpus.get(uuid, _BLANK_GPU)

    def wanted(self, replica: str, workload: str) -> IntentRecord | None:
        """Return the latest intent that concerns a replica: its own, its workload's, everyone's."""
        return _latest(self.intents, replica, workload)

    def failed_over(self, replica: str, workload: str, profile: str = "") -> str:
        """
        Return where an operator wants a replica: `cpu`, `gpu`, or "" for nothing said.

        What was said of a name under another *profile* was not said of this replica.
        """
        told = [self.failovers[s] for s in (replica, workload, "") if s in self.failovers]
        found = [each for each in told if each[0].profile in ("", profile)]
        return max(found, key=lambda told: told[0].order)[1] if found else ""

    def renewed(self, replica: str, workload: str) -> IntentRecord | None:
        return _latest(self.renewals, replica, workload)


_BLANK = ReplicaHistory()
_BLANK_GPU = GpuHistory()


def _latest(
    records: Mapping[str, IntentRecord], replica: str, workload: str
) -> IntentRecord | None:
    found = [records[subject] for subject in (replica, workload, "") if subject in records]
    return max(found, key=lambda record: record.order, default=None)
