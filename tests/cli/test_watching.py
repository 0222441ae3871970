"""`gpuctl gpus --watch`: live on a terminal until q, line by line anywhere else."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.program

#: A program starts and draws within this, also where two others keep both cores busy.
SECONDS = 20.0
WATCH = (sys.executable, "-m", "gpuctl", "--simulate", "p106x8", "gpus", "--watch")


def test_a_pipe_gets_a_line_for_each_gpu_until_it_is_closed(place: Path) -> None:
    """Plain lines with the time, and no sequence that drives a terminal."""
    with subprocess.Popen(WATCH, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline().decode() for _ in range(8)]
        program.send_signal(signal.SIGINT)
        code = program.wait(SECONDS)
    assert [line.split("  ")[1] for line in lines] == [f"gpu {index}" for index in range(8)]
    assert not any("\x1b" in line for line in lines)
    assert code == 130


def test_json_is_a_document_a_line(place: Path) -> None:
    """As `gpus --json` prints it once, and never words in between."""
    command = (*WATCH, "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        assert program.stdout is not None
        made = [json.loads(program.stdout.readline()) for _ in range(2)]
        program.send_signal(signal.SIGINT)
        program.wait(SECONDS)
    assert [(each["schema"], len(each["gpus"])) for each in made] == [(1, 8), (1, 8)]
    assert made[0]["gpus"][0]["at"] < made[1]["gpus"][0]["at"]


def test_q_ends_the_live_view(place: Path) -> None:
    """It draws what `gpus` prints on a screen of its own, and gives the terminal back."""
    master, slave = pty.openpty()
    try:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "40"}
        with subprocess.Popen(
            WATCH, stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, env=environment
        ) as program:
            drawn = until(master, b"P106-100")
            os.write(master, b"q")
            assert program.wait(SECONDS) == 0
        assert b"pressure" in drawn
    finally:
        os.close(master)
        os.close(slave)


def until(terminal: int, words: bytes) -> bytes:
    """Return what was drawn when these words are there."""
    drawn, end = b"", time.monotonic() + SECONDS
    while words not in drawn and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            drawn += os.read(terminal, 65536)
    return drawn
