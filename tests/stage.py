"""A whole daemon on fakes, driven tick by tick: where its scenarios are told."""

from __future__ import annotations

from typing import Any

from gpuctl.arrangement import Setting
from gpuctl.daemon import Daemon
from gpuctl.model import Assignments, HostSettings, Plan, ProbeResult, Profile
from tests import make
from tests.fakes import FakeWorld, Inline


class Killed(BaseException):
    """The daemon died here."""


FAULTS = (
    "start.reserved",
    "start.created",
    "start.aside",
    "start.vacated",
    "start.named",
    "start.started",
    "start.logs_saved",
    "start.cleared",
)


class Stage:
    """A fake host with a daemon on it that can be killed and started again."""

    def __init__(self, plan: Plan | None = None) -> None:
        self.fakes = FakeWorld()
        self.plan = plan or make.plan(make.replica(gpus=()))
        self.fault = ""
        self.unreadable: Exception | None = None  # what is wrong with the applied profile
        self.notices: list[str] = []
        self.daemon = self.born()

    def born(self) -> Daemon:
        self.daemon = Daemon(
            self.fakes.world,
            self.load,
            notify=self.notify,
            fault=self._fault,
            hire=Inline,  # type: ignore[arg-type]
        )
        return self.daemon

    def load(self) -> Setting:
        if self.unreadable is not None:
            raise self.unreadable
        profile = Profile(host=HostSettings(name="test"))
        return Setting(profile=profile, plan=self.plan, arrange=self.arrange)

    def arrange(self, assignments: Assignments) -> Plan:
        """Return the plan with what has moved; one made by hand stays as it is."""
        return self.plan

    def notify(self, word: str) -> None:
        self.notices.append(word)

    def pass_(self, seconds: float = 0.0, step: float = 1.0) -> None:
        """Let time pass, sampling and ticking once per *step* seconds."""
        while True:
            self.daemon.sources.sample()
            self.daemon.step()
            if seconds <= 0:
                return
            seconds -= step
            self.fakes.clock.advance(step)

    def up(self) -> str:
        """Bring the first replica to ready; return its container's id."""
        self.pass_(3)
        assert self.phase() == "ready"
        return str(self.row()["container"])

    def row(self, name: str = "chat-0") -> dict[str, Any]:
        rows = {row["name"]: row for row in self.fakes.store.status["replicas"]}
        return dict(rows[name])

    def phase(self, name: str = "chat-0") -> str:
        return str(self.row(name)["phase"])

    def tale(self, *kinds: str, subject: str | None = None) -> list[str]:
        """Return `kind reason` of the events of these kinds, in order."""
        return [
            f"{event.kind} {event.reason}".rstrip()
            for event in self.fakes.store.stored
            if (not kinds or event.kind in kinds) and subject in (None, event.subject)
        ]

    def _fault(self, step: str) -> None:
        if step == self.fault:
            self.fault = ""
            raise Killed(step)


def intend(stage: Stage, verb: str, subject: str = "") -> None:
    reply = stage.daemon.intend({"verb": verb, "subject": subject, "uid": 0, "pid": 1})
    assert reply["ok"]


def refuse(stage: Stage, outcome: str, port: int = 8081) -> None:
    stage.fakes.prober.answers[port] = ProbeResult(outcome=outcome)  # type: ignore[arg-type]
