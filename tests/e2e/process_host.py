"""A host without Docker for end-to-end tests: the real `gpuctl`, and engines as processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil

from tests.e2e.host import Host, Ran


class ProcessHost(Host):
    """A context manager; *python* is the interpreter that gpuctl, and its engines, run with."""

    def __init__(self, python: Path) -> None:
        self.python = python
        self.folder = Path(tempfile.mkdtemp(prefix="gp", dir="/tmp"))
        self.extra: dict[str, str] = {}

    def __enter__(self) -> ProcessHost:
        for name in ("state", "run", "conf"):
            (self.folder / name).mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        if (self.folder / "run" / "status.json").exists():
            self.run("down")
            with contextlib.suppress(AssertionError):
                self.end_daemon()
        shutil.rmtree(self.folder)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "GPUCTL_STATE_DIR": str(self.folder / "state"),
            "GPUCTL_RUNTIME_DIR": str(self.folder / "run"),
            "GPUCTL_CONFIG_DIR": str(self.folder / "conf"),
            "NO_COLOR": "1",
            **self.extra,
        }

    def run(self, *arguments: str, seconds: float = 120.0) -> Ran:
        """Run one gpuctl command to its end."""
        done = subprocess.run(
            [str(self.python), "-m", "gpuctl", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr)

    def process_profile(self, workloads: str, watchdog: str) -> Path:
        """Write a profile of these workloads' tables for plain processes; return its path."""
        path = self.folder / "profile.toml"
        path.write_text(
            f'schema = 1\n[host]\nname = "rig"\nruntime = "process"\n'
            f"[watchdog]\n{watchdog}\n{workloads}"
        )
        return path

    def pid_of(self, name: str) -> int:
        """Return the pid of a replica's engine: what carries the mark of its container."""
        container = self.replica(name)["container"]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("GPUCTL_CONTAINER") == container:
                    return process.pid
        raise AssertionError(f"{name} has no process")
