"""The headers of model files, held against the reference library's reading of them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuctl.adapters.model_headers import place, read
from gpuctl.errors import GpuctlError
from gpuctl.model import LayerCache, Mount
from tests.adapters.gguf_files import write
from tests.adapters.hub_files import config
from tests.engines.make import workload

SMALL = Path(__file__).parents[2] / ".cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
FULL = LayerCache(layers=4, kv_heads=2, key_length=8, value_length=8)


@pytest.mark.engine  # the reference library takes some seconds over the real model
@pytest.mark.skipif(not SMALL.exists(), reason="the test's model is not fetched")
def test_a_real_file() -> None:
    """Sizes, parameters and words of a real model are what the reference library reads."""
    reference = gguf.GGUFReader(SMALL)
    found = read(SMALL)
    assert found.weights_bytes == sum(tensor.n_bytes for tensor in reference.tensors)
    assert found.parameters == sum(int(tensor.n_elements) for tensor in reference.tensors)
    assert found.vocabulary == len(reference.fields["tokenizer.ggml.tokens"].data)
    assert (found.architecture, found.quantization, found.blocks) == ("llama", "Q4_1", 30)
    assert found.layer_bytes == tuple(
        sum(t.n_bytes for t in reference.tensors if t.name.startswith(f"blk.{index}."))
        for index in range(30)
    )
    assert found.cache == (LayerCache(layers=30, kv_heads=3, key_length=64, value_length=64),)
    # Its embeddings are its output layer as well: the GPU has a copy of them.
    assert found.input_bytes == 0


def test_layers_that_are_not_told_apart(tmp_path: Path) -> None:
    """Where a layer has no tensor of the usual name, none has a size of its own."""
    names = ("blk.0.ffn_up.weight", "blk.1.ffn_up.weight", "enc.blk.2.ffn_up.weight")
    for count, sizes in ((2, (1024, 1024)), (3, ())):
        tensors = {name: (2, 256) for name in names}
        path = write(tmp_path / f"{count}.gguf", tensors=tensors, block_count=count)
        assert read(path).layer_bytes == sizes


TYPES = sorted(gguf.GGML_QUANT_SIZES)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_every_type_of_tensor(tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    """Each type that ggml has takes as many bytes as the reference library says."""
    path = write(tmp_path / "a.gguf", tensors={"blk.0.ffn_up.weight": (3, 512)}, kind=kind)
    reference = gguf.GGUFReader(path)
    assert read(path).weights_bytes == sum(tensor.n_bytes for tensor in reference.tensors)


@pytest.mark.parametrize(
    ("architecture", "keys", "cache"),
    [
        pytest.param("llama", {}, (FULL,), id="grouped queries"),
        pytest.param(
            "llama",
            {"attention__head_count_kv": [2, 0, 4, 2]},
            (
                LayerCache(layers=2, kv_heads=2, key_length=8, value_length=8),
                LayerCache(layers=1, kv_heads=4, key_length=8, value_length=8),
            ),
            id="KV heads of each layer",
        ),
        pytest.param(
            "gemma2",
            {"attention__sliding_window": 512, "attention__key_length": 16},
            (
                LayerCache(layers=2, kv_heads=2, key_length=16, value_length=8, window=512),
                LayerCache(layers=2, kv_heads=2, key_length=16, value_length=8),
            ),
            id="every second layer looks through a window",
        ),
        pytest.param(
            "gpt-oss",
            {
                "attention__sliding_window": 128,
                "attention__sliding_window_pattern": [True, False, True, True],
            },
            (
                LayerCache(layers=3, kv_heads=2, key_length=8, value_length=8, window=128),
                LayerCache(layers=1, kv_heads=2, key_length=8, value_length=8),
            ),
            id="layers with a window, one by one",
        ),
        pytest.param(
            "gemma4",
            {
                "attention__sliding_window": 512,
                "attention__sliding_window_pattern": 2,
                "attention__key_length": 32,
                "attention__value_length": 32,
                "attention__key_length_swa": 16,
                "attention__value_length_swa": 16,
                "attention__shared_kv_layers": 1,
            },
            (
                LayerCache(layers=2, kv_heads=2, key_length=16, value_length=16, window=512),
                LayerCache(layers=1, kv_heads=2, key_length=32, value_length=32),
            ),
            id="heads of another length in a window, and layers that share a cache",
        ),
        pytest.param(
            "phi3", {"attention__sliding_window": 512}, (FULL,), id="a window that is not used"
        ),
        pytest.param(
            "deepseek2",
            {
                "attention__head_count_kv": 1,
                "attention__kv_lora_rank": 512,
                "attention__key_length": 576,
                "attention__value_length": 512,
                "attention__key_length_mla": 192,
                "attention__value_length_mla": 128,
            },
            (LayerCache(layers=4, kv_heads=1, key_length=576, value_length=0),),
            id="latent attention",
        ),
        pytest.param(
            "mamba",
            {
                "attention__head_count": 0,
                "attention__head_count_kv": 0,
                "ssm__conv_kernel": 4,
                "ssm__inner_size": 128,
                "ssm__state_size": 16,
            },
            (LayerCache(layers=4, state_bytes=4 * (3 * 128 + 16 * 128)),),
            id="recurrent",
        ),
        pytest.param(
            "falcon-h1",
            {
                "ssm__conv_kernel": 4,
                "ssm__inner_size": 128,
                "ssm__state_size": 16,
                "ssm__group_count": 1,
            },
            (
                LayerCache(
                    layers=4,
                    kv_heads=2,
                    key_length=8,
                    value_length=8,
                    state_bytes=4 * (3 * (128 + 32) + 16 * 128),
                ),
            ),
            id="recurrent and attending",
        ),
        pytest.param(
            "qwen3next",
            {
                "ssm__conv_kernel": 4,
                "ssm__inner_size": 4096,
                "ssm__state_size": 128,
                "ssm__group_count": 16,
            },
            (
                # 2.09 MiB: what llama.cpp reports for one such layer of Qwen3.5-9B.
                LayerCache(layers=3, state_bytes=4 * (3 * 8192 + 524288)),
                LayerCache(layers=1, kv_heads=2, key_length=8, value_length=8),
            ),
            id="every fourth layer attends",
        ),
        pytest.param(
            "lfm2",
            {"attention__head_count_kv": [0, 2, 0, 2], "shortconv__l_cache": 3},
            (
                LayerCache(layers=2, state_bytes=4 * 64 * 2),
                LayerCache(layers=2, kv_heads=2, key_length=8, value_length=8),
            ),
            id="layers without KV heads convolve",
        ),
        pytest.param(
            "rwkv7",
            {"wkv__head_size": 64, "token_shift_count": 2},
            (LayerCache(layers=4, state_bytes=4 * (2 * 64 + 64 * 64)),),
            id="rwkv",
        ),
        pytest.param("bert", {"attention__causal": False}, (), id="an encoder keeps nothing"),
        pytest.param(
            "glm4",
            {"nextn_predict_layers": 1},
            (LayerCache(layers=3, kv_heads=2, key_length=8, value_length=8),),
            id="a layer that only predicts further",
        ),
    ],
)
def test_what_layers_keep(
    tmp_path: Path, architecture: str, keys: dict[str, Any], cache: tuple[LayerCache, ...]
) -> None:
    """What each layer of an architecture caches follows from its keys."""
    assert read(write(tmp_path / "a.gguf", architecture, **keys)).cache == cache


def test_what_lies_where(tmp_path: Path) -> None:
    """Embeddings that are not the output layer as well stay on the host; experts are counted."""
    tensors = {
        "token_embd.weight": (32, 64),
        "output.weight": (32, 64),
        "output_norm.weight": (64,),
        "blk.0.ffn_up.weight": (128, 64),
    }
    path = write(
        tmp_path / "a.gguf",
        tensors=tensors,
        words=5000,
        expert_count=8,
        expert_used_count=2,
        expert_feed_forward_length=256,
    )
    found = read(path)
    assert (found.input_bytes, found.output_bytes) == (32 * 64 * 2, 32 * 64 * 2 + 64 * 2)
    assert (found.experts, found.experts_used, found.expert_length) == (8, 2, 256)
    assert (found.vocabulary, found.heads, found.quantization) == (5000, 8, "F16")


def test_a_file_in_parts(tmp_path: Path) -> None:
    """The tensors of all parts count, and a part that is missing is named."""
    first = write(tmp_path / "m-00001-of-00002.gguf", tensors={"token_embd.weight": (32, 64)})
    second = write(tmp_path / "m-00002-of-00002.gguf", tensors={"blk.0.ffn_up.weight": (64, 64)})
    found = read(first)
    assert (found.parts, found.weights_bytes) == (2, (32 + 64) * 64 * 2)
    second.unlink()
    with pytest.raises(GpuctlError, match=r"1 of its 2 parts are missing: m-00002-of-00002"):
        read(first)


def head(*parts: bytes, tensors: int = 0, pairs: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + b"".join(parts)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "byte 0: the file ends 4 bytes too early", id="empty"),
        pytest.param(b"PK\x03\x04" * 9, "byte 4: it does not begin as a GGUF", id="no GGUF"),
        pytest.param(head(version=1), "byte 8: version 1 of GGUF", id="too old"),
        pytest.param(head(version=9), "byte 8: version 9 of GGUF", id="too new"),
        pytest.param(head(tensors=1 << 40), "1099511627776 tensors", id="too many tensors"),
        pytest.param(head(pairs=1 << 60), "metadata pairs, and", id="too many pairs"),
        pytest.param(head(struct.pack("<Q", 1 << 62), pairs=1), "bytes of a string", id="a string"),
        pytest.param(head(text("a"), struct.pack("<I", 99), pairs=1), "value type 99", id="a type"),
        pytest.param(
            head(text("a"), struct.pack("<IIQ", 9, 4, 1 << 50), pairs=1),
            "entries of an array",
            id="an array",
        ),
        pytest.param(
            head(text("a"), struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 9, 1) * 9, pairs=1),
            "arrays within arrays within arrays",
            id="nested arrays",
        ),
        pytest.param(
            head(text("a"), struct.pack("<IIQ", 9, 9, 5000), pairs=1),
            "5000 entries of type 9",
            id="many arrays",
        ),
        pytest.param(
            head(text("w"), struct.pack("<IQ", 9, 1), tensors=1), "dimensions of w", id="dimensions"
        ),
        pytest.param(
            head(text("w"), struct.pack("<IQQIQ", 2, 1 << 40, 1 << 40, 0, 0), tensors=1),
            "w has 1208925819614629174706176 numbers",
            id="a huge tensor",
        ),
        pytest.param(
            head(text("w"), struct.pack("<IQIQ", 1, 64, 0, 0), tensors=1),
            "it ends within w",
            id="cut off",
        ),
        pytest.param(
            head(text("general.alignment"), struct.pack("<II", 4, 0), pairs=1),
            "its alignment is 0",
            id="alignment",
        ),
    ],
)
def test_a_hostile_file(tmp_path: Path, data: bytes, message: str) -> None:
    """Whatever a file claims, it is refused with its name, the place and what is wrong there."""
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(GpuctlError) as refusal:
        read(path)
    assert refusal.value.message.startswith(str(path))
    assert message in refusal.value.message


@given(cut=st.integers(0, 4000), at=st.integers(0, 3999), byte=st.integers(0, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_a_damaged_file(tmp_path: Path, cut: int, at: int, byte: int) -> None:
    """A file that is cut off or changed anywhere is read or refused, and never breaks anything."""
    whole = write(tmp_path / "whole.gguf", words=40).read_bytes()
    damaged = bytearray(whole[: len(whole) - cut % len(whole)])
    if damaged:
        damaged[at % len(damaged)] = byte
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged)
    try:
        source = read(path).source
    except GpuctlError as refusal:
        source = refusal.message
    assert source.startswith(str(path))


def test_what_is_no_model(tmp_path: Path) -> None:
    """A file of another kind, and one that is not there, are refused."""
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(GpuctlError, match=r"neither a \.gguf nor"):
        read(tmp_path / "a.txt")
    for name in ("a.gguf", "a.safetensors"):
        with pytest.raises(GpuctlError, match="No such file"):
            read(tmp_path / name)


def test_where_a_model_lies(tmp_path: Path) -> None:
    """It is found under what is mounted, or as an absolute path on either side."""
    models = tmp_path / "models"
    models.mkdir()
    file = write(models / "a.gguf")
    mounts = (Mount(source=str(models), target="/models", read_only=True),)
    found = (file, "a.gguf")
    assert place(workload(model="a.gguf", mounts=mounts), {}) == found
    assert place(workload(model="/models/a.gguf", mounts=mounts), {}) == found
    assert place(workload(model=str(file), mounts=()), {}) == found
    assert place(workload(model="b.gguf", mounts=mounts), {}) is None
    assert place(workload(model="../models/a.gguf", mounts=mounts), {}) is None
    assert place(workload(model="a.gguf", mounts=(Mount(source="none", target="/m"),)), {}) is None


def test_where_a_repository_lies(tmp_path: Path) -> None:
    """A hub's name leads to its newest snapshot, in the mounted cache or this user's."""
    base = tmp_path / "hub" / "models--org--name"
    commit = "0" * 40
    config(base / "snapshots" / commit)
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text(commit)
    mounted = (Mount(source=str(tmp_path), target="/root/.cache/huggingface"),)
    found = (base / "snapshots" / commit, "org/name")
    assert place(workload(model="org/name", mounts=mounted), {}) == found
    assert place(workload(model="org/name", mounts=()), {"HF_HOME": str(tmp_path)}) == found
    assert place(workload(model="org/other", mounts=mounted), {"HOME": "/nowhere"}) is None
    (base / "refs" / "main").write_text("../../../../etc")
    assert place(workload(model="org/name", mounts=mounted), {"HOME": "/nowhere"}) is None
