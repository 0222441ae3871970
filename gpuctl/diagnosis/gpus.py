"""Are the cards those that the profile counts on, and in good health?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gpuctl.diagnosis.facts import Facts
from gpuctl.diagnosis.finding import Finding, Group, fail, needing, ok, skip, warn
from gpuctl.model import GpuReading

Gpus = Sequence[GpuReading]


def count(gpus: Gpus, facts: Facts) -> Iterator[Finding]:
    """Judge number and names against the profile's `[host] gpus`."""
    profile = facts.wanted.profile if facts.wanted else None
    there = _summed(gpus)
    if profile is None or not profile.host.gpus:
        if gpus:
            yield ok("count", there)
        else:
            yield skip("count", "no GPU here, and the profile counts on none")
        return
    lacking = []
    for wanted in profile.host.gpus:
        # A card that is lost since before it was ever read has no name: `lost` tells of it.
        found = sum(gpu.state == "lost" or wanted.name.lower() in gpu.name.lower() for gpu in gpus)
        if found < wanted.count:
            lacking.append(f"{found} of {wanted.count} {wanted.name or 'GPUs'}")
    if lacking:
        message = f"the profile counts on more: {', '.join(lacking)} here ({there})"
        fix = "lspci | grep -i nvidia; nvidia-smi -L; or correct [host] gpus in the profile"
        yield fail("count", "fewer_gpus", message, fix)
    elif gone := _where(gpus, lambda gpu: gpu.state == "lost"):
        message = f"{there}, and {_named(gone)} of them {'are' if len(gone) > 1 else 'is'} lost"
        fix = "see `lost`; `up` starts what runs without it, or on a reserve GPU"
        yield warn("count", "fewer_gpus", message, fix)
    else:
        yield ok("count", f"{there}, as the profile counts on")


def lost(gpus: Gpus, facts: Facts) -> Iterator[Finding]:
    """Judge which cards can be asked at all."""
    gone = [gpu for gpu in gpus if gpu.state == "lost"]
    if gone:
        message = f"{_named(gone)} cannot be asked: off the bus, or waiting for a reset"
        fix = "sudo dmesg | grep -E 'NVRM|Xid'; a card that fell off the bus needs a reboot"
        yield fail("lost", "gpu_lost", message, fix)
    elif gpus:
        yield ok("lost", "every card answers")
    else:
        yield skip("lost", "no GPU")


def recovery(gpus: Gpus, facts: Facts) -> Iterator[Finding]:
    """Judge what the driver itself asks for."""
    asked = {
        gpu: gpu.health.recovery_action
        for gpu in gpus
        if gpu.health is not None and gpu.health.recovery_action is not None
    }
    wanting = {gpu: action for gpu, action in asked.items() if action != "none"}
    if wanting:
        message = "the driver asks for: " + ", ".join(
            f"{_named([gpu])} {action}" for gpu, action in wanting.items()
        )
        gpu, action = next(iter(wanting.items()))
        resets = action in ("gpu_reset", "drain_and_reset")
        reset = f"`gpuctl stop` what runs there, then `sudo nvidia-smi --gpu-reset -i {gpu.index}`"
        yield fail("recovery", "recovery_action", message, reset if resets else "sudo reboot")
    elif asked:
        yield ok("recovery", "the driver asks for nothing")
    else:
        yield skip("recovery", "these cards do not report it", "not_reported")


def memory_rows(gpus: Gpus, facts: Facts) -> Iterator[Finding]:
    """Judge memory that is to be put out of use: remapped rows, or pages before Ampere."""
    failed = _where(gpus, lambda gpu: gpu.health and gpu.health.remapped_rows_failure)
    pending = _where(
        gpus,
        lambda gpu: (
            gpu.health and (gpu.health.remapped_rows_pending or gpu.health.retired_pages_pending)
        ),
    )
    told = _where(
        gpus,
        lambda gpu: (
            gpu.health
            and (
                gpu.health.remapped_rows_pending is not None
                or gpu.health.retired_pages_pending is not None
            )
        ),
    )
    if failed:
        message = f"{_named(failed)}: no spare row was left for a bad one"
        fix = "have the card replaced; until then `gpuctl stop` what runs there"
        yield fail("memory_rows", "rows_failed", message, fix)
    if pending:
        message = f"{_named(pending)}: bad memory is put out of use at the next reset"
        fix = f"in a quiet hour: sudo nvidia-smi --gpu-reset -i {pending[0].index}"
        yield warn("memory_rows", "rows_pending", message, fix)
    if not failed and not pending:
        if told:
            yield ok("memory_rows", "none is waiting to be put out of use")
        else:
            yield skip("memory_rows", "these cards do not report it", "not_reported")


