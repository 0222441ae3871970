"""Whether an engine can run a workload here, and what it may not be told in words."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.errors import PlanRefused
from gpuctl.model import GIB, Variant

from .make import gpu, host, planned, workload

AMPERE = host((gpu(0, name="RTX A6000", memory_total_bytes=48 * GIB, compute_capability=(8, 6)),))


@pytest.mark.parametrize(
    ("engine", "flag"),
    [
        pytest.param("vllm", "--tensor-parallel-size", id="as it is listed"),
        pytest.param("vllm", "--tensor_parallel_size=2", id="underscores"),
        pytest.param("vllm", "--tensor-parallel_size", id="one underscore"),
        pytest.param("vllm", "--tensor-par", id="short for one"),
        pytest.param("vllm", "--gpu_mem=0.5", id="short for one, with a value"),
        pytest.param("vllm", "--max_num_seqs", id="two underscores"),
        pytest.param("vllm", "--uds", id="another place to listen at"),
        pytest.param("vllm", "--config", id="a file of flags"),
        pytest.param("vllm", "--pipeline-parallel-size", id="more GPUs by a pipeline"),
        pytest.param("vllm", "-dp", id="more GPUs by copies"),
        pytest.param("vllm", "-t", id="short for the short one"),
        pytest.param("llama.cpp", "--ctx_size", id="llama.cpp takes underscores too"),
        pytest.param("llama-cpp-python", "--n-ctx", id="dashes for underscores"),
    ],
)
def test_a_flag_of_gpuctls_own_in_any_spelling(engine: str, flag: str) -> None:
    """vLLM's parser takes underscores, and a flag's beginning for the flag: both are refused."""
    name = flag.partition("=")[0]
    with pytest.raises(PlanRefused, match=f"workloads.chat.args: {name} is set by gpuctl"):
        planned(workload(engine=engine, args=(flag, "2"), gpus=((0, 1),)))


def test_a_flag_that_only_begins_like_one_of_gpuctls_own() -> None:
    """`--model-impl` is not `--model`, and a number below zero or `--` is no flag."""
    args = ("--model-impl", "auto", "--seed", "-1", "--", "-c2")
    plan = planned(workload(engine="vllm", model="org/m", gpus=((0,),), args=args), on=AMPERE)
    assert plan.replicas[0].spec.command[-6:] == args


def test_a_flag_of_the_engines_own_that_another_begins_with() -> None:
    """vLLM had `--device` until 0.10: it is not short for `--device-memory-utilization`."""
    one = workload(
        engine="vllm",
        image="vllm/vllm-openai:v0.8.5",
        model="org/m",
        gpus=((0,),),
        args=("--device", "cuda"),
    )
    assert planned(one, on=AMPERE).replicas[0].spec.command[-2:] == ("--device", "cuda")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("-c", 'exec server --api-key "$API_KEY"'), id="for a shell, quoted"),
        pytest.param(("-c", "server --api-key $API_KEY --port 80"), id="for a shell"),
        pytest.param(("-c", "server --api-key '${API_KEY}' model.gguf; true"), id="more after it"),
        pytest.param(("-c", "bash -c 'server --api-key=$API_KEY'"), id="the last of a quotation"),
        pytest.param(("--api-key=${API_KEY}",), id="one word"),
        pytest.param(("--api-key", "$API_KEY"), id="two words"),
        pytest.param(("--api-key", '"$A"', "${B}"), id="several keys"),
        pytest.param(("env X=1 --api-key=$API_KEY",), id="one string"),
    ],
)
def test_the_name_of_a_secrets_variable(words: tuple[str, ...]) -> None:
    """A value that is only a variable's name is no secret: `docker inspect` shows the name."""
    one = workload(engine="container", command=words, gpus=((0,),), secrets={"API_KEY": "/k"})
    assert planned(one).replicas[0].spec.command == words


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--api-key", "$A", "sk-b"), id="one of several keys"),
        pytest.param(("--api-key", "$A sk-b"), id="in the same word"),
        pytest.param(("--api-key=$A sk-b",), id="in the same word, with the flag"),
        pytest.param(("--api-key=sk-$A",), id="before it"),
        pytest.param(("-c", 'server --api-key "$A"sk-b'), id="after it"),
        pytest.param(("-c", 'server --api-key $A"sk-b"'), id="quoted, after it"),
        pytest.param(("-c", "server --api-key $A --hf-token sk-b"), id="of another flag"),
        pytest.param(("x --hf-token sk-b --api-key=$A",), id="of another flag, before it"),
    ],
)
def test_a_secret_beside_the_name_of_a_variable(words: tuple[str, ...]) -> None:
    """What is written out beside a variable's name is shown to all as ever."""
    with pytest.raises(PlanRefused, match=r"command: .* has a secret"):
        planned(workload(engine="container", command=words, gpus=((0,),)))


WRONG_OPTIONS = [
    pytest.param("vllm", {"gpu_memory_utilization": 1.5}, "1.5 is no share", id="vllm"),
    pytest.param("vllm", {"batsh": 1}, "batsh", id="unknown"),
    pytest.param("llama.cpp", {"ubatch": -1}, "ubatch: -1 is not 1 or more", id="llama.cpp"),
    pytest.param("llama-cpp-python", {"ubatch": -1}, "ubatch: -1 is not", id="llama-cpp-python"),
]


