"""llama.cpp: the flags its server is started with, and what its /metrics tell."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.engines.llamacpp import ENGINE, Options
from gpuctl.model import GIB, MIB, EngineStats, Mount

from .make import after, slot, workload

#: As recorded from the server of xllamacpp 2026.10 after one chat, shortened.
METRICS = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 37
# TYPE llamacpp:prompt_tokens_cached_total counter
llamacpp:prompt_tokens_cached_total 5
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 30
# TYPE llamacpp:n_decode_total counter
llamacpp:n_decode_total 31
# TYPE llamacpp:prompt_tokens_seconds gauge
llamacpp:prompt_tokens_seconds 439.9
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 2
"""


def test_container() -> None:
    """In a container the image's own server listens on 8080, on every address inside."""
    launch = ENGINE.launch(workload(context=4096, memory_bytes=1536 * MIB), slot())
    assert launch.entrypoint is None
    assert launch.container_port == 8080
    assert launch.command == (
        *("-m", "/models/model.gguf", "-a", "chat", "--host", "0.0.0.0", "--port", "8080"),
        *("-c", "4096", "-np", "1", "-ngl", "999", "--cache-ram", "384"),
        *("--metrics", "--offline"),
    )


def test_process() -> None:
    """As a process it is the embedded server with the same flags, on loopback and its own port."""
    mounts = (Mount(source="/srv/models", target="/models/"),)
    place = slot(gpus=0, runtime="process", port=9000, cpus=8, python="/venv/bin/python")
    launch = ENGINE.launch(workload(mounts=mounts, replicas=2), place)
    assert launch.entrypoint == ("/venv/bin/python", "-m", "gpuctl.embedded")
    assert launch.container_port == 9000
    assert launch.command == (
        *("-m", "/srv/models/model.gguf", "-a", "chat", "--host", "127.0.0.1", "--port", "9000"),
        *("-np", "1", "-ngl", "0", "-t", "4", "--cache-ram", "0"),
        *("--metrics", "--offline"),
    )


@pytest.mark.parametrize(
    ("options", "flag", "value"),
    [
        pytest.param({}, "-b", None, id="the server's own batch"),
        pytest.param({"batch": 256}, "-b", "256", id="batch"),
        pytest.param({"ubatch": 128}, "-ub", "128", id="ubatch"),
        pytest.param({"threads": 3}, "-t", "3", id="threads"),
        pytest.param({"gpu_layers": 20}, "-ngl", "20", id="some layers"),
        pytest.param({"flash_attention": "on"}, "-fa", "on", id="flash attention"),
        pytest.param({"cache_type_k": "q8_0"}, "-ctk", "q8_0", id="keys"),
        pytest.param({"cache_type_v": "q4_0"}, "-ctv", "q4_0", id="values"),
        pytest.param({"pooling": "mean"}, "--pooling", "mean", id="pooling"),
        pytest.param({"cache_ram_mib": 7}, "--cache-ram", "7", id="cache"),
    ],
)
def test_options(options: dict[str, Any], flag: str, value: str | None) -> None:
    """An option becomes its flag; one that is not given leaves the server's default."""
    assert after(ENGINE.launch(workload(options=options), slot()).command, flag) == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"batch": 0}, "batch: 0 is not 1 or more", id="batch"),
        pytest.param({"gpu_layers": -1}, "gpu_layers: -1 is negative", id="layers"),
    ],
)
def test_option_out_of_range(options: dict[str, Any], message: str) -> None:
    """A value that means nothing is refused with the key before it."""
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_context_is_for_each_request() -> None:
    """The server divides -c among its slots, so it is given as much for each of them."""
    command = ENGINE.launch(workload(context=4096, parallel=4), slot()).command
    assert (after(command, "-c"), after(command, "-np")) == ("16384", "4")


@pytest.mark.parametrize(
    ("gpus", "split"),
    [pytest.param(1, None, id="one"), pytest.param(3, "1,1,1", id="three")],
)
def test_layers_are_spread_as_they_are_planned(gpus: int, split: str | None) -> None:
    """Left to itself the server gives most to the GPU that is emptiest at that moment."""
    assert after(ENGINE.launch(workload(), slot(gpus=gpus)).command, "-ts") == split


def test_threads_on_the_cpu() -> None:
    """Servers on the CPU share its cores, and each has at least one."""
    command = ENGINE.launch(workload(replicas=8), slot(gpus=0, cpus=2)).command
    assert after(command, "-t") == "1"


@pytest.mark.parametrize(
    ("memory_bytes", "cache_mib"),
    [
        pytest.param(None, "0", id="no limit to take a share of"),
        pytest.param(512 * MIB, "0", id="too small to share"),
        pytest.param(1536 * MIB, "384", id="a quarter"),
        pytest.param(64 * GIB, "16384", id="a quarter of much"),
    ],
)
def test_prompt_cache(memory_bytes: int | None, cache_mib: str) -> None:
    """The host prompt cache fits in the container's memory, unlike the server's default 8 GiB."""
    command = ENGINE.launch(workload(memory_bytes=memory_bytes), slot()).command
    assert after(command, "--cache-ram") == cache_mib


def test_key() -> None:
    """A server that asks for a key is asked with it."""
    keyed = workload(secrets={"LLAMA_API_KEY": "/etc/key"})
    assert ENGINE.probe(keyed, slot()).key_file == "/etc/key"
    assert ENGINE.probe(workload(), slot()).key_file is None


@pytest.mark.parametrize("runtime", ["docker", "process"])
def test_a_client_that_leaves_is_noticed_at_the_next_result(runtime: str) -> None:
    """Without a stream that is the end of the answer, so a gateway asks it to stream."""
    assert ENGINE.probe(workload(), slot(runtime=runtime)).collect_streams is True


@pytest.mark.parametrize(
    ("kind", "flags", "canary"),
    [
        pytest.param("chat", set(), "/v1/completions", id="chat"),
        pytest.param("embedding", {"--embeddings"}, None, id="embedding"),
        pytest.param("rerank", {"--rerank"}, None, id="rerank"),
    ],
)
def test_kinds(kind: Any, flags: set[str], canary: str | None) -> None:
    """Only a server that makes tokens is asked for one."""
    launch = ENGINE.launch(workload(kind=kind), slot())
    assert set(launch.command) & {"--embeddings", "--rerank"} == flags
    assert ENGINE.probe(workload(kind=kind), slot()).canary_path == canary


def test_stats() -> None:
    """Progress is what only grows while it works; requests are counted now."""
    assert ENGINE.stats(METRICS) == EngineStats(progress=98, running=1, waiting=2)
