"""What must be true before anything starts."""

import fcntl
import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gpuctl.cli import preflight
from gpuctl.cli.session import Session
from gpuctl.errors import ProfileError
from gpuctl.gateway import keyring
from gpuctl.gateway.keyring import Key
from gpuctl.model import (
    ContainerReading,
    ContainerSpec,
    GatewaySettings,
    HostSettings,
    Mount,
    Plan,
    ProbeSpec,
    Profile,
    Replica,
    WatchdogSettings,
    Workload,
)
from gpuctl.ports import Runtime
from tests.rig.http import free_port

OUTSIDE = GatewaySettings(listen="0.0.0.0:80")
KEY = Key(id="key-00000001", name="ci", sha256="0" * 64)


class Engine:
    """As much of a Runtime as preflight asks."""

    kind = "docker"

    def __init__(self, *running: str) -> None:
        self.running = running
        self.pulled: list[str] = []

    def list(self) -> tuple[ContainerReading, ...]:
        return tuple(
            ContainerReading(id=name, name=name, replica=name, state="running")
            for name in self.running
        )

    def has_image(self, image: str) -> bool:
        return image == "here"

    def pull(self, image: str, progress: Any) -> None:
        self.pulled.append(image)


def plan(port: int = 1, image: str = "here") -> Plan:
    replica = Replica(
        name="chat-0",
        workload="chat",
        engine="container",
        spec=ContainerSpec(image=image, host_port=port, container_port=80),
        probe=ProbeSpec(port=port, health_path="/"),
        watchdog=WatchdogSettings(),
        digest="",
        spec_digest="",
    )
    return Plan(profile="p", watchdog=WatchdogSettings(), replicas=(replica,))


def profile(model: str = "", *mounts: Mount) -> Profile:
    workload = Workload(name="chat", engine="container", model=model, port=1, mounts=mounts)
    return Profile(host=HostSettings(name="p"), workloads=(workload,))


@pytest.fixture
def session(place: Path) -> Session:
    return Session(environment={"GPUCTL_STATE_DIR": str(place)})


@pytest.fixture
def taken() -> Any:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def listening(listen: str) -> Profile:
    return Profile(host=HostSettings(name="p"), gateway=GatewaySettings(listen=listen))


def check(
    session: Session, what: Plan, engine: Engine, written: Profile | None = None
) -> tuple[tuple[str, str], ...]:
    try:
        preflight.check(session, written or profile(), what, cast(Runtime, engine))
    except ProfileError as error:
        return error.mistakes
    return ()


def test_a_port_that_is_taken_is_refused(session: Session, taken: int) -> None:
    """Somebody else's port is named, with the way to find out whose."""
    ((message, hint),) = check(session, plan(taken), Engine())

    assert message == f"workloads.chat.port: {taken} for chat-0: Address already in use"
    assert "ss -ltnp" in hint


def test_our_own_port_is_fine(session: Session, taken: int) -> None:
    """A replica that runs already holds its own port."""
    assert check(session, plan(taken), Engine("chat-0")) == ()


def test_every_obstacle_at_once(session: Session, taken: int, tmp_path: Path) -> None:
    """A missing mount, model or secret and a taken port are told together."""
    there = Mount(source=str(tmp_path), target="/models")
    gone = Mount(source=str(tmp_path / "gone"), target="/cache")
    written = profile("m.gguf", there, gone)
    keyed = replace(written.workloads[0], secrets={"HF_TOKEN": str(tmp_path / "token")})

    found = check(session, plan(taken), Engine(), replace(written, workloads=(keyed,)))

    assert [message.split(":")[0] for message, _ in found] == [
        "workloads.chat.mounts",
        "workloads.chat.model",
        "workloads.chat.environment.HF_TOKEN",
        "workloads.chat.port",
    ]


def test_a_missing_model_comes_with_the_command_that_fetches_it(
    session: Session, taken: int, tmp_path: Path
) -> None:
    """As far as its name tells where it comes from."""
    mount = Mount(source=str(tmp_path), target="/models")

    model, _ = check(session, plan(taken), Engine(), profile("o/n/m.gguf", mount))

    assert model == (
        f"workloads.chat.model: there is no {tmp_path}/o/n/m.gguf",
        f"fetch it with `gpuctl models pull o/n --file m.gguf --to {tmp_path}/o/n`, or correct "
        "`model` or `mounts`",
    )


def test_a_model_that_is_there(session: Session, tmp_path: Path) -> None:
    """A model file is looked for in what is mounted."""
    (tmp_path / "m.gguf").write_text("")
    mount = Mount(source=str(tmp_path), target="/models")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert check(session, plan(port), Engine(), profile("m.gguf", mount)) == ()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        pytest.param(lambda path: None, "does not exist", id="missing"),
        pytest.param(lambda path: path.mkdir(), "is no file", id="a directory"),
        pytest.param(os.mkfifo, "is no file", id="a pipe"),
        pytest.param(lambda path: path.write_text("\n"), "is empty", id="empty"),
        pytest.param(
            lambda path: path.symlink_to(path),
            "cannot be read: Too many levels of symbolic links",
            id="a loop",
        ),
        pytest.param(lambda path: path.write_text("hf_1\n"), None, id="there"),
    ],
)
@pytest.mark.parametrize("variable", [None, "HF_TOKEN_FILE"], ids=["profile", "environment"])
def test_the_file_of_a_secret(
    tmp_path: Path, make: Callable[[Path], Any], what: str | None, variable: str | None
) -> None:
    """It is looked at before anything starts, and named by where it was written."""
    path = tmp_path / "token"
    make(path)
    set_by = {"HF_TOKEN": variable} if variable else {}
    workload = Workload(
        name="chat", engine="vllm", port=1, secrets={"HF_TOKEN": str(path)}, set_by=set_by
    )
    written = Profile(host=HostSettings(name="p"), workloads=(workload,))

    found = preflight.unread_secrets(written)

    where = f"environment: {variable}" if variable else "workloads.chat.environment.HF_TOKEN"
    assert [message for message, _ in found] == ([f"{where}: {path} {what}"] if what else [])
    assert all(hint for _, hint in found)


