"""`gpuctl models list` and `gpuctl models inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuctl.adapters.models import cache
from gpuctl.cli import compose
from gpuctl.errors import GpuUnavailable
from tests.cli.conftest import Done
from tests.cli.test_model_pull import PROFILE, write
from tests.rig import gguf

COMMIT = "1" * 40


@pytest.fixture(autouse=True)
def home(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache of the test's own."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(place / "hf"))
    return place / "hf" / "hub"


def keep(home: Path, name: str = "t-Q8_0.gguf") -> Path:
    """Put a model into the cache."""
    etag = f"{name}-etag"
    gguf.write(cache.blob(home, "o/t", etag))
    cache.name_commit(home, "o/t", "main", COMMIT)
    return cache.link(home, "o/t", COMMIT, name, etag)


def rows(done: Done) -> list[tuple[str, bool, list[str]]]:
    document = json.loads(done.out)
    assert document["schema"] == 1
    return [(row["name"], row["complete"], row["workloads"]) for row in document["models"]]


def test_what_is_mounted_and_cached_is_listed(
    inside: Callable[..., Done], place: Path, home: Path
) -> None:
    """Each once, with who uses it; what is half there is not complete, and why is said."""
    gguf.write(place / "models/m.gguf")
    (place / "models/cut.gguf").write_bytes(b"GGUF")
    (place / "models/p-00001-of-00002.gguf").write_bytes(b"GGUF")
    (place / "models/half.gguf.incomplete").write_bytes(b"GG")
    keep(home)
    cache.blob(home, "o/t", "x.incomplete").write_bytes(b"x")
    profile = write(place, PROFILE.format(model="m.gguf", place=place))

    done = inside("models", "list", profile, "--json")
    assert rows(done) == [
        ("cut.gguf", False, []),
        ("half.gguf", False, []),
        ("m.gguf", True, ["chat"]),
        ("p-00001-of-00002.gguf", False, []),
        ("o/t/t-Q8_0.gguf", True, []),
        ("o/t (part)", False, []),
    ]
    told = inside("models", "list", profile)
    assert told.code == 0
    assert "warning: " in told.err
    assert "1 of its 2 parts are missing: p-00002-of-00002.gguf" in told.err
    assert len(told.out.splitlines()) == 7


def test_a_repository_is_used_from_the_cache_that_is_mounted(
    inside: Callable[..., Done], place: Path
) -> None:
    """The snapshot's directory is the model, by the name of its repository."""
    mounted = place / "cache" / "hub"
    keep(mounted, "notes.txt")
    folder = cache.folder(mounted, "o/t") / "snapshots" / COMMIT
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "m.bin").write_bytes(b"12345")
    text = PROFILE.format(model="o/t", place=place).replace("llama.cpp", "vllm")
    text = text.replace("/models:/models:ro", "/cache:/root/.cache/huggingface")
    text = text.replace('runtime = "process"', "") + 'image = "vllm/vllm-openai:v0.33.0"\n'

    assert rows(inside("models", "list", write(place, text), "--json")) == [("o/t", True, ["chat"])]


def test_nothing_here_says_how_to_get_one(inside: Callable[..., Done]) -> None:
    done = inside("models", "list")

    assert done == Done(0, "", "no model is here: `gpuctl models pull` fetches one\n")


def test_the_applied_profile_is_looked_by(inside: Callable[..., Done]) -> None:
    """Without one, only the caches; as a document, an empty list is one."""
    assert json.loads(inside("models", "list", "--json").out) == {"schema": 1, "models": []}


def test_a_model_is_inspected_on_any_host(inside: Callable[..., Done], place: Path) -> None:
    """What is in it, what each context takes, and on which GPU it fits."""
    path = gguf.write(place / "m.gguf")
    done = inside("--simulate", "p106x8", "models", "inspect", str(path), "--context", "1000")

    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[:5] == [
        "Tiny",
        f"  file          {path}",
        "  format        gguf, 1 file",
        "  architecture  llama",
        "  parameters    16,640",
    ]
    assert [line.split()[0] for line in lines if line.lstrip()[:1].isdigit()][:3] == [
        "1,000", "2,048", "4,096",
    ]  # fmt: skip
    assert any(line.startswith("0-7") and "llama.cpp" in line for line in lines)


