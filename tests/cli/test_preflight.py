"""What must be true before anything starts."""

import socket
from pathlib import Path
from typing import Any, cast

import pytest

from gpuctl.cli import preflight
from gpuctl.cli.session import Session
from gpuctl.errors import ProfileError
from gpuctl.model import (
    ContainerReading,
    ContainerSpec,
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
    """A missing mount, a missing model and a taken port are told together."""
    there = Mount(source=str(tmp_path), target="/models")
    gone = Mount(source=str(tmp_path / "gone"), target="/cache")

    found = check(session, plan(taken), Engine(), profile("m.gguf", there, gone))

    assert [message.split(":")[0] for message, _ in found] == [
        "workloads.chat.mounts",
        "workloads.chat.model",
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


def test_missing_images_are_pulled(session: Session) -> None:
    """What the runtime has is not pulled again."""
    engine = Engine()

    preflight.pull(session, plan(image="here"), cast(Runtime, engine))
    preflight.pull(session, plan(image="there"), cast(Runtime, engine))

    assert engine.pulled == ["there"]
