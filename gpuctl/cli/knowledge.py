"""What is known of models: their headers, and what earlier runs were measured to take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from gpuctl.cli import compose
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError, StoreError

if TYPE_CHECKING:
    from gpuctl.model import Known, ModelFacts, Profile, Workload


def known(session: Session, profile: Profile) -> Known:
    """
    Return what to plan a profile with.

    A model file that cannot be read is told and left out: its engine may know better.
    """
    from gpuctl.model import Known

    facts: dict[str, ModelFacts] = {}
    for name, workload in _shapes(profile):
        facts |= _facts(session, name, workload)
    return Known(facts=facts, measured=_measured(session))


def _shapes(profile: Profile) -> Iterator[tuple[str, Workload]]:
    """Yield every model that may run, by the name that planning looks it up under."""
    from dataclasses import replace

    for workload in profile.workloads:
        if workload.model:
            yield workload.name, workload
        variants = {"on_cpu": workload.on_cpu, "scaled": workload.scaled}
        for kind, variant in variants.items():
            if variant.model:
                yield f"{workload.name}/{kind}", replace(workload, model=variant.model)


def _facts(session: Session, name: str, workload: Workload) -> dict[str, ModelFacts]:
    from gpuctl.adapters import model_headers

    found = model_headers.place(workload, session.environment)
    if found is None:
        return {}
    path, title = found
    try:
        return {name: model_headers.read(path, name=title)}
    except GpuctlError as error:
        session.say(f"warning: workloads.{name}.model: {error.message}\nhint: {error.hint}")
        return {}


def _measured(session: Session) -> dict[str, int]:
    """Return the newest measurement of each, of the journal if there is one."""
    from gpuctl.model import EventKind

    found: dict[str, int] = {}
    with suppress(StoreError):
        for event in compose.stream(session, kinds=[EventKind.MEASURED]):
            held = event.evidence.get("vram_bytes")
            if isinstance(held, int):
                found[event.subject] = held
    return found
