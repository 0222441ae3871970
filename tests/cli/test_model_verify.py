"""`gpuctl models verify`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuctl.adapters.models import cache
from tests.cli.conftest import Done
from tests.rig.hub import blob_id

COMMIT = "1" * 40
LARGE = b"weights" * 1000
SUM = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture
def folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A snapshot in a cache: weights by their SHA-256, and a config by git's id."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(place / "hf"))
    hub = place / "hf" / "hub"
    for path, etag, content in (
        ("config.json", blob_id(b"{}"), b"{}"), ("model.safetensors", SUM, LARGE),
    ):  # fmt: skip
        blob = cache.blob(hub, "o/n", etag)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        cache.link(hub, "o/n", COMMIT, path, etag)
    cache.name_commit(hub, "o/n", "main", COMMIT)
    return hub / "models--o--n" / "snapshots" / COMMIT


def test_what_was_not_altered_is_as_published(inside: Callable[..., Done], folder: Path) -> None:
    """By the name of each content, without asking anybody."""
    done = inside("models", "verify", "o/n")

    assert (done.code, done.out) == (
        0,
        f"{folder}/config.json: as published\n{folder}/model.safetensors: as published\n",
    )


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_bit_that_turned_is_found(inside: Callable[..., Done], folder: Path, name: str) -> None:
    """Exit code 1, and the file is named."""
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).resolve().write_bytes(content)
    done = inside("models", "verify", "o/n")

    assert done.code == 1
    assert f"{folder}/{name}: ALTERED\n" in done.out
    assert done.out.count("as published") == 1
    assert done.err.endswith("remove what is altered, and pull it again\n")


def test_a_file_elsewhere_needs_its_sum(inside: Callable[..., Done], place: Path) -> None:
    """A wrong one is told from a right one."""
    (place / "m.gguf").write_bytes(LARGE)
    path = str(place / "m.gguf")

    assert inside("models", "verify", path, "--sha256", SUM.upper()).code == 0
    assert inside("models", "verify", path, "--sha256", "0" * 64).code == 1
    without = inside("models", "verify", path)
    assert (without.code, without.out) == (2, "")
    assert "give the published sum with --sha256" in without.err


@pytest.mark.parametrize(
    ("sha256", "message"),
    [("xy", "is no SHA-256"), ("0" * 64, "o/n has 2 files, and --sha256 is of one")],
)
def test_a_sum_that_makes_no_sense_is_refused(
    inside: Callable[..., Done], folder: Path, sha256: str, message: str
) -> None:
    done = inside("models", "verify", "o/n", "--sha256", sha256)

    assert done.code == 2
    assert message in done.err


def test_the_parts_of_one_model_are_all_of_it(inside: Callable[..., Done], folder: Path) -> None:
    """Whichever of them is named; one that is missing is said."""
    hub = folder.parents[2]
    parts = ("p-00001-of-00002.gguf", "p-00002-of-00002.gguf")
    for part in parts:
        cache.link(hub, "o/n", COMMIT, part, SUM)
    whole = inside("models", "verify", str(folder / parts[0]))
    (folder / parts[1]).unlink()
    cut = inside("models", "verify", str(folder / parts[0]))

    assert whole.out == "".join(f"{folder}/{part}: as published\n" for part in parts)
    assert (cut.code, cut.out.splitlines()[1]) == (1, f"{folder}/{parts[1]}: MISSING")


def test_a_content_that_was_removed_is_missing(inside: Callable[..., Done], folder: Path) -> None:
    """Its name in the snapshot leads nowhere."""
    (folder / "model.safetensors").resolve().unlink()
    done = inside("models", "verify", "o/n")

    assert (done.code, done.out.splitlines()[1]) == (1, f"{folder}/model.safetensors: MISSING")
