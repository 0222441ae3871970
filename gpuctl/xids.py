"""
The Xids: errors that NVIDIA's driver reports of a GPU, and what each calls for. Data, and PURE.

Sources: what NVIDIA says to do is the immediate action of its Xid catalog
(docs.nvidia.com/deploy/xid-errors, "Analyzing Xid Errors with the Xid Catalog"); repeats are
counted as in gpud's and DCGM's health checks. A reset and a reboot are recommended, never done.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gpuctl.history import XidRecord

#: What an Xid calls for, from nothing to the worst:
#: info      nothing; it is in the journal
#: app       a restart of the replica whose process it names
#: alert     somebody's attention
#: reset     no work on this GPU until it is reset
#: reboot    no work on this GPU until the host is rebooted
#: hardware  no work on this GPU until it is examined or replaced
Effect = Literal["info", "app", "alert", "reset", "reboot", "hardware"]
EFFECTS: tuple[Effect, ...] = ("info", "app", "alert", "reset", "reboot", "hardware")
#: Effects for which a GPU is not used.
AVOIDED: frozenset[Effect] = frozenset({"reset", "reboot", "hardware"})

DAY = 86400.0
MONTH = 30 * DAY
#: What the driver asks for is read every minute, and may be of before the error for a moment: until
#: then the table holds, as work on a sick GPU is worse than a needless move.
_ASKED_SECONDS = 30.0
#: What calls for attention is shown for so long.
ALERT_SECONDS = DAY

_RESTART = "restart the application"
_RESET = "reset the GPU (`nvidia-smi -r`, with nothing on it) or reboot the host"
_REBOOT = "reboot the host"
_SUPPORT = "contact support if it comes again"
_FOLLOW = "look at the other errors of this time"
_LINK = "examine the NVLink connections; reset the GPUs that hang on them"
_REPLACE = "have the card examined: it may have to be replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """So many within so long call for more."""

    count: int
    seconds: float
    effect: Effect


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One Xid."""

    meaning: str
    advice: str  # what NVIDIA says to do
    effect: Effect
    repeat: Repeat | None = None
    in_group: Effect | None = None  # instead, where a replica spans this GPU and others
    after_failure: Effect | None = None  # instead, once a replica on this GPU has failed since
    #: Some application was hit for certain: where it names none, the only one on the GPU.
    hits_one: bool = False


_AGAIN_IN_A_MONTH = Repeat(count=2, seconds=MONTH, effect="hardware")
_TWICE_A_DAY = Repeat(count=2, seconds=DAY, effect="alert")


def _entry(meaning: str, advice: str, effect: Effect, repeat: Repeat | None = None) -> Entry:
    return Entry(meaning=meaning, advice=advice, effect=effect, repeat=repeat)


def _link(meaning: str) -> Entry:
    """An error of NVLink: it matters to a replica that spans GPUs, and to no other."""
    return Entry(meaning=meaning, advice=_LINK, effect="alert", in_group="reset")


