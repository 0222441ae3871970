"""A small file that claims a large model is refused at once, by what it claims."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from gpuctl.adapters.model_headers import read
from gpuctl.errors import GpuctlError
from gpuctl.model import LayerCache
from tests.adapters.hub_files import config

SIZES = {
    "context_length": 2048, "embedding_length": 64, "feed_forward_length": 128,
    "attention.head_count": 8, "attention.head_count_kv": 2, "block_count": 4,
}  # fmt: skip


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def words(key: str, count: int, *, size: int = 0) -> bytes:
    return text(key) + struct.pack("<IIQ", 9, 8, count) + (struct.pack("<Q", size) * count)


def bytes_of(key: str, count: int) -> bytes:
    return text(key) + struct.pack("<IIQ", 9, 0, count) + bytes(count)


def told(key: str, value: int) -> bytes:
    """Return a pair of 64 bits, signed where it has to be."""
    return text(key) + struct.pack("<Iq" if value < 0 else "<IQ", 11 if value < 0 else 10, value)


def listed(key: str, values: Sequence[int]) -> bytes:
    return text(key) + struct.pack(f"<IIQ{len(values)}q", 9, 11, len(values), *values)


def write(
    path: Path, pairs: Iterable[bytes] = (), *, name: str = "llama", tensors: Sequence[str] = ()
) -> Path:
    """Write the head of a file, a small model's sizes first; its tensors are of no numbers."""
    before = [text("general.architecture") + struct.pack("<I", 8) + text(name)]
    before += [told(f"{name}.{key}", value) for key, value in SIZES.items()]
    found = [*before, *pairs]
    empty = struct.pack("<IQIQ", 1, 0, 0, 0)
    infos = [text(tensor) + empty for tensor in tensors]
    counts = struct.pack("<IQQ", 3, len(infos), len(found))
    path.write_bytes(b"GGUF" + counts + b"".join(found) + b"".join(infos) + bytes(64))
    return path


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        pytest.param(
            told("llama.block_count", 1 << 62),
            f"llama.block_count is {1 << 62}, and it can be 0 to 4096", id="layers",
        ),
        pytest.param(
            told("llama.block_count", 4097), "llama.block_count is 4097", id="one layer too many"
        ),
        pytest.param(
            told("llama.context_length", 1 << 63),
            f"llama.context_length is {1 << 63}, and it can be 0 to {1 << 32}", id="a context",
        ),
        pytest.param(
            told("llama.embedding_length", -2_000_000_000),
            "llama.embedding_length is -2000000000", id="a negative length",
        ),
        pytest.param(
            told("llama.attention.head_count_kv", -1),
            "llama.attention.head_count_kv is -1", id="negative heads",
        ),
        pytest.param(
            listed("llama.attention.head_count_kv", (2, -2, 2, 2)),
            "llama.attention.head_count_kv is -2", id="negative heads of a layer",
        ),
    ],
)  # fmt: skip
def test_a_number_that_no_model_has(tmp_path: Path, pair: bytes, message: str) -> None:
    """A number is refused by its key, before anything is computed with it."""
    path = write(tmp_path / "a.gguf", [pair])
    with pytest.raises(GpuctlError, match=f"^{re.escape(f'{path}: {message}')}"):
        read(path)