@pytest.mark.parametrize(("engine", "options", "what"), WRONG_OPTIONS)
@pytest.mark.parametrize("strict", [True, False], ids=["up", "a daemon"])
def test_wrong_options_beside_a_spare_gpu(
    engine: str, options: dict[str, Any], what: str, strict: bool
) -> None:
    """One more on the spare GPU would have them too: they are told once, as a mistake."""
    one = workload(engine=engine, options=options, gpus=((0,),))
    with pytest.raises(PlanRefused) as refusal:
        planned(one, on=host(2), strict=strict)
    assert [line for line in refusal.value.message.splitlines() if "options" in line] == [
        refusal.value.message
    ]
    assert what in refusal.value.message


@pytest.mark.parametrize(("engine", "options", "what"), WRONG_OPTIONS)
def test_wrong_options_of_one_that_scale_adds(
    engine: str, options: dict[str, Any], what: str
) -> None:
    """They are found before it is added: at a spare GPU, where its need is summed."""
    one = workload(engine=engine, scaled=Variant(options=options), gpus=((0,),))
    with pytest.raises(PlanRefused, match=f"^workloads.chat.options: .*{what}"):
        planned(one, on=host((*AMPERE.gpus, gpu(1))))


SECRET_ARGS = [
    pytest.param("vllm", ("--api-key", "sk-verysecret"), "--api-key", id="two words"),
    pytest.param("vllm", ("--api-key=sk-verysecret",), "--api-key", id="one word"),
    pytest.param("vllm", ("--api_key", "x", "sk-verysecret"), "--api_key", id="several keys"),
    pytest.param("vllm", ("--api-key", "-sk-verysecret"), "--api-key", id="looks like a flag"),
    pytest.param("vllm", ("--hf-token", "sk-verysecret"), "--hf-token", id="a token"),
    pytest.param("vllm", ("--hf-tok=sk-verysecret",), "--hf-tok", id="short for it"),
    pytest.param("llama.cpp", ("-hft", "sk-verysecret"), "-hft", id="one dash"),
    pytest.param("container", ("--api-key", "sk-verysecret"), "--api-key", id="any image"),
    pytest.param("container", ("--api-key sk-verysecret",), "a word", id="in one string"),
    pytest.param(
        "container",
        ("--api-key sk-verysecret --hf-token=sk-verysecret",),
        "--api-key",
        id="two in one string",
    ),
    pytest.param("container", ("-c", "serve --api-key sk-verysecret"), "-c", id="for a shell"),
]


@pytest.mark.parametrize(("engine", "args", "named"), SECRET_ARGS)
def test_a_secret_in_args(engine: str, args: tuple[str, ...], named: str) -> None:
    """It would stand in the container's command, so a file is asked for, and it is not told."""
    with pytest.raises(PlanRefused) as refusal:
        planned(workload(engine=engine, args=args))
    expected = f"workloads.chat.args: {named} has a secret, which `docker inspect` would show"
    assert expected in refusal.value.message.splitlines()
    assert '{ file = "/path" }' in refusal.value.hint
    assert "verysecret" not in f"{refusal.value.message}{refusal.value.hint}"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        pytest.param({"command": ("serve", "--api-key", "k")}, "command", id="a command"),
        pytest.param(
            {"on_cpu": Variant(args=("--api-key", "k"))}, "on_cpu.args", id="where it may go"
        ),
        pytest.param(
            {"on_cpu": Variant(args=("--api-key", "k")), "fallback": "cpu"},
            "on_cpu.args",
            id="where it falls back to",
        ),
        pytest.param(
            {"scaled": Variant(command=("--api-key", "k"))}, "scaled.command", id="one more"
        ),
    ],
)
def test_where_a_secret_stands(changes: dict[str, Any], key: str) -> None:
    """Every place that words may be written at is looked at, and told as it was written."""
    with pytest.raises(PlanRefused) as refusal:
        planned(workload(engine="container", **changes))
    assert refusal.value.message == (
        f"workloads.chat.{key}: --api-key has a secret, which `docker inspect` would show"
    )


def test_a_file_of_keys_is_no_secret() -> None:
    """llama.cpp reads keys from a file by a flag of its own, which is nobody's secret."""
    plan = planned(workload(gpus=((0,),), args=("--api-key-file", "/etc/key")))
    assert plan.replicas[0].spec.command[-2:] == ("--api-key-file", "/etc/key")


def test_without_docker_the_port_is_not_the_mistake() -> None:
    """An engine that needs Docker is told once, with what to do; not by its port as well."""
    with pytest.raises(PlanRefused) as refusal:
        planned(
            workload(engine="container", container_port=80, gpus=((0,), (1,))),
            on=host(runtime="process"),
        )
    assert refusal.value.message == (
        "workloads.chat.engine: container does not run in runtime 'process'"
    )
    assert refusal.value.hint == (
        "it needs Docker: `sudo systemctl start docker`, with `[host] runtime` left out, or "
        '"docker"'
    )
