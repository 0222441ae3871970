"""The command line as a whole."""

from collections.abc import Callable
from typing import Any

import pytest

from gpuctl import __version__
from gpuctl.cli.app import hoisted

COMMANDS = (
    "up", "down", "daemon", "demo", "status", "top", "gpus", "report", "start", "stop", "restart",
    "why", "events", "logs", "plan", "check", "init", "profiles",
)  # fmt: skip


def test_help_lists_every_command(gpuctl: Callable[..., Any]) -> None:
    """Every command has its line."""
    done = gpuctl("--help")

    listed = [line.strip("│ ").split()[0] for line in done.out.splitlines() if line[2:3].isalpha()]
    assert done.code == 0
    assert [name for name in COMMANDS if name not in listed] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(inside: Callable[..., Any], command: str) -> None:
    """Each has a help of its own, reached by -h too."""
    done = inside(command, "-h")

    assert (done.code, done.err) == (0, "")
    assert f"gpuctl {command}" in done.out


def test_version(gpuctl: Callable[..., Any]) -> None:
    """The version is data, on stdout."""
    assert gpuctl("--version").out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["up", "x"], ["up", "x"], id="nothing global"),
        pytest.param(["up", "--simulate", "h"], ["--simulate", "h", "up"], id="simulate last"),
        pytest.param(["up", "--simulate=h", "x"], ["--simulate=h", "up", "x"], id="with equals"),
        pytest.param(["up", "--debug"], ["--debug", "up"], id="debug"),
        pytest.param(["up", "--simulate"], ["--simulate", "up"], id="host missing"),
        pytest.param(["a", "--", "--debug"], ["a", "--", "--debug"], id="after a double dash"),
    ],
)
def test_global_options_stand_anywhere(arguments: list[str], expected: list[str]) -> None:
    """`--simulate` and `--debug` may follow the command."""
    assert hoisted(arguments) == expected