def test_the_file_of_a_secret_that_is_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who may not read it could not start it either; root may read all, so it is told so."""
    path = tmp_path / "token"
    path.write_text("hf_1")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(preflight, "open", denied, raising=False)
    workload = Workload(name="chat", engine="vllm", port=1, secrets={"HF_TOKEN": str(path)})
    assert preflight.unread_secrets(
        Profile(host=HostSettings(name="p"), workloads=(workload,))
    ) == (
        (
            f"workloads.chat.environment.HF_TOKEN: {path} may not be read by this user",
            "run as its owner, or let this user read it",
        ),
    )


@pytest.mark.parametrize("variable", [None, "API_KEYS_FILE"], ids=["profile", "environment"])
def test_a_file_of_the_gateway_s_keys(tmp_path: Path, variable: str | None) -> None:
    """One that is not there would leave the gateway without them; it is named as others are."""
    there, path = tmp_path / "there", tmp_path / "keys"
    there.write_text("sk-1")
    written = Profile(
        host=HostSettings(name="p"),
        gateway=GatewaySettings(key_files=(str(there), str(path))),
        overrides={variable: str(path)} if variable else {},
    )
    where = f"environment: {variable}" if variable else "gateway.key_files"
    assert preflight.unread_secrets(written) == (
        (f"{where}: {path} does not exist", "write the secret into it, or correct the path"),
    )


@pytest.mark.parametrize(
    ("settings", "document", "told"),
    [
        pytest.param(None, b"", False, id="no-gateway"),
        pytest.param(GatewaySettings(), b"", False, id="on-loopback"),
        pytest.param(OUTSIDE, b"", True, id="without-keys"),
        pytest.param(OUTSIDE, keyring.write((KEY,)), False, id="with-a-key"),
        pytest.param(OUTSIDE, b"{", False, id="with-what-nobody-can-read"),
        pytest.param(replace(OUTSIDE, key_files=("/k",)), b"", False, id="with-a-file"),
        pytest.param(replace(OUTSIDE, keys_from=("API_KEYS",)), b"", False, id="with-a-variable"),
    ],
)
def test_a_gateway_that_others_reach(
    tmp_path: Path, settings: GatewaySettings | None, document: bytes, told: bool
) -> None:
    """It needs keys, and whoever checks the profile is told how to make one."""
    if document:
        (tmp_path / "keys.json").write_bytes(document)
    session = Session(environment={"GPUCTL_CONFIG_DIR": str(tmp_path), "GPUCTL_RUNTIME_DIR": "/no"})
    written = Profile(host=HostSettings(name="p"), gateway=settings)
    assert preflight.without_keys(session, written) == (
        (
            (
                "gateway.listen: 0.0.0.0:80 is reached from elsewhere, and there is no key: the"
                " gateway will refuse it",
                "make one: `gpuctl keys create NAME`",
            ),
        )
        if told
        else ()
    )


@pytest.mark.parametrize("place", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_gateway_s_port_that_another_holds(session: Session, taken: int, place: str) -> None:
    """It would not listen: said as `doctor` does, before anything is started."""
    assert preflight.gateway_port(session, listening(f"{place}:{taken}")) == (
        (
            f"gateway.listen: {place}:{taken}: another program listens there already",
            f"see who has it with `ss -ltnp 'sport = :{taken}'`, or choose another",
        ),
    )


def test_a_gateway_s_port_of_ipv6(session: Session) -> None:
    """Its address stands in brackets."""
    with socket.socket(socket.AF_INET6) as holder:
        holder.bind(("::1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert len(preflight.gateway_port(session, listening(f"[::1]:{port}"))) == 1


def test_nobody_else_holds_the_port(session: Session, taken: int, tmp_path: Path) -> None:
    """Without a gateway, with one that runs there, of a simulated host, or where it is free."""
    written = listening(f"127.0.0.1:{taken}")
    assert preflight.gateway_port(session, replace(written, gateway=None)) == ()
    assert preflight.gateway_port(replace(session, simulate="cpu"), written) == ()
    assert preflight.gateway_port(session, listening(f"127.0.0.1:{free_port()}")) == ()
    assert preflight.gateway_port(session, listening("name.invalid:80")) == ()
    own = Session(environment={"GPUCTL_RUNTIME_DIR": str(tmp_path / "run")})
    (tmp_path / "run-gateway").mkdir()
    with open(own.seen.gateway_lock, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = {"pid": os.getpid(), "listen": f"0.0.0.0:{taken}"}
        Path(own.seen.gateway).write_text(json.dumps(told))
        assert preflight.gateway_port(own, written) == ()
        Path(own.seen.gateway).write_text(json.dumps(told | {"listen": "0.0.0.0:1"}))
        assert len(preflight.gateway_port(own, written)) == 1


def test_missing_images_are_pulled(session: Session) -> None:
    """What the runtime has is not pulled again."""
    engine = Engine()

    preflight.pull(session, plan(image="here"), cast(Runtime, engine))
    preflight.pull(session, plan(image="there"), cast(Runtime, engine))

    assert engine.pulled == ["there"]
