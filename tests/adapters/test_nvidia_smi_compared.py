"""The comparison with `nvidia-smi` on a played driver: it agrees, and it finds faults."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.nvml import NvmlGpus
from gpuctl.model import GpuFacts, GpuHealth, GpuProcess, GpuReading
from tests import make
from tests.rig.nvml import FakeNvml, compared
from tests.rig.nvml.cited import MODULES, cited
from tests.rig.nvml.compared import FIELDS, WRONG, Compared, ask, compare, listed

#: The shipped host `rtx3090` as its `nvidia-smi` would have it.
RTX3090 = {
    "index": "0",
    "name": "NVIDIA GeForce RTX 3090",
    "uuid": "GPU-1ee8de45-bc53-57ed-912b-615dcf0d1706",
    "serial": "[N/A]",
    "pci.bus_id": "00000000:01:00.0",
    "compute_cap": "8.6",
    "driver_version": "580.95.05",
    "memory.total": "24576",
    "memory.reserved": "316",
    "memory.used": "0",
    "temperature.gpu": "41",
    "temperature.memory": "N/A",
    "power.draw": "24.80",
    "enforced.power.limit": "350.00",
    "power.default_limit": "350.00",
    "power.min_limit": "100.00",
    "power.max_limit": "350.00",
    "utilization.gpu": "0",
    "utilization.memory": "0",
    "fan.speed": "30",
    "clocks.sm": "210",
    "clocks.mem": "405",
    "clocks.max.sm": "2100",
    "clocks.max.memory": "9751",
    "pstate": "P8",
    "clocks_event_reasons.active": "0x0000000000000001",
    "pcie.link.gen.current": "1",
    "pcie.link.width.current": "16",
    "pcie.link.gen.max": "4",
    "pcie.link.width.max": "16",
    "mig.mode.current": "[N/A]",
    "ecc.mode.current": "[N/A]",
    "ecc.errors.corrected.volatile.total": "[N/A]",
    "ecc.errors.corrected.aggregate.total": "[N/A]",
    "ecc.errors.uncorrected.volatile.total": "[N/A]",
    "ecc.errors.uncorrected.aggregate.total": "[N/A]",
    "retired_pages.pending": "[N/A]",
}
#: It answers in the order it is asked, and refuses a field that its help does not list.
SCRIPT = """#!{python}
import json, sys
told = json.loads({told!r})
if sys.argv[1] == "--help-query-gpu":
    print("List of valid properties to query:\\n")
    for name in told:
        print('"' + name + '"\\nWhat it is.\\n')
else:
    assert sys.argv[2] == "--format=csv,noheader,nounits"
    print(", ".join(told[name] for name in sys.argv[1].partition("=")[2].split(",")))
