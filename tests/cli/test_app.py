"""The command line as a whole."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import gpuctl
from gpuctl import __version__
from gpuctl.cli.app import app, hoisted

COMMANDS = (
    "up", "down", "daemon", "demo", "status", "top", "gpus", "report", "start", "stop", "restart",
    "why", "events", "logs", "plan", "check", "init", "profiles", "models",
    "keys",
)  # fmt: skip


@pytest.mark.program
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


@pytest.mark.program
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


PACKAGE = Path(gpuctl.__file__).parent
#: Within backticks: `gpuctl why chat-3`, `sudo gpuctl up`, `gpuctl --simulate p106x8 status`.
_ADVICE = re.compile(r"`(?:sudo )?gpuctl (?:--simulate \S+ |--debug )?([a-z][a-z-]*)[^`]*`")


def advice(source: str) -> Iterator[str]:
    """Yield the command that each `gpuctl …` in the string literals of a module names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
            yield from _ADVICE.findall("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _ADVICE.findall(node.value)


def test_every_command_that_is_named_exists() -> None:
    """No hint and no docstring sends an operator to a command that is none."""
    group: Any = typer.main.get_command(app)
    files = sorted(PACKAGE.rglob("*.py"))
    named = {path: set(advice(path.read_text())) for path in files}

    assert set().union(*named.values()) >= {"up", "why", "logs", "plan", "profiles"}
    assert {
        str(path): wrong for path in files if (wrong := named[path] - set(group.commands))
    } == {}


def test_a_command_that_is_none_would_be_found() -> None:
    """The check above reads hints, docstrings and what is put together from parts."""
    source = """'''Called by `gpuctl one`.'''
HINT = "`nvidia-smi`, or `sudo gpuctl two`"
def hint(name): return f"see `gpuctl three {name} --previous`, `gpuctl` and `gpuctl --debug …`"
"""
    assert sorted(advice(source)) == ["one", "three", "two"]


@pytest.mark.parametrize("path", [PACKAGE, PACKAGE.parent / "benchmarks"], ids=lambda p: p.name)
def test_no_hint_fetches_what_is_not_ours(path: Path) -> None:
    """The package is installed from a clone: an index may have another's under this name."""
    found = [str(each) for each in path.rglob("*.py") if "install 'gpuctl" in each.read_text()]

    assert found == []
