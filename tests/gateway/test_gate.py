"""One replica's gate: named histories, and any history against a model without tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gpuctl.gateway.gate import Gate

COOLDOWN = 30.0


@dataclass(slots=True)
class Played:
    """A gate with what happened at it, told in words: `a begins`, `a fails`, `20 s`, `reset`."""

    gate: Gate
    now: float = 1000.0
    tokens: dict[str, int] = field(default_factory=dict)

    def play(self, story: str) -> None:
        for step in story.split(", "):
            who, _, what = step.partition(" ")
            match what:
                case "s":
                    self.now += float(who)
                case "":
                    self.gate.reset()
                case "begins":
                    self.tokens[who] = self.gate.begin(self.now)
                case "succeeds":
                    self.gate.succeeded(self.tokens.pop(who))
                case "is dropped":
                    self.gate.dropped(self.tokens.pop(who))
                case "fails" | "is refused":
                    refused = what == "is refused"
                    self.gate.failed(self.tokens.pop(who), self.now, refused=refused)
                case _:
                    raise AssertionError(step)

    def found(self) -> tuple[str, bool]:
        return self.gate.state(self.now), self.gate.allows(self.now)


def test_what_opens_and_closes_it_is_told() -> None:
    """Each call says whether the gate opened or closed by it, and not whether it is."""
    gate = Gate(2, COOLDOWN)
    first, second, third = gate.begin(0.0), gate.begin(0.0), gate.begin(0.0)
    assert not gate.failed(first, 1.0, refused=False)
    assert gate.failed(second, 1.0, refused=False)
    assert not gate.failed(third, 1.0, refused=True)
    trial = gate.begin(40.0)
    assert gate.succeeded(trial)
    assert not gate.succeeded(trial)
    assert not gate.succeeded(first)


@pytest.mark.parametrize(
    ("story", "found"),
    [
        pytest.param("0 s", ("closed", True), id="new"),
        pytest.param("a begins, a fails", ("closed", True), id="one-failure"),
        pytest.param(
            "a begins, a fails, b begins, b fails, c begins, c fails", ("open", False), id="three"
        ),
        pytest.param("a begins, a is refused", ("open", False), id="refused-once"),
        pytest.param(
            "a begins, b begins, c begins, a fails, b fails, c fails",
            ("open", False),
            id="three-side-by-side",
        ),
        pytest.param(
            "a begins, a fails, b begins, b fails, c begins, c succeeds, a begins, a fails, "
            "b begins, b fails",
            ("closed", True),
            id="an-answer-between-them",
        ),
        pytest.param(
            "a begins, a fails, b begins, b fails, c begins, c is dropped, d begins, d fails",
            ("open", False),
            id="what-shows-nothing-between-them-changes-nothing",
        ),
        pytest.param("a begins, a is refused, 29.9 s", ("open", False), id="before-the-end"),
        pytest.param("a begins, a is refused, 30 s", ("half_open", True), id="cooled-down"),
        pytest.param(
            "a begins, a is refused, 30 s, b begins", ("half_open", False), id="one-trial-at-a-time"
        ),
        pytest.param(
            "a begins, a is refused, 30 s, b begins, b succeeds", ("closed", True), id="healed"
        ),
        pytest.param(
            "a begins, a is refused, 30 s, b begins, 5 s, b fails, 29.9 s",
            ("open", False),
            id="one-failed-trial-is-enough",
        ),
        pytest.param(
            "a begins, a is refused, 30 s, b begins, 5 s, b fails, 30 s",
            ("half_open", True),
            id="tried-again-after-a-cooldown",
        ),
        pytest.param(
            "a begins, a is refused, 30 s, b begins, b is dropped",
            ("half_open", True),
            id="a-trial-that-shows-nothing-makes-room",
        ),
        pytest.param(
            "a begins, a fails, b begins, b fails, c begins, c is refused, 30 s, d begins, "
            "d succeeds, e begins, e fails, f begins, f fails",
            ("closed", True),
            id="healed-with-nothing-held-against-it",
        ),
        pytest.param(
            "a begins, b begins, b is refused, 1 s, a succeeds",
            ("open", False),
            id="a-late-answer-does-not-close-it",
        ),
        pytest.param(
            "a begins, b begins, b is refused, 29 s, a is refused, 1 s",
            ("half_open", True),
            id="a-late-failure-prolongs-nothing",
        ),
        pytest.param(
            "a begins, b begins, b is refused, 30 s, c begins, a is refused, c succeeds",
            ("closed", True),
            id="a-late-failure-beside-the-trial",
        ),
        pytest.param(
            "a begins, b begins, b is refused, 30 s, c begins, a succeeds",
            ("half_open", False),
            id="a-late-answer-is-not-the-trial's",
        ),
        pytest.param(
            "a begins, b begins, b is refused, 30 s, c begins, a is dropped",
            ("half_open", False),
            id="a-late-end-is-not-the-trial's",
        ),
        pytest.param("a begins, a is refused, reset", ("closed", True), id="reset"),
        pytest.param(
            "a begins, a is refused, 30 s, b begins, reset, b fails",
            ("closed", True),
            id="a-trial-of-the-container-before",
        ),
        pytest.param(
            "a begins, b begins, c begins, reset, a is refused, b fails, c fails",
            ("closed", True),
            id="failures-of-the-container-before",
        ),
        pytest.param(
            "a begins, a fails, b begins, b fails, reset, c begins, c fails",
            ("closed", True),
            id="a-reset-forgets-failures",
        ),
        pytest.param(
            "a begins, a is refused, b begins, b succeeds",
            ("open", False),
            id="sent-although-it-was-open",
        ),
        pytest.param(
            "a begins, a is refused, 30 s, b begins, c begins, c fails, b succeeds",
            ("closed", True),
            id="sent-beside-the-trial",
        ),
    ],
)
def test_histories(story: str, found: tuple[str, bool]) -> None:
    """Three failures in a row or one refusal open it; after 30 s one trial decides."""
    played = Played(Gate(allowed_fails=3, cooldown_seconds=COOLDOWN))
    played.play(story)
    assert played.found() == found


def test_the_seeds_own_numbers() -> None:
    """Two failures, 60 s, as the P106 profile has it."""
    played = Played(Gate(allowed_fails=2, cooldown_seconds=60.0))
    played.play("a begins, a fails, b begins, b fails")
    assert (played.found(), played.gate.retry_at) == (("open", False), 1060.0)
    played.play("60 s")
    assert played.found() == ("half_open", True)


def test_asking_takes_nothing() -> None:
    """However often it is asked, the trial is still to be had."""
    played = Played(Gate(allowed_fails=3, cooldown_seconds=COOLDOWN))
    played.play("a begins, a is refused, 30 s")
    assert [played.gate.allows(played.now) for _ in range(3)] == [True, True, True]


@pytest.mark.parametrize("verdict", ["succeeded", "failed", "dropped"])
@pytest.mark.parametrize("trial", [False, True])
def test_dropped_after_its_verdict_changes_nothing(verdict: str, trial: bool) -> None:
    """Not even when the next trial is under way: whoever tidies up need not know what was told."""
    played = Played(Gate(allowed_fails=1, cooldown_seconds=COOLDOWN))
    if trial:
        played.play("z begins, z is refused, 30 s")
    token = played.gate.begin(played.now)
    match verdict:
        case "succeeded":
            played.gate.succeeded(token)
        case "failed":
            played.gate.failed(token, played.now, refused=False)
        case _:
            played.gate.dropped(token)
    for story in ("0 s", "30 s, next begins"):
        played.play(story)
        before = played.found()
        played.gate.dropped(token)
        assert played.found() == before


def test_each_opening_counts() -> None:
    """A failed trial is one more; a closing and a reset are none."""
    played = Played(Gate(allowed_fails=3, cooldown_seconds=COOLDOWN))
    played.play("a begins, a is refused, 30 s, b begins, b fails, 30 s, c begins, c succeeds")
    played.play("d begins, d is refused, reset")
    assert (played.gate.opened_total, played.gate.retry_at) == (3, None)


def test_new_settings_hold_from_the_next_failure_on() -> None:
    """An open gate keeps the end that it has."""
    played = Played(Gate(allowed_fails=3, cooldown_seconds=COOLDOWN))
    played.play("a begins, a fails, b begins")
    played.gate.allowed_fails, played.gate.cooldown_seconds = 2, 10.0
    played.play("b fails")
    played.gate.cooldown_seconds = 99.0
    assert played.gate.retry_at == 1010.0


@dataclass(slots=True, eq=False)
class Sent:
    """A request in the model: its end is heard or not, whatever number the gate gave it."""

    token: int
    heard: bool


class Histories(RuleBasedStateMachine):
    """Any order of requests, ends, waits and resets, beside a model that keeps no numbers."""

    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(allowed_fails=3, cooldown_seconds=COOLDOWN)
        self.now = 0.0
        self.under_way: list[Sent] = []
        self.opened_at: float | None = None
        self.trial: Sent | None = None
        self.failures = 0
        self.openings = 0

    def hear_no_more(self) -> None:
        for request in self.under_way:
            request.heard = False

    def close(self) -> None:
        self.opened_at, self.trial, self.failures = None, None, 0

    @rule(target=sent)
    def begin(self) -> Sent:
        cooled = self.opened_at is not None and self.now >= self.opened_at + COOLDOWN
        is_trial = cooled and self.trial is None
        request = Sent(self.gate.begin(self.now), self.opened_at is None or is_trial)
        if is_trial:
            self.trial = request
        self.under_way.append(request)
        return request

    @rule(request=consumes(sent))
    def succeed(self, request: Sent) -> None:
        self.under_way.remove(request)
        self.gate.succeeded(request.token)
        if request.heard:
            self.close()

    @rule(request=consumes(sent), refused=st.booleans())
    def fail(self, request: Sent, refused: bool) -> None:
        self.under_way.remove(request)
        self.gate.failed(request.token, self.now, refused=refused)
        if not request.heard:
            return
        self.failures += 1
        if refused or request is self.trial or self.failures == 3:
            self.close()
            self.hear_no_more()
            self.opened_at = self.now
            self.openings += 1

    @rule(request=consumes(sent))
    def drop(self, request: Sent) -> None:
        self.under_way.remove(request)
        self.gate.dropped(request.token)
        if request is self.trial:
            self.trial = None

    @rule(seconds=st.sampled_from((0.1, 10.0, COOLDOWN, 100.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def reset(self) -> None:
        self.gate.reset()
        self.close()
        self.hear_no_more()

    @invariant()
    def agrees(self) -> None:
        retry_at = None if self.opened_at is None else self.opened_at + COOLDOWN
        state = "closed"
        if retry_at is not None:
            state = "open" if self.now < retry_at else "half_open"
        allowed = state == "closed" or (state == "half_open" and self.trial is None)
        assert (
            self.gate.state(self.now),
            self.gate.allows(self.now),
            self.gate.retry_at,
            self.gate.opened_total,
        ) == (state, allowed, retry_at, self.openings)


TestHistories = Histories.TestCase
TestHistories.settings = settings(stateful_step_count=40, deadline=None)
