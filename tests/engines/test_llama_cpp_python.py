"""llama-cpp-python: its server's settings, how it is asked, and what its log tells."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.engines.llama_cpp_python import ENGINE, Options, explain, fit, stage
from gpuctl.model import MIB, EngineStats, LayerCache, ModelFacts, Mount, ProbeSpec

from .make import after, slot, workload

#: As version 0.3.36 wrote them while it loaded a model, shortened.
LOG = (
    "load_tensors:   CPU_Mapped model buffer size =    92.10 MiB",
    "llama_context: constructing llama_context",
    "INFO:     Application startup complete.",
)


def test_container() -> None:
    """In a container it listens on every address inside, and the image needs only a Python."""
    launch = ENGINE.launch(workload(context=4096), slot())
    assert launch.entrypoint == ("python3", "-m", "llama_cpp.server")
    assert launch.command == (
        *("--model", "/models/model.gguf", "--model_alias", "chat"),
        *("--host", "0.0.0.0", "--port", "8000", "--n_ctx", "4096", "--n_gpu_layers", "-1"),
        *("--use_mlock", "false", "--interrupt_requests", "false"),
    )
    assert (launch.container_port, launch.slots) == (8000, 1)


def test_process() -> None:
    """As a process it is run by gpuctl's own Python, on loopback and its own port."""
    mounts = (Mount(source="/srv/models", target="/models"),)
    place = slot(gpus=0, runtime="process", port=9000, cpus=8, python="/venv/bin/python")
    launch = ENGINE.launch(workload(mounts=mounts, replicas=2), place)
    assert launch.entrypoint == ("/venv/bin/python", "-m", "llama_cpp.server")
    assert launch.command == (
        *("--model", "/srv/models/model.gguf", "--model_alias", "chat"),
        *("--host", "127.0.0.1", "--port", "9000", "--n_gpu_layers", "0"),
        *("--n_threads", "4", "--n_threads_batch", "4"),
        *("--use_mlock", "false", "--interrupt_requests", "false"),
    )


def test_layers_are_spread_as_they_are_planned() -> None:
    """Left to itself llama.cpp gives most to the GPU that is emptiest at that moment."""
    command = ENGINE.launch(workload(args=("--verbose", "true")), slot(gpus=2)).command
    assert command[-5:] == ("--tensor_split", "1", "1", "--verbose", "true")


def test_variables_do_not_prevail_over_the_flags() -> None:
    """The server listens where HOST and PORT say, whatever its flags: they say the same."""
    launch = ENGINE.launch(workload(network="host"), slot(port=9001))
    assert launch.environment == {"HOST": "127.0.0.1", "PORT": "9001"}
    assert (after(launch.command, "--host"), after(launch.command, "--port")) == (
        "127.0.0.1",
        "9001",
    )


@pytest.mark.parametrize(
    ("options", "flag", "value"),
    [
        pytest.param({}, "--n_batch", None, id="the server's own batch"),
        pytest.param({"batch": 256}, "--n_batch", "256", id="batch"),
        pytest.param({"ubatch": 128}, "--n_ubatch", "128", id="ubatch"),
        pytest.param({"threads": 3}, "--n_threads", "3", id="threads"),
        pytest.param({"gpu_layers": 20}, "--n_gpu_layers", "20", id="some layers"),
        pytest.param({"flash_attention": True}, "--flash_attn", "true", id="flash attention"),
        pytest.param({"cache_type_k": "q8_0"}, "--type_k", "8", id="keys"),
        pytest.param({"cache_type_v": "f32"}, "--type_v", "0", id="values"),
        pytest.param({"chat_format": "chatml"}, "--chat_format", "chatml", id="chat format"),
        pytest.param({"mlock": True}, "--use_mlock", "true", id="mlock"),
    ],
)
def test_options(options: dict[str, Any], flag: str, value: str | None) -> None:
    """An option becomes its setting; one that is not given leaves the server's default."""
    assert after(ENGINE.launch(workload(options=options), slot()).command, flag) == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"batch": 0}, "batch: 0 is not 1 or more", id="batch"),
        pytest.param({"gpu_layers": -1}, "gpu_layers: -1 is negative", id="layers"),
        pytest.param({"cache_type_k": "q9"}, "cache_type_k: 'q9' is none of f32", id="keys"),
    ],
)
def test_option_out_of_range(options: dict[str, Any], message: str) -> None:
    """A value that means nothing is refused with the key before it."""
    with pytest.raises(ValueError, match=message):
        Options(**options)


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        pytest.param({}, [], id="one at a time"),
        pytest.param({"parallel": 2}, ["parallel"], id="two at once"),
        pytest.param({"kind": "rerank", "parallel": 4}, ["parallel", "kind"], id="reranking"),
    ],
)
def test_what_it_cannot_do(fields: dict[str, Any], keys: list[str]) -> None:
    """More than one request at once is refused with what to write instead, never queued unseen."""
    assert [unfit.key for unfit in fit(workload(**fields), slot())] == keys


