"""What the variables of other gateways do to `[gateway]`, and that no key is written down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl import applied, overrides
from gpuctl.model import GateSettings, GatewaySettings, QueueSettings, TimeoutSettings
from gpuctl.overrides.gateway_rows import TABLE
from tests.overrides.make import CHAT, profile, refused

SWITCHES = [row.variable for row in TABLE if row.always]


@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        pytest.param(
            {"MAX_QUEUE_SIZE": "0"}, GatewaySettings(queue=QueueSettings(size=0)), id="queue"
        ),
        pytest.param(
            {"REQUEST_TIMEOUT_STREAMING": "600", "REQUEST_TIMEOUT_BATCH": "90s"},
            GatewaySettings(timeouts=TimeoutSettings(streaming_seconds=600, batch_seconds=90)),
            id="times",
        ),
        pytest.param(
            {"CIRCUIT_BREAKER_FAILURES": "3", "CIRCUIT_BREAKER_RECOVERY": "10"},
            GatewaySettings(gate=GateSettings(allowed_fails=3, cooldown_seconds=10)),
            id="gate",
        ),
        pytest.param(
            {"STREAMING_KEEP_ALIVE_INTERVAL": "15"},
            GatewaySettings(keep_alive_interval_seconds=15),
            id="comments",
        ),
        pytest.param(
            {"API_KEYS_FILE": "/b", "GATEWAY_API_KEYS_FILE": "/a"},
            GatewaySettings(key_files=("/a", "/b")),
            id="files-of-keys",
        ),
    ],
)
def test_a_setting(environment: dict[str, str], settings: GatewaySettings) -> None:
    """A number is seconds, as it always was in those variables; what was used is recorded."""
    assert overrides.apply(profile(), environment) == overrides.Applied(
        profile=replace(profile(), gateway=settings, overrides=dict(sorted(environment.items()))),
        overrides=environment,
    )
    assert overrides.notes(profile(), environment) == ()


def test_what_the_profile_says_beside_it_stays() -> None:
    """Only the one value changes, and a file of keys is added to those there are."""
    timeouts = TimeoutSettings(attempt_seconds=90, batch_seconds=200)
    before = replace(profile(), gateway=GatewaySettings(timeouts=timeouts, key_files=("/a",)))
    environment = {"REQUEST_TIMEOUT_BATCH": "120", "API_KEYS_FILE": "/b"}
    assert overrides.apply(before, environment).profile.gateway == GatewaySettings(
        timeouts=replace(timeouts, batch_seconds=120), key_files=("/a", "/b")
    )


@pytest.mark.parametrize(
    ("environment", "message", "hint"),
    [
        pytest.param(
            {"MAX_QUEUE_SIZE": "-1"}, "'-1' is not a number", "write digits, 0 for none", id="size"
        ),
        pytest.param(
            {"REQUEST_TIMEOUT_BATCH": "0"},
            "0 is no time at all",
            "write more than 0",
            id="no-time",
        ),
        pytest.param(
            {"CIRCUIT_BREAKER_FAILURES": "0"},
            "'0' is not a number above 0",
            "write digits",
            id="no-failure",
        ),
        pytest.param(
            {"ENABLE_PROMETHEUS": "maybe"},
            "'maybe' is neither true nor false",
            "write one of them",
            id="switch",
        ),
        pytest.param(
            {"API_KEYS_FILE": "keys"},
            "'keys' is not an absolute path",
            "begin it with /",
            id="path",
        ),
    ],
)
def test_a_text_that_is_no_value(environment: dict[str, str], message: str, hint: str) -> None:
    """It is refused with the variable's name."""
    (variable,) = environment
    assert refused(environment) == ((f"environment: {variable}: {message}", hint),)


def test_values_that_cannot_work_together() -> None:
    """What the profile would be refused for, the environment is too."""
    found = refused({"REQUEST_TIMEOUT_BATCH": "1", "REQUEST_TIMEOUT_STREAMING": "2"}, CHAT)
    assert found == (
        (
            "environment: REQUEST_TIMEOUT_STREAMING and REQUEST_TIMEOUT_BATCH:"
            " gateway.timeouts.connect: 2s is longer than a whole request may take (1s)",
            'the usual one is "2s"',
        ),
    )


@pytest.mark.parametrize("variable", SWITCHES)
def test_a_switch_of_what_is_always_so(variable: str) -> None:
    """On, there is nothing to say; off, that it stays on."""
    for text, told in (("true", 0), ("false", 1)):
        assert overrides.apply(profile(), {variable: text}).profile == profile()
        notes = overrides.notes(profile(), {variable: text})
        assert [note.startswith(f"environment: {variable}=false changes") for note, _ in notes] == (
            [True] * told
        )


@pytest.mark.parametrize("variable", ["API_KEYS", "GATEWAY_API_KEYS"])
def test_a_key_is_written_nowhere(variable: str) -> None:
    """Only that there are some is recorded, where the gateway finds them, and it is told."""
    found = overrides.apply(profile(), {variable: "sk-1,sk-2"})
    assert found.profile.gateway == GatewaySettings(keys_from=(variable,))
    assert found.overrides == {}
    text = applied.dump(found.profile, source="", overrides=found.profile.overrides, at=0.0)
    assert "sk-" not in text
    assert applied.load(text) == found.profile
    (note,) = overrides.notes(profile(), {variable: "sk-1,sk-2"})
    assert note == (
        f"environment: {variable}: its keys are stored nowhere: the gateway needs the variable in"
        " its own environment",
        f"set it where the gateway is started, or set {variable}_FILE",
    )


def test_without_a_gateway() -> None:
    """Nothing takes them, in one line, and nothing is recorded."""
    bare = replace(profile(), gateway=None)
    environment = {"MAX_QUEUE_SIZE": "x", "API_KEYS": "sk-1", "POLL_INTERVAL": "5"}
    assert overrides.notes(bare, environment) == (
        (
            "environment: nothing takes MAX_QUEUE_SIZE, API_KEYS: the profile has no gateway",
            "add [gateway] to have one",
        ),
    )
    assert overrides.apply(bare, environment).overrides == {"POLL_INTERVAL": "5"}


def test_every_row_does_one_thing() -> None:
    """A variable sets something, is always so, or holds keys."""
    for row in TABLE:
        assert row.does
        assert sum(map(bool, (row.read, row.always, row.keys))) == 1, row.variable
        assert bool(row.sets) == bool(row.read), row.variable
