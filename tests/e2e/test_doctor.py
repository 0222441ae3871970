"""`gpuctl doctor` on a real systemd: what it says of the unit is what systemd has."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from tests.rig.dockerd import PrivateEngine
from tests.rig.systemd import UNITS, Systemd, unit_text

pytestmark = [pytest.mark.docker, pytest.mark.systemd]

UNIT = "gpuctl.service"


@pytest.fixture(scope="module")
def machine(engine: PrivateEngine) -> Iterator[Systemd]:
    with Systemd(engine) as systemd:
        yield systemd


def said(machine: Systemd) -> dict[str, tuple[str, str]]:
    """Return level and reason of what the doctor says of systemd and the unit."""
    _, output = machine.attempt(sys.executable, "-m", "gpuctl", "doctor", "--json")
    document = json.loads(output[output.index("{") :])
    found = {each["check"]: (each["level"], each["reason"]) for each in document["checks"]}
    return {name: found[name] for name in ("systemd", "unit", "daemon")}


def test_a_unit_from_its_install_to_an_edit(machine: Systemd) -> None:
    """Missing, installed, enabled, edited and not read again, read again, put back."""
    seen = [said(machine)["unit"]]
    machine.install(UNIT, unit_text(UNIT))
    seen.append(said(machine)["unit"])
    machine.run("systemctl", "enable", UNIT)
    seen.append(said(machine)["unit"])
    machine.write(UNITS / UNIT, unit_text(UNIT) + "\n# mine\n")
    machine.run("touch", str(UNITS / UNIT))  # systemd goes by the time, the rig's files have none
    seen.append(said(machine)["unit"])
    machine.run("systemctl", "daemon-reload")
    seen.append(said(machine)["unit"])
    machine.install(UNIT, unit_text(UNIT))
    assert said(machine) == {
        "systemd": ("ok", "ok"),
        "unit": ("ok", "ok"),
        "daemon": ("skip", "not_applicable"),
    }
    assert seen == [
        ("warn", "unit_missing"),
        ("warn", "unit_disabled"),
        ("ok", "ok"),
        ("warn", "unit_not_read"),
        ("warn", "unit_differs"),
    ]


def test_a_unit_that_failed(machine: Systemd) -> None:
    """A unit that systemd has given up is told as that, before anything else of it."""
    broken = "[Service]\nType=oneshot\nExecStart=/bin/false\n"
    machine.install(UNIT, broken)
    code, _ = machine.attempt("systemctl", "start", UNIT)
    assert code != 0
    assert said(machine)["unit"] == ("fail", "unit_failed")
