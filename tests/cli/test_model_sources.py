"""Which models a profile's workloads want, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpuctl.cli.model_sources import Need, of_workload, pull_command
from gpuctl.model import Mount, Variant, Workload

MODELS = Mount(source="/m", target="/models")


def needs(model: str, *mounts: Mount, **fields: Any) -> list[Need]:
    workload = Workload(
        name="chat", engine="llama.cpp", model=model, port=1, mounts=mounts, **fields
    )
    return list(of_workload(workload))


def file(model: str, *places: str) -> Need:
    return Need(workload="chat", model=model, kind="file", places=tuple(map(Path, places)))


@pytest.mark.parametrize(
    ("model", "mounts", "expected"),
    [
        pytest.param("", [MODELS], [], id="none"),
        pytest.param("served-name", [MODELS], [], id="no file and no repository"),
        pytest.param("m.gguf", [], [file("m.gguf")], id="nowhere"),
        pytest.param(
            "m.gguf", [Mount(source="/c", target="/cache"), MODELS],
            [file("m.gguf", "/m", "/c")], id="/models first",
        ),
        pytest.param(
            "m.gguf", [Mount(source="volume", target="/models")], [file("m.gguf")], id="a volume",
        ),
        pytest.param(
            "/models/q/m.gguf", [MODELS], [file("/models/q/m.gguf", "/m/q", "/models/q")],
            id="the path in the container",
        ),
        pytest.param("/srv/m.gguf", [MODELS], [file("/srv/m.gguf", "/srv")], id="absolute"),
    ],
)  # fmt: skip
def test_a_file_lies_in_a_mount(model: str, mounts: list[Mount], expected: list[Need]) -> None:
    assert needs(model, *mounts) == expected


@pytest.mark.parametrize(
    ("mounts", "environment", "expected"),
    [
        pytest.param([Mount(source="/hf", target="/root/.cache/huggingface")], {}, ["/hf/hub"],
                     id="its directory"),
        pytest.param([Mount(source="/c", target="/root/.cache/")], {}, ["/c/huggingface/hub"],
                     id="all caches"),
        pytest.param([Mount(source="/h", target="/h/hub")], {"HF_HOME": "/h"}, ["/h"],
                     id="HF_HOME"),
        pytest.param([Mount(source="/k", target="/kept")], {"HF_HUB_CACHE": "/kept"}, ["/k"],
                     id="HF_HUB_CACHE"),
        pytest.param([MODELS], {}, [], id="none is mounted"),
        pytest.param([Mount(source="v", target="/root/.cache")], {}, [], id="a volume"),
    ],
)  # fmt: skip
def test_a_repository_lies_in_a_cache_that_is_mounted(
    mounts: list[Mount], environment: dict[str, str], expected: list[str]
) -> None:
    """As huggingface-hub in the container would look for it."""
    (need,) = needs("o/n", *mounts, environment=environment, secrets={"HF_TOKEN": "/etc/token"})
    assert need == Need(
        workload="chat",
        model="o/n",
        kind="repository",
        places=tuple(map(Path, expected)),
        token_file="/etc/token",
    )


def test_variants_want_theirs_too() -> None:
    """Where it falls back to, and what is added: each model once."""
    found = needs("a.gguf", MODELS, on_cpu=Variant(model="b.gguf"), scaled=Variant(model="a.gguf"))
    assert [need.model for need in found] == ["a.gguf", "b.gguf"]


def test_a_file_is_found_in_any_of_its_places(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("")
    assert file("m.gguf", "/none", str(tmp_path)).found == tmp_path / "m.gguf"
    assert file("/models/m.gguf", "/none", str(tmp_path)).found == tmp_path / "m.gguf"
    assert file("m.gguf", "/none").found is None


@pytest.mark.parametrize(
    ("need", "expected"),
    [
        pytest.param(
            file("SmolLM2-135M-Instruct.Q4_1.gguf", "/m"),
            "gpuctl models pull demo --to /m", id="the demo's",
        ),
        pytest.param(
            file("o/n/q/m.gguf", "/m"),
            "gpuctl models pull o/n --file q/m.gguf --to /m/o/n", id="its path tells",
        ),
        pytest.param(
            file("m x.gguf", "/m y"),
            "gpuctl models pull ORG/NAME --file 'm x.gguf' --to '/m y'", id="it does not",
        ),
        pytest.param(
            file("q/m.gguf", "/m"),
            "gpuctl models pull ORG/NAME --file m.gguf --to /m/q", id="below",
        ),
        pytest.param(
            file("/models/m.gguf", "/m"),
            "gpuctl models pull ORG/NAME --file m.gguf --to /m", id="absolute",
        ),
        pytest.param(
            file("m.gguf"),
            "gpuctl models pull ORG/NAME --file m.gguf --to DIR", id="no place",
        ),
    ],
)  # fmt: skip
def test_there_is_a_command_that_fetches_it(need: Need, expected: str) -> None:
    """Whole where everything is known."""
    assert pull_command(need) == expected
