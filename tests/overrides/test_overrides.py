"""Variables of the environment stand above the profile, are recorded, and are refused in words."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl import overrides
from gpuctl.errors import ProfileError
from gpuctl.model import (
    ExpectedGpus,
    GatewaySettings,
    HostSettings,
    Mount,
    Profile,
    WatchdogSettings,
    Workload,
)
from gpuctl.overrides.table import TABLE

ROOT = Path(__file__).parents[2]

LLM = Workload(
    name="llm",
    engine="vllm",
    image="vllm/vllm-openai:v0.33.0",
    model="org/model",
    gpus=((0, 1),),
    port=8000,
    context=4096,
    parallel=7,
    options={"max_num_seqs": 64, "dtype": "half"},
    intent='{"context":4096,"options":{"dtype":"half","max_num_seqs":64},"parallel":7}',
)
SMALL = Workload(name="small", engine="vllm", model="org/small", gpus=((2,),), port=8100)
CHAT = Workload(name="chat", engine="llama.cpp", model="m.gguf", gpus=((3,),), port=8200)
SPEECH = Workload(name="speech", engine="container", gpus=((4,),), port=8300)


def profile(*workloads: Workload) -> Profile:
    return Profile(
        host=HostSettings(name="rig", gpus=(ExpectedGpus(count=5),)),
        workloads=workloads or (LLM, CHAT, SPEECH),
        gateway=GatewaySettings(),
    )


def changed(environment: dict[str, str], *workloads: Workload) -> tuple[Workload, ...]:
    """Return the workloads that differ under an environment."""
    before = profile(*workloads)
    after = overrides.apply(before, environment).profile
    pairs = zip(before.workloads, after.workloads, strict=True)
    return tuple(new for old, new in pairs if new != old)


def refused(environment: dict[str, str], *workloads: Workload) -> tuple[tuple[str, str], ...]:
    with pytest.raises(ProfileError) as caught:
        overrides.apply(profile(*workloads), environment)
    return caught.value.mistakes


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


@pytest.mark.parametrize(
    ("variable", "text", "options"),
    [
        pytest.param("GPU_MEMORY_UTILIZATION", "0.8", {"gpu_memory_utilization": 0.8}, id="share"),
        pytest.param("MAX_NUM_SEQS", "8", {"max_num_seqs": 8}, id="sequences"),
        pytest.param(
            "MAX_NUM_BATCHED_TOKENS", "1024", {"max_num_batched_tokens": 1024}, id="batch"
        ),
        pytest.param("QUANTIZATION", "awq", {"quantization": "awq"}, id="quantization"),
        pytest.param(
            "VLLM_ATTENTION_BACKEND", "XFORMERS", {"attention_backend": "TRITON_ATTN"}, id="old"
        ),
        pytest.param(
            "VLLM_ATTENTION_BACKEND", "flashinfer", {"attention_backend": "FLASHINFER"}, id="today"
        ),
        pytest.param(
            "ENABLE_PREFIX_CACHING", "True", {"enable_prefix_caching": True}, id="prefixes"
        ),
        pytest.param("ENABLE_CHUNKED_PREFILL", "0", {"enable_chunked_prefill": False}, id="chunks"),
        pytest.param("SWAP_SPACE_GB", "8", {"kv_offloading_gib": 16.0}, id="swap, of two GPUs"),
    ],
)
def test_an_option(variable: str, text: str, options: dict[str, Any]) -> None:
    """It becomes the option of vLLM's workload, in its intent too, and of no other."""
    (llm,) = changed({variable: text})
    assert llm.options == {**LLM.options, **options}
    written = json.loads(LLM.intent)
    assert json.loads(llm.intent) == written | {"options": written["options"] | options}


@pytest.mark.parametrize(
    ("variable", "text", "option"),
    [
        pytest.param("QUANTIZATION", "none", "quantization", id="quantization"),
        pytest.param("VLLM_ATTENTION_BACKEND", "AUTO", "attention_backend", id="attention"),
        pytest.param("SWAP_SPACE_GB", "0", "kv_offloading_gib", id="swap"),
    ],
)
def test_an_option_taken_out(variable: str, text: str, option: str) -> None:
    """The word for nothing leaves the option as if it had not been written."""
    intent = f'{{"options":{{"{option}":1}}}}'
    (llm,) = changed({variable: text}, replace(LLM, options={option: 1}, intent=intent))
    assert (llm.options, llm.intent) == ({}, '{"options":{}}')
    assert changed({variable: text}, SMALL) == ()


def test_sequences_by_the_card() -> None:
    """`auto` takes out what the profile says of it: the card decides."""
    (llm,) = changed({"MAX_NUM_SEQS": "auto"})
    assert (llm.options, llm.parallel) == ({"dtype": "half"}, 1)
    assert json.loads(llm.intent) == {"context": 4096, "options": {"dtype": "half"}}


def test_the_context() -> None:
    """MAX_MODEL_LEN is vLLM's word for it, and changes vLLM's workloads."""
    (llm,) = changed({"MAX_MODEL_LEN": "8192"})
    assert (llm.context, json.loads(llm.intent)["context"]) == (8192, 8192)