"""


def played(directory: Path, told: dict[str, str]) -> str:
    """Return an `nvidia-smi` that says so of its one card."""
    program = directory / "nvidia-smi"
    program.write_text(SCRIPT.format(python=sys.executable, told=json.dumps(told)))
    program.chmod(0o755)
    return str(program)


def outcomes(fields: tuple[Compared, ...]) -> dict[str, str]:
    return {each.field: each.outcome for each in fields}


@pytest.mark.nvml
def test_a_card_that_is_read_well_differs_in_nothing(tmp_path: Path) -> None:
    """Every field is the same, or reported by neither."""
    fake = FakeNvml("rtx3090", tmp_path)
    with closing(NvmlGpus(environment=fake.environment())) as gpus:
        (gpu,) = gpus.read()
    (told,) = ask(played(tmp_path, RTX3090))
    expected = {
        name: "neither" if text.strip("[]") == "N/A" else "equal" for name, text in RTX3090.items()
    }
    assert outcomes(compare(gpu, told)) == expected


@pytest.mark.nvml
def test_a_card_with_ecc_and_mig_differs_in_nothing(tmp_path: Path) -> None:
    """The words of what is on or off, and counters of errors."""
    fake = FakeNvml("rtx3090", tmp_path)
    words = {"mig.mode.current": "Disabled", "ecc.mode.current": "Enabled"}
    counts = {"ecc.errors.corrected.volatile.total": "3", "retired_pages.pending": "No"}
    changes: dict[str, Any] = {"mig_enabled": False, "ecc_enabled": True}
    changes |= {"ecc_corrected_volatile": 3, "retired_pages_pending": False, "serial": "042021"}
    fake.set(0, **changes)
    with closing(NvmlGpus(environment=fake.environment())) as gpus:
        (gpu,) = gpus.read()
    (told,) = ask(played(tmp_path, {**RTX3090, **words, **counts, "serial": "042021"}))
    found = outcomes(compare(gpu, told))
    assert {found[name] for name in (*words, *counts, "serial")} == {"equal"}
    assert not WRONG & set(found.values())


GPU = make.gpu(
    name="card",
    memory_used_bytes=1000 * make.MIB,
    temperature_celsius=60.0,
    power_watts=100.0,
    power_limit_watts=350.0,
    sm_clock_hertz=1.7e9,
    utilization_ratio=0.29,
    performance_state=2,
    throttle_reasons=("sw_power_cap",),
    facts=GpuFacts(mig_enabled=False),
    health=GpuHealth(),
)


@pytest.mark.parametrize(
    ("field", "told", "outcome"),
    [
        pytest.param("name", "card", "equal", id="the-same-text"),
        pytest.param("name", "other card", "differs", id="another-text"),
        pytest.param("memory.used", "1001", "moved", id="rounded"),
        pytest.param("memory.used", "1002", "differs", id="not-by-rounding"),
        pytest.param("temperature.gpu", "62", "moved", id="warmer"),
        pytest.param("temperature.gpu", "57", "differs", id="too-cold"),
        pytest.param("power.draw", "110.00", "moved", id="more-power"),
        pytest.param("power.draw", "120.00", "differs", id="too-much-power"),
        pytest.param("power.draw", "0.10", "differs", id="another-unit"),
        pytest.param("enforced.power.limit", "349.99", "differs", id="a-limit-does-not-move"),
        pytest.param("clocks.sm", "210", "moved", id="a-clock-does"),
        pytest.param("clocks.sm", "1700000", "differs", id="a-clock-in-khz"),
        pytest.param("utilization.gpu", "29", "equal", id="percent"),
        pytest.param("pstate", "P0", "moved", id="another-state"),
        pytest.param("pstate", "fast", "differs", id="no-state"),
        pytest.param("clocks_event_reasons.active", "0x0000000000000004", "equal", id="reasons"),
        pytest.param("mig.mode.current", "Disabled", "equal", id="off"),
        pytest.param("mig.mode.current", "Enabled", "differs", id="on"),
        pytest.param("mig.mode.current", "Perhaps", "differs", id="neither-yes-nor-no"),
        pytest.param("ecc.mode.current", "Enabled", "missed", id="missed"),
        pytest.param("ecc.mode.current", "[N/A]", "neither", id="reported-by-neither"),
        pytest.param("power.draw", "[Unknown Error]", "gpuctl only", id="refused-there"),
        pytest.param("power.draw", None, "not listed", id="a-driver-without-it"),
    ],
)
def test_a_field_that_is_read_wrongly_is_found(field: str, told: str | None, outcome: str) -> None:
    """Only what moves by itself may differ, and only as far as it can move."""
    found = outcomes(compare(GPU, {} if told is None else {field: told}))
    assert found.pop(field) == outcome
    assert set(found.values()) == {"not listed"}


def test_a_clock_that_is_read_in_another_unit_is_found() -> None:
    """Both sides are to be what a card can have."""
    wrong: GpuReading = replace(GPU, sm_clock_hertz=1.7e3)
    assert outcomes(compare(wrong, {"clocks.sm": "1700"}))["clocks.sm"] == "differs"


def test_an_old_driver_is_asked_by_the_names_it_has(tmp_path: Path) -> None:
    """Before R535 the reasons have another name; what it has no name for is not asked for."""
    old = {"index": "0", "clocks_throttle_reasons.active": "0x0000000000000000"}
    program = played(tmp_path, old)
    assert ask(program) == ({"index": "0", "clocks_event_reasons.active": "0x0000000000000000"},)
    assert set(listed(program)) == {*old, "clocks_event_reasons.active"}


def test_every_field_that_gpuctl_cites_is_compared() -> None:
    """But for the margin, from which limits are made."""
    named = {field for path in MODULES for query, field in cited(path) if query == "query-gpu"}
    assert named - {field.name for field in FIELDS} == {"temperature.gpu.tlimit"}


def test_the_table_has_what_any_such_card_has() -> None:
    """Serial number and UUID are one card's own, and stay where they are."""
    told = {"uuid": "GPU-1", "serial": "0420", "power.draw": "100.00"}
    text = compared.table(compare(replace(GPU, uuid="GPU-1"), told))
    assert "| `uuid` | … | … | equal |" in text
    assert "| `power.draw` | 100.00 | 100 | equal |" in text
    assert "0420" not in text


@pytest.mark.parametrize(
    ("held", "line"),
    [
        pytest.param((300, 600), "100 MiB (2 listed).", id="some"),
        pytest.param((), "1000 MiB (0 listed).", id="nobody-is-listed"),
        pytest.param((1010,), "-10 MiB (1 listed).", id="read-one-after-the-other"),
        pytest.param((300, None), "not told.", id="no-bytes-of-one"),
        pytest.param(None, "not told.", id="no-processes"),
    ],
)
def test_what_no_process_holds_is_told_as_it_is(
    held: tuple[int | None, ...] | None, line: str
) -> None:
    """A figure for people, so that it is neither rounded to nothing nor made up."""
    processes = (
        None
        if held is None
        else tuple(
            GpuProcess(pid=pid, used_bytes=None if mib is None else mib * make.MIB)
            for pid, mib in enumerate(held, start=1)
        )
    )
    told = compared.left_over(replace(GPU, processes=processes))
    assert told == f"VRAM in use that no process is listed with: {line}"


def test_a_table_takes_the_place_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where it is asked for; the rest of the page stays."""
    page = tmp_path / "hardware.md"
    page.write_text("before\n<!-- cards -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.delenv("GPUCTL_RECORD", raising=False)
    compared.record("new", page)
    assert "old" in page.read_text()
    monkeypatch.setenv("GPUCTL_RECORD", "1")
    compared.record("new", page)
    assert page.read_text() == "before\n<!-- cards -->\nnew\n<!-- end -->\nafter\n"


def test_the_page_has_a_place_for_cards() -> None:
    """`make gpu` has somewhere to write."""
    assert compared.PAGE.read_text().count("<!-- cards -->\n") == 1
