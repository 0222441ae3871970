"""A host whose GPUs can be lost, with a daemon on it that plans from a profile."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import Any, Literal

import pytest

from gpuctl.arrangement import Setting
from gpuctl.errors import GpuctlError
from gpuctl.model import (
    Assignments,
    ContainerSpec,
    GpuFacts,
    GpuIdentity,
    GpuProcess,
    GpuReading,
    HostSettings,
    Inventory,
    Known,
    Plan,
    Profile,
    Workload,
)
from gpuctl.planning import plan
from gpuctl.plugin import load_engines
from gpuctl.profile import find, load
from gpuctl.views import chain
from tests import make
from tests.fakes import busy
from tests.stage import Stage

ENGINES = load_engines()
GIB = 2**30


class Rack(Stage):
    """A Stage that plans: cards of 6 GiB by index, and a workload `chat` on some of them."""

    def __init__(self, profile: Profile, cards: tuple[GpuReading, ...]) -> None:
        self.profile = profile
        self.cards = cards
        super().__init__(self.arrange(Assignments()))
        self.fakes.runtime.images.add("engine:cpu")
        self.fakes.runtime.images.add("engine:big")
        self.fakes.gpus.readings = cards

    @classmethod
    def with_gpus(
        cls,
        gpus: tuple[Any, ...],
        reserve: tuple[int, ...] = (),
        *,
        cards: int | None = None,
        lost: tuple[int, ...] = (),
        small: tuple[int, ...] = (),
        others: tuple[str, ...] = (),
        mode: Literal["enforce", "observe"] = "enforce",
        uuids: tuple[str, ...] = (),
        **fields: Any,
    ) -> Rack:
        """Return a rack whose replicas are all ready."""
        groups = tuple(item if isinstance(item, tuple) else (item,) for item in gpus)
        values: dict[str, Any] = {
            "engine": "container", "image": "engine:1", "gpus": groups or "none", **fields,
        }  # fmt: skip
        named = (("chat", 8081), *((name, 8181) for name in others))
        profile = Profile(
            host=HostSettings(name="test", reserve=reserve),
            watchdog=replace(make.SETTINGS, mode=mode),
            workloads=tuple(Workload(name=name, port=port, **values) for name, port in named),
        )
        most = max([*reserve, *(index for group in groups for index in group), -1]) + 1
        rack = cls(
            profile,
            tuple(
                make.gpu(index, uuid=uuid, memory_total_bytes=(3 if index in small else 6) * GIB)
                for index, uuid in enumerate(uuids or [f"GPU-{n}" for n in range(cards or most)])
            ),
        )
        rack.lose(*lost)
        rack.pass_(6)
        return rack

    @classmethod
    def of_profile(cls, name: str, **card: Any) -> Rack:
        """Return a rack of eight such cards under a shipped profile, all of it ready."""
        found = load(find(name), engines=ENGINES)
        found = replace(found, watchdog=make.SETTINGS)
        rack = cls(found, tuple(make.gpu(index, name="A100", **card) for index in range(8)))
        rack.fakes.runtime.images.update(workload.image for workload in found.workloads)
        rack.pass_(6)
        return rack

    def load(self) -> Setting:
        made = self.arrange(Assignments())
        return Setting(profile=self.profile, plan=made, arrange=self.arrange)

    def arrange(self, assignments: Assignments) -> Plan:
        identities = tuple(
            GpuIdentity(
                index=card.index,
                uuid=card.uuid,
                name=card.name,
                memory_total_bytes=card.memory_total_bytes,
                reserved_bytes=card.memory_reserved_bytes,
            )
            for card in self.cards
        )
        return plan(
            self.profile,
            Inventory(gpus=identities),
            ENGINES,
            strict=False,
            known=Known(assignments=assignments),
        )

    def pass_(self, seconds: float = 0.0, step: float = 1.0) -> None:
        """Let time pass; the GPUs are read anew at each step."""
        while True:
            at = self.fakes.clock.seconds
            self.fakes.gpus.readings = tuple(
                replace(card, boot_seconds=at) for card in self.fakes.gpus.readings
            )
            super().pass_(0.0)
            if seconds <= 0:
                return
            seconds -= step
            self.fakes.clock.advance(step)

    def ask(self, verb: str, subject: str = "", **arguments: Any) -> None:
        told = {"verb": verb, "subject": subject, "arguments": arguments, "uid": 0, "pid": 1}
        assert self.daemon.intend(told)["ok"]

    def reworked(
        self, *workloads: Workload, reserve: tuple[int, ...] | None = None, name: str = "test"
    ) -> None:
        """Apply another profile, as `up` does."""
        host = replace(self.profile.host, name=name)
        host = host if reserve is None else replace(host, reserve=reserve)
        self.profile = replace(self.profile, host=host, workloads=workloads)
        self.ask("up")

    def lose(self, *indexes: int) -> None:
        self._change(indexes, state="lost")

    def find(self, *indexes: int) -> None:
        self._change(indexes, state="ok")

    def hide(self, index: int) -> None:
        """Have the driver list a GPU no more."""
        kept = (card for card in self.fakes.gpus.readings if card.index != index)
        self.fakes.gpus.readings = tuple(kept)

    def works(self) -> None:
        """Have the first replica at work on a request that does not end."""
        self.fakes.prober.answers[8081] = busy(tokens=1)

    def places(self) -> dict[str, tuple[int, ...]]:
        """Return where the Status has each replica that is not stopped."""
        return {
            row["name"]: tuple(gpu["index"] for gpu in row["gpus"])
            for row in self.fakes.store.status["replicas"]
            if row["phase"] != "stopped"
        }

    def states(self) -> list[str]:
        return [gpu["state"] for gpu in self.fakes.store.status["gpus"]]

    def reasons(self) -> set[tuple[str, str]]:
        """Return what is told of GPUs, replicas and workloads."""
        found = self.fakes.store.status["conditions"]
        return {(c["subject"], c["reason"]) for c in found if c["state"] != "unknown"} - {
            ("host", "fewer_gpus")
        }

    def condition(self, subject: str) -> dict[str, Any]:
        """Return what the check of places tells of a subject."""
        found = self.fakes.store.status["conditions"]
        return next(c for c in found if (c["check"], c["subject"]) == ("placement", subject))

    def story(self, replica: str) -> list[str]:
        """Return what `why` tells of a replica, line by line."""
        concerned = (replica, replica.rpartition("-")[0], "")
        found = [event for event in self.fakes.store.stored if event.subject in concerned]
        return list(chain.lines(replica, chain.last(found), UTC))

    def actions(self) -> list[str]:
        attempts = (e for e in self.fakes.store.stored if e.kind == "attempt")
        return [str(e.evidence["action"]) for e in attempts if e.evidence["action"] != "remove"]

    def spec(self, replica: str) -> ContainerSpec:
        """Return what the replica's present container was made of."""
        return self.fakes.runtime.specs[str(self.row(replica)["container"])]

    def _change(self, indexes: tuple[int, ...], **fields: Any) -> None:
        self.fakes.gpus.readings = tuple(
            replace(card, **fields) if card.index in indexes else card
            for card in self.fakes.gpus.readings
        )

    def heat(self, index: int) -> None:
        """Have a GPU near the temperature at which it shuts itself down."""
        facts = GpuFacts(temperature_shutdown_celsius=100.0)
        self._change((index,), temperature_celsius=99.0, facts=facts)

    def cool(self, index: int) -> None:
        self._change((index,), temperature_celsius=50.0)

    def crowd(self, index: int, *strangers: GpuProcess) -> None:
        """Have others than replicas on a GPU; nobody is told of where none is named."""
        self._change((index,), processes=strangers or None)


def gpus_of(rack: Rack) -> dict[str, tuple[str, ...]]:
    """Return what each running container was given, by replica."""
    found = rack.fakes.runtime.containers.values()
    return {c.replica: c.gpus for c in found if c.state == "running"}


def refused(rack: Rack, verb: str, subject: str = "", **arguments: Any) -> str:
    """Return why a request is refused; nothing of it is recorded."""
    before = len(rack.fakes.store.stored)
    with pytest.raises(GpuctlError) as caught:
        rack.ask(verb, subject, **arguments)
    assert len(rack.fakes.store.stored) == before
    return caught.value.message
