"""
README and docs: every command in them is one, what is marked is run, and what they list is there.

A block of ```sh that follows the line `<!-- run -->` is run, line by line, in directories of its
own. Of every other block each `gpuctl`, `make` and `tests/run` line is taken apart as the program
would take it, without being run.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from gpuctl.cli.app import app, hoisted
from gpuctl.model import EventKind
from gpuctl.model.status import Status
from gpuctl.plugin import load_checks
from gpuctl.profile import schema, shipped

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
RUN = "<!-- run -->"

_BLOCK = re.compile(r"^(<!-- run -->\n)?```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.+) \|$")

#: `gpuctl status` of a host that still loads.
_DEGRADED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of commands on a page."""

    page: str
    number: int
    run: bool
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        found = _BLOCK.findall((ROOT / page).read_text())
        for number, (marker, text) in enumerate(found):
            lines = tuple(line for line in text.splitlines() if line.strip())
            yield Block(page=page, number=number, run=bool(marker), lines=lines)


BLOCKS = tuple(blocks())


def test_there_are_commands() -> None:
    """The pages are found, and some of what they show is run."""
    assert {block.page for block in BLOCKS} >= {"README.md", "docs/operations.md"}
    assert sum(block.run for block in BLOCKS) >= 3
    marked = sum((ROOT / page).read_text().count(RUN) for page in PAGES)
    assert sum(block.run for block in BLOCKS) == marked


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of its own, with a path that is short: it holds a socket."""
    with tempfile.TemporaryDirectory(prefix="gd") as folder:
        yield Path(folder)


@pytest.mark.program
@pytest.mark.parametrize("block", [b for b in BLOCKS if b.run], ids=str)
def test_what_is_marked_runs(block: Block, home: Path) -> None:
    """Each line ends with exit code 0, or 3 where it looks at a host that still loads."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GPUCTL_")},
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    running: set[str] = set()  # the hosts that have a daemon
    try:
        for line in block.lines:
            host, verb = line.split()[2:4]
            running |= {host} if verb == "up" else set()
            done = _ran(line, environment, home)
            looks = verb in ("status", "report")
            assert done.returncode in ((0, _DEGRADED) if looks else (0,)), done.stderr
            assert "Traceback" not in done.stderr
            running -= {host} if verb == "down" else set()
    finally:
        for host in running:
            _ran(f"gpuctl --simulate {host} down", environment, home)


