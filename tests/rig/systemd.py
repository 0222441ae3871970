"""
A real systemd as PID 1, in a container of the instant image, for units and what they run.

    with Systemd(engine) as systemd:
        systemd.install("gpuctl.service", text)
        systemd.run("systemctl", "start", "gpuctl")
        assert systemd.show("gpuctl", "ActiveState") == "active"

The host's `/usr`, the Python of the tests and this repository are inside, at the same paths.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, cast

from gpuctl.model import Mount
from tests.rig import images
from tests.rig.dockerd import PrivateEngine
from tests.rig.waiting import wait_for

UNITS = PurePosixPath("/etc/systemd/system")

#: PID 1 is up in about 1 s.
START_SECONDS = 60.0


class Systemd:
    """A machine with systemd in it; a context manager."""

    def __init__(
        self,
        engine: PrivateEngine,
        *,
        mounts: Sequence[Mount] = (),
        network: str = "none",
    ) -> None:
        """
        *mounts* come on top of the rig's own.

        *network* "host" reaches what containers publish on loopback: with the engine's folder
        mounted, a service inside can use the very engine that runs this machine.
        """
        self._client = engine.client()
        self._mounts = (*images.rig_mounts(), *mounts)
        self._network = network
        self.container = ""

    def __enter__(self) -> Systemd:
        host = self._client.create_host_config(
            binds=[f"{m.source}:{m.target}:{'ro' if m.read_only else 'rw'}" for m in self._mounts]
            # systemd makes a cgroup for each of its units, below the container's own.
            + ["/sys/fs/cgroup:/sys/fs/cgroup:rw"],
            tmpfs={"/run": "", "/tmp": ""},
            cap_add=["SYS_ADMIN"],
            security_opt=["seccomp=unconfined"],
            network_mode=self._network,
        )
        host["CgroupnsMode"] = "host"
        made: Any = cast(Any, self._client).create_container_from_config(
            {
                "Image": images.IMAGE,
                "Cmd": ["/lib/systemd/systemd"],
                # systemd.exec(5): this variable tells PID 1 that it is in a container.
                "Env": ["container=docker"],
                # docker stop would be a reboot; SIGRTMIN+3 halts.
                "StopSignal": "SIGRTMIN+3",
                "HostConfig": host,
            },
            None,
        )
        self.container = str(made["Id"])
        self._client.start(self.container)
        try:
            wait_for(self._is_up, "systemd", START_SECONDS)
        except AssertionError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.remove_container(self.container, force=True, v=True)
        self._client.close()

    def attempt(
        self, *command: str, environment: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run a command inside; return its exit code and all that it printed."""
        made = self._client.exec_create(
            self.container, list(command), environment=dict(environment or {})
        )
        output: bytes = self._client.exec_start(made["Id"])
        code = self._client.exec_inspect(made["Id"])["ExitCode"]
        return int(code), output.decode(errors="replace")

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a command inside that must succeed; return all that it printed."""
        code, output = self.attempt(*command, environment=environment)
        assert code == 0, f"{' '.join(command)}: exit code {code}\n{output}"
        return output

    def show(self, unit: str, name: str) -> str:
        """Return one property of a unit, such as `MainPID`, `NRestarts` or `ActiveState`."""
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def journal(self, unit: str) -> str:
        """Return all that a unit, and systemd about it, has logged."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def write(self, path: str | PurePosixPath, text: str, mode: int = 0o644) -> None:
        """Write a file inside, with the directories above it; not below /run or /tmp."""
        data = text.encode()
        entry = tarfile.TarInfo(str(PurePosixPath(path).relative_to("/")))
        entry.size, entry.mode = len(data), mode
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(entry, io.BytesIO(data))
        assert self._client.put_archive(self.container, "/", buffer.getvalue())

    def install(self, name: str, text: str, *, drop_in: str = "") -> None:
        """Install a unit, with an optional drop-in over it, and have systemd read them."""
        self.write(UNITS / name, text)
        if drop_in:
            self.write(UNITS / f"{name}.d" / "rig.conf", drop_in)
        self.run("systemctl", "daemon-reload")

    def pids(self) -> Mapping[int, str]:
        """Return every process inside and its command line."""
        found: dict[int, str] = {}
        for line in self.run("ps", "-eo", "pid=,args=").splitlines():
            pid, _, command = line.strip().partition(" ")
            found[int(pid)] = command
        return found

    def _is_up(self) -> bool:
        inspected: dict[str, Any] = self._client.inspect_container(self.container)["State"]
        assert inspected["Running"], f"systemd ended: {self._client.logs(self.container)!r}"
        # `degraded` is as good: two units want a writable /etc or a kernel of their own.
        _, said = self.attempt("systemctl", "is-system-running")
        return said.strip() in ("running", "degraded")


def unit_text(name: str) -> str:
    """Return one of the shipped units."""
    return (Path(images.REPOSITORY) / "units" / name).read_text()