def test_the_document_has_the_same(inside: Callable[..., Done], place: Path) -> None:
    """On a host without a GPU there is none to fit on."""
    path = gguf.write(place / "m.gguf")
    done = inside("--simulate", "cpu", "models", "inspect", str(path), "--json")

    document = json.loads(done.out)
    assert {key: document[key] for key in ("schema", "name", "layers", "license", "gpus")} == {
        "schema": 1, "name": "Tiny", "layers": 2, "license": "mit", "gpus": [],
    }  # fmt: skip
    assert [need["context"] for need in document["needs"]] == [2048, 4096]


@pytest.mark.parametrize(
    "name", ["o/t", "o/t:Q8_0", "{place}", "{place}/m.gguf"], ids=["cached", "its", "dir", "file"]
)
def test_a_model_is_named_in_many_ways(
    inside: Callable[..., Done], place: Path, home: Path, name: str
) -> None:
    """By its path, its directory, or its repository in the cache."""
    keep(home)
    gguf.write(place / "own/m.gguf")
    done = inside(
        "--simulate", "cpu", "models", "inspect", name.format(place=place / "own"), "--json"
    )
    assert json.loads(done.out)["name"] == "Tiny"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["none.gguf"], "there is no none.gguf", id="no file"),
        pytest.param(["o/none"], "fetch it with `gpuctl models pull o/none`", id="not cached"),
        pytest.param(["{place}/empty"], "has no model in it", id="an empty directory"),
        pytest.param(["{place}/two"], "has several models: a.gguf, b.gguf", id="several"),
        pytest.param(["{place}/two/a.gguf", "--parallel", "0"], "are 1 or more", id="parallel"),
        pytest.param(["{place}/two/a.gguf", "--context", "0"], "are 1 or more", id="context"),
    ],
)
def test_what_cannot_be_inspected_is_said(
    inside: Callable[..., Done], place: Path, arguments: list[str], message: str
) -> None:
    """Exit code 2, and no data."""
    (place / "empty").mkdir()
    gguf.write(place / "two/a.gguf")
    gguf.write(place / "two/b.gguf")
    done = inside("models", "inspect", *(word.format(place=place) for word in arguments))

    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_a_config_alone_tells_little(inside: Callable[..., Done], place: Path) -> None:
    """What it would need cannot be said without its weights, and that is said."""
    (place / "bare").mkdir()
    (place / "bare/config.json").write_text('{"model_type": "llama"}')
    done = inside("--simulate", "cpu", "models", "inspect", str(place / "bare"))

    assert done.code == 0
    assert "  format        config, without weights\n" in done.out
    assert done.err.endswith("its files do not tell what it needs\n")


def test_an_index_that_is_wrong_is_said(inside: Callable[..., Done], place: Path) -> None:
    """What its parts hold is believed, and the total that differs is named to the reader."""
    index = place / "m" / "model.safetensors.index.json"
    (place / "m").mkdir()
    (place / "m" / "config.json").write_text("{}")
    index.write_text(json.dumps({"metadata": {"total_size": 7}, "weight_map": {"a": "p"}}))
    (index.parent / "p").write_bytes(b"\x02" + bytes(7) + b"{}")
    done = inside("--simulate", "cpu", "models", "inspect", str(index.parent))
    said = " ".join(done.err.split())
    assert f"warning: {index}: metadata.total_size is 7, and its parts hold 0 bytes" in said


def test_a_driver_that_does_not_answer_hides_no_model(
    inside: Callable[..., Done], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it does not depend on a GPU."""

    def away(_: object) -> None:
        raise GpuUnavailable("the driver does not answer")

    monkeypatch.setattr(compose, "read_gpus", away)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place}/none.sock")
    done = inside("models", "inspect", str(gguf.write(place / "m.gguf")))

    assert done.code == 0
    assert done.out.startswith("Tiny\n")
    assert "warning: the driver does not answer: nothing is known of the GPUs" in done.err


def test_a_damaged_file_is_one_error(inside: Callable[..., Done], place: Path) -> None:
    """With the byte at which it ends, and what to do."""
    path = gguf.write(place / "m.gguf")
    path.write_bytes(path.read_bytes()[:90])
    done = inside("models", "inspect", str(path))

    assert (done.code, done.out) == (1, "")
    assert f"error: {path}: byte " in done.err
    assert "hint: download the file again" in done.err
