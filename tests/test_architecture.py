"""The import contracts: kept by the package as it is, broken by every breach planted in a copy."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    contract: str  # how the name of the contract that forbids it begins
    file: str
    line: str


BREACHES = (
    Breach(contract="layers", file="model/plan.py", line="import gpuctl.planning"),
    Breach(contract="layers", file="decide.py", line="import gpuctl.judge"),
    Breach(contract="layers", file="adapters/lock.py", line="import gpuctl.observe"),
    Breach(contract="layers", file="newcomer.py", line='"""A module without a layer."""'),
    Breach(contract="plug-ins", file="engines/vllm.py", line="import gpuctl.engines.llamacpp"),
    Breach(contract="plug-ins", file="checks/vram.py", line="import gpuctl.checks.health"),
    Breach(contract="adapters", file="adapters/lock.py", line="import gpuctl.adapters.sqlite"),
    Breach(contract="wiring", file="daemon.py", line="import gpuctl.adapters.process"),
    Breach(contract="wiring", file="views/tables.py", line="import gpuctl.adapters.lock"),
    Breach(contract="purity", file="decide.py", line="import time"),
    Breach(contract="purity", file="judge.py", line="from os import environ"),
    Breach(contract="purity", file="checks/health.py", line="import subprocess"),
    # What is done through another module is done all the same.
    Breach(contract="purity", file="errors.py", line="import socket"),
)


def lint(folder: Path) -> str:
    """Check the package in *folder*; return what the tool says."""
    program = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run(
        [program, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ran.returncode == (1 if " BROKEN" in ran.stdout else 0), ran.stdout + ran.stderr
    return ran.stdout


def contracts() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]


def test_the_package_keeps_every_contract() -> None:
    """Nothing imports what it should not, and no contract is passed over."""
    said = lint(ROOT)
    assert f"{len(contracts())} kept, 0 broken" in said, said


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the tool says of a copy with every breach in it."""
    folder = tmp_path_factory.mktemp("breached")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(
        ROOT / "gpuctl", folder / "gpuctl", ignore=shutil.ignore_patterns("__pycache__")
    )
    for breach in BREACHES:
        with (folder / "gpuctl" / breach.file).open("a") as file:
            file.write(f"\n{breach.line}\n")
    return lint(folder)


@pytest.mark.parametrize("breach", BREACHES, ids=lambda b: f"{b.file}: {b.line}")
def test_a_planted_breach_is_found(told: str, breach: Breach) -> None:
    """A contract that nothing can break is no contract: each import is named under its own."""
    sections = re.split(r"^([\w-]+): .*\n-+$", told, flags=re.MULTILINE)
    section = dict(zip(sections[1::2], sections[2::2], strict=True))[breach.contract]
    module = "gpuctl." + breach.file.removesuffix(".py").replace("/", ".")
    match breach.line.split():
        case ["import" | "from", imported, *_]:
            assert f" {module} -> {imported} (l." in section
        case _:
            assert f"\n- {module}\n" in section.partition("not listed as layers")[2]


def test_every_contract_has_a_breach() -> None:
    """A contract that is added comes with the proof that it works."""
    planted = {breach.contract for breach in BREACHES}
    assert {name.partition(":")[0] for name in contracts()} == planted
