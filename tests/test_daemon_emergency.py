"""`failover cpu` and `failover gpu` on a whole daemon that plans."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.moving import Rack, refused


def test_failover_to_the_cpu_and_back() -> None:
    """An emergency of the operator's: all go, and all come back."""
    rack = Rack.with_gpus(gpus=(0, 1), fallback="cpu")
    rack.ask("failover", to="cpu")
    rack.pass_(30)
    assert rack.places() == {"chat-0": (), "chat-1": ()}
    assert rack.tale("moved") == ["moved failover_cpu"] * 2
    rack.born()
    rack.ask("up")
    rack.pass_(10)
    assert rack.places() == {"chat-0": (), "chat-1": ()}
    rack.ask("failover", to="gpu")
    rack.pass_(40)
    assert rack.places() == {"chat-0": (0,), "chat-1": (1,)}
    assert rack.row()["restarts_24h"] == 0


def test_failover_of_one() -> None:
    """The other stays where it is."""
    rack = Rack.with_gpus(gpus=(0, 1), fallback="cpu")
    rack.ask("failover", "chat-1", to="cpu")
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,), "chat-1": ()}


def test_after_a_failover_a_lost_gpu_is_not_returned_to() -> None:
    """`failover gpu` ends the emergency: what has no GPU of its own goes to the reserve."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), fallback="cpu")
    rack.ask("failover", to="cpu")
    rack.pass_(12)
    rack.lose(0)
    rack.ask("failover", to="gpu")
    rack.pass_(12)
    assert rack.places() == {"chat-0": (1,)}


@pytest.mark.parametrize(
    ("subject", "to", "words"),
    [
        pytest.param("other-0", "cpu", "no fallback to the CPU: other", id="one"),
        pytest.param("third", "cpu", "'third' is no replica or workload", id="unknown"),
        pytest.param("", "moon", "failover goes to cpu or gpu, not 'moon'", id="where"),
    ],
)
def test_a_failover_that_cannot_be_is_refused(subject: str, to: str, words: str) -> None:
    """By name, before anything is done."""
    rack = Rack.with_gpus(gpus=(0,), fallback="cpu", others=("other",))
    chat, other = rack.profile.workloads
    rack.reworked(chat, replace(other, fallback="none"))
    assert words in refused(rack, "failover", subject, to=to)


def test_failover_of_everything_moves_what_may() -> None:
    """An emergency does not wait for the one workload that has no fallback."""
    rack = Rack.with_gpus(gpus=(0,), fallback="cpu", others=("other",))
    chat, other = rack.profile.workloads
    rack.reworked(chat, replace(other, fallback="none"))
    rack.ask("failover", to="cpu")
    rack.pass_(12)
    assert rack.places() == {"chat-0": (), "other-0": (0,)}


def test_the_shipped_profile_of_eight_a100_fails_over_as_a_whole() -> None:
    """With the image of vLLM that is built for the CPU, and without the settings for a GPU."""
    rack = Rack.of_profile("a100x8", memory_total_bytes=80 * 2**30)
    rack.ask("failover", to="cpu")
    rack.pass_(30)
    assert set(rack.places().values()) == {()}
    spec = rack.spec("llm-0")
    assert spec.image == "vllm/vllm-openai-cpu:v0.33.0"
    assert "--tensor-parallel-size" not in spec.command
    assert rack.spec("whisper-0").environment["DEVICE"] == "cpu"


def test_what_is_on_the_cpu_already_cannot_fail_over() -> None:
    rack = Rack.with_gpus(gpus=(), cards=1)
    assert refused(rack, "failover", to="cpu") == "it runs on the CPU already"


def test_the_end_of_an_emergency_leaves_on_the_cpu_what_has_no_gpu() -> None:
    """For the reason that it is there now."""
    rack = Rack.with_gpus(gpus=(0,), fallback="cpu")
    rack.ask("failover", to="cpu")
    rack.pass_(12)
    rack.lose(0)
    rack.ask("failover", to="gpu")
    rack.pass_(12)
    assert (rack.row()["on_cpu"], rack.row()["moved"]) == (True, "gpu_lost")
    assert rack.actions().count("start") == 2
