"""
The demo as `make demo` runs it: a real model, two processes, one killed and brought back.

In a home of its own, with this interpreter; the model is there already, as after a first run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.host import MODEL, MODELS
from tests.rig import http
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.engine

#: A cold disk and one slow core; a warm machine takes five seconds.
SECONDS = 90.0
KILLED = "4. chat-1 is killed"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a run of the demo printed, and what was seen of it from outside."""

    code: int
    out: str
    err: str
    tokens: int  # chat-0's own count after the question
    ports: tuple[int, ...]
    pids: frozenset[int]  # of all its processes, meanwhile


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    # Not pytest's own folder: a socket's path has 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="gd", dir="/tmp"))
    models = folder / ".cache" / "gpuctl" / "models"
    models.mkdir(parents=True)
    shutil.copyfile(MODELS / MODEL, models / MODEL)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shown(home: Path) -> Shown:
    """Run the demo to its end, and look at it while it brings chat-1 back."""
    own = ("GPUCTL_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    with (home / "err").open("w") as err:
        demo = subprocess.Popen(
            [sys.executable, "-m", "gpuctl", "demo"],
            env={**kept, "HOME": str(home), "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
        )
    overdue = threading.Timer(SECONDS, demo.kill)
    overdue.start()
    lines: list[str] = []
    tokens, ports, pids = 0, tuple[int, ...](), frozenset[int]()
    with demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            lines.append(line)
            if line.startswith(KILLED):
                status = home / ".cache" / "gpuctl" / "demo" / "run" / "status.json"
                ports = tuple(row["port"] for row in json.loads(status.read_text())["replicas"])
                tokens, pids = predicted(ports[0]), processes(home)
    overdue.cancel()
    return Shown(
        code=demo.returncode,
        out="".join(lines),
        err=(home / "err").read_text(),
        tokens=tokens,
        ports=ports,
        pids=pids,
    )


def predicted(port: int) -> int:
    """Return how many tokens an engine has made so far, -1 when it does not answer."""
    answered = http.get(port, "/metrics")
    text = answered[1].decode() if answered is not None else ""
    found = re.search(r"^llamacpp:tokens_predicted_total (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else -1


def processes(home: Path) -> frozenset[int]:
    """Return the processes that were given this home, or a folder in it."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(home) in (entry / "environ").read_text():
                found.add(int(entry.name))
        except OSError:
            continue  # it has ended
    return frozenset(found)


def test_it_ends_well(shown: Shown) -> None:
    """Exit code 0, all of its six steps, no traceback."""
    assert shown.code == 0, f"{shown.out}\n{shown.err}"
    assert re.findall(r"^(\d)\. ", shown.out, re.MULTILINE) == ["1", "2", "3", "4", "5", "6"]
    assert "Traceback" not in shown.err


def test_its_answer_is_the_models(shown: Shown) -> None:
    """chat-0 itself counted at least a token for each word that was printed."""
    question, answer = "What is the capital of France?", ""
    lines = iter(shown.out.splitlines())
    if any(line == f"3. a question to chat-0: {question}" for line in lines):
        answer = next(lines).strip()
    assert "Paris" in answer, shown.out
    assert shown.tokens >= len(answer.split())


def test_the_killed_one_is_back_after_the_seconds_it_tells(shown: Shown) -> None:
    """It answers too, and `status` has counted its one restart."""
    told = re.search(r"^   ready again after (\S+) s; it answers: (.+)$", shown.out, re.MULTILINE)
    assert told is not None, shown.out
    assert 0.0 < float(told[1]) < SECONDS
    assert "Paris" in told[2]
    rows = [line.split() for line in shown.out.splitlines() if line.startswith("chat-")]
    assert [(row[0], row[2]) for row in rows] == [("chat-0", "cpu"), ("chat-1", "cpu")]
    # On a busy machine the last answer is told as still under way.
    assert {row[1] for row in rows} <= {"ready", "busy"}
    assert ("0/0" in rows[0], "1/1" in rows[1]) == (True, True)


def test_nothing_is_left_running(shown: Shown, home: Path) -> None:
    """Demo, daemon and at least one engine were there; none of them is, and no port is held."""
    assert len(shown.pids) >= 3
    wait_for(lambda: not processes(home), f"{processes(home)} to end")
    assert [http.get(port, "/health") for port in shown.ports] == [None, None]