def _ran(line: str, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        shlex.split(line),
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_command_is_one(block: Block) -> None:
    """A command, its options and its arguments are those of this gpuctl; a make target exists."""
    for line in block.lines:
        words = shlex.split(line, comments=True)
        program = Path(words[0]).name
        if program == "gpuctl":
            _parse(words[1:])
        elif program == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif program == "run":
            assert all((ROOT / word).exists() for word in words[2:])


def _parse(arguments: list[str]) -> None:
    """Take a command line apart as the program would. Raises as the parser does."""
    group: Any = typer.main.get_command(app)
    words = hoisted(arguments)
    while words and words[0].startswith("-"):
        words = words[2 if words[0] == "--simulate" else 1 :]
    if not words:
        return
    command: Any = group.get_command(typer.Context(group), words[0])
    assert command is not None, f"there is no command {words[0]}"
    command.make_context(words[0], words[1:], resilient_parsing=False)


def test_a_command_that_is_none_would_be_found() -> None:
    """The check above bites: a wrong option and a missing argument are errors."""
    with pytest.raises(Exception, match="No such option: --jason"):
        _parse(["status", "--jason"])
    with pytest.raises(Exception, match="Missing parameter: subject"):
        _parse(["why"])
    with pytest.raises(AssertionError):
        _parse(["statsu"])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link is a file of the repository."""
    for target in _LINK.findall((ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_named_tests_exist(page: str) -> None:
    """A promise names the test that keeps it."""
    for path, name in _TEST.findall((ROOT / page).read_text()):
        assert (ROOT / path).exists(), path
        assert not name or re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), (
            f"{path}::{name}"
        )


def test_the_readme_lists_every_command() -> None:
    """No command is missing from the table, and none is in it that does not exist."""
    group: Any = typer.main.get_command(app)
    listed = re.findall(r"^\| (`[^|]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    words = {word.split()[0] for cell in listed for word in re.findall(r"`([^`]+)`", cell)}
    assert set(group.commands) <= words


def test_the_readme_lists_every_profile() -> None:
    assert all(f"`{name}`" in (ROOT / "README.md").read_text() for name in shipped())


def test_the_contracts_name_every_key() -> None:
    """What a script reads is written down: the keys of a Status, the kinds of events."""
    text = (ROOT / "docs" / "contracts.md").read_text()
    for name in (*Status.__annotations__, *EventKind):
        assert f"`{name}`" in text, name


#: The modules whose codes of several words are reasons: all but the keys of what they tell.
REASONING = (
    *("act", "attempts", "decide", "failover", "gates", "leftovers", "transitions", "wanted"),
    "checks/*",
)
_CODE = re.compile(r"[a-z]+(?:_[a-z]+)+")
#: Names of checks; one that a reason shares is told as that.
_CHECKS = frozenset({"state_intact", *(check.name for check in load_checks())})
#: Reasons of one word, or put together: a source that could not be read.
_OTHER_REASONS = frozenset(
    {
        *("backoff", "wanted", "up", "run", "renew", "stop", "down", "replaced", "observe_only"),
        *("killed", "terminated", "crashed", "exited", "exit_0", "exit_1", "removed", "stalled"),
        *("runtime_unread", "gpus_unread", "host_unread", "events_unread", "kernel_log_unread"),
        *("paused", "ok"),
        *("xid_13", "xid_79", "cordoned", "scaled", "max_gpus", "moved"),
    }
)


def codes(source: str) -> set[str]:
    """Return the codes among the strings of a module that are no keys."""
    keys: set[int] = set()
    found = list(ast.walk(ast.parse(source)))
    for node in found:
        match node:
            case ast.Dict():
                keys |= {id(key) for key in node.keys}
            case ast.Subscript():
                keys.add(id(node.slice))
            case ast.Call(func=ast.Attribute(attr="get"), args=[first, *_]):
                keys.add(id(first))
    words = (n for n in found if isinstance(n, ast.Constant) and id(n) not in keys)
    return {str(n.value) for n in words if _CODE.fullmatch(str(n.value))}


def test_every_reason_is_explained() -> None:
    """Each code that a replica, an event or a condition can give stands in docs/operations.md."""
    files = [path for name in REASONING for path in (ROOT / "gpuctl").glob(f"{name}.py")]
    given = set().union(*(codes(path.read_text()) for path in files))

    section = (ROOT / "docs" / "operations.md").read_text().partition("## Every reason\n")[2]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    told = {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}

    assert {"fetching_image", "oom_killed", "runtime_error", "gpu_lost"} <= given
    assert told == given - (_CHECKS - told) | _OTHER_REASONS


def test_a_code_is_told_from_a_key() -> None:
    """What an evidence is called is no reason; what a table or a default yields is one."""
    source = """
told = {"exit_code": "not_a_key", **old["held_bytes"]}
reason = REASONS.get("type_name", "by_default") or seen.get("grown_boot_seconds")
"""
    assert codes(source) == {"not_a_key", "by_default"}


#: Heading of a table in docs/profile.md → the definition in the schema.
TABLES = {
    "[host]": "HostSettings",
    "[watchdog]": "WatchdogSettings",
    "[workloads.NAME]": "Workload",
    "on_cpu`, `scaled": "Variant",
    "health": "HealthSettings",
    "log": "LogRotation",
    "docker_health": "DockerHealth",
    "[gateway]": "GatewaySettings",
    "queue": "QueueSettings",
    "gate": "GateSettings",
    "timeouts": "TimeoutSettings",
    "limits": "LimitSettings",
}


@pytest.mark.parametrize(("heading", "definition"), TABLES.items())
def test_the_profile_s_keys_are_current(heading: str, definition: str) -> None:
    """Each key, its form and its default stand in docs/profile.md as the schema has them."""
    text = (ROOT / "docs" / "profile.md").read_text()
    section = re.split(r"^##+ ", text.partition(f"# `{heading}`\n")[2], flags=re.MULTILINE)[0]
    rows = [match.groups() for line in section.splitlines() if (match := _ROW.match(line))]
    assert [row[:3] for row in rows] == keys(schema()["$defs"][definition])
    assert all(row[3].strip() for row in rows)


def keys(definition: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return key, form and default of every key of a table, as docs/profile.md writes them."""
    required = definition.get("required", [])
    return [
        (key, form(value), "required" if key in required else default(value))
        for key, value in definition["properties"].items()
    ]


def form(value: dict[str, Any]) -> str:
    pattern = value.get("pattern", "")
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    if value.get("type") == "array":
        return f"list of {form(value['items'])}"
    if value.get("type") == "boolean":
        return "`true`, `false`"
    if "$ref" in value or value.get("type") == "object":
        return "table"
    if "+h)?" in pattern:
        return "duration"
    if "[kKmMgGtT]" in pattern:
        return "size"
    if pattern.endswith("?%$"):
        return "share"
    kinds = value.get("type", "see right")
    names = {"integer": "number", "string": "text", "array": "list"}
    return " or ".join(
        names.get(str(k), str(k)) for k in (kinds if isinstance(kinds, list) else [kinds])
    )


def default(value: dict[str, Any]) -> str:
    given = value.get("default")
    if given in (None, "", []):
        return "-"
    kind = form(value)
    if isinstance(given, list):
        inner = value["items"]
        return ", ".join(default({**inner, "default": item}) for item in given)
    match kind:
        case "duration":
            return f"`{given:g}s`"
        case "size":
            return f"`{given // 2**20}m`" if given >= 2**20 else f"`{given // 2**10}k`"
        case "share":
            return f"`{given:.0%}`"
    return f"`{str(given).lower() if isinstance(given, bool) else given}`"
