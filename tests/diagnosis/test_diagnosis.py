"""The whole of it: a host on which nothing is wrong, one of which nothing is known, the words."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import fields
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from gpuctl.diagnosis import GROUPS, Facts, diagnose
from gpuctl.diagnosis.document import document
from gpuctl.diagnosis.facts import Unread
from tests.diagnosis.make import host, judged

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "gpuctl" / "diagnosis"

SCHEMA = {
    "type": "object",
    "required": ["schema", "checks"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": 1},
        "checks": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["group", "check", "level", "reason", "message", "fix"],
                "additionalProperties": False,
                "properties": {
                    "group": {"enum": [group.name for group in GROUPS]},
                    "check": {"type": "string", "pattern": "^[a-z_]+$"},
                    "level": {"enum": ["ok", "warn", "fail", "skip"]},
                    "reason": {"type": "string", "pattern": "^[a-z_]+$"},
                    "message": {"type": "string"},
                    "fix": {"type": "string"},
                },
            },
        },
    },
}

WELL = [
    ("nvml", "ok", "ok"),
    ("nouveau", "ok", "ok"),
    ("persistence", "ok", "ok"),
    ("fabric_manager", "skip", "not_applicable"),
    ("device_files", "ok", "ok"),
    ("count", "ok", "ok"),
    ("lost", "ok", "ok"),
    ("recovery", "ok", "ok"),
    ("memory_rows", "ok", "ok"),
    ("ecc", "ok", "ok"),
    ("mig", "ok", "ok"),
    ("pcie", "ok", "ok"),
    ("peers", "ok", "ok"),
    ("numa", "ok", "ok"),
    ("toolkit", "ok", "ok"),
    ("cdi", "ok", "ok"),
    ("engine", "ok", "ok"),
    ("daemon_reload", "ok", "ok"),
    ("live_restore", "ok", "ok"),
    ("storage", "ok", "ok"),
    ("logs", "ok", "ok"),
    ("configuration", "ok", "ok"),
    ("loopback", "ok", "ok"),
    ("default_runtime", "ok", "ok"),
    ("rootless", "skip", "not_applicable"),
    ("images", "ok", "ok"),
    ("plan", "ok", "ok"),
    ("ports", "ok", "ok"),
    ("memory", "ok", "ok"),
    ("swap", "skip", "not_applicable"),
    ("shared_memory", "ok", "ok"),
    ("locked_memory", "skip", "not_applicable"),
    ("models", "ok", "ok"),
    ("secrets", "ok", "ok"),
    ("programs", "skip", "not_applicable"),
    ("space", "ok", "ok"),
    ("inodes", "ok", "ok"),
    ("ram", "ok", "ok"),
    ("cgroups", "ok", "ok"),
    ("open_files", "skip", "not_applicable"),
    ("clock", "ok", "ok"),
    ("clock_steps", "ok", "ok"),
    ("kernel_log", "ok", "ok"),
    ("security", "ok", "ok"),
    ("daemon", "ok", "ok"),
    ("unit", "ok", "ok"),
    ("systemd", "ok", "ok"),
    ("state_directory", "ok", "ok"),
    ("control_socket", "ok", "ok"),
]


def test_a_host_on_which_nothing_is_wrong() -> None:
    """Every check is made, in its order, and none has anything to say against the host."""
    assert judged(host()) == WELL


def test_a_host_of_which_nothing_is_known() -> None:
    """What was not looked at is left out, and nothing is held against the host."""
    assert {(level, reason) for _, level, reason in judged(Facts())} == {
        ("skip", "not_looked"),
        ("skip", "not_applicable"),
    }


@pytest.mark.parametrize(
    "source",
    [each.name for each in fields(Facts) if each.name not in ("at", "wanted")],
)
def test_a_source_that_may_not_be_read(source: str) -> None:
    """Its own checks are left out with why, and no other check falls over."""
    unread = Unread(reason="not_looked", message="who knows")
    found = judged(host(**{source: unread}))
    changed = [each for each in found if each not in WELL]
    assert changed
    assert {level for _, level, _ in changed} <= {"skip", "warn"}


def test_no_check_has_the_name_of_another() -> None:
    """A script that looks for a check finds it in one group."""
    owners: dict[str, set[str]] = {}
    for each in diagnose(host()):
        owners.setdefault(each.check, set()).add(each.group)
    assert all(len(groups) == 1 for groups in owners.values())


def test_the_document() -> None:
    """`doctor --json` has every finding, and is as docs/contracts.md says."""
    found = document(diagnose(host()))
    jsonschema.validate(json.loads(json.dumps(found)), SCHEMA)
    assert [each["check"] for each in found["checks"]] == [check for check, _, _ in WELL]
    shape = '{"schema": 1, "checks": [{"group", "check", "level", "reason", "message", "fix"}]}'
    assert shape in (ROOT / "docs" / "contracts.md").read_text()


def reasons() -> set[str]:
    """Return the code that each call of `warn` or `fail` gives, by the source."""
    given: set[str] = set()
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name(id="warn" | "fail" | "wrong" | "level"),
                    args=[_, ast.Constant(value=str(reason)), *_],
                ):
                    given.add(reason)
                case ast.Assign(targets=[ast.Name(id="_FIXES")], value=ast.Dict(keys=keys)):
                    given |= {str(key.value) for key in keys if isinstance(key, ast.Constant)}
    return given


def test_every_reason_is_explained() -> None:
    """Each code of a warning or a failure has its row in docs/operations.md, and no other has."""
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition("## When something is wrong with the host\n")[2].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    told = {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}
    files = {"model_missing", "secret_missing"}  # put together of the check's own name
    assert told == reasons() | files