def test_as_many_layers_as_there_can_be(tmp_path: Path) -> None:
    """The bound itself is a model still, and truth is no number."""
    yes = text("llama.block_count") + struct.pack("<IB", 7, 1)
    assert read(write(tmp_path / "a.gguf", [told("llama.block_count", 4096)])).cache == (
        LayerCache(layers=4096, kv_heads=2, key_length=8, value_length=8),
    )
    assert read(write(tmp_path / "b.gguf", [yes])).blocks is None


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        pytest.param(
            [bytes_of(f"k{index}", 4096) for index in range(65)],
            "more than 16777216 bytes of names and values", id="short arrays",
        ),
        pytest.param(
            [text(f"k{index}") + struct.pack("<I", 8) + text("x" * 65536) for index in range(256)],
            "more than 16777216 bytes of names and values", id="texts",
        ),
        pytest.param(
            [words("a", 1 << 16), text("b") + struct.pack("<IIQ", 9, 8, (1 << 21) - 65_535)],
            "more than 2097152 strings", id="words that are passed over",
        ),
    ],
)  # fmt: skip
def test_much_of_what_may_be_there(tmp_path: Path, pairs: list[bytes], message: str) -> None:
    """What is kept or passed over is bounded for the whole file, not only each piece of it."""
    with pytest.raises(GpuctlError, match=message):
        read(write(tmp_path / "a.gguf", pairs))


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(text("llama.attention.head_count") + struct.pack("<If", 6, 8.0), id="none"),
        pytest.param(told("llama.attention.head_count", 0), id="0"),
        pytest.param(listed("llama.attention.head_count", (0, 8, 8, 8)), id="0 of one layer"),
    ],
)
def test_kv_heads_without_heads(tmp_path: Path, pair: bytes) -> None:
    """How long a key is follows from the heads: without them it cannot be said, if not told."""
    path = write(tmp_path / "a.gguf", [pair])
    with pytest.raises(GpuctlError, match=r"llama\.attention\.head_count is 0 for 2 KV heads"):
        read(path)
    lengths = [told("llama.attention.key_length", 8), told("llama.attention.value_length", 8)]
    assert read(write(tmp_path / "b.gguf", [pair, *lengths])).cache == (
        LayerCache(layers=4, kv_heads=2, key_length=8, value_length=8),
    )


def test_a_long_text_is_passed_over(tmp_path: Path) -> None:
    """A tokenizer in one text of a megabyte is not kept, and the rest is read."""
    long = text("tokenizer.huggingface.json") + struct.pack("<I", 8) + text("x" * (1 << 20))
    assert read(write(tmp_path / "a.gguf", [long])).blocks == 4


def test_a_long_name_of_an_architecture(tmp_path: Path) -> None:
    """Every key begins with it: one of many letters is refused."""
    with pytest.raises(GpuctlError, match=r"a\.gguf: general\.architecture has 257 letters"):
        read(write(tmp_path / "a.gguf", name="x" * 257))


def test_many_embeddings(tmp_path: Path) -> None:
    """Tensors that are all called embeddings are told apart in one pass each."""
    names = [f"token_embd.{index}" for index in range(20_000)]
    assert read(write(tmp_path / "a.gguf", tensors=names)).weights_bytes == 0
    with pytest.raises(GpuctlError, match="65537 tensors, and 65536 is the most"):
        read(write(tmp_path / "b.gguf", tensors=["w"] * 65_537))


def test_layers_that_are_all_called_otherwise(tmp_path: Path) -> None:
    """Layers of latent attention cache alike, whatever each of them is called."""
    kinds = [f"kind {index}" for index in range(4096)]
    keys = {"num_hidden_layers": 4096, "kv_lora_rank": 512, "layer_types": kinds}
    assert read(config(tmp_path, **keys)).cache == (
        LayerCache(layers=4096, kv_heads=1, key_length=512),
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        pytest.param(
            {"num_hidden_layers": 4097}, "num_hidden_layers is 4097, and it can be 0 to 4096",
            id="layers",
        ),
        pytest.param({"hidden_size": 1 << 33}, "hidden_size is 8589934592", id="a size"),
    ],
)  # fmt: skip
def test_a_config_that_no_model_has(tmp_path: Path, keys: dict[str, int], message: str) -> None:
    """A config's numbers have the same bounds."""
    with pytest.raises(GpuctlError, match=rf"config\.json: {message}"):
        read(config(tmp_path, **keys))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("model_type", ["llama"], id="a list for a name"),
        pytest.param("layer_types", [[["full_attention"]]] * 80, id="lists for kinds"),
        pytest.param("text_config", [1], id="a list for the text's config"),
        pytest.param("torch_dtype", {"a": 1}, id="an object for a type"),
        pytest.param("quantization_config", {"quant_method": ["awq"]}, id="a list for a method"),
        pytest.param("no_rope_layers", {"a": 1}, id="an object for a list"),
    ],
)
def test_a_config_of_other_types(tmp_path: Path, key: str, value: object) -> None:
    """A value of another type tells nothing, and breaks nothing."""
    config(tmp_path, **{key: value})
    assert json.loads((tmp_path / "config.json").read_text())[key] == value
    assert read(tmp_path).blocks == 80