def test_several_workloads() -> None:
    """Every vLLM workload is changed, and no other."""
    names = [w.name for w in changed({"MAX_MODEL_LEN": "1024"}, LLM, SMALL, CHAT, SPEECH)]
    assert names == ["llm", "small"]


@pytest.mark.parametrize(
    ("variable", "inside", "names"),
    [
        pytest.param("HF_HUB_OFFLINE", "HF_HUB_OFFLINE", ["llm", "small", "speech"], id="hub"),
        pytest.param(
            "TRANSFORMERS_OFFLINE", "TRANSFORMERS_OFFLINE", ["llm", "small", "speech"], id="lib"
        ),
        pytest.param("LOCAL_FILES_ONLY", "LOCAL_FILES_ONLY", ["speech"], id="local"),
        pytest.param("PRELOAD_MODELS", "PRELOAD_MODELS", ["speech"], id="preload"),
        pytest.param("TORCH_NCCL_BLOCKING_WAIT", "TORCH_NCCL_BLOCKING_WAIT", ["llm"], id="wait"),
        pytest.param("NCCL_BLOCKING_WAIT", "TORCH_NCCL_BLOCKING_WAIT", ["llm"], id="wait, old"),
        pytest.param("NCCL_DEBUG", "NCCL_DEBUG", ["llm"], id="nccl"),
        pytest.param("NCCL_DEBUG_SUBSYS", "NCCL_DEBUG_SUBSYS", ["llm"], id="nccl's parts"),
    ],
)
def test_a_variable_of_containers(variable: str, inside: str, names: list[str]) -> None:
    """It is in the environment of those whom it concerns, and NCCL's in groups only."""
    found = changed({variable: "1"}, LLM, SMALL, CHAT, SPEECH)
    assert [workload.name for workload in found] == names
    for workload in found:
        assert workload.environment == {inside: "1"}
        assert json.loads(workload.intent)["environment"] == {inside: "1"}


@pytest.mark.parametrize("variable", ["MODEL_NAME", "MODEL_PATH"])
def test_the_model(variable: str) -> None:
    """The one vLLM workload is meant; of several, none can be."""
    (llm,) = changed({variable: "org/other"})
    assert (llm.model, json.loads(llm.intent)["model"]) == ("org/other", "org/other")
    assert refused({variable: "org/other"}, LLM, SMALL) == (
        (
            f"environment: {variable}: which of llm, small is meant?",
            "write it in the profile",
        ),
    )


def test_the_directory_of_models() -> None:
    """It takes the place of what is mounted where the hub's models lie."""
    mounts = (
        Mount(source="/old", target="/root/.cache/huggingface/"),
        Mount(source="/data", target="/data", read_only=True),
    )
    (llm,) = changed({"MODEL_CACHE_DIR": "/srv/hf"}, replace(LLM, mounts=mounts))
    assert llm.mounts == (mounts[1], Mount(source="/srv/hf", target="/root/.cache/huggingface"))
    assert json.loads(llm.intent)["mounts"] == [asdict(mount) for mount in llm.mounts]


@pytest.mark.parametrize(
    ("variable", "secret", "names"),
    [
        pytest.param("HF_TOKEN_FILE", "HF_TOKEN", ["llm", "speech"], id="hub"),
        pytest.param("VLLM_API_KEY_FILE", "VLLM_API_KEY", ["llm"], id="vllm"),
    ],
)
def test_a_secret_by_its_file(variable: str, secret: str, names: list[str]) -> None:
    """The file is handed on, never its text; the environment stays without it."""
    found = changed({variable: "/etc/gpuctl/secret"})
    assert [workload.name for workload in found] == names
    for workload in found:
        assert (workload.secrets, workload.environment) == ({secret: "/etc/gpuctl/secret"}, {})
        written = json.loads(workload.intent)["environment"]
        assert written == {secret: {"file": "/etc/gpuctl/secret"}}


def test_a_key_in_the_environment_is_refused() -> None:
    """Without it vLLM would answer everyone, and it is nowhere repeated."""
    found = refused({"VLLM_API_KEY": "sk-1"})
    assert found == (
        (
            "environment: VLLM_API_KEY: a secret comes from a file only, and llm would answer"
            " without it",
            'write environment = { VLLM_API_KEY = { file = "/path" } }, or set VLLM_API_KEY_FILE',
        ),
    )
    keyed = replace(LLM, secrets={"VLLM_API_KEY": "/etc/key"})
    assert overrides.apply(profile(keyed), {"VLLM_API_KEY": "sk-1"}).overrides == {}
    together = {"VLLM_API_KEY": "sk-1", "VLLM_API_KEY_FILE": "/etc/key"}
    assert changed(together)[0].secrets == {"VLLM_API_KEY": "/etc/key"}


