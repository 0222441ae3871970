"""The Hugging Face cache, as huggingface-hub itself reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir, try_to_load_from_cache

from gpuctl.adapters.models import cache
from gpuctl.adapters.models.cache import Cached, Incomplete

COMMIT = "1" * 40
ETAG = "a" * 64


def keep(place: Path, path: str = "q/m.gguf", content: bytes = b"weights") -> Path:
    """Put a file of a commit into a cache, as a pull does."""
    blob = cache.blob(place, "o/n", ETAG)
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    found = cache.link(place, "o/n", COMMIT, path, ETAG)
    cache.name_commit(place, "o/n", "main", COMMIT)
    return found


def test_what_is_put_there_is_found_by_the_hub_s_own_reader(tmp_path: Path) -> None:
    """By the branch and by the commit, and its scan has no complaint."""
    path = keep(tmp_path)
    for revision in ("main", COMMIT):
        found = try_to_load_from_cache("o/n", "q/m.gguf", cache_dir=tmp_path, revision=revision)
        assert found == str(path)
    scanned = scan_cache_dir(tmp_path)
    assert scanned.warnings == []
    (repository,) = scanned.repos
    assert (repository.repo_id, repository.size_on_disk) == ("o/n", len(b"weights"))


def test_a_name_that_is_there_is_left_or_led_anew(tmp_path: Path) -> None:
    """The same content: untouched; another one: the link leads to that."""
    path = keep(tmp_path)
    before = path.lstat().st_ino
    assert cache.link(tmp_path, "o/n", COMMIT, "q/m.gguf", ETAG).lstat().st_ino == before
    cache.blob(tmp_path, "o/n", "b" * 64).write_bytes(b"newer")
    assert cache.link(tmp_path, "o/n", COMMIT, "q/m.gguf", "b" * 64).read_bytes() == b"newer"


def test_a_commit_by_its_own_name_needs_no_reference(tmp_path: Path) -> None:
    cache.name_commit(tmp_path, "o/n", COMMIT, COMMIT)
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_is_found_by_branch_and_commit(tmp_path: Path) -> None:
    keep(tmp_path)
    folder = tmp_path / "models--o--n" / "snapshots" / COMMIT
    assert cache.snapshot(tmp_path, "o/n", "main") == folder
    assert cache.snapshot(tmp_path, "o/n", COMMIT) == folder
    assert cache.snapshot(tmp_path, "o/n", "other") is None
    assert cache.snapshot(tmp_path, "o/none", "main") is None


def test_snapshots_are_listed_with_what_is_half_fetched(tmp_path: Path) -> None:
    """Whatever else lies in the directory is no model."""
    keep(tmp_path)
    (tmp_path / "datasets--o--d" / "snapshots" / COMMIT).mkdir(parents=True)
    half = cache.blob(tmp_path, "o/n", f"{'c' * 64}.incomplete")
    half.write_bytes(b"half")
    assert list(cache.snapshots(tmp_path)) == [
        Cached(
            repository="o/n",
            commit=COMMIT,
            revisions=("main",),
            folder=tmp_path / "models--o--n" / "snapshots" / COMMIT,
            incomplete=(Incomplete(path=half, size_bytes=4),),
        )
    ]
    assert list(cache.snapshots(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOME": "/h"}, "/h/.cache/huggingface/hub"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HOME": "/h", "HF_HOME": "/f"}, "/f/hub"),
        ({"HF_HOME": "/f", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
        ({"HF_HOME": "/f", "HF_HUB_CACHE": "/c"}, "/c"),
    ],
)
def test_the_environment_names_the_cache(environment: dict[str, str], expected: str) -> None:
    """In the order in which huggingface-hub looks."""
    assert str(cache.root(environment)) == expected
