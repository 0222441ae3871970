"""What people want to know of a model beside its sizes: template, tokenizer, license, the mix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gpuctl.adapters.model_headers import architecture, gguf, places, safetensors
from gpuctl.errors import GpuctlError
from gpuctl.model import ModelFacts
from gpuctl.sizing import TENSOR_TYPES

#: In the head of a README. Source: https://huggingface.co/docs/hub/model-cards
_LICENSE = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)
_MOST_README_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A model, from its headers alone."""

    facts: ModelFacts
    mix: Mapping[str, int] = field(default_factory=dict)  # bytes of tensors by type, most first
    tokenizer: str = ""
    chat_template: bool | None = None  # None: nothing tells
    license: str = ""


def read(path: Path) -> Description:
    """
    Return what is in a model file or directory.

    Raises:
        GpuctlError: it cannot be read, is damaged, or is no model.
    """
    if path.is_dir():
        return _directory(path)
    if path.suffix.lower() == ".gguf":
        return _gguf(path)
    return Description(facts=places.read(path))


def _gguf(path: Path) -> Description:
    file = gguf.read(path)
    keys = architecture.Keys(metadata=file.metadata)
    mix: Counter[str] = Counter()
    for tensor in file.tensors:
        kind = TENSOR_TYPES.get(tensor.type)
        mix[kind.name if kind else f"type {tensor.type}"] += tensor.size_bytes
    return Description(
        facts=architecture.facts(file, str(path)),
        mix=dict(mix.most_common()),
        tokenizer=keys.text("tokenizer.ggml.model"),
        chat_template="tokenizer.chat_template" in file.metadata,
        license=keys.text("general.license"),
    )


def _directory(path: Path) -> Description:
    return Description(
        facts=places.read(path),
        tokenizer=_tokenizer(path),
        chat_template=_chat_template(path),
        license=_license(path),
    )


def _settings(path: Path) -> Mapping[str, object]:
    """Return the tokenizer's settings; a model without them is one all the same."""
    try:
        return safetensors.parsed(path / "tokenizer_config.json")
    except GpuctlError:
        return {}


def _tokenizer(path: Path) -> str:
    return str(_settings(path).get("tokenizer_class") or "")


def _chat_template(path: Path) -> bool:
    return (path / "chat_template.jinja").exists() or "chat_template" in _settings(path)


def _license(path: Path) -> str:
    try:
        with (path / "README.md").open("rb") as file:
            head = file.read(_MOST_README_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    found = _LICENSE.search(head.split("\n---")[0]) if head.startswith("---") else None
    return found[1] if found else ""
