"""`gpuctl doctor` as users run it: exit codes, documents, and what it cannot look at."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gpuctl import __version__, host_state
from gpuctl.cli import host_facts
from gpuctl.cli.session import Session
from gpuctl.diagnosis import Facts
from gpuctl.diagnosis.facts import DaemonJson, DockerFacts, Unread, Wanted
from gpuctl.errors import GpuUnavailable
from gpuctl.ports import Gpus
from tests.cli import fake_docker
from tests.cli.conftest import Done
from tests.rig import images
from tests.rig.dockerd import PrivateEngine

#: nvml.h: library and driver are of different versions.
MISMATCH = 18
#: The user of nobody; nothing is done as it, files are given to it.
NOBODY = 65534

PROFILE = """
schema = 1
[host]
name = "rack"
runtime = "docker"
[workloads.chat]
engine = "container"
image = "engine:1"
gpus = "none"
port = {port}
mounts = ["{folder}:/data:ro", "volume:/cache"]
[gateway]
listen = "127.0.0.1:4000"
"""


def quiet(session: Session, name: str | None = None) -> Facts:
    return host_facts.gathered(session, name, lambda _line, _ratio: None)


def levels(done: Done) -> dict[str, tuple[str, str]]:
    """Return level and reason of every check, by name."""
    checks = json.loads(done.out)["checks"]
    return {each["check"]: (each["level"], each["reason"]) for each in checks}


@pytest.mark.parametrize("host", ["p106x8", "a100x8", "a6000x2", "rtx3090"])
def test_a_simulated_host(inside: Callable[..., Done], host: str) -> None:
    """Its GPUs and its profile are judged and well, and what was not judged is said."""
    done = inside("--simulate", host, "doctor", host)
    assert done.code == 0, done.out
    assert "simulated host: its GPUs and the profile are judged" in done.out
    assert "none of this is real" in done.err


def test_a_simulated_host_with_a_fault(inside: Callable[..., Done], tmp_path: Path) -> None:
    """What fails is exit code 3, and a document says which check and why."""
    host = host_state.read(host_state.find("a6000x2"))
    lost = replace(host, gpus=(replace(host.gpus[0], lost=True), *host.gpus[1:]))
    path = tmp_path / "host.json"
    path.write_text(host_state.dump(lost))

    done = inside("--simulate", str(path), "doctor", "--json")

    assert done.code == 3
    assert levels(done)["lost"] == ("fail", "gpu_lost")
    path.write_text(host_state.dump(replace(host, init_error=MISMATCH)))
    assert levels(inside("--simulate", str(path), "doctor", "--json"))["nvml"] == (
        "fail",
        "version_mismatch",
    )


def test_a_profile_that_is_not_there(inside: Callable[..., Done]) -> None:
    """A name that means nothing is a mistake of the command line, not of the host."""
    done = inside("--simulate", "cpu", "doctor", "no-such-profile")
    assert done.code == 2
    assert "no-such-profile" in done.err


def test_a_profile_with_mistakes(inside: Callable[..., Done], tmp_path: Path) -> None:
    """Every mistake is a failure of its own, beside what is wrong with the host."""
    path = tmp_path / "bad.toml"
    path.write_text("schema = 1\n[host]\nname = 3\nspare = 1\n[workloads]\n")
    done = inside("--simulate", "cpu", "doctor", str(path), "--json")
    mistakes = [each for each in json.loads(done.out)["checks"] if each["check"] == "plan"]
    assert done.code == 3
    assert len(mistakes) >= 2
    assert {each["reason"] for each in mistakes} == {"plan_refused"}


def test_a_plan_that_is_refused(inside: Callable[..., Done]) -> None:
    """Four A6000 are not on this host: each mistake of the plan is a failure."""
    done = inside("--simulate", "rtx3090", "doctor", "a6000x2", "--json")
    assert done.code == 3
    assert levels(done)["count"] == ("fail", "fewer_gpus")
    assert levels(done)["plan"] == ("fail", "plan_refused")


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    def write(port: int = 18081) -> str:
        path = tmp_path / "rack.toml"
        path.write_text(PROFILE.format(port=port, folder=tmp_path))
        return str(path)

    return write


def test_this_host(here: Session, docker: Path, written: Callable[..., str]) -> None:
    """Every source is read: an engine that answers, a plan, its ports, its disks."""
    with fake_docker.answering(docker, has_images=False):
        facts = quiet(here, written())
    assert isinstance(facts.docker, DockerFacts)
    assert facts.wanted is not None
    assert facts.wanted.plan is not None
    assert (facts.wanted.runtime, facts.wanted.mistakes) == ("docker", ())
    assert not isinstance(facts.ports, Unread)
    assert [(port.number, port.owner) for port in facts.ports] == [
        (18081, "chat-0"),
        (4000, "the gateway"),
    ]
    assert not isinstance(facts.disks, Unread)
    uses = [use for disk in facts.disks for use in disk.uses]
    assert {"state", "Docker", "chat: /data"} <= set(uses)
    assert not isinstance(facts.service, Unread)
    assert facts.service.version == __version__
    assert Path(facts.service.shipped_unit).is_file()


def test_a_replica_that_runs_has_its_own_port(
    here: Session, docker: Path, written: Callable[..., str]
) -> None:
    """What we listen on ourselves is not taken."""
    with fake_docker.answering(docker, "chat-0", profile="rack", has_images=False):
        facts = quiet(here, written())
    assert not isinstance(facts.ports, Unread)
    assert [port.state for port in facts.ports if port.owner == "chat-0"] == ["ours"]


@pytest.mark.parametrize(
    ("listen", "state"),
    [
        pytest.param("127.0.0.1:4000", "ours", id="where it should"),
        pytest.param("0.0.0.0:4000", "ours", id="on every address"),
        pytest.param("127.0.0.1:4001", "free", id="elsewhere"),
    ],
)
def test_a_gateway_that_runs_has_its_own_port(
    here: Session, docker: Path, written: Callable[..., str], listen: str, state: str
) -> None:
    """What our own gateway listens on is not taken, even where it may not be bound again."""
    own = here.own
    Path(own.gateway).parent.mkdir()
    Path(own.gateway).write_text(json.dumps({"pid": os.getpid(), "listen": listen}))
    with fake_docker.answering(docker, has_images=False), open(own.gateway_lock, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        facts = quiet(here, written())
    assert not isinstance(facts.ports, Unread)
    assert [port.state for port in facts.ports if port.owner == "the gateway"] == [state]


UNPLANNED = """
schema = 1
[host]
name = "rack"
gpus = "9x P106-100"
[workloads.chat]
engine = "container"
image = "engine:1"
port = {port}
[workloads.embed]
engine = "llama.cpp"
model = "embed.gguf"
mounts = ["{folder}:/models:ro"]
image = "engine:1"
gpus = "none"
replicas = 2
port = {second}
"""


@pytest.fixture
def unplanned(tmp_path: Path) -> Callable[..., str]:
    """A profile whose plan is refused: this host has no nine cards."""

    def write(port: int = 18081) -> str:
        path = tmp_path / "rack.toml"
        path.write_text(UNPLANNED.format(port=port, second=port + 10, folder=tmp_path))
        return str(path)

    return write


def test_ports_without_a_plan(
    here: Session, docker: Path, unplanned: Callable[..., str], tmp_path: Path
) -> None:
    """A plan that is refused leaves what the profile says itself: who holds a port is told."""
    engine = fake_docker.answering(docker, "embed-1", profile="rack", has_images=False)
    with socket.socket() as holder, engine:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        facts = quiet(here, unplanned(port))
    assert facts.wanted is not None
    assert facts.wanted.plan is None
    assert facts.wanted.in_docker_only == ("chat",)
    assert not isinstance(facts.ports, Unread)
    assert [(each.number, each.owner, each.state) for each in facts.ports] == [
        (port, "chat-0", "taken"),
        (port + 10, "embed-0", "free"),
        (port + 11, "embed-1", "ours"),
    ]
    assert not isinstance(facts.files, Unread)
    folder = tmp_path
    assert [file.fetch for file in facts.files.models] == [
        f"gpuctl models pull ORG/NAME --file embed.gguf --to {folder}"
    ]


def test_an_engine_that_is_away(here: Session) -> None:
    """No engine is a fact, and a profile that leaves it open gets processes."""
    found = host_facts.docker(here, None)
    assert isinstance(found, Unread)
    assert found.reason == "absent"


def test_an_engine_that_hangs(here: Session, docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is kept, and it is told as silence."""
    from gpuctl.adapters.docker import about as module

    whole = module.about
    monkeypatch.setattr(
        module, "about", lambda known, images: whole(known, images, timeout_seconds=1)
    )
    with fake_docker.hung(docker):
        found = host_facts.docker(here, None)
    assert isinstance(found, Unread)
    assert found.reason == "no_answer"


