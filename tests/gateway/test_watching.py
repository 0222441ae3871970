"""Files that are read again when they have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuctl.gateway.watching import Watched


def test_changed(tmp_path: Path) -> None:
    """A file is read once, and again when another has taken its place."""
    path = tmp_path / "status.json"
    watched = Watched(str(path))
    assert watched.changed() is None
    path.write_bytes(b"one")
    assert watched.changed() == b"one"
    assert watched.changed() is None
    fresh = tmp_path / "new"
    fresh.write_bytes(b"two")
    os.replace(fresh, path)
    assert watched.changed() == b"two"
    path.unlink()
    assert watched.changed() is None


def test_unreadable(tmp_path: Path) -> None:
    """What is there and cannot be read is told."""
    with pytest.raises(OSError, match="directory"):
        Watched(str(tmp_path)).changed()
