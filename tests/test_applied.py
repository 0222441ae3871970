"""The daemon's copy of a profile is the profile, with the environment's overrides in it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl import applied
from gpuctl.errors import StoreError
from gpuctl.model import (
    DockerHealth,
    ExpectedGpus,
    GatewaySettings,
    GpuIdentity,
    HostSettings,
    Known,
    LayerCache,
    LimitSettings,
    ModelFacts,
    Mount,
    Profile,
    TimeoutSettings,
    Ulimit,
    WatchdogSettings,
    Workload,
)

PROFILE = Profile(
    host=HostSettings(name="rig", gpus=(ExpectedGpus(count=2),), reserve=(1, "GPU-1f")),
    workloads=(
        Workload(
            name="chat",
            engine="llama.cpp",
            port=8081,
            gpus=((0,), ("GPU-2a", 3)),
            environment={"A": "1"},
            secrets={"B": "/b"},
            mounts=(Mount(source="a", target="/b", read_only=True),),
            ulimits=(Ulimit(name="memlock", soft=-1, hard=-1),),
            docker_health=DockerHealth(test=("CMD", "true")),
            options={"batch": 8, "share": 0.5, "on": True, "names": ("a", "b"), "none": None},
        ),
    ),
    gateway=GatewaySettings(
        max_in_flight=12,
        routing="latency",
        timeouts=TimeoutSettings(attempt_seconds=90),
        limits=LimitSettings(requests_per_minute_per_ip=60),
        priorities={"chat": 7},
        pass_through={"/ocr": "chat"},
        metrics_key=True,
    ),
    source="p.toml",
)


def stored(**changes: Any) -> str:
    """Return the text of the stored profile with keys of the document changed."""
    text = applied.dump(PROFILE, source="p.toml", overrides={}, at=1.0)
    return json.dumps(json.loads(text) | changes)


def test_a_profile_comes_back_equal() -> None:
    """Tuples, mappings, unions and what an option holds survive the way through JSON."""
    text = applied.dump(PROFILE, source="p.toml", overrides={"POLL_INTERVAL": "5"}, at=12.5)
    assert applied.load(text) == PROFILE


def test_the_copy_says_where_it_is_from() -> None:
    """Source, time and overrides stand beside the profile, and equal input gives equal bytes."""
    text = applied.dump(PROFILE, source="p.toml", overrides={"POLL_INTERVAL": "5"}, at=12.5)
    document = json.loads(text)
    del document["profile"]
    assert document == {
        "schema": 1,
        "at": 12.5,
        "simulated": False,
        "source": "p.toml",
        "overrides": {"POLL_INTERVAL": "5"},
        "gpus": [],
        "facts": {},
        "measured": {},
    }
    again = applied.dump(PROFILE, source="p.toml", overrides={"POLL_INTERVAL": "5"}, at=12.5)
    assert text == again


def test_the_gpus_it_was_applied_on_come_back() -> None:
    """What an index meant when the profile was applied is stored with it."""
    gpus = (GpuIdentity(index=0, uuid="GPU-a", name="A100", compute_capability=(8, 0)),)
    text = applied.dump(PROFILE, source="", overrides={}, at=0.0, gpus=gpus)
    assert applied.load_gpus(text) == gpus


def test_what_was_known_of_the_models() -> None:
    """A daemon plans with the headers and the measurements that `up` planned with."""
    cache = (LayerCache(layers=2, kv_heads=1, key_length=8, value_length=8, window=512),)
    facts = ModelFacts(source="/m/a.gguf", format="gguf", architecture="llama", cache=cache)
    known = Known(facts={"chat": facts, "chat/on_cpu": facts}, measured={"a | b": 7})
    text = applied.dump(PROFILE, source="", overrides={}, at=0.0, known=known)
    assert applied.load_known(text) == known


def test_nothing_was_known_of_the_models() -> None:
    """What an earlier version applied says nothing of them, and is read all the same."""
    document = json.loads(applied.dump(PROFILE, source="", overrides={}, at=0.0))
    del document["facts"], document["measured"]
    assert applied.load_known(json.dumps(document)) == Known()
    assert applied.load(json.dumps(document)) == PROFILE


NUMBERS = st.floats(min_value=0, max_value=1e9)


@given(
    st.builds(
        WatchdogSettings,
        interval_seconds=NUMBERS,
        vram=st.sampled_from(["corroborate", "strict", "observe"]),
        backoff_seconds=st.lists(NUMBERS, max_size=5).map(tuple),
        hard_failures=st.integers(0, 100),
    ),
    st.dictionaries(st.text(), st.text()),
    st.sampled_from(["each", "none", ((0,),), ((1, 2), ("GPU-a",))]),
)
def test_any_profile_comes_back_equal(
    watchdog: WatchdogSettings, environment: dict[str, str], gpus: Any
) -> None:
    """No number, name or text is lost or changed."""
    workload = replace(PROFILE.workloads[0], environment=environment, gpus=gpus)
    profile = replace(PROFILE, watchdog=watchdog, workloads=(workload,))
    text = applied.dump(profile, source="", overrides={}, at=0.0)
    assert applied.load(text) == profile


def test_a_field_of_a_later_gpuctl_has_its_default() -> None:
    """An older copy lacks fields that were added since."""
    host = {"name": "rig"}
    text = stored(profile={"host": host})
    assert applied.load(text) == Profile(host=HostSettings(name="rig"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "Expecting value: line 1 column 1 (char 0)", id="empty"),
        pytest.param("[]", "its schema is not 1", id="not-a-document"),
        pytest.param(stored(schema=2), "its schema is not 1", id="other-schema"),
        pytest.param(stored(profile=None), "profile is not a table", id="no-profile"),
        pytest.param(stored(profile={}), "profile.host is missing", id="missing"),
        pytest.param(
            stored(profile={"host": {"name": "a", "x": 1}}),
            "profile.host.x is not known to this gpuctl",
            id="unknown",
        ),
        pytest.param(
            stored(profile={"host": {"name": 1}}),
            "profile.host.name is not what it should be",
            id="wrong-type",
        ),
        pytest.param(
            stored(profile={"host": {"name": "a", "runtime": "x"}}),
            "profile.host.runtime is not what it should be",
            id="unknown-word",
        ),
        pytest.param(
            stored(profile={"host": {"name": "a", "reserve": 1}}),
            "profile.host.reserve is not a list",
            id="not-a-list",
        ),
        pytest.param(
            stored(profile={"host": {"name": "a", "reserve": [0, True]}}),
            "profile.host.reserve[1] is not what it should be",
            id="no-member-of-a-union",
        ),
        pytest.param("[" * 100_000, "maximum recursion depth exceeded", id="nested-too-deeply"),
    ],
)
def test_a_damaged_copy_is_refused_in_words(text: str, message: str) -> None:
    """The daemon says what is wrong with it and how to mend it."""
    with pytest.raises(StoreError) as caught:
        applied.load(text)
    assert message in caught.value.message
    assert caught.value.hint == "run `gpuctl up` with the profile again"


def test_a_tuple_of_fixed_length_keeps_its_length() -> None:
    """A pair is a pair, and a list of another length is none."""
    assert applied.decode(tuple[int, str], [1, "a"], "pair") == (1, "a")
    with pytest.raises(ValueError, match="pair is not a list of 2"):
        applied.decode(tuple[int, str], [1], "pair")


def test_importing_it_costs_nothing_heavy() -> None:
    """The daemon starts without a TOML reader, a validator or a terminal library."""
    heavy = "{'pydantic', 'tomlkit', 'typer', 'rich'}"
    program = f"import sys, gpuctl.applied, gpuctl.overrides; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
