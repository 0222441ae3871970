"""What the config and the safetensors of a model directory say."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.model_headers import read
from gpuctl.errors import GpuctlError
from gpuctl.model import LayerCache
from tests.adapters.hub_files import config, tensors


def test_a_config_alone(tmp_path: Path) -> None:
    """Without its weights a model is counted: 70.6 billion parameters in 16 bits."""
    found = read(config(tmp_path / "m"), name="Meta-Llama-3-70B")
    assert found.format == "config"
    assert found.parameters == 70_553_706_496  # what the published model has
    assert found.weights_bytes == 2 * 70_553_706_496
    assert found.cache == (LayerCache(layers=80, kv_heads=8, key_length=128, value_length=128),)


def test_quantized_configs(tmp_path: Path) -> None:
    """Each quantization has its bits, with the scales; embeddings stay in 16."""
    awq = {"quant_method": "awq", "bits": 4, "group_size": 128}
    linear, plain = 68_451_041_280, 70_553_706_496 - 68_451_041_280
    found = read(config(tmp_path / "awq", quantization_config=awq))
    assert found.quantization == "awq int4"
    assert found.weights_bytes == int(linear * (4 + 20 / 128) / 8 + plain * 2)
    eight = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    found = read(config(tmp_path / "int8", quantization_config=eight))
    assert (found.quantization, found.weights_bytes) == ("bitsandbytes int8", linear + 2 * plain)
    for name, method in (("fp8", {"quant_method": "fp8"}), ("mx", {"quant_method": "mxfp4"})):
        assert read(config(tmp_path / name, quantization_config=method)).weights_bytes is not None
    odd = read(config(tmp_path / "odd", quantization_config={"quant_method": "new"}))
    assert (odd.quantization, odd.weights_bytes) == ("new", None)


@pytest.mark.parametrize(
    ("keys", "cache"),
    [
        pytest.param(
            {"sliding_window": 4096, "layer_types": ["full_attention", "sliding_attention"] * 40},
            (
                LayerCache(layers=40, kv_heads=8, key_length=128, value_length=128),
                LayerCache(layers=40, kv_heads=8, key_length=128, value_length=128, window=4096),
            ),
            id="layer types",
        ),
        pytest.param(
            {"sliding_window": 512, "sliding_window_pattern": 8},
            (
                LayerCache(layers=70, kv_heads=8, key_length=128, value_length=128, window=512),
                LayerCache(layers=10, kv_heads=8, key_length=128, value_length=128),
            ),
            id="a pattern",
        ),
        pytest.param(
            {"model_type": "mistral", "sliding_window": 4096},
            (LayerCache(layers=80, kv_heads=8, key_length=128, value_length=128, window=4096),),
            id="mistral",
        ),
        pytest.param(
            {"sliding_window": 4096, "use_sliding_window": False},
            (LayerCache(layers=80, kv_heads=8, key_length=128, value_length=128),),
            id="a window that is switched off",
        ),
        pytest.param(
            {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128},
            (LayerCache(layers=80, kv_heads=1, key_length=576),),
            id="latent attention",
        ),
        pytest.param(
            {
                "layer_types": ["linear_attention", "full_attention"] * 40,
                "linear_num_value_heads": 4,
                "linear_num_key_heads": 2,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 16,
                "linear_conv_kernel_dim": 4,
            },
            (
                LayerCache(layers=40, state_bytes=4 * 4 * 8 * 16 + 2 * (2 * 2 * 8 + 4 * 16) * 4),
                LayerCache(layers=40, kv_heads=8, key_length=128, value_length=128),
            ),
            id="linear attention",
        ),
        pytest.param(
            {"text_config": {"num_hidden_layers": 2, "head_dim": 64}},
            (LayerCache(layers=2, kv_heads=8, key_length=64, value_length=64),),
            id="the text of a model for pictures",
        ),
    ],
)
def test_what_layers_of_a_config_keep(
    tmp_path: Path, keys: dict[str, Any], cache: tuple[LayerCache, ...]
) -> None:
    """What each layer caches follows from the config."""
    assert read(config(tmp_path, **keys)).cache == cache


def test_safetensors(tmp_path: Path) -> None:
    """The weights are what the files hold: one file, an index, or the heads of all parts."""
    config(tmp_path)
    tensors(tmp_path / "model.safetensors", {"a": 64, "b": 32})
    assert (read(tmp_path).weights_bytes, read(tmp_path).format) == (96, "safetensors")
    assert read(tmp_path / "model.safetensors").architecture == "llama"
    alone = tensors(tmp_path / "m.safetensors", {"a": 8}).rename(tmp_path.parent / "m.safetensors")
    assert read(alone).weights_bytes == 8
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "p1.safetensors", "b": "p2.safetensors"}}))
    with pytest.raises(GpuctlError, match="2 of its 2 parts are missing: p1"):
        read(tmp_path)
    tensors(tmp_path / "p1.safetensors", {"a": 64})
    tensors(tmp_path / "p2.safetensors", {"b": 128})
    assert (read(tmp_path).weights_bytes, read(tmp_path).parts) == (192, 2)
    assert read(tmp_path).notes == ()


def indexed(path: Path, **metadata: Any) -> Path:
    """Write a model in two parts, of 64 and 128 bytes, and its index; return the second part."""
    config(path)
    tensors(path / "p1.safetensors", {"a": 64})
    told = {"metadata": metadata, "weight_map": {"a": "p1.safetensors", "b": "p2.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(told))
    return tensors(path / "p2.safetensors", {"b": 128})


def test_an_index_that_is_wrong(tmp_path: Path) -> None:
    """The parts themselves are weighed, and a total that differs is named."""
    indexed(tmp_path, total_size=192)
    assert (read(tmp_path).weights_bytes, read(tmp_path).notes) == (192, ())
    indexed(tmp_path, total_size=1)
    found = read(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    note = f"{index}: metadata.total_size is 1, and its parts hold 192 bytes"
    assert (found.weights_bytes, found.notes) == (192, (note,))


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        pytest.param(1, "p2.safetensors: it ends at byte", id="by a byte"),
        pytest.param(100, "p2.safetensors: it ends at byte", id="within its tensors"),
        pytest.param(150, "p2.safetensors: byte 8: the file ends", id="within its head"),
    ],
)
def test_a_part_that_was_cut_off(tmp_path: Path, cut: int, message: str) -> None:
    """It is refused by its name, whatever the index says of the whole."""
    part = indexed(tmp_path, total_size=192)
    part.write_bytes(part.read_bytes()[:-cut])
    with pytest.raises(GpuctlError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("../p1.safetensors", "are missing: ../p1.safetensors", id="outside"),
        pytest.param("x" * 5000, "are missing: xxx", id="longer than a name can be"),
        pytest.param("a\0b", "are missing: a", id="no name at all"),
        pytest.param(".", "are missing: .", id="the directory"),
        pytest.param(7, "weight_map has no file for b", id="no text"),
    ],
)
def test_a_part_by_another_name(tmp_path: Path, name: object, message: str) -> None:
    """A part is a file of that name in the directory, and nothing else."""
    indexed(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "p1.safetensors", "b": name}}))
    with pytest.raises(GpuctlError) as refusal:
        read(tmp_path)
    assert message in refusal.value.message


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        pytest.param("model.safetensors", b"\x01", "ends 7 bytes too early", id="short"),
        pytest.param("model.safetensors", struct.pack("<Q", 1 << 60), "bytes of a head", id="huge"),
        pytest.param(
            "model.safetensors", struct.pack("<Q", 2) + b"[]", "not a JSON object", id="a list"
        ),
        pytest.param(
            "model.safetensors",
            struct.pack("<Q", 8) + b'{"a":{}}',
            "a has no data_offsets",
            id="no offsets",
        ),
        pytest.param(
            "model.safetensors",
            struct.pack("<Q", 30) + b'{"a":{"data_offsets":[0,9999]}}'[:30],
            "model.safetensors:",
            id="no JSON",
        ),
        pytest.param("config.json", b"{", "config.json: ", id="config"),
        pytest.param("config.json", b'{"hidden_size":-1}', "hidden_size is -1", id="a number"),
        pytest.param("model.safetensors.index.json", b"{}", "no weight_map", id="index"),
    ],
)
def test_a_hostile_directory(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    """A damaged file of a directory is named, with what is wrong."""
    config(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(GpuctlError, match=message):
        read(tmp_path)
