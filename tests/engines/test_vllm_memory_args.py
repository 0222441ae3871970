"""What stands in vLLM's args, and what it guesses with: summed as an option is, or named."""

from __future__ import annotations

from typing import Any

import pytest

from .test_vllm_memory import found


@pytest.mark.parametrize(
    ("args", "options"),
    [
        pytest.param(("--quantization", "fp8"), {"quantization": "fp8"}, id="quantization"),
        pytest.param(("-q=fp8",), {"quantization": "fp8"}, id="by its short name"),
        pytest.param(("--dtype", "float32"), {"dtype": "float32"}, id="dtype"),
        pytest.param(("--kv_cache_dtype=fp8",), {"kv_cache_dtype": "fp8"}, id="with underscores"),
        pytest.param(
            ("--max-num-batched-tokens", "512"), {"max_num_batched_tokens": 512}, id="tokens"
        ),
        pytest.param(
            ("--max-num-batched-tokens", "1.5K"), {"max_num_batched_tokens": 1536}, id="binary"
        ),
        pytest.param(
            ("--max-num-batched-tokens", "4k"), {"max_num_batched_tokens": 4000}, id="decimal"
        ),
        pytest.param(("--max-num-batched-tokens", "many"), {}, id="no number, which vLLM refuses"),
        pytest.param(
            ("--no-enable-chunked-prefill",), {"enable_chunked_prefill": False}, id="whole prompts"
        ),
        pytest.param(
            ("--enable-chunked-prefill=False",), {"enable_chunked_prefill": False}, id="as before"
        ),
        pytest.param(
            ("--enable-chunked-prefill",), {"enable_chunked_prefill": True}, id="prompts in parts"
        ),
    ],
)
def test_what_stands_in_the_args_counts(args: tuple[str, ...], options: dict[str, Any]) -> None:
    """A flag makes the same sum as its option."""
    assert found(args=args) == found(options=options)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        pytest.param(("--cpu-offload-gb", "10"), ["--cpu-offload-gb"], id="less of it"),
        pytest.param(("--kv_cache_memory_bytes=9",), ["--kv_cache_memory_bytes"], id="underscores"),
        pytest.param(("--enable-lora", "--seed", "1"), ["--enable-lora"], id="more of it"),
        pytest.param(("--seed", "1"), [], id="no matter"),
    ],
)
def test_what_stands_in_the_args_and_is_not_summed(args: tuple[str, ...], named: list[str]) -> None:
    """It is named, and the sum that lacks it is not held against the claim."""
    vram = found(args=args, context=65536)
    assert [note.partition(" ")[0] for note in vram.notes[1:]] == named
    assert (vram.least_bytes is None) == bool(named)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"options": {"speculative_config": None}}, None, id="not wanted"),
        pytest.param(
            {"options": {"speculative_config": '{"method": "ngram"}'}}, None, id="without weights"
        ),
        pytest.param(
            {"options": {"speculative_config": '{"model": "org/small"}'}},
            "speculative_config (as the profile says)",
            id="a draft model",
        ),
        pytest.param(
            {"args": ("-sc", '{"method": "eagle3"}')},
            "speculative_config (in the profile's args)",
            id="in the args",
        ),
        pytest.param(
            {"args": ("-sc", "ngram")}, "speculative_config (in the profile's args)", id="no JSON"
        ),
        pytest.param(
            {"args": ("-sc", "[1]")}, "speculative_config (in the profile's args)", id="no object"
        ),
    ],
)
def test_a_draft_model(changes: dict[str, Any], where: str | None) -> None:
    """Its weights are in no header here: that is said, and what is summed is needed anyway."""
    told = f"{where}: the weights and the cache it guesses with are not in this sum"
    vram = found(**changes)
    assert vram.notes[1:] == (() if where is None else (told,))
    assert vram.least_bytes is not None
