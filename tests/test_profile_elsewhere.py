"""`fallback`, `on_cpu`, `scaled`, `max_gpus`: what they mean, and mistakes in them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gpuctl import profile
from gpuctl.errors import ProfileError
from gpuctl.model import Variant
from tests.mistakes import CHAT, ENGINES, HEAD, mistakes

CONTAINER = """\
[workloads.ocr]
engine = "container"
image = "ocr:1"
port = 9001
"""
VLLM = """\
[workloads.llm]
engine = "vllm"
image = "vllm:1"
model = "m"
port = 9001
"""


def test_a_variant_is_what_was_written() -> None:
    """As its engine takes it, and not a word of it decides what the others are."""
    text = f"""{HEAD}{CHAT}
gpus = [0]
fallback = "cpu"
max_gpus = 3
on_cpu = {{ image = "cpu:1", memory = "2g", args = ["-v"], options = {{ threads = 4 }} }}
scaled = {{ gpus = 1, context = 512, environment = {{ SIZE = "s" }} }}
"""
    (chat,) = profile.loads(text, "p.toml", engines=ENGINES).workloads
    (plain,) = profile.loads(f"{HEAD}{CHAT}gpus = [0]\n", "p.toml", engines=ENGINES).workloads
    assert (chat.fallback, chat.max_gpus) == ("cpu", 3)
    assert chat.on_cpu == Variant(
        image="cpu:1", memory_bytes=2 * 2**30, args=("-v",), options={"threads": 4}
    )
    assert chat.scaled == Variant(gpus=1, context=512, environment={"SIZE": "s"})
    assert json.loads(chat.intent) == json.loads(plain.intent)


@pytest.mark.parametrize(
    ("workload", "lines", "message", "hint"),
    [
        pytest.param(
            CHAT,
            'on_cpu = { image = "a" }',
            "on_cpu: nothing ever runs so: fallback is missing",
            'add fallback = "cpu"',
            id="on-cpu-without-fallback",
        ),
        pytest.param(
            CHAT,
            'fallback = "cpu"\non_cpu = { gpus = 1 }',
            "on_cpu.gpus: has no GPUs",
            "leave it out; gpus belongs to scaled",
            id="gpus-on-the-cpu",
        ),
        pytest.param(
            CHAT,
            'fallback = "cpu"\non_cpu = { port = 1234 }',
            "on_cpu.port: has no port of its own",
            "leave it out: it listens where it always does",
            id="port-on-the-cpu",
        ),
        pytest.param(
            CHAT,
            'gpus = "none"\nfallback = "cpu"',
            "fallback: this workload runs on the CPU already",
            "leave it out",
            id="fallback-of-what-is-there",
        ),
        pytest.param(
            VLLM,
            'fallback = "cpu"',
            "fallback: the usual image of vllm needs a GPU",
            'name one for the CPU, as on_cpu = { image = "…" }, or another engine in on_cpu',
            id="engine-that-cannot",
        ),
        pytest.param(
            CHAT,
            'fallback = "cpu"\non_cpu = { engine = "llama.cp" }',
            'on_cpu.engine: there is no engine "llama.cp"',
            "did you mean llama.cpp?",
            id="engine-that-is-none",
        ),
        pytest.param(
            CONTAINER,
            'scaled = { engine = "llama.cpp", image = "l:1" }',
            "scaled.engine: model is missing, and llama.cpp needs one",
            'add model = "…" to scaled',
            id="engine-without-a-model",
        ),
        pytest.param(
            CHAT,
            "scaled = { gpus = 0 }",
            "scaled.gpus: 0 is less than 1",
            "write 1 or more",
            id="no-gpu",
        ),
        pytest.param(
            CHAT,
            "max_gpus = 6",
            "max_gpus: 6 is less than the 7 that its replicas take already",
            "write 7 or more",
            id="fewer-than-each",
        ),
        pytest.param(
            CONTAINER,
            "gpus = [[0, 1], [2, 3]]\nmax_gpus = 3",
            "max_gpus: 3 is less than the 4 that its replicas take already",
            "write 4 or more",
            id="fewer-than-groups",
        ),
        pytest.param(
            CHAT,
            'fallback = "cpu"\non_cpu = { options = { thread = 4 } }',
            "on_cpu.options.thread: unknown key",
            "did you mean threads?",
            id="option-that-is-none",
        ),
        pytest.param(
            CHAT,
            'scaled = { environment = { A = { file = "/f" } } }',
            "scaled.environment.A: a secret has no place here",
            "write it in the workload's environment",
            id="secret-file",
        ),
        pytest.param(
            CHAT,
            'scaled = { environment = { HF_TOKEN = "x" } }',
            "scaled.environment.HF_TOKEN: looks like a secret, and a profile is no place for one",
            'write HF_TOKEN = { file = "/path" }: the file is read at every start',
            id="secret-itself",
        ),
    ],
)
def test_what_cannot_be_is_told(workload: str, lines: str, message: str, hint: str) -> None:
    """At its own place, with what to write instead."""
    name = workload.partition("\n")[0].strip("[]")
    found = [
        (what.partition(f": {name}.")[2], why) for what, why in mistakes(HEAD + workload + lines)
    ]
    assert found == [(message, hint)]


def test_on_docker_another_engine_needs_an_image_of_its_own() -> None:
    """The workload's would start the wrong server."""
    text = HEAD.replace("[host]", '[host]\nruntime = "docker"') + CHAT.replace(
        "port", 'image = "i:1"\nport'
    )
    found = mistakes(text + 'scaled = { engine = "container" }')
    assert [hint for _, hint in found] == ['add image = "…" to scaled']


def test_a_workload_without_gpus_takes_none() -> None:
    """Whatever `max_gpus` says of those that `scale` adds."""
    text = f'{HEAD}{CHAT}gpus = "none"\nmax_gpus = 1\nscaled = {{ gpus = 1 }}\n'
    (chat,) = profile.loads(text, "p.toml", engines=ENGINES).workloads
    assert (chat.max_gpus, chat.scaled.gpus) == (1, 1)


def test_a_group_is_refused_by_an_engine_that_takes_one_gpu() -> None:
    """Of what `scale` adds as of all the others."""
    engines = {"llama.cpp": replace(ENGINES["llama.cpp"], groups=False)}
    with pytest.raises(ProfileError) as caught:
        profile.loads(f"{HEAD}{CHAT}scaled = {{ gpus = 2 }}\n", "p.toml", engines=engines)
    place = "p.toml:10: workloads.chat.scaled.gpus"
    what = "a replica of llama.cpp takes one GPU, not 2"
    assert caught.value.mistakes == ((f"{place}: {what}", "write 1, or leave it out"),)
