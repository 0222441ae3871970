"""The build hook: who gets the compiled gateway, and who the sources alone."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder

from hatch_build import Compiled, wanted

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OPTIONS = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]


def hook() -> Compiled:
    builder: Any = WheelBuilder(str(ROOT))
    return Compiled(str(ROOT), OPTIONS, builder.config, builder.metadata, "", "wheel")


def test_a_build_needs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is asked for, nothing more is installed into its environment, and nothing built."""
    monkeypatch.delenv("GPUCTL_COMPILE", raising=False)
    data: dict[str, Any] = {}
    hook().initialize("standard", data)
    assert (hook().dependencies(), data) == ([], {})


def test_an_editable_install_is_never_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs the sources as they are edited, whatever is asked for."""
    monkeypatch.setenv("GPUCTL_COMPILE", "1")
    data: dict[str, Any] = {}
    hook().initialize("editable", data)
    assert data == {}


def test_a_build_that_compiles_has_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment has mypyc, and the types of the libraries that the sources name."""
    monkeypatch.setenv("GPUCTL_COMPILE", "1")
    names = {requirement.partition(">=")[0] for requirement in hook().dependencies()}
    assert names == {"httptools", "msgspec", "mypy[mypyc]"}
    everywhere = PROJECT["project"]["dependencies"]
    tested = PROJECT["project"]["optional-dependencies"]["test"]
    assert set(hook().dependencies()) <= {*everywhere, *tested}


@pytest.mark.parametrize(
    ("environment", "compiles"),
    [
        pytest.param({}, False, id="not set"),
        pytest.param({"GPUCTL_COMPILE": "0"}, False, id="no"),
        pytest.param({"GPUCTL_COMPILE": "1"}, True, id="yes"),
    ],
)
def test_the_variable(environment: dict[str, str], compiles: bool) -> None:
    """It is 1 or 0; without it nothing is compiled."""
    assert wanted(environment) is compiles


def test_another_value_is_no_guess() -> None:
    """What is neither yes nor no ends the build."""
    with pytest.raises(ValueError, match="GPUCTL_COMPILE=yes: 1 compiles the gateway, 0 does not"):
        wanted({"GPUCTL_COMPILE": "yes"})