AWAY = Unread(reason="absent")
DENIED = Unread(reason="no_permission")
ENGINE = DockerFacts(version="29", api_version="1.53", config=DaemonJson(path="x"))


@pytest.mark.parametrize(
    ("runtime", "found", "expected"),
    [
        pytest.param("auto", ENGINE, "docker", id="open, and an engine"),
        pytest.param("auto", DENIED, "docker", id="open, and an engine that is not ours"),
        pytest.param("auto", AWAY, "process", id="open, and none"),
        pytest.param("docker", AWAY, "docker", id="asked for"),
        pytest.param("process", ENGINE, "process", id="not wanted"),
    ],
)
def test_where_replicas_would_run(runtime: str, found: DockerFacts | Unread, expected: str) -> None:
    """A profile that leaves its runtime open gets processes only where no engine is."""
    wanted = Wanted(source="p", runtime=runtime)
    assert host_facts.decided(wanted, found).runtime == expected


class Broken:
    """GPUs that cannot be read."""

    def __init__(self, code: int | None) -> None:
        self._code = code
        self.closed = False

    def read(self) -> Any:
        raise GpuUnavailable("NVML: no", "look", self._code)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (None, "no_answer"),
        (4, "no_permission"),
        (9, "driver_not_loaded"),
        (12, "library_missing"),
        (18, "version_mismatch"),
        (999, "nvml_failed"),
    ],
)
def test_what_nvml_says(code: int | None, reason: str) -> None:
    """Its own code becomes our word, and its child is ended."""
    gpus = Broken(code)
    assert host_facts.read_gpus(cast(Gpus, gpus)) == Unread(reason=reason, message="NVML: no")
    assert gpus.closed