@pytest.mark.parametrize(
    ("options", "args", "keys"),
    [
        pytest.param({"cache_type_v": "q8_0"}, (), ["options.cache_type_v"], id="off by default"),
        pytest.param({}, ("--type_v", "8"), ["args"], id="in the args"),
        pytest.param({"cache_type_v": "q8_0", "flash_attention": True}, (), [], id="on"),
        pytest.param({"cache_type_v": "q8_0"}, ("--flash_attn", "true"), [], id="on by the args"),
        pytest.param({"cache_type_v": "bf16"}, (), [], id="as wide"),
        pytest.param({"cache_type_k": "q8_0"}, (), [], id="keys alone"),
        pytest.param({"ubatch": 64}, ("--n_ubatch", "32"), ["args"], id="said twice"),
    ],
)
def test_a_quantized_v_cache(
    options: dict[str, Any], args: tuple[str, ...], keys: list[str]
) -> None:
    """The server ends at once without flash attention, which is off by itself."""
    found = fit(workload(options=options, args=args), slot())
    assert [unfit.key for unfit in found] == keys
    assert all(unfit.hint for unfit in found)


@pytest.mark.parametrize(
    ("kind", "embedding", "canary", "warm_up"),
    [
        pytest.param("chat", None, "/v1/completions", "/v1/completions", id="chat"),
        pytest.param("embedding", "true", None, "/v1/embeddings", id="embedding"),
        pytest.param("other", None, None, None, id="other"),
    ],
)
def test_kinds(kind: Any, embedding: str | None, canary: str | None, warm_up: str | None) -> None:
    """Each kind is asked for what it makes, to warm it up and to see whether it lives."""
    given = workload(kind=kind)
    assert after(ENGINE.launch(given, slot()).command, "--embedding") == embedding
    probe = ENGINE.probe(given, slot())
    assert (probe.canary_path, probe.warmup_path) == (canary, warm_up)


#: SmolLM2 135M, as its headers tell: 30 layers of 3 KV heads, 64 wide.
SMOL = ModelFacts(
    source="m.gguf",
    format="gguf",
    architecture="llama",
    weights_bytes=96_576_000,
    embedding_length=576,
    feed_forward_length=1536,
    heads=9,
    vocabulary=49152,
    context_max=8192,
    cache=(LayerCache(layers=30, kv_heads=3, key_length=64, value_length=64),),
)


@pytest.mark.parametrize(
    ("context", "options", "mib"),
    [
        # "llama_kv_cache: size = 22.50 MiB" of 0.3.36 with this model and `--n_ctx 1024`.
        pytest.param(1024, {}, 22.5, id="as the server said"),
        pytest.param(None, {}, 45.0, id="its own default is 2048 tokens"),
        pytest.param(1024, {"cache_type_k": "f32", "cache_type_v": "f32"}, 45.0, id="wider"),
    ],
)
def test_memory(context: int | None, options: dict[str, Any], mib: float) -> None:
    """The KV cache is of one request, at the server's own default context if none is written."""
    assert ENGINE.memory is not None
    found = ENGINE.memory(workload(context=context, options=options), slot(), SMOL)
    assert found is not None
    assert found.kv_bytes == mib * MIB