TABLE: Mapping[int, Entry] = {
    8: _entry("GPU stopped processing", f"{_RESTART}; {_SUPPORT}", "app"),
    13: _entry("graphics engine exception", f"{_RESTART}; {_SUPPORT}", "app", _TWICE_A_DAY),
    31: _entry("GPU memory page fault", f"{_RESTART}; {_SUPPORT}", "app", _TWICE_A_DAY),
    32: _entry(
        "invalid or corrupted push buffer", _RESTART, "app",
        Repeat(count=3, seconds=DAY, effect="reset"),
    ),
    43: _entry("GPU stopped processing for one application", "none", "info"),
    45: _entry("preemptive cleanup after another error", _FOLLOW, "info"),
    46: _entry("GPU stopped processing", f"{_RESET}; {_SUPPORT}", "reset"),
    48: _entry("double-bit ECC error", _RESET, "reset", _AGAIN_IN_A_MONTH),
    61: Entry(
        meaning="internal micro-controller breakpoint", advice=_SUPPORT, effect="alert",
        after_failure="reset",
    ),
    62: _entry("internal micro-controller halt", f"{_RESET}; {_SUPPORT}", "reset"),
    63: _entry("row remapping or page retirement recorded", "none until the next reset", "info"),
    64: _entry("row remapping or page retirement failed", f"{_RESET}; {_SUPPORT}", "hardware"),
    68: _entry("video decoder exception", _RESTART, "app"),
    69: _entry("graphics engine class error", _RESTART, "app"),
    74: _link("NVLink error"),
    79: _entry("GPU has fallen off the bus", f"{_REBOOT}; {_SUPPORT}", "reboot", _AGAIN_IN_A_MONTH),
    92: _entry("high rate of single-bit ECC errors", _SUPPORT, "alert"),
    93: _entry("wear of the InfoROM", "none", "info"),
    94: Entry(
        meaning="contained memory error", advice=_RESTART, effect="app",
        repeat=Repeat(count=3, seconds=DAY, effect="hardware"), hits_one=True,
    ),
    95: _entry("uncontained memory error", _RESET, "reset"),
    109: _entry(
        "context switch timed out", f"{_RESET}; {_SUPPORT}", "app",
        Repeat(count=2, seconds=DAY, effect="reset"),
    ),
    110: _entry("security fault", _RESET, "reset"),
    119: _entry("GPU system processor did not answer", _RESET, "reset"),
    120: _entry("GPU system processor error", _RESET, "reset"),
    121: _entry("chip-to-chip link error", _SUPPORT, "alert"),
    136: _link("NVLink training failed"),
    137: _entry("NVLink access without privilege", _RESTART, "app"),
    140: _entry("unrecovered ECC error", f"{_RESET}; {_SUPPORT}", "reset", _AGAIN_IN_A_MONTH),
    143: _entry(
        "GPU failed to initialize", f"{_RESET}; {_SUPPORT}", "reboot", _AGAIN_IN_A_MONTH
    ),
    **{number: _link("NVLink error") for number in range(144, 151)},
    151: _entry("key rotation failed", "restart the virtual machine or the host", "reboot"),
    154: _entry("the driver asks for a recovery", "do what it asks for", "alert"),
    155: _entry("NVLink software error", _RESET, "reset"),
    156: _entry("resource retirement", _RESET, "reset"),
    158: _entry("fatal GPU timeout", _RESET, "reset"),
}  # fmt: skip
#: Of an Xid that is not in the table nothing is known but that it came.
UNKNOWN = Entry(
    meaning="not known to this gpuctl", advice="see NVIDIA's Xid catalog", effect="alert"
)

