"""Which GPUs a workload is given, and with what words it does not get them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl import profile
from gpuctl.errors import ProfileError
from tests.mistakes import CHAT, ENGINES, GPU_HINT, HEAD, mistakes


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        pytest.param(
            "gpus = [9]", "gpus: GPU 9 is not on this host, which has 0 to 7", GPU_HINT, id="gpu-9"
        ),
        pytest.param(
            "gpus = [7]",
            "gpus: GPU 7 is in reserve (host.reserve)",
            "take it out of host.reserve, or choose another GPU",
            id="gpu-in-reserve",
        ),
        pytest.param(
            "gpus = [[2, 3], [3, 4]]",
            "gpus: GPU 3 is named twice",
            "write replicas_per_gpu to run several replicas on one GPU",
            id="overlapping-groups",
        ),
        pytest.param(
            "gpus = []",
            "gpus: [] does not say which GPUs",
            'write "each", "none", [0, 1] or [[0, 1]]',
            id="no-gpu",
        ),
        pytest.param(
            'gpus = "all"',
            'gpus: "all" does not say which GPUs',
            'write "each", "none", [0, 1] or [[0, 1]]',
            id="unknown-gpus",
        ),
        pytest.param(
            "gpus = [0, -1]",
            "gpus[1]: -1 is not a GPU",
            'write its index (0, 1 …) or its UUID "GPU-…"',
            id="negative-gpu",
        ),
        pytest.param(
            "gpus = [[]]",
            "gpus[0]: a group of no GPU",
            "name the GPUs of one replica, as in [[0, 1]]",
            id="empty-group",
        ),
        pytest.param(
            "replicas = 2",
            "replicas: counts replicas on the CPU, and this workload runs on GPUs",
            'with GPUs, write replicas_per_gpu; replicas goes with gpus = "none"',
            id="replicas-on-gpus",
        ),
    ],
)
def test_gpus_that_a_workload_cannot_have(line: str, message: str, hint: str) -> None:
    """The message has file, line, key path and what is wrong; the hint says what to do."""
    assert mistakes(f"{HEAD}{CHAT}{line}\n") == [(f"p.toml:10: workloads.chat.{message}", hint)]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        pytest.param(
            HEAD.replace("8x P", "x8 P") + CHAT,
            'p.toml:4: host.gpus: "x8 P106-100" is not a number of GPUs',
            'write "8x P106-100", "2x" for any two, or a list of such',
            id="bad-expectation",
        ),
        pytest.param(
            HEAD.replace("[7]", "[9]") + CHAT,
            "p.toml:5: host.reserve: GPU 9 is not on this host, which has 0 to 7",
            GPU_HINT,
            id="reserve-off-the-host",
        ),
        pytest.param(
            HEAD.replace("8x", "1x").replace("[7]", "[0]") + CHAT,
            "p.toml:6: workloads.chat: no GPU is left",
            'write gpus = "none" to run on the CPU, or correct host.gpus and host.reserve',
            id="all-in-reserve",
        ),
        pytest.param(
            HEAD.replace("8x", "1x").replace("[7]", "[]") + CHAT + "gpus = [1]\n",
            "p.toml:10: workloads.chat.gpus: GPU 1 is not on this host, which has only 0",
            GPU_HINT,
            id="gpu-1-of-one",
        ),
        pytest.param(
            HEAD + CHAT + 'gpus = "none"\nreplicas_per_gpu = 2\n',
            "p.toml:11: workloads.chat.replicas_per_gpu: counts replicas on a GPU, and this"
            " workload runs on the CPU",
            "write replicas",
            id="replicas-per-gpu-on-the-cpu",
        ),
    ],
)
def test_gpus_that_do_not_fit_the_host(text: str, message: str, hint: str) -> None:
    """What the host has, keeps in reserve, and is asked for must agree."""
    assert mistakes(text) == [(message, hint)]


def test_two_mistakes_in_one_key_are_both_told() -> None:
    """A GPU may be off the host, and another in reserve, in one list."""
    assert [message for message, _ in mistakes(f"{HEAD}{CHAT}gpus = [7, 8]\n")] == [
        "p.toml:10: workloads.chat.gpus: GPU 7 is in reserve (host.reserve)",
        "p.toml:10: workloads.chat.gpus: GPU 8 is not on this host, which has 0 to 7",
    ]


def test_a_group_is_refused_by_an_engine_that_takes_one_gpu() -> None:
    """Only an engine that says so may span GPUs."""
    engines = {"llama.cpp": replace(ENGINES["llama.cpp"], groups=False)}
    with pytest.raises(ProfileError) as caught:
        profile.loads(f"{HEAD}{CHAT}gpus = [[0, 1]]\n", "p.toml", engines=engines)
    assert caught.value.mistakes == (
        (
            "p.toml:10: workloads.chat.gpus: a replica of llama.cpp takes one GPU, not 2",
            "name the GPUs one by one: [0, 1] instead of [[0, 1]]",
        ),
    )


def test_tensor_parallel_three_on_two_gpus_is_refused() -> None:
    """A group names its GPUs, and the third is not there."""
    text = HEAD.replace("8x P106-100", "2x A6000").replace("[7]", "[]")
    assert mistakes(f"{text}{CHAT}gpus = [[0, 1, 2]]\n") == [
        (
            "p.toml:10: workloads.chat.gpus: GPU 2 is not on this host, which has 0 to 1",
            GPU_HINT,
        )
    ]


def test_what_the_host_has_is_not_guessed() -> None:
    """Without host.gpus any index may be right, and only planning can tell."""
    text = 'schema = 1\n[host]\nname = "rig"\n'
    loaded = profile.loads(f"{text}{CHAT}gpus = [42]\n", "p.toml", engines=ENGINES)
    assert loaded.workloads[0].gpus == ((42,),)
