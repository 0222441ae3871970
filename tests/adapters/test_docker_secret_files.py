"""Secrets in a Docker Engine: the program gets the text, and no inspection shows it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.errors import StartRefused
from tests.adapters.docker_bench import bench, inspected, simulator
from tests.adapters.runtime_contract import Bench, marked
from tests.rig import http, images
from tests.rig.dockerd import PrivateEngine

__all__ = ["bench"]

pytestmark = pytest.mark.docker


def secret(folder: Path, mode: int = 0o600) -> Path:
    file = folder / "key"
    file.write_text("sk-$HOME 'quoted'\n")
    file.chmod(mode)
    return file


def test_a_secret_is_in_the_engine_and_in_no_inspection(
    engine: PrivateEngine, bench: Bench, tmp_path: Path
) -> None:
    """The image's own program gets each file's text as its variable; Docker knows the files."""
    client = engine.client()
    bare = client.create_container(images.IMAGE, ["true"])["Id"]
    program = {"Entrypoint": [images.GPUSIM], "Cmd": ["--port", "8080"]}
    client.commit(bare, repository="gpuctl-rig", tag="with-a-program", conf=program)
    client.remove_container(bare)
    client.close()
    port = http.free_port()
    spec = replace(
        simulator(port),
        image="gpuctl-rig:with-a-program",
        entrypoint=None,
        secrets=dict.fromkeys(("VLLM_API_KEY", "HF_TOKEN"), str(secret(tmp_path))),
    )
    container = bench.runtime.create("gpuctl-secret-0", spec, marked("secret-0"))
    bench.runtime.start(container)
    state = http.state(port)
    for name in spec.secrets:
        assert state["environment"][name] == "sk-$HOME 'quoted'"
    assert state["arguments"][1:] == ["--port", "8080"]
    assert "sk-" not in json.dumps(inspected(engine, container))
    bench.runtime.signal(container, "SIGTERM")
    assert bench.ended(container).exit_code == 143


def test_a_secret_that_the_container_may_not_read_is_named(bench: Bench, tmp_path: Path) -> None:
    """The engine is not started without it, and the log's last line says which and for whom."""
    spec = replace(simulator(1), user="1000:1000", secrets={"API_KEY": str(secret(tmp_path))})
    container = bench.runtime.create("gpuctl-secret-1", spec, marked("secret-1"))
    bench.runtime.start(container)
    assert bench.ended(container).exit_code == 78
    assert bench.runtime.logs(container, 1) == (
        "gpuctl: the secret /run/secrets/API_KEY cannot be read by user 1000 of this container",
    )


def test_a_secret_that_is_not_there_refuses_the_creation(bench: Bench) -> None:
    """The file is named, and the hint says where to mend it."""
    spec = replace(simulator(1), secrets={"API_KEY": "/no/such/key"})
    with pytest.raises(StartRefused, match="/no/such/key") as refused:
        bench.runtime.create("gpuctl-secret-2", spec, marked("secret-2"))
    assert "secret" in refused.value.hint