@pytest.mark.parametrize(
    ("args", "options"),
    [
        pytest.param(("--n_ubatch", "64"), {"ubatch": 64}, id="tokens"),
        pytest.param(("--n_ubatch", "0"), {}, id="none"),
        pytest.param(("--type_k", "8"), {"cache_type_k": "q8_0"}, id="keys"),
        pytest.param(("--type_k", "99"), {}, id="no type, which the server refuses"),
        pytest.param(("--flash_attn", "True"), {"flash_attention": True}, id="on"),
        pytest.param(("--flash_attn", "false"), {"flash_attention": False}, id="off"),
    ],
)
def test_what_stands_in_the_args_counts(args: tuple[str, ...], options: dict[str, Any]) -> None:
    """A flag makes the same sum as its option."""
    assert ENGINE.memory is not None
    told = ENGINE.memory(workload(context=1024, args=args), slot(), SMOL)
    assert told == ENGINE.memory(workload(context=1024, options=options), slot(), SMOL)


def test_what_is_not_summed() -> None:
    """A setting that changes the sum is named; without headers there is none."""
    assert ENGINE.memory is not None
    given = workload(args=("--clip_model_path", "/m/eye.gguf"))
    found = ENGINE.memory(given, slot(), SMOL)
    assert found is not None
    assert found.notes == (
        "--clip_model_path stands in args and is not in this sum: say the whole with `vram`",
    )
    assert ENGINE.memory(given, slot(), replace(SMOL, weights_bytes=None)) is None


def test_probe() -> None:
    """It has no /health and no /metrics: the list of models waits behind what it answers."""
    keyed = workload(kind="other", secrets={"API_KEY": "/etc/key"})
    assert ENGINE.probe(keyed, slot()) == ProbeSpec(
        port=8081, health_path="/v1/models", key_file="/etc/key", mute_at_work=True
    )
    assert json.loads(ENGINE.probe(workload(), slot()).warmup_body)["model"] == "chat"


def test_stats() -> None:
    """Nothing is read where there is nothing."""
    assert ENGINE.stats("llamacpp:requests_processing 1\n") == EngineStats()


@pytest.mark.parametrize(
    ("lines", "reached"),
    [
        pytest.param((), "", id="nothing"),
        pytest.param(LOG[:1], "", id="weights are read"),
        pytest.param(LOG[:2], "weights_loaded", id="the context is made"),
        pytest.param(LOG, "weights_loaded", id="it listens"),
    ],
)
def test_stage(lines: tuple[str, ...], reached: str) -> None:
    """A context is made only of loaded weights."""
    assert stage(lines) == reached


@pytest.mark.parametrize(
    ("line", "what"),
    [
        pytest.param(
            "ModuleNotFoundError: No module named 'llama_cpp'", "is not installed", id="absent"
        ),
        pytest.param("ValueError: Model path does not exist: /m", "no such model file", id="file"),
        pytest.param("ValueError: Failed to load model from file: /m", "cannot read", id="damaged"),
        pytest.param("ValueError: Failed to create llama_context", "enough memory", id="memory"),
        pytest.param(
            "llama_init_from_model: quantized V cache requires flash_attn to be enabled\n"
            "ValueError: Failed to create llama_context",
            "needs flash attention",
            id="V cache",
        ),
    ],
)
def test_explain(line: str, what: str) -> None:
    """Its own words are told in an operator's, with what to change."""
    explained = explain(("INFO: x", line))
    assert explained is not None
    assert what in explained.what
    assert explained.hint


def test_what_is_not_known_is_not_explained() -> None:
    assert explain(LOG) is None