@pytest.mark.parametrize("variable", ["TENSOR_PARALLEL_SIZE", "TP_SIZE"])
def test_tensor_parallel(variable: str) -> None:
    """A number that the group has is fine; another is refused with what to write."""
    assert overrides.apply(profile(), {variable: "2"}).profile == profile()
    assert overrides.apply(profile(CHAT), {variable: "4"}).profile == profile(CHAT)
    on_cpu = replace(SMALL, gpus="none")
    assert overrides.apply(profile(on_cpu), {variable: "4"}).profile == profile(on_cpu)
    assert refused({variable: "4"}, LLM, replace(SMALL, gpus="each")) == (
        (
            f"environment: {variable}: 4 GPUs a replica, and llm has 2, small has 1: it follows"
            " from the workload's GPUs",
            "write gpus = [[0, 1, 2, 3]], with the GPUs you mean",
        ),
    )
    assert refused({variable: "1"})[0][1] == "write gpus = [0], with the GPUs you mean"
    assert refused({variable: "two"}) == (
        (f"environment: {variable}: 'two' is not a number above 0", "write digits"),
    )


def test_the_device() -> None:
    """CPU mode is a word of the profile; on GPUs the variable alone would change nothing."""
    assert refused({"DEVICE": "cpu"}) == (
        (
            "environment: DEVICE: cpu, and llm, chat, speech run on GPUs",
            'write gpus = "none", or fallback = "cpu" for when GPUs fail',
        ),
    )
    on_cpu = profile(replace(CHAT, gpus="none"))
    assert overrides.apply(on_cpu, {"DEVICE": "cpu"}).profile == on_cpu
    assert overrides.apply(profile(), {"DEVICE": "cuda"}).profile == profile()


@pytest.mark.parametrize(
    ("variable", "text", "what"),
    [
        pytest.param("GPU_MEMORY_UTILIZATION", "90", "'90' is not in (0, 1]", id="a percentage"),
        pytest.param("GPU_MEMORY_UTILIZATION", "nan", "'nan' is not in (0, 1]", id="no number"),
        pytest.param("GPU_MEMORY_UTILIZATION", "most", "'most' is not in (0, 1]", id="a word"),
        pytest.param("MAX_NUM_SEQS", "0", "'0' is not auto, or a number above 0", id="no sequence"),
        pytest.param("MAX_MODEL_LEN", "8k", "'8k' is not a number above 0", id="a unit"),
        pytest.param(
            "ENABLE_PREFIX_CACHING", "maybe", "'maybe' is neither true nor false", id="no switch"
        ),
        pytest.param(
            "VLLM_ATTENTION_BACKEND", "flash attn", "'flash attn' is no attention backend", id="no"
        ),
        pytest.param("SWAP_SPACE_GB", "-1", "'-1' is no number of GiB", id="below nothing"),
        pytest.param("SWAP_SPACE_GB", "8g", "'8g' is no number of GiB", id="swap with a unit"),
        pytest.param("MODEL_CACHE_DIR", "./m", "'./m' is not an absolute path", id="relative"),
        pytest.param("HF_TOKEN_FILE", "token", "'token' is not an absolute path", id="no path"),
    ],
)
def test_a_value_that_is_none_is_refused(variable: str, text: str, what: str) -> None:
    """It is told once, however many workloads it is for, with what to write."""
    found = refused({variable: text}, LLM, SMALL, SPEECH)
    assert [message for message, _ in found] == [f"environment: {variable}: {what}"]
    assert found[0][1]


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
    """What changes nothing is told: ignored, for nobody here, or for a gateway to come."""
    environment = {
        "VLLM_USE_TRITON": "0",
        "CUDA_VISIBLE_DEVICES": "0",
        "HF_TOKEN": "hf_1",
        "MAX_NUM_SEQS": "8",
        "NCCL_DEBUG": "INFO",
        "MAX_QUEUE_SIZE": "100",
        "GATEWAY_API_KEYS": "key",
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
        "environment: not read yet, as the gateway is not there: MAX_QUEUE_SIZE, GATEWAY_API_KEYS",
    ]
    assert "hf_1" not in str(found)
    assert overrides.apply(profile(CHAT), environment).overrides == {"POLL_INTERVAL": "5"}


def test_every_row_does_something() -> None:
    """A variable is read, refused, ignored with a reason, or said to come later; once each."""
    names = [row.variable for row in TABLE]
    assert len(set(names)) == len(names)
    for row in TABLE:
        assert row.does
        kinds = (row.read, row.change, row.refuse, row.ignored, row.later)
        assert sum(map(bool, kinds)) == 1, row.variable


def test_the_documentation_lists_every_variable() -> None:
    """The table of docs/profile.md is the table of the code."""
    text = (ROOT / "docs" / "profile.md").read_text()
    section = text.partition("## Variables of the environment\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)
    assert rows == [(row.variable, row.does) for row in TABLE]


def test_nothing_to_note() -> None:
    """A variable that does what it says is not mentioned twice."""
    assert overrides.notes(profile(), {"MAX_NUM_SEQS": "8", "TP_SIZE": "2", "DEVICE": ""}) == ()
