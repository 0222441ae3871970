"""
What is remembered: Events in, History out.

Whatever limits or triggers an action is an Event, so a restarted daemon decides as one that never
died. `fold` takes one Event more; `remember` starts from stored ones. Times are seconds on the
present boot's clock: an Event of an earlier boot lies in the negative, by wall time.
"""

from gpuctl.history.folding import REMEMBERED, fold, remember
from gpuctl.history.memory import (
    STARTS_KEPT,
    XIDS_KEPT,
    Attempt,
    Cordon,
    Failure,
    GpuHistory,
    History,
    IntentRecord,
    OomRecord,
    ReplicaHistory,
    XidRecord,
)

__all__ = [
    "REMEMBERED",
    "STARTS_KEPT",
    "XIDS_KEPT",
    "Attempt",
    "Cordon",
    "Failure",
    "GpuHistory",
    "History",
    "IntentRecord",
    "OomRecord",
    "ReplicaHistory",
    "XidRecord",
    "fold",
    "remember",
]
