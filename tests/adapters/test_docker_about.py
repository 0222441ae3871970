"""What a real Docker Engine tells of itself, and what the doctor makes of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.adapters.diagnosis import toolkit
from gpuctl.adapters.docker.about import about, configured
from gpuctl.diagnosis.facts import DaemonJson, DockerFacts, DriverFacts, ToolkitFacts, Unread
from gpuctl.errors import RuntimeTimeout, RuntimeUnavailable
from tests.cli import fake_docker
from tests.diagnosis.make import host, judged, wanted
from tests.rig import images
from tests.rig.dockerd import PrivateEngine

NO_FILE = Path("/no/such/daemon.json")


@pytest.fixture
def docker() -> Iterator[Path]:
    """Where an engine may listen; a socket's name has room for 107 bytes only."""
    with tempfile.TemporaryDirectory(prefix="gpuctl-about-") as made:
        yield Path(made) / "docker.sock"


@pytest.mark.docker
def test_a_real_engine(engine: PrivateEngine) -> None:
    """Its settings are read as they are, and an image it lacks is left out."""
    found = about(engine.environment, [images.IMAGE, "no/such:1"], configuration=NO_FILE)

    client = engine.client()
    told = client.info()
    client.close()
    assert found == DockerFacts(
        version=told["ServerVersion"],
        api_version=client.api_version,
        architecture=told["Architecture"],
        cgroup_driver="cgroupfs",
        live_restore=False,
        storage_driver=told["Driver"],
        logging_driver="json-file",
        root_directory=str(engine.folder / "data"),
        runtimes=found.runtimes,
        default_runtime="runc",
        swap_limit=told["SwapLimit"],
        forwarding=told["IPv4Forwarding"],
        images=found.images,
        config=DaemonJson(path=str(NO_FILE), there=False),
        loopback_routed=found.loopback_routed,
    )
    assert "runc" in found.runtimes
    assert list(found.images) == [images.IMAGE]
    assert found.images[images.IMAGE].architecture == "amd64"


@pytest.mark.docker
def test_an_engine_set_up_well_and_one_that_is_not() -> None:
    """Live-restore and the cgroup driver, on and off, are told apart on the real thing."""
    systemd = ("--exec-opt", "native.cgroupdriver=systemd")
    with PrivateEngine(live_restore=True, flags=systemd) as engine:
        well = about(engine.environment, configuration=NO_FILE)
        hook = toolkit({"PATH": str(engine.folder / "bin")})
    facts = host(docker=well, toolkit=hook, driver=DriverFacts())

    assert hook.hook == str(engine.folder / "bin" / "nvidia-container-runtime-hook")
    assert judged(facts, "toolkit", "live_restore", "daemon_reload") == [
        ("toolkit", "ok", "ok"),
        ("daemon_reload", "warn", "daemon_reload_trap"),
        ("live_restore", "ok", "ok"),
    ]
    other = replace(well, live_restore=False, cgroup_driver="cgroupfs")
    assert judged(replace(facts, docker=other), "live_restore", "daemon_reload") == [
        ("daemon_reload", "ok", "ok"),
        ("live_restore", "warn", "live_restore_off"),
    ]


@pytest.mark.docker
def test_without_the_hook_no_container_gets_a_gpu(engine: PrivateEngine) -> None:
    """The real engine of the rig offers neither CDI nor a runtime of NVIDIA's."""
    found = about(engine.environment, configuration=NO_FILE)
    facts = host(docker=found, toolkit=ToolkitFacts(), wanted=wanted())
    assert judged(facts, "toolkit", "cdi", "live_restore") == [
        ("toolkit", "fail", "toolkit_missing"),
        ("cdi", "skip", "not_applicable"),
        ("live_restore", "warn", "live_restore_off"),
    ]


@pytest.mark.docker
def test_an_engine_that_hangs(engine: PrivateEngine) -> None:
    """The deadline ends the question; the engine is told as silent, not as absent."""
    engine.freeze()
    try:
        with pytest.raises(RuntimeTimeout):
            about(engine.environment, timeout_seconds=1)
    finally:
        engine.thaw()


def test_no_engine(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="no Docker Engine listens"):
        about({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})


CONFIGURATIONS = (
    pytest.param("", {}, id="empty"),
    pytest.param(json.dumps({"log-opts": {"max-size": "50m"}}), {"log_max_size": True}, id="logs"),
    pytest.param(json.dumps({"userland-proxy": False}), {"userland_proxy": False}, id="no proxy"),
    pytest.param("[1]", {"broken": "it is no object"}, id="a list"),
)


@pytest.mark.parametrize(("text", "changes"), CONFIGURATIONS)
def test_its_configuration_file(
    docker: Path, tmp_path: Path, text: str, changes: dict[str, object]
) -> None:
    """What the API does not tell is read from the file; one that is broken is told as that."""
    path = tmp_path / "daemon.json"
    path.write_text(text)
    with fake_docker.answering(docker):
        found = about({"DOCKER_HOST": f"unix://{docker}"}, configuration=path)
    assert found.config == replace(DaemonJson(path=str(path)), **changes)  # type: ignore[arg-type]


def test_a_file_that_is_no_json(docker: Path, tmp_path: Path) -> None:
    """The parser's words are kept: they say where."""
    path = tmp_path / "daemon.json"
    path.write_text('{"live-restore": true,}')
    with fake_docker.answering(docker):
        found = about({"DOCKER_HOST": f"unix://{docker}"}, configuration=path)
    assert isinstance(found.config, DaemonJson)
    assert "line 1 column" in found.config.broken


def test_an_engine_elsewhere_has_its_file_elsewhere(tmp_path: Path) -> None:
    """The configuration of this host says nothing of an engine on another."""
    found = configured({"DOCKER_HOST": "tcp://10.0.0.7:2375"}, tmp_path)
    assert found == Unread(
        reason="absent", message="the engine is on another host: tcp://10.0.0.7:2375"
    )
