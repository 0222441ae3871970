"""Plug-ins are found by name, in their order, each once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gpuctl import plugin
from gpuctl.plugin import load_checks, load_engines


def test_checks_come_in_their_order() -> None:
    """Stopped before VRAM before health, as they are told to operators."""
    checks = load_checks()
    assert [check.order for check in checks] == sorted(check.order for check in checks)
    names = [check.name for check in checks]
    assert names.index("stopped") < names.index("vram") < names.index("health")


def test_engines_are_known_by_their_name() -> None:
    """An engine is found under the name a profile uses."""
    engines = load_engines()
    assert {"llama.cpp", "vllm", "container"} <= set(engines)
    assert all(name == engine.name for name, engine in engines.items())


def test_two_plug_ins_of_one_name_are_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second plug-in of a name is refused, not silently preferred."""
    package = tmp_path / "twice"
    package.mkdir()
    (package / "__init__.py").touch()
    source = "from gpuctl.plugin import Check\nCHECK = Check(name='x', order=1, run=list)\n"
    for name in ("one", "two"):
        (package / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="twice: two plug-ins are named 'x'"):
        plugin._load("twice", "CHECK")
    for name in ("twice", "twice.one", "twice.two"):
        del sys.modules[name]
