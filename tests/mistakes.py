"""A small profile to make mistakes in, and what is said of them."""

from __future__ import annotations

import pytest

from gpuctl import profile
from gpuctl.errors import ProfileError
from gpuctl.plugin import load_engines

ENGINES = load_engines()

HEAD = """\
schema = 1
[host]
name = "rig"
gpus = "8x P106-100"
reserve = [7]
"""
CHAT = """\
[workloads.chat]
engine = "llama.cpp"
model = "chat.gguf"
port = 8081
"""
GPU_HINT = "name one of those, or run `gpuctl init` to write a profile for the GPUs found"
BYTES_HINT = 'write bytes as a number, or as "512k", "1536m", "2g"'
SECONDS_HINT = 'write seconds as a number, or as "500ms", "5s", "10m", "2h", "1m30s"'


def mistakes(text: str) -> list[tuple[str, str]]:
    """Return what is wrong with a text, each with its hint."""
    with pytest.raises(ProfileError) as caught:
        profile.loads(text, "p.toml", engines=ENGINES)
    return list(caught.value.mistakes)
