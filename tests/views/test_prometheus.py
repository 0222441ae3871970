"""The Status as Prometheus metrics."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest

from gpuctl.views import prometheus


def samples(status: Any, *, alive: bool = True) -> dict[str, str]:
    """Return each sample's value by its name and labels."""
    lines = prometheus.exposition(status, alive=alive).splitlines()
    plain = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: value for name, _, value in plain}


def test_a_replica_on_the_cpu_is_told(status: Any) -> None:
    """And those that are not are told as well: an alert needs both values."""
    status["replicas"][0]["on_cpu"] = True
    status["replicas"][0]["moved"] = "gpu_lost"
    found = samples(status)
    assert found['gpuctl_replica_on_cpu{replica="chat-0",workload="chat"}'] == "1.0"
    assert found['gpuctl_replica_moved{replica="chat-0",workload="chat"}'] == "1.0"
    assert found['gpuctl_replica_on_cpu{replica="chat-1",workload="chat"}'] == "0.0"


def test_a_replica_is_in_one_state_of_all(status: Any) -> None:
    """Its phase is 1, every other is 0."""
    found = samples(status)
    states = {
        match[1]: value
        for name, value in found.items()
        if (match := re.match(r'gpuctl_instance_state{replica="chat-0".*state="(\w+)"', name))
    }
    assert len(states) == 9
    assert [state for state, value in states.items() if value == "1.0"] == [
        status["replicas"][0]["phase"]
    ]


def test_a_cordoned_gpu_is_told(status: Any) -> None:
    """By its condition, so that one that is lost as well is told too."""
    uuid = status["gpus"][1]["uuid"]
    told = {"check": "placement", "subject": uuid, "state": "degraded", "reason": "gpu_cordoned"}
    status["conditions"].append({**told, "since": 0.0, "evidence": {}})
    found = samples(status)
    assert found[f'gpuctl_gpu_cordoned{{gpu="1",uuid="{uuid}"}}'] == "1.0"
    assert found[f'gpuctl_gpu_cordoned{{gpu="0",uuid="{status["gpus"][0]["uuid"]}"}}'] == "0.0"
    labels = f'check="placement",subject="{uuid}",state="degraded",reason="gpu_cordoned"'
    assert found[f"gpuctl_condition{{{labels}}}"] == "1.0"


def test_what_is_not_reported_is_not_written(status: Any) -> None:
    """An absent metric is not 0; one that nothing reports has no header either."""
    for gpu in status["gpus"]:
        gpu["power_watts"] = None
        gpu["throttle_reasons"] = None
    assert "gpuctl_gpu_power_watts" not in prometheus.exposition(status, alive=True)
    assert "gpuctl_gpu_throttle_active" not in prometheus.exposition(status, alive=True)


def test_what_slows_a_gpu_down_is_a_label(status: Any) -> None:
    status["gpus"][0]["throttle_reasons"] = ["hw_thermal"]
    uuid = status["gpus"][0]["uuid"]
    labels = f'gpu="0",uuid="{uuid}",reason="hw_thermal"'
    assert samples(status)[f"gpuctl_gpu_throttle_active{{{labels}}}"] == "1.0"


def test_a_dead_daemon_is_down(status: Any) -> None:
    assert samples(status, alive=False)["gpuctl_daemon_up"] == "0.0"


def test_a_label_cannot_break_out(status: Any) -> None:
    """Whatever a card calls itself."""
    status["gpus"][0]["name"] = 'a "card"\\\n'
    assert 'name="a \\"card\\"\\\\\\n"' in prometheus.exposition(status, alive=True)


def test_promtool_accepts_it(status: Any) -> None:
    """Prometheus' own reader finds nothing to complain of."""
    promtool = shutil.which("promtool")
    if promtool is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("promtool: apt install prometheus")
    status["gpus"][0]["throttle_reasons"] = ["hw_thermal"]
    text = prometheus.exposition(status, alive=True)
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
