"""What the tests of commands share: a published Status, and the program as a process."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gpuctl.__main__ import main
from gpuctl.cli.session import Session

DOCUMENT = Path(__file__).parents[1] / "views" / "status.json"


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is configuration, state and runtime directory at once."""
    for name in ("CONFIG", "STATE", "RUNTIME"):
        monkeypatch.setenv(f"GPUCTL_{name}_DIR", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("GPUCTL_SIMULATE", raising=False)
    return tmp_path


@pytest.fixture
def docker() -> Iterator[Path]:
    """Where a Docker Engine may listen; a socket's name has room for 107 bytes only."""
    with tempfile.TemporaryDirectory(prefix="gpuctl-test-") as made:
        yield Path(made) / "docker.sock"


@pytest.fixture
def here(place: Path, docker: Path) -> Session:
    """A session in the place, whose Docker Engine is the test's own, or away."""
    names = {f"GPUCTL_{name}_DIR": str(place) for name in ("CONFIG", "STATE", "RUNTIME")}
    return Session(environment={**names, "DOCKER_HOST": f"unix://{docker}"})


@pytest.fixture
def gpuctl(place: Path) -> Callable[..., Done]:
    """Run the program as users do; a traceback is never right."""

    def run(*arguments: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "gpuctl", *arguments],
            capture_output=True,
            text=True,
            env=dict(os.environ),
            check=False,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def inside(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """Run one command line in this process, where nothing is about a process of its own."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["gpuctl", *arguments])
        with pytest.raises(SystemExit) as left:
            sys.exit(main())
        assert isinstance(left.value.code, int)
        return Done(left.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def publish(place: Path) -> Callable[..., dict[str, Any]]:
    """Publish a status.json as a daemon of this process would, with changes."""

    def write(**changes: Any) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(DOCUMENT.read_text()) | changes
        document["daemon"]["pid"] = os.getpid()
        (place / "status.json").write_text(json.dumps(document))
        return document

    return write
