"""What people want to know of a model beside its sizes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from gpuctl.adapters.model_headers import description
from gpuctl.errors import GpuctlError
from tests.rig import gguf

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "vocab_size": 100, "max_position_embeddings": 512,
}  # fmt: skip


def weights(path: Path) -> None:
    head = json.dumps({"w": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(4))


def test_a_gguf_tells_all_of_itself(tmp_path: Path) -> None:
    """The bytes of each type of tensor, most first."""
    found = description.read(gguf.write(tmp_path / "m.gguf"))
    assert found.facts.name == "Tiny"
    assert dict(found.mix) == {"q8_0": 2 * 256 * 34, "f32": 2 * 512}
    assert (found.tokenizer, found.chat_template, found.license) == ("gpt2", True, "mit")


def test_a_gguf_without_them(tmp_path: Path) -> None:
    """No template is an answer; no license is none."""
    told = {k: v for k, v in gguf.LLAMA.items() if "license" not in k and "chat" not in k}
    found = description.read(gguf.write(tmp_path / "m.gguf", told))
    assert (found.chat_template, found.license) == (False, "")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, ("", False, ""), id="a config alone"),
        pytest.param(
            {"tokenizer_config.json": '{"tokenizer_class": "Tok", "chat_template": "x"}'},
            ("Tok", True, ""), id="the tokenizer's settings",
        ),
        pytest.param({"chat_template.jinja": "x"}, ("", True, ""), id="a template of its own"),
        pytest.param({"tokenizer_config.json": "["}, ("", False, ""), id="damaged settings"),
        pytest.param(
            {"README.md": "---\ntags: [a]\nlicense: apache-2.0\n---\nlicense: other\n"},
            ("", False, "apache-2.0"), id="a model card",
        ),
        pytest.param({"README.md": "license: mit\n"}, ("", False, ""), id="no card"),
        pytest.param({"README.md": "---\ntags: []\n---\nlicense: mit\n"}, ("", False, ""),
                     id="a card without"),
    ],
)  # fmt: skip
def test_a_directory_tells_it_in_its_files(
    tmp_path: Path, files: dict[str, str], expected: tuple[str, bool, str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = description.read(tmp_path)
    assert (found.tokenizer, found.chat_template, found.license) == expected


def test_a_single_file_of_weights_tells_little(tmp_path: Path) -> None:
    weights(tmp_path / "m.safetensors")
    found = description.read(tmp_path / "m.safetensors")
    assert (found.facts.weights_bytes, found.chat_template) == (4, None)


def test_a_cut_file_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = gguf.write(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(GpuctlError, match=r"m\.gguf: byte \d+: the file ends"):
        description.read(path)
