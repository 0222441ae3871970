"""Disks, model files, secrets, and gpuctl's own unit and directories, as the doctor reads them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.adapters.diagnosis import Places, disks, files, service
from gpuctl.diagnosis.facts import FileFacts, FilesFacts, ServiceFacts, Step
from gpuctl.model import HostSettings, Mount, Profile, Workload
from tests import make


def profile(**changes: object) -> Profile:
    workload = Workload(name="chat", engine="llama.cpp", image="engine:1", port=8081)
    return Profile(
        host=HostSettings(name="rack"),
        workloads=(replace(workload, **changes),),  # type: ignore[arg-type]
    )


def found(given: Profile, runtime: str = "docker") -> FilesFacts:
    return files(given, None, runtime, {})


def modes(file: FileFacts) -> list[tuple[str, int]]:
    return [(step.path, step.mode) for step in file.steps]


def test_uses_of_one_disk_are_one_line(tmp_path: Path) -> None:
    """Two paths of one file system are told together; it is written if one of them is."""
    (disk,) = disks([("state", f"{tmp_path}/not/yet", False), ("Docker", str(tmp_path), True)])
    room = os.statvfs(tmp_path)
    assert (disk.uses, disk.path, disk.written) == (("state", "Docker"), str(tmp_path), True)
    assert disk.total_bytes == room.f_blocks * room.f_frsize


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "small").mkdir(parents=True)
    (folder / "small" / "m.gguf").write_text("")
    (folder / "small" / "m.gguf").chmod(0o640)
    folder.chmod(0o750)
    (folder / "small").chmod(0o755)
    return folder


def test_a_model_is_followed_from_its_mount(models: Path) -> None:
    """Each directory below the mounted one counts, those above do not."""
    mount = Mount(source=str(models), target="/models", read_only=True)
    (file,) = found(profile(model="small/m.gguf", mounts=(mount,), user="7:8")).models
    assert (file.there, file.user, file.image) == (True, (7, 8), "engine:1")
    assert modes(file) == [
        (str(models), 0o750),
        (f"{models}/small", 0o755),
        (f"{models}/small/m.gguf", 0o640),
    ]


def test_a_model_by_its_path_in_the_container(models: Path) -> None:
    """An absolute path is one of the container's: its mount says where it is here."""
    mounts = (
        Mount(source="cache", target="/root/.cache"),
        Mount(source=str(models), target="/elsewhere"),
        Mount(source=str(models), target="/models"),
    )
    (file,) = found(profile(model="/models/small/m.gguf", mounts=mounts)).models
    assert file.path == f"{models}/small/m.gguf"


@pytest.mark.parametrize(
    ("changes", "there"),
    [
        pytest.param({"model": "gone.gguf"}, [False], id="missing"),
        pytest.param({"model": "Qwen/Qwen3-8B"}, [], id="a hub's name"),
        pytest.param({"model": "m.gguf", "mounts": ()}, [], id="in a volume or an image"),
    ],
)
def test_what_is_not_here(models: Path, changes: dict[str, object], there: list[bool]) -> None:
    """A file that should be in a mount is missing; what no mount tells of is not judged."""
    mount = Mount(source=str(models), target="/models")
    given = profile(**{"mounts": (mount,), **changes})
    assert [file.there for file in found(given).models] == there


def test_a_process_reads_the_host_s_own_path(models: Path) -> None:
    """Without a container the path is this host's, and its user a name of this host's."""
    (file,) = found(profile(model=f"{models}/small/m.gguf", user="root"), "process").models
    assert (file.path, file.user, file.steps[0].path) == (f"{models}/small/m.gguf", (0, 0), "/")
    (other,) = found(profile(model=f"{models}/small/m.gguf", user="nobody-here"), "process").models
    assert other.user is None


@pytest.mark.parametrize(
    ("capability", "expected"),
    [("CAP_DAC_OVERRIDE", True), ("ALL", True), ("SYS_NICE", False)],
)
def test_a_capability_that_reads_all(models: Path, capability: str, expected: bool) -> None:
    mount = Mount(source=str(models), target="/models")
    given = profile(model="small/m.gguf", mounts=(mount,), cap_add=(capability,))
    assert found(given).models[0].privileged is expected


def test_a_secret(tmp_path: Path) -> None:
    """Its own mode is what counts; a secret that is not there is told."""
    token = tmp_path / "token"
    token.write_text("s")
    token.chmod(0o640)
    given = profile(secrets={"HF_TOKEN": str(token), "KEY": f"{tmp_path}/gone"})
    there, gone = found(given).secrets
    assert modes(there) == [(str(token), 0o640)]
    assert (there.there, gone.there) == (True, False)


def test_programs_of_processes(tmp_path: Path) -> None:
    """Each program once, where the PATH has it; in images there are others."""
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    base = make.replica()
    plan = make.plan(
        replace(base, spec=replace(base.spec, entrypoint=("server",))),
        replace(make.replica("b-0"), spec=replace(base.spec, command=("other", "-x"))),
    )
    environment = {"PATH": str(tmp_path)}
    assert files(None, plan, "process", environment).programs == {
        "other": None,
        "server": str(program),
    }
    assert files(None, plan, "docker", environment).programs == {}


SHOWN = """LoadState=loaded
UnitFileState=enabled
ActiveState=active
FragmentPath={}
NeedDaemonReload=yes
"""


def places(folder: Path) -> Places:
    (folder / "shipped.service").write_text("[Unit]\n")
    state = folder / "state"
    state.mkdir(mode=0o750)
    return Places(
        version="0.1.0",
        state=state,
        socket=folder / "gpuctl.sock",
        shipped_unit=folder / "shipped.service",
        daemon_version="0.0.9",
        moments=((1.0, 2.0),),
    )


@pytest.mark.parametrize(("text", "same"), [("[Unit]\n", True), ("[Unit]\n# mine\n", False)])
def test_a_unit_that_is_installed(tmp_path: Path, text: str, same: bool) -> None:
    """What systemd tells of it, and whether the file is the one that is shipped."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    unit = tmp_path / "gpuctl.service"
    unit.write_text(text)
    given = places(tmp_path)
    told = service(given, root=tmp_path, ask=lambda _command: SHOWN.format(unit))
    assert told == ServiceFacts(
        version="0.1.0",
        user=told.user,
        uid=os.geteuid(),
        unit_path=str(unit),
        unit_same=same,
        unit_enabled="enabled",
        unit_active="active",
        unit_reload=True,
        shipped_unit=str(given.shipped_unit),
        daemon_version="0.0.9",
        state=Step(path=str(given.state), uid=os.geteuid(), gid=os.getegid(), mode=0o750),
        state_writable=True,
        moments=((1.0, 2.0),),
    )


def test_a_host_without_systemd(tmp_path: Path) -> None:
    """Nobody is asked, and a unit that cannot be compared is neither the same nor another."""

    def ask(command: object) -> str:
        raise AssertionError(command)

    given = places(tmp_path)
    given.socket.write_text("")
    given.socket.chmod(0o660)
    told = service(given, root=tmp_path, ask=ask)
    assert (told.unit_path, told.unit_same, told.unit_active) == (None, None, "")
    assert told.socket is not None
    assert (told.socket.mode, told.socket_usable) == (0o660, True)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    gone = service(given, root=tmp_path, ask=lambda _command: SHOWN.format("/no/such.service"))
    assert (gone.unit_path, gone.unit_same) == ("/no/such.service", None)