@pytest.mark.program
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv, to give rights up",
)
def test_a_user_without_rights(place: Path, docker: Path, written: Callable[..., str]) -> None:
    """Who may look at little is told what, a line each with its reason, and no traceback."""
    path = written()
    state = place / "state"
    state.mkdir(mode=0o750)
    with fake_docker.answering(docker, has_images=False):
        for each in (docker, state):
            os.chown(each, NOBODY, NOBODY)
        docker.chmod(0o600)
        # Root without capabilities may do what the permission bits say, as everybody else.
        done = subprocess.run(
            [
                *("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"),
                *(sys.executable, "-m", "gpuctl", "doctor", path, "--json"),
            ],
            env={
                **os.environ,
                "DOCKER_HOST": f"unix://{docker}",
                "GPUCTL_STATE_DIR": str(state),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert "Traceback" not in done.stderr
    found = levels(Done(done.returncode, done.stdout, done.stderr))
    assert done.returncode == 3
    assert {name: found[name] for name in ("engine", "live_restore", "state_directory")} == {
        "engine": ("fail", "docker_denied"),
        "live_restore": ("skip", "no_permission"),
        "state_directory": ("fail", "state_denied"),
    }


@pytest.mark.docker
def test_a_real_engine(
    engine: PrivateEngine, gpuctl: Callable[..., Done], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole program on a real Docker Engine: its settings, its image, a port that is held."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        path = place / "rack.toml"
        written = PROFILE.format(port=port, folder=place)
        path.write_text(written.replace("engine:1", images.IMAGE))
        found = levels(gpuctl("doctor", str(path), "--json"))
    assert {
        name: found[name] for name in ("engine", "live_restore", "images", "plan", "ports")
    } == {
        "engine": ("ok", "ok"),
        "live_restore": ("warn", "live_restore_off"),
        "images": ("ok", "ok"),
        "plan": ("ok", "ok"),
        "ports": ("fail", "port_taken"),
    }
