"""What llama.cpp takes of its GPUs, as a workload's settings have it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.engines.llamacpp.memory import memory, run
from gpuctl.sizing import LlamaRun
from tests.engines.make import slot, workload
from tests.planning.test_memory import LLAMA_8B


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, LlamaRun(gpus=1), id="the server's defaults"),
        pytest.param(
            {"context": 4096, "parallel": 2},
            LlamaRun(gpus=1, context=4096, parallel=2),
            id="context and slots",
        ),
        pytest.param(
            {
                "options": {
                    "gpu_layers": 20,
                    "ubatch": 128,
                    "cache_type_k": "q8_0",
                    "cache_type_v": "q4_0",
                    "flash_attention": "off",
                }
            },
            LlamaRun(
                gpus=1,
                gpu_layers=20,
                ubatch=128,
                key_type="q8_0",
                value_type="q4_0",
                flash_attention=False,
            ),
            id="options",
        ),
        pytest.param({"kind": "embedding"}, LlamaRun(gpus=1, all_outputs=True), id="embeddings"),
    ],
)
def test_how_it_runs(changes: dict[str, Any], expected: LlamaRun) -> None:
    """What a workload sets is what is counted with."""
    assert run(workload(**changes), slot()) == expected


@pytest.mark.parametrize(
    ("args", "options"),
    [
        pytest.param(("-ub", "128"), {"ubatch": 128}, id="tokens"),
        pytest.param(("-ub", "0"), {}, id="none, which the server refuses"),
        pytest.param(("--flash-attn=off",), {"flash_attention": "off"}, id="off"),
        pytest.param(("-fa", "0"), {"flash_attention": "off"}, id="off by a number"),
        pytest.param(("-fa",), {"flash_attention": "on"}, id="on, as before 2025-09"),
        pytest.param(
            ("-ctk", "q8_0", "--cache-type-v=q4_0"),
            {"cache_type_k": "q8_0", "cache_type_v": "q4_0"},
            id="the cache",
        ),
        pytest.param(("-ctk", "q9"), {}, id="no type, which the server refuses"),
    ],
)
def test_what_stands_in_the_args_counts(args: tuple[str, ...], options: dict[str, Any]) -> None:
    """A flag makes the same sum as its option."""
    assert run(workload(args=args), slot()) == run(workload(options=options), slot())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"args": ("-md", "/m/small.gguf")}, "/m/small.gguf", id="in the args"),
        pytest.param({"options": {"spec_draft_model": None}}, None, id="none"),
    ],
)
def test_a_draft_model_in_the_args(changes: dict[str, Any], told: str | None) -> None:
    """Its headers are not read: that is said, however it was named."""
    found = memory(workload(context=512, **changes), slot(), LLAMA_8B)
    assert found is not None
    note = f"{told}, the draft model, is not in this sum: say what both take with `vram`"
    assert found.notes[1:] == (() if told is None else (note,))


@pytest.mark.parametrize("argument", ["--swa-full", "-ts=3,1"])
def test_arguments_that_are_not_counted(argument: str) -> None:
    """A flag of the operator's own that changes the sum is named."""
    found = memory(workload(args=(argument, "--verbose"), context=512), slot(), LLAMA_8B)
    assert found is not None
    flag = argument.partition("=")[0]
    note = f"{flag} stands in args and is not in this sum: say the whole with `vram`"
    assert found.notes[1:] == (note,)


def test_a_draft_model_is_not_counted() -> None:
    """It lies on the GPU as well, and its headers were not read."""
    options = {"spec_draft_model": "draft.gguf"}
    found = memory(workload(options=options, context=512), slot(), LLAMA_8B)
    assert found is not None
    assert found.notes[1:] == (
        "draft.gguf, the draft model, is not in this sum: say what both take with `vram`",
    )


def test_headers_that_do_not_tell() -> None:
    """Without the weights there is no sum."""
    assert memory(workload(), slot(), replace(LLAMA_8B, weights_bytes=None)) is None
