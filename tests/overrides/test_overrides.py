"""Variables of the environment stand above the profile, are recorded, and are refused in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl import overrides
from gpuctl.errors import ProfileError
from gpuctl.model import WatchdogSettings
from tests.overrides.make import CHAT, LLM, SMALL, SPEECH, changed, profile, refused


def test_times_of_the_watchdog() -> None:
    """A number is seconds, as it always was in those variables; "" is not set."""
    environment = {"POLL_INTERVAL": "2", "HEALTH_CHECK_TIMEOUT": "500ms", "OTHER": "x"}
    used = {"POLL_INTERVAL": "2", "HEALTH_CHECK_TIMEOUT": "500ms"}
    watchdog = WatchdogSettings(interval_seconds=2, health_timeout_seconds=0.5)
    assert overrides.apply(profile(), environment) == overrides.Applied(
        profile=replace(profile(), watchdog=watchdog, overrides=used), overrides=used
    )
    assert overrides.apply(profile(), {"POLL_INTERVAL": ""}) == overrides.Applied(profile=profile())


@pytest.mark.parametrize(
    ("environment", "mistakes"),
    [
        pytest.param(
            {"POLL_INTERVAL": "soon", "HEALTH_CHECK_TIMEOUT": "-1"},
            (
                'environment: POLL_INTERVAL: "soon" is not a duration',
                "environment: HEALTH_CHECK_TIMEOUT: -1.0 is negative",
            ),
            id="no-durations",
        ),
        pytest.param(
            {"POLL_INTERVAL": "60"},
            (
                "environment: POLL_INTERVAL: 60s reaches tick_gap (30s): every failure streak would"
                " be forgotten",
            ),
            id="above-the-tick-gap",
        ),
        pytest.param(
            {"POLL_INTERVAL": "0", "HEALTH_CHECK_TIMEOUT": "0"},
            (
                "environment: POLL_INTERVAL and HEALTH_CHECK_TIMEOUT: 0 is not an interval",
                "environment: POLL_INTERVAL and HEALTH_CHECK_TIMEOUT: 0 is not a time-out",
            ),
            id="zero",
        ),
    ],
)
def test_a_time_that_is_none_is_refused(
    environment: dict[str, str], mistakes: tuple[str, ...]
) -> None:
    """All of them are told at once, by the variable's name; a daemon is told the same."""
    found = refused(environment)
    assert tuple(message for message, _ in found) == mistakes
    assert all(hint for _, hint in found)
    with pytest.raises(ProfileError) as caught:
        overrides.apply_watchdog(profile(), environment)
    assert caught.value.mistakes == found


def test_a_daemon_takes_only_its_times() -> None:
    """What concerns containers was resolved when the profile was applied."""
    environment = {"POLL_INTERVAL": "2", "MAX_MODEL_LEN": "1"}
    watchdog = WatchdogSettings(interval_seconds=2)
    assert overrides.apply_watchdog(profile(), environment) == replace(profile(), watchdog=watchdog)


def test_several_workloads() -> None:
    """Every vLLM workload is changed, and no other."""
    names = [w.name for w in changed({"MAX_MODEL_LEN": "1024"}, LLM, SMALL, CHAT, SPEECH)]
    assert names == ["llm", "small"]


def test_all_mistakes_at_once() -> None:
    """Times, options and what is refused are told together."""
    environment = {"POLL_INTERVAL": "x", "TP_SIZE": "9", "MAX_NUM_SEQS": "x", "DEVICE": "cpu"}
    assert len(refused(environment)) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [("MODEL_PATH", "MODEL_NAME"), ("NCCL_BLOCKING_WAIT", "TORCH_NCCL_BLOCKING_WAIT")],
)
def test_two_of_one_meaning_have_to_agree(one: str, other: str) -> None:
    """Which of them is meant nobody can tell; the same twice is no mistake."""
    found = refused({one: "0", other: "1"})
    assert found == ((f"environment: {one}: {other} says otherwise", "set one of them"),)
    environment = {one: "1", other: "1"}
    assert overrides.apply(profile(), environment).overrides.get(other) in (None, "1")


def test_one_is_not_several() -> None:
    """A single workload `runs`, and one GPU is a `GPU`."""
    mistakes = refused({"DEVICE": "cpu", "TP_SIZE": "1"}, LLM)
    assert [message for message, _ in mistakes] == [
        "environment: TP_SIZE: 1 GPU a replica, and llm has 2: it follows from the workload's GPUs",
        "environment: DEVICE: cpu, and llm runs on GPUs",
    ]


def test_what_was_used_is_recorded() -> None:
    """Applied again without them the profile keeps what it was applied with, and its record."""
    environment = {"MAX_MODEL_LEN": "1024", "TP_SIZE": "2", "NCCL_DEBUG": "INFO", "HF_TOKEN": "x"}
    first = overrides.apply(profile(), environment)
    assert first.overrides == {"MAX_MODEL_LEN": "1024", "NCCL_DEBUG": "INFO"}
    assert first.profile.overrides == first.overrides
    assert overrides.apply(first.profile, {}).profile == first.profile
    assert overrides.apply(first.profile, environment).profile == first.profile


def test_a_digest_knows_the_words_and_not_where_they_stood() -> None:
    """What the environment says and the profile says already changes nothing."""
    assert changed({"MAX_MODEL_LEN": "4096", "MAX_NUM_SEQS": "64"}) == ()


def test_notes() -> None:
    """What changes nothing is told: ignored, for nobody here, or always so."""
    environment = {
        "VLLM_USE_TRITON": "0",
        "CUDA_VISIBLE_DEVICES": "0",
        "HF_TOKEN": "hf_1",
        "MAX_NUM_SEQS": "8",
        "NCCL_DEBUG": "INFO",
        "MAX_QUEUE_SIZE": "100",
        "ENABLE_PROMETHEUS": "false",
        "POLL_INTERVAL": "5",
    }
    found = overrides.notes(profile(CHAT), environment)
    assert [message for message, _ in found] == [
        "environment: MAX_NUM_SEQS fits no workload: none is of engine vllm",
        "environment: NCCL_DEBUG fits no workload: none is of engine vllm or container with"
        " several GPUs a replica",
        "environment: HF_TOKEN: it is not handed on to containers, as a secret comes from a file",
        "environment: VLLM_USE_TRITON: vLLM knows no such variable, so it is not handed on",
        "environment: CUDA_VISIBLE_DEVICES: GPUs are given by UUID, and numbered from 0 inside a"
        " container",
        "environment: ENABLE_PROMETHEUS=false changes nothing: `/metrics` is there",
    ]
    assert "hf_1" not in str(found)
    used = {"POLL_INTERVAL": "5", "MAX_QUEUE_SIZE": "100"}
    assert overrides.apply(profile(CHAT), environment).overrides == used


def test_nothing_to_note() -> None:
    """A variable that does what it says is not mentioned twice."""
    assert overrides.notes(profile(), {"MAX_NUM_SEQS": "8", "TP_SIZE": "2", "DEVICE": ""}) == ()
