"""The model files of a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuctl.adapters.models import finding
from gpuctl.adapters.models.finding import Found, models_in


def put(place: Path, *paths: str) -> None:
    for path in paths:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(b"12345")


def test_models_are_found_where_they_lie(tmp_path: Path) -> None:
    """A split file is one model, and a directory with a config is one."""
    put(
        tmp_path,
        *("a.gguf", "notes.txt", "loose.safetensors", "half.gguf.incomplete"),
        *("o/n/big-00001-of-00003.gguf", "o/n/big-00003-of-00003.gguf"),
        *("dir/config.json", "dir/x-1.safetensors", "dir/x-2.safetensors"),
        *("bare/config.json", ".git/hidden.gguf", "models--o--n/blobs/b.gguf"),
        "1/2/3/4/deep.gguf",
    )
    assert list(models_in(tmp_path)) == [
        Found(path=tmp_path / "loose.safetensors", size_bytes=5),
        Found(path=tmp_path / "a.gguf", size_bytes=5),
        Found(path=tmp_path / "half.gguf.incomplete", size_bytes=5, incomplete=True),
        Found(path=tmp_path / "dir", size_bytes=10),
        Found(path=tmp_path / "o/n/big-00001-of-00003.gguf", size_bytes=10),
    ]


def test_a_directory_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert list(models_in(tmp_path / "none")) == []


def test_a_look_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a mount with very many files, the rest is not looked at."""
    monkeypatch.setattr(finding, "_MOST_ENTRIES", 3)
    put(tmp_path, "a.gguf", "b/c.gguf", "b/d.gguf")
    assert [found.path.name for found in models_in(tmp_path)] == ["a.gguf"]


def test_a_link_to_what_is_gone_weighs_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").symlink_to(tmp_path / "gone")
    assert list(models_in(tmp_path)) == [Found(path=tmp_path / "m.gguf", size_bytes=0)]