def ecc(gpus: Gpus, facts: Facts) -> Iterator[Finding]:
    """Judge memory errors that could not be corrected since the driver was loaded."""
    counts = {
        gpu: gpu.health.ecc_uncorrected_volatile
        for gpu in gpus
        if gpu.health is not None and gpu.health.ecc_uncorrected_volatile is not None
    }
    bad = {gpu: number for gpu, number in counts.items() if number}
    if bad:
        message = "uncorrected memory errors since the driver was loaded: " + ", ".join(
            f"{_named([gpu])} {number}" for gpu, number in bad.items()
        )
        fix = (
            f"nvidia-smi -q -d ECC -i {next(iter(bad)).index}; a card that goes on needs replacing"
        )
        yield warn("ecc", "ecc_uncorrected", message, fix)
    elif counts:
        yield ok("ecc", "no uncorrected memory error")
    else:
        yield skip("ecc", "these cards do not report it", "not_reported")


def mig(gpus: Gpus, facts: Facts) -> Iterator[Finding]:
    """Judge MIG: gpuctl plans whole cards, and a card in MIG mode takes no such request."""
    split = _where(gpus, lambda gpu: gpu.facts and gpu.facts.mig_enabled)
    if split:
        message = f"{_named(split)}: MIG is on, and gpuctl plans whole cards"
        yield fail("mig", "mig_enabled", message, f"sudo nvidia-smi -i {split[0].index} -mig 0")
    elif _where(gpus, lambda gpu: gpu.facts and gpu.facts.mig_enabled is not None):
        yield ok("mig", "off")
    else:
        yield skip("mig", "these cards have no MIG", "not_reported")


def pcie(gpus: Gpus, facts: Facts) -> Iterator[Finding]:
    """Judge the lanes of each card; the generation drops on an idle card and tells nothing."""
    widths = {
        gpu: (gpu.health.pcie_width, gpu.facts.pcie_width_max)
        for gpu in gpus
        if gpu.health and gpu.health.pcie_width and gpu.facts and gpu.facts.pcie_width_max
    }
    narrow = {gpu: width for gpu, width in widths.items() if width[0] < width[1]}
    if narrow:
        alike = {width: [g for g in narrow if narrow[g] == width] for width in narrow.values()}
        message = "fewer PCIe lanes than the card has: " + ", ".join(
            f"{_named(cards)} x{now} of x{most}" for (now, most), cards in alike.items()
        )
        fix = "another slot or riser; harmless to one-card replicas but for slower model loads"
        yield warn("pcie", "pcie_narrow", message, fix)
    elif widths:
        yield ok("pcie", "every card has all its lanes")
    else:
        yield skip("pcie", "these cards do not report it", "not_reported")


def _named(gpus: Gpus) -> str:
    """Return `gpu 3`, or `gpus 0, 3`."""
    return f"gpu{'s' * (len(gpus) > 1)} {', '.join(str(gpu.index) for gpu in gpus)}"


def _summed(gpus: Gpus) -> str:
    names = [gpu.name for gpu in gpus]
    return ", ".join(f"{names.count(name)}x {name}" for name in dict.fromkeys(names)) or "no GPU"


def _where(gpus: Gpus, true: Callable[[GpuReading], object]) -> list[GpuReading]:
    return [gpu for gpu in gpus if true(gpu)]


GROUP = Group(
    name="gpus",
    checks=(
        needing("gpus", "count", count),
        needing("gpus", "lost", lost),
        needing("gpus", "recovery", recovery),
        needing("gpus", "memory_rows", memory_rows),
        needing("gpus", "ecc", ecc),
        needing("gpus", "mig", mig),
        needing("gpus", "pcie", pcie),
    ),
)