#: What the driver asks for (`nvidia-smi --query-gpu=gpu_recovery_action`), as an effect.
#: Source: NVML_GPU_RECOVERY_ACTION_* in nvml.h.
RECOVERY: Mapping[str, Effect] = {
    "none": "info",
    "gpu_reset": "reset",
    "node_reboot": "reboot",
    "drain_p2p": "alert",  # of a group: see `recovery`
    "drain_and_reset": "reset",
    "recover_imex_domain": "alert",
    "bus_reset": "reset",
    "system_reboot": "reboot",
}
_RECOVERY_ADVICE: Mapping[Effect, str] = {
    "alert": "see NVIDIA's documentation of GPU recovery actions",
    "reset": _RESET,
    "reboot": _REBOOT,
}
#: "Xid 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)": the number
#: is that of NVML_GPU_RECOVERY_ACTION_*. Source: the driver's kernel log.
_ASKED = re.compile(r"to 0x([0-9a-fA-F]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the records of one Xid on one GPU call for."""

    number: int
    effect: Effect
    at: float  # of the latest, on the present boot's clock
    count: int  # that led to it
    entry: Entry = field(default=UNKNOWN)
    advice: str = ""
    drain: bool = False  # the driver asks that the GPU be drained first


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What else is known of the GPU whose records are weighed."""

    now: float  # boot seconds
    in_group: bool = False  # a replica spans it and other GPUs
    failed_at: float | None = None  # when a replica on it last failed
    asked: str | None = None  # the driver's recovery action; None where it does not tell
    asked_at: float = 0.0  # when that was read
    cleared_at: float | None = None  # when an operator last found the GPU well


def recovery(action: str, *, in_group: bool) -> Effect:
    """Return what a recovery action of the driver calls for."""
    if action == "drain_p2p" and in_group:
        return "reset"
    return RECOVERY.get(action, "alert")


def drains(action: str) -> bool:
    """Return whether a recovery action lets what runs on the GPU finish first."""
    return action.startswith("drain")


def recovery_advice(effect: Effect) -> str:
    return _RECOVERY_ADVICE.get(effect, "none")


def findings(records: Iterable[XidRecord], around: Around) -> tuple[Finding, ...]:
    """
    Return what these records of one GPU still call for, the worst first.

    A reset or a reboot is due until the host was booted again; what the hardware is charged with
    stays; what is only told is told for a day. Nothing is due any more once an operator has found
    the GPU well, but the next of the same number is not the first. *records* are oldest first.
    """
    by_number: dict[int, list[XidRecord]] = {}
    for record in records:
        by_number.setdefault(record.number, []).append(record)
    found = [_finding(number, same, around) for number, same in by_number.items()]
    held = [finding for finding in found if _holds(finding, around)]
    return tuple(sorted(held, key=lambda each: (-EFFECTS.index(each.effect), -each.at)))


def _finding(number: int, records: Sequence[XidRecord], around: Around) -> Finding:
    entry, last = TABLE.get(number, UNKNOWN), records[-1]
    effect, count, drain = entry.effect, 1, False
    if entry.in_group is not None and around.in_group:
        effect = entry.in_group
    failed = around.failed_at is not None and around.failed_at >= last.at
    if entry.after_failure is not None and failed:
        effect = entry.after_failure
    if number == 154:
        asked = _asked_for(last)
        effect, drain = recovery(asked, in_group=around.in_group), drains(asked)
    if entry.repeat is not None:
        within = [each for each in records if each.at > last.at - entry.repeat.seconds]
        if len(within) >= entry.repeat.count:
            effect, count = entry.repeat.effect, len(within)
    advice = recovery_advice(effect) if number == 154 else _advice(entry, effect)
    settled = around.asked_at > last.at + _ASKED_SECONDS
    if effect in ("reset", "reboot") and around.asked is not None and settled:
        # The driver knows better than a table, and asked for this well after it had reported that.
        wanted = recovery(around.asked, in_group=around.in_group)
        if wanted != effect:
            effect = max("alert", wanted, key=EFFECTS.index)
            advice = _SUPPORT if wanted == "info" else recovery_advice(wanted)
        drain = drains(around.asked)
    return Finding(
        number=number,
        effect=effect,
        at=last.at,
        count=count,
        entry=entry,
        advice=advice,
        drain=drain,
    )


def _advice(entry: Entry, effect: Effect) -> str:
    """Return the table's advice, or what is due instead where it came to call for more."""
    if effect == "hardware":
        return f"{entry.advice}; {_REPLACE}"
    if effect in AVOIDED and effect not in (entry.effect, entry.in_group):
        return recovery_advice(effect)
    return entry.advice


def _asked_for(record: XidRecord) -> str:
    """Return the recovery action that the text of an Xid 154 asks for, "" where it is not known."""
    found = _ASKED.search(str(record.evidence.get("message", "")))
    place = int(found[1], 16) if found is not None else len(RECOVERY)
    return list(RECOVERY)[place] if place < len(RECOVERY) else ""


def _holds(finding: Finding, around: Around) -> bool:
    if around.cleared_at is not None and finding.at <= around.cleared_at:
        return False
    match finding.effect:
        case "reset" | "reboot":
            return finding.at >= 0.0
        case "alert":
            return around.now - finding.at < ALERT_SECONDS
        case effect:
            # Hardware does not heal; an application's error counts while its container runs.
            return effect != "info"
