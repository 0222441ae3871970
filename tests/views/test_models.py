"""Model files, as people read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpuctl.views import models
from gpuctl.views.models import Card, Inspection, ModelRow

MIB = 1024**2


def row(**changes: Any) -> ModelRow:
    values: Any = {
        "name": "m.gguf", "path": "/models/m.gguf", "format": "gguf", "architecture": "llama",
        "quantization": "Q4_0", "parameters": 1, "size_bytes": 3 * MIB, "workloads": ["chat", "a"],
        "complete": True, "problem": None,
    }  # fmt: skip
    return values | changes  # type: ignore[no-any-return]


def card(index: int, **changes: Any) -> Card:
    values: Any = {
        "gpus": [{"index": index, "uuid": f"GPU-{index}", "name": "A100"}], "engine": "vllm",
        "fits": True, "largest_context": 8192, "why": [],
    }  # fmt: skip
    return values | changes  # type: ignore[no-any-return]


def inspection(**changes: Any) -> Inspection:
    values: Any = {
        "path": "/models/m.gguf", "name": "Tiny", "format": "gguf", "architecture": "llama",
        "quantization": "Q4_0", "mix": {"q4_0": 300, "f32": 100}, "parameters": 8_030_000_000,
        "weights_bytes": 5 * MIB, "files": ["/models/m.gguf"], "layers": 32, "kv_heads": [4, 8],
        "windows": [512], "experts": 8, "context_max": 8192, "vocabulary": 128_256,
        "tokenizer": "gpt2", "chat_template": True, "license": "mit", "kv_bytes_per_token": 2048,
        "parallel": 1, "context": 8192, "gpus": [],
        "needs": [{"context": 8192, "weights_bytes": MIB, "kv_bytes": 2 * MIB,
                   "overhead_bytes": 3 * MIB, "total_bytes": 6 * MIB}],
    }  # fmt: skip
    return values | changes  # type: ignore[no-any-return]


def words(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines]


def test_one_line_a_model(text: Callable[..., list[str]]) -> None:
    """A dash for what its files do not tell; one that is not whole stands out."""
    damaged = row(
        name="b", format=None, architecture=None, quantization=None, workloads=[], complete=False
    )
    assert words(text(models.listed([row(), damaged]))) == [
        ["model", "format", "architecture", "quantization", "size", "used", "by", "complete",
         "where"],
        ["m.gguf", "gguf", "llama", "Q4_0", "3", "MiB", "chat,", "a", "yes", "/models/m.gguf"],
        ["b", "-", "-", "-", "3", "MiB", "-", "NO", "/models/m.gguf"],
    ]  # fmt: skip


def test_what_is_wrong_is_told_once_for_each() -> None:
    assert models.problems([row(), row(problem="cut")]) == ["cut"]


def test_what_is_in_a_model() -> None:
    """A line for each thing that is known."""
    assert list(models.described(inspection())) == [
        "Tiny",
        "  file          /models/m.gguf",
        "  format        gguf, 1 file",
        "  architecture  llama",
        "  parameters    8.03 B",
        "  quantization  Q4_0 (q4_0 75%, f32 25%)",
        "  weights       5 MiB",
        "  layers        32",
        "  KV heads      4, 8, and windows of 512 tokens",
        "  experts       8",
        "  context       8,192",
        "  vocabulary    128,256",
        "  tokenizer     gpt2",
        "  chat template yes",
        "  license       mit",
        "  KV cache      2 KiB a token, in 16 bits",
    ]


def test_what_is_not_known_is_left_out() -> None:
    little = inspection(
        parameters=None, weights_bytes=None, files=[], layers=None, kv_heads=[], windows=[],
        experts=None, context_max=None, vocabulary=None, tokenizer=None, chat_template=None,
        license=None, mix={}, quantization="", architecture="", format="config",
    )  # fmt: skip
    assert list(models.described(little)) == [
        "Tiny",
        "  file          /models/m.gguf",
        "  format        config, without weights",
        "  KV cache      2 KiB a token, in 16 bits",
    ]


def test_small_models_count_in_millions() -> None:
    lines = list(models.described(inspection(parameters=134_515_008, chat_template=False)))
    assert "  parameters    135 M" in lines
    assert "  chat template none" in lines


def test_what_each_context_takes(text: Callable[..., list[str]]) -> None:
    assert words(text(models.needs(inspection()))) == [
        ["context", "weights", "KV", "cache", "overhead", "in", "all"],
        ["8,192", "1", "MiB", "2", "MiB", "3", "MiB", "6", "MiB"],
    ]


def test_equal_neighbours_are_one_line(text: Callable[..., list[str]]) -> None:
    """Also where the reason names each by its number; a group stands for itself."""
    together = [card(0)["gpus"][0], card(1)["gpus"][0]]
    cards = [
        card(0, fits=False, largest_context=None, why=["GPU 0 is too old", "and slow"]),
        card(1, fits=False, largest_context=None, why=["GPU 1 is too old", "and slow"]),
        card(2),
        card(3, fits=None, largest_context=None),
        card(0, gpus=together, largest_context=4096),
    ]
    assert words(text(models.fits(inspection(gpus=cards)))) == [
        ["gpu", "name", "engine", "fits", "largest", "context", "why"],
        ["0-1", "A100", "vllm", "NO", "-", "GPU", "0", "is", "too", "old;", "and", "slow"],
        ["2", "A100", "vllm", "yes", "8,192", "-"],
        ["3", "A100", "vllm", "unknown", "-", "-"],
        ["2", "together", "A100", "vllm", "yes", "4,096", "-"],
    ]
